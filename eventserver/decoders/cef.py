r"""CEF, the Common Event Format of ArcSight, alone or inside syslog.

`CEF:0|Vendor|Product|1.0|100|Name|7|src=10.0.0.1 dpt=22 msg=a text`

- The header's fields are `cef_version`, and by ArcSight's names `deviceVendor`, `deviceProduct`, `deviceVersion`,
  `deviceEventClassId`, `name` and `deviceSeverity`; the extension's have their keys. `\|`, `\=`, `\\`, `\n` and `\r`
  are what they stand for.
- `msg` is the message, else the name is. `rt` is the time (milliseconds since 1970, or `Jan 02 2026 03:04:05.125
  UTC`), else that of the syslog header is; `start` and `end` stay fields.
- The severity (0 to 10, or Low, Medium, High, Very-High) gives `severity` and `severity_code`: up to 3 info, up to 6
  warning, up to 8 err, then crit.
- Ports, counters and sizes of the standard are numbers; all else is text.
- A syslog header gives `hostname`, `app_name`, `procid`, `msgid`, `structured_data`, `facility` and `facility_code`.
- Without `CEF:`, or with less than seven parts in its header, a frame is undecodable.

Source: "ArcSight Common Event Format (CEF) Implementation Standard", version 26.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from zope.interface import implementer

from eventserver.decoders._inside_syslog import InsideSyslogDecoder, InsideSyslogOptions, add_severity
from eventserver.decoders._named import number_of
from eventserver.interfaces import IDecoder

_PART = r"\|([^|\\]*+(?:\\.[^|\\]*+)*)"
_HEADER = re.compile(rf"CEF:[ ]?(\d{{1,3}}(?:\.\d{{1,3}})?){_PART * 6}(?:\|(.*))?", re.ASCII | re.DOTALL)
_NAMES = ("deviceVendor", "deviceProduct", "deviceVersion", "deviceEventClassId", "name", "deviceSeverity")
#: Where the next pair begins: one space, so that a run of them costs no more than its length.
_KEY = re.compile(r"(?:^| )([A-Za-z0-9_.\[\]-]+)=")
_HEADER_ESCAPE = re.compile(r"\\([|\\])")
_ESCAPE = re.compile(r"\\([=|\\nr])")
_ESCAPES = {"n": "\n", "r": "\r"}

_NUMBERS = frozenset(
    ("cnt", "cfp1", "cfp2", "cfp3", "cfp4", "cn1", "cn2", "cn3", "destinationTranslatedPort", "dpid", "dpt", "dvcpid",
     "flexNumber1", "flexNumber2", "fsize", "in", "oldFileSize", "out", "sourceTranslatedPort", "spid", "spt", "type")
)  # fmt: skip
_WORDS = {"low": 3, "medium": 6, "high": 8, "very-high": 10}


class CefOptions(InsideSyslogOptions, frozen=True, kw_only=True):
    """The options of the decoder `cef`."""


@implementer(IDecoder)
class CefDecoder(InsideSyslogDecoder):
    """One event for each CEF message."""

    Options = CefOptions
    mark = b"CEF:"

    def __init__(self, options: CefOptions | None = None) -> None:
        super().__init__(options or CefOptions(), "cef")

    def values(self, text: str) -> tuple[dt.datetime | None, str, dict[str, Any]]:
        """See `InsideSyslogDecoder.values`."""
        header = _HEADER.match(text)
        if header is None:
            raise ValueError("CEF: the header is not `CEF:version|` and six parts with `|` between them")
        version, *parts, extension = header.groups()
        if any("\\" in part for part in parts):
            parts = [_HEADER_ESCAPE.sub(r"\1", part) for part in parts]
        fields: dict[str, Any] = {"cef_version": version, **dict(zip(_NAMES, parts, strict=True))}
        if extension:
            fields |= _extension(extension)
        time = None
        if "rt" in fields and (time := self._times.read(fields["rt"])) is not None:
            del fields["rt"]
        severity = parts[-1].strip()
        add_severity(
            fields, int(severity) if severity.isdecimal() and len(severity) < 3 else _WORDS.get(severity.lower(), -1)
        )
        message = fields.pop("msg") if "msg" in fields else fields["name"]
        for key in _NUMBERS & fields.keys():
            fields[key] = number_of(fields[key])
        return time, message, fields


def _extension(text: str) -> dict[str, str]:
    """The pairs of an extension; what stands before the first of them is `extension`."""
    rest, *pairs = _KEY.split(text)
    values = pairs[1::2]
    if "\\" in text:
        values = [_ESCAPE.sub(_escape, value) for value in values]
    found = {key: value.rstrip(" ") for key, value in zip(pairs[::2], values, strict=True)}
    if rest.strip():
        found["extension"] = rest.strip()
    return found


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[1])
