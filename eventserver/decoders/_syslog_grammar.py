"""Any line of syslog, by the full grammars of RFC 5424 and RFC 3164."""

from __future__ import annotations

import re

from eventserver.decoders import _rfc3164, _rfc5424
from eventserver.decoders._rfc5424 import Parsed
from eventserver.decoders._severity import DEFAULT_PRIORITY, MAX_PRIORITY, priority_fields, read_priority
from eventserver.decoders._timestamps import YearRule

_PRIORITY = re.compile(r"<[^<>\s]{0,8}>")
#: The version, and the start of a time stamp or nil behind it: this line means to be RFC 5424.
_VERSION = re.compile(r"([1-9]\d{0,2}) (?=- |\d{4}-\d\d-)", re.ASCII)


def read_line(line: str, rule: YearRule) -> Parsed:
    """What a line holds; its fields are new. Never raises."""
    match = _PRIORITY.match(line)
    if match is None:
        fields = priority_fields(DEFAULT_PRIORITY)
        if not line:
            return Parsed(None, line, fields, "the frame is empty")
        return _rfc3164.parse(line, 0, fields, rule, needs_stamp=True)
    priority = read_priority(match[0])
    if priority is None:
        error = f"the priority {match[0]} is not one from <0> to <{MAX_PRIORITY}>"
        return Parsed(None, line, priority_fields(DEFAULT_PRIORITY), error)
    fields = priority_fields(priority)
    version = _VERSION.match(line, match.end())
    if version is None:
        return _rfc3164.parse(line, match.end(), fields, rule)
    if version[1] != "1":
        return Parsed(None, line, fields, f"RFC 5424: version {version[1]} is not known")
    return _rfc5424.parse(line, version.end(), fields, rule.zone)
