"""LEEF, the Log Event Extended Format of QRadar, 1.0 and 2.0, alone or inside syslog.

`LEEF:2.0|Vendor|Product|1.0|4000|^|src=10.0.0.1^dst=10.0.0.2^sev=5`

- The header's fields are `leef_version`, `vendor`, `product`, `product_version` and `event_id`; the attributes have
  their keys. They are separated by tabs, in 2.0 by the character that the header names (itself, or as `x5E` or `0x5E`).
- `msg` is the message, else the event id is. `devTime` is the time, by `devTimeFormat` if there is one (a pattern of
  Java's SimpleDateFormat), else milliseconds since 1970 or `Jan 02 2026 03:04:05.125 UTC`; without it, that of the
  syslog header is.
- `sev` (1 to 10) gives `severity` and `severity_code`: up to 3 info, up to 6 warning, up to 8 err, then crit.
- `sev`, ports, counters and sizes of the standard are numbers; all else is text. A separator within a value belongs to
  it where no `=` follows.
- A syslog header gives `hostname`, `app_name`, `procid`, `msgid`, `structured_data`, `facility` and `facility_code`.
- Without `LEEF:`, or with less than five parts in its header, a frame is undecodable.

Source: IBM, "QRadar Log Event Extended Format (LEEF)", version 2.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Any

from zope.interface import implementer

from eventserver.decoders._inside_syslog import InsideSyslogDecoder, InsideSyslogOptions, add_severity
from eventserver.decoders._named import number_of
from eventserver.decoders._text_times import LONGEST, by_format, zone_named
from eventserver.decoders._timestamps import zone_of
from eventserver.interfaces import IDecoder

_HEADER = re.compile(r"LEEF:[ ]?([12](?:\.\d)?)\|([^|]*+)\|([^|]*+)\|([^|]*+)\|([^|]*+)(?:\|(.*))?", re.DOTALL)
_SEPARATOR = re.compile(r"(?:0?[xX]([0-9A-Fa-f]{2,4})|(.)|)\|", re.DOTALL)
_NAMES = ("vendor", "product", "product_version", "event_id")
_NUMBERS = frozenset(
    ("sev", "srcPort", "dstPort", "srcPreNATPort", "dstPreNATPort", "srcPostNATPort", "dstPostNATPort", "srcBytes",
     "dstBytes", "srcPackets", "dstPackets", "totalPackets")
)  # fmt: skip

#: Java's letters for the parts of a time, as those of `strptime`; longest first.
_JAVA = re.compile(r"'([^']*)'|(yyyy|yy|MMM|MM?|dd?|HH?|hh?|mm?|ss?|S{1,6}|EEE|a|XXX|XX|X|Z|z{1,3})|(%)|([A-Za-z])")
_LETTERS = {"yyyy": "%Y", "yy": "%y", "MMM": "%b", "EEE": "%a"}
_FIRST_LETTERS = {"M": "%m", "d": "%d", "H": "%H", "h": "%I", "m": "%M", "s": "%S", "S": "%f", "a": "%p"}
_FIRST_LETTERS |= dict.fromkeys("XZ", "%z") | {"z": "%Z"}


class LeefOptions(InsideSyslogOptions, frozen=True, kw_only=True):
    """The options of the decoder `leef`."""


@implementer(IDecoder)
class LeefDecoder(InsideSyslogDecoder):
    """One event for each LEEF message."""

    Options = LeefOptions
    mark = b"LEEF:"

    def __init__(self, options: LeefOptions | None = None) -> None:
        options = options or LeefOptions()
        super().__init__(options, "leef")
        self._zone = zone_of(options.time_zone)

    def values(self, text: str) -> tuple[dt.datetime | None, str, dict[str, Any]]:
        """See `InsideSyslogDecoder.values`."""
        header = _HEADER.match(text)
        if header is None:
            raise ValueError("LEEF: the header is not `LEEF:version|` and four parts with `|` between them")
        version, *parts, rest = header.groups()
        fields: dict[str, Any] = {"leef_version": version, **dict(zip(_NAMES, parts, strict=True))}
        separator = "\t"
        if rest and version.startswith("2"):
            found = _SEPARATOR.match(rest)
            if found is not None:
                separator = chr(int(found[1], 16)) if found[1] else found[2] or "\t"
                rest = rest[found.end() :]
        if rest and rest.strip():
            _add_attributes(rest, separator, fields)
        time = self._take_time(fields)
        for key in _NUMBERS & fields.keys():
            fields[key] = number_of(fields[key])
        if isinstance(fields.get("sev"), int):
            add_severity(fields, fields["sev"])
        message = fields.pop("msg") if "msg" in fields else fields["event_id"]
        return time, message, fields

    def _take_time(self, fields: dict[str, Any]) -> dt.datetime | None:
        """`devTime`, which is taken out with its format if it can be read."""
        text = fields.get("devTime")
        if not text or len(text) > LONGEST:
            return None
        pattern = fields.get("devTimeFormat")
        time_format = strptime_format(pattern) if pattern and len(pattern) <= LONGEST else None
        time = self._by_format(text, time_format) if time_format else self._times.read(text)
        if time is not None:
            del fields["devTime"]
            fields.pop("devTimeFormat", None)
        return time

    def _by_format(self, text: str, time_format: str) -> dt.datetime | None:
        time = by_format(text, time_format, self._zone)
        if time is None and time_format.endswith(" %Z"):
            # `strptime` knows UTC and GMT; `GMT+02:00` says it, and other letters are left to `time_zone`.
            begin, _, zone = text.rpartition(" ")
            time = by_format(begin, time_format.removesuffix(" %Z"), zone_named(zone) or self._zone)
        return time


def _add_attributes(text: str, separator: str, fields: dict[str, Any]) -> None:
    """Add the attributes. Raises `ValueError` where the first one has no `=`."""
    found: dict[str, list[str]] = {}
    values: list[str] | None = None
    for piece in text.split(separator):
        key, equals, value = piece.partition("=")
        key = key.strip()
        if equals and key:
            found[key] = values = [value]
        elif values is not None:
            values.append(piece)
        elif piece.strip():
            raise ValueError("LEEF: an attribute without `=`")
    for key, values in found.items():
        fields[key] = values[0] if len(values) == 1 else separator.join(values).rstrip(separator)


@lru_cache(maxsize=256)
def strptime_format(pattern: str) -> str | None:
    """A pattern of Java's SimpleDateFormat as one of `strptime`; None where it has no year or cannot be put so."""
    unknown = False

    def replaced(found: re.Match[str]) -> str:
        nonlocal unknown
        quoted, letters, percent, other = found.groups()
        if quoted is not None:
            return quoted.replace("%", "%%") or "'"
        if percent:
            return "%%"
        if other:
            unknown = True
            return other
        return _LETTERS.get(letters) or _FIRST_LETTERS[letters[0]]

    made = _JAVA.sub(replaced, pattern)
    return None if unknown or not {"%Y", "%y"} & set(re.findall("%.", made)) else made
