"""RFC 3164 as it really comes: what devices and programs send under that name.

Read from left to right, each part optional::

    <PRI> [sequence: ][origin: ] time stamp [zone][:] [host] tag[pid]: message

- No PRI: 13, user.notice, as section 4.3.3 has it, if a time stamp follows; else the line is no syslog.
- No time stamp: `received`. Known ones: `Nov  2 10:00:00`, `Nov 2 2026 10:00:00`, `Nov 2 10:00:00 2026`,
  `2026 Nov 2 10:00:00`, each with fractions of a second; ISO 8601; Cisco's mark of an unset clock (`*` or `.`) before,
  and its uptime (`1w0d`, `00:01:14`) instead, which becomes the field `uptime`.
- The zone: an offset, or UTC, GMT or Z. Other abbreviations are ambiguous and read as the setting `time_zone`.
- Behind a time stamp and a space, the first word is the host, unless it is a tag (it ends with `:` or `[pid]`),
  the only word, or does not look like the name of a host. Behind a time stamp and a colon (Cisco) there is no host.
- The tag is a word before `:` or `[pid]`, and becomes `app_name` and `procid`. Cisco's `%FAC-6-NAME:` becomes `msgid`.
- Cisco's sequence number becomes the field `sequence`, its origin the `hostname` (and `node`, on IOS XR).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from eventserver.decoders._rfc5424 import Parsed
from eventserver.decoders._timestamps import UTC, YearRule, read_iso

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}

_SPACES = re.compile(r" *")
_LEAD = re.compile(r" *:? *")
_SEQUENCE = re.compile(r"(\d{1,18}): +", re.ASCII)
_UPTIME_UNITS = r"(?:\d{1,4}[ywdh]){1,4}"
_STAMP_START = r"[*.]?(?:(?:\d{4} )?[A-Z][a-z]{2} +\d|\d{4}-\d\d-\d\d[T ]|%[A-Z]|\d{1,18}: )"
#: A host before the time stamp: Cisco's `logging origin-id`, and IOS XR's `host RP/0/RSP0/CPU0:`.
_ORIGIN = re.compile(rf"(?!{_UPTIME_UNITS}:)([\w.-]+)(?: ([A-Z]+\d*/[\w/]+))?: *(?={_STAMP_START})")

_BSD = re.compile(
    r"[*.]?(?:(?P<before>\d{4}) )?(?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}),? (?:(?P<between>\d{4}) )?"
    r"(?P<hms>\d{1,2}:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?(?: (?P<after>(?:19|20)\d\d)(?= |: |:?$))?"
    r"(?: (?P<zone>(?:UTC|GMT|Z|[+-]\d\d:?\d\d)(?=[ :]|$)|[A-Z]{2,5}(?=:)))?(?=[ :]|$)",
    re.ASCII,
)
_ISO = re.compile(
    r"[*.]?(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?(?=[ :]|$)",
    re.ASCII,
)
_UPTIME = re.compile(rf"[*.]?({_UPTIME_UNITS}|\d{{1,4}}:\d\d:\d\d(?:\.\d{{1,9}})?)(?=: )", re.ASCII)

_HOST = re.compile(r"-(?= )|\[?\w[\w.:,/@%+-]*\]?(?= |$)")
#: A word and a colon, or a word and `[pid]` with or without one.
_TAG = re.compile(r"([^\s:\[\]]{1,128})(?:\[([^\s\[\]]{0,128})\](?::|(?= |$))|:(?= |$)) ?")
_MNEMONIC = re.compile(r"(?:: *)?(%[A-Za-z]\w*(?:-\w+)*-[0-7]-\w+) ?:(?: |$)")


class _Line:
    """A line that is being read: where in it, and what was found."""

    def __init__(self, line: str, position: int, fields: dict[str, Any], rule: YearRule) -> None:
        self.line = line
        self.position = position
        self.fields = fields
        self.rule = rule
        self.time: dt.datetime | None = None
        self.stamped = False

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match at the position, which then moves behind it."""
        match = pattern.match(self.line, self.position)
        if match is not None:
            self.position = match.end()
        return match

    def stamp(self) -> None:
        """The time stamp, if one stands here. Raises `ValueError` if it names no time there is."""
        if match := self.take(_BSD):
            self.time = _bsd_time(match, self.rule)
        elif match := self.take(_ISO):
            zone = match["zone"] or ""
            fraction = f".{match['fraction']}" if match["fraction"] else ""
            offset = "Z" if zone in ("UTC", "GMT") else zone
            self.time = read_iso(f"{match['date']}T{match['time']}{fraction}{offset}", self.rule.zone)
        elif match := self.take(_UPTIME):
            self.fields["uptime"] = match[1]
        self.stamped = match is not None

    def origin(self) -> None:
        """Cisco's sequence numbers and host, which stand before the time stamp."""
        self.take(_LEAD)
        while match := self.take(_SEQUENCE):
            self.fields["sequence"] = int(match[1])
        if match := self.take(_ORIGIN):
            self.fields["hostname"] = match[1]
            if match[2]:
                self.fields["node"] = match[2]
            while match := self.take(_SEQUENCE):
                self.fields["sequence"] = int(match[1])

    def host(self) -> None:
        """The host, if the word here is one: not a tag, and something follows."""
        line, start = self.line, self.position
        if _TAG.match(line, start) or line.find(" ", start) < 0:
            return
        match = _HOST.match(line, start)
        if match is None:
            return
        if match[0] != "-":
            self.fields["hostname"] = match[0]
        self.position = match.end()
        self.skip_spaces()

    def tag(self) -> None:
        """The tag with its process id, or Cisco's mnemonic, or both."""
        if not self.mnemonic() and (match := self.take(_TAG)):
            self.fields["app_name"] = match[1]
            if match[2]:
                self.fields["procid"] = match[2]
            self.mnemonic()

    def mnemonic(self) -> bool:
        match = self.take(_MNEMONIC)
        if match is not None:
            self.fields["msgid"] = match[1]
        return match is not None

    def skip_spaces(self) -> None:
        self.take(_SPACES)


def parse(line: str, start: int, fields: dict[str, Any], rule: YearRule, *, needs_stamp: bool = False) -> Parsed:
    """Reads a line from `start`, behind its priority; `fields` has that and is filled. Never raises.

    With `needs_stamp` (there was no priority) a line without a time stamp is an error. After an error the message is
    the whole line, and `fields` has what was read before.
    """
    reader = _Line(line, start, fields, rule)
    try:
        reader.origin()
        reader.stamp()
    except ValueError as error:
        return Parsed(None, line, fields, f"RFC 3164: time stamp: {error}")
    if needs_stamp and reader.time is None:
        for key in ("sequence", "hostname", "node", "uptime"):
            fields.pop(key, None)
        return Parsed(None, line, fields, "neither a priority nor a time stamp at its start")
    if not reader.stamped and "hostname" not in fields and "sequence" not in fields:
        reader.position = start
    cisco = line.startswith(":", reader.position)
    reader.position += cisco
    reader.skip_spaces()
    if reader.stamped and not cisco and "hostname" not in fields:
        reader.host()
    reader.tag()
    return Parsed(reader.time, line[reader.position :], fields)


def _bsd_time(match: re.Match[str], rule: YearRule) -> dt.datetime:
    month = _MONTHS.get(match["month"])
    if month is None:
        raise ValueError(f"{match['month']!r} is no month")
    year = match["before"] or match["between"] or match["after"]
    microsecond = int((match["fraction"] or "0").ljust(6, "0")[:6])
    zone = _zone(match["zone"])
    return rule.time(month, int(match["day"]), match["hms"], microsecond, int(year) if year else None, zone)


def _zone(text: str | None) -> dt.tzinfo | None:
    """The zone that is written behind a time; None where only the setting can say."""
    if not text or text[0] not in "+-":
        return UTC if text in ("UTC", "GMT", "Z") else None
    digits = text[1:].replace(":", "")
    offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return dt.timezone(-offset if text[0] == "-" else offset)
