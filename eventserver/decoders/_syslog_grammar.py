"""Any line of syslog, by the full grammars of RFC 5424 and RFC 3164."""

from __future__ import annotations

import re
from typing import Any

from eventserver.decoders import _rfc3164, _rfc5424
from eventserver.decoders._rfc5424 import Parsed
from eventserver.decoders._severity import DEFAULT_PRIORITY, MAX_PRIORITY, priority_fields, read_priority
from eventserver.decoders._timestamps import YearRule

_PRIORITY = re.compile(r"<[^<>\s]{0,8}>")
#: The version, and the start of a time stamp or nil behind it: this line means to be RFC 5424.
_VERSION = re.compile(r"([1-9]\d{0,2}) (?=- |\d{4}-\d\d-)", re.ASCII)
#: The fields of each priority as it is usually written.
_USUAL = {f"<{priority}>": priority_fields(priority) for priority in range(MAX_PRIORITY + 1)}


def read_line(line: str, rule: YearRule) -> Parsed:
    """What a line holds; its fields are new. Never raises."""
    start = line.find(">", 2, 5) + 1
    usual = _USUAL.get(line[:start])
    if usual is not None:
        return _read(line, start, usual.copy(), rule)
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
    return _read(line, match.end(), priority_fields(priority), rule)


def _read(line: str, start: int, fields: dict[str, Any], rule: YearRule) -> Parsed:
    """The line from behind its priority, which `fields` has."""
    version = _VERSION.match(line, start)
    if version is None:
        return _rfc3164.parse(line, start, fields, rule)
    if version[1] != "1":
        return Parsed(None, line, fields, f"RFC 5424: version {version[1]} is not known")
    return _rfc5424.parse(line, version.end(), fields, rule.zone)
