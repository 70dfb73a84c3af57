"""Syslog: RFC 5424, and RFC 3164 as it really comes, decided for every frame.

What a frame gives, by RFC 5424's names; what is nil or missing is left out:

| field | what |
|---|---|
| `facility`, `facility_code` | keyword (`kern`, `user`, `mail`, `daemon`, ... `local7`) and number, 0 to 23 |
| `severity`, `severity_code` | keyword (`emerg alert crit err warning notice info debug`) and number, 0 to 7 |
| `hostname`, `app_name`, `procid`, `msgid` | the header's; from RFC 3164 the tag and its `[pid]` |
| `structured_data` | `{sd_id: {name: value}}`; a name repeated in one element has a list of values |
| `sequence`, `uptime`, `node` | Cisco's, from RFC 3164 only |
| `error` | what was wrong; only where the frame could not be read |

`message` is the message alone, without a byte order mark. `time` is the frame's own in UTC, else `received`.
A frame that starts `<PRI>1 ` and a date or `-` is RFC 5424; anything else is read as RFC 3164 (see `_rfc3164.py`).
A frame without a readable priority has 13, user.notice (RFC 3164 section 4.3.3).

A frame that cannot be read is an event all the same: `message` is the whole line, `fields.error` says what was wrong,
`fields` has besides what was read before the fault, and `raw` has the bytes. A frame with bytes that are not in the
`encoding` is read with U+FFFD in their place, and `raw_base64` has the bytes. LF, CR and NUL at the end are dropped.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from zope.interface import implementer

from eventserver.decoders import _rfc3164, _rfc5424
from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._memo import Memo
from eventserver.decoders._rfc5424 import Parsed, StructuredData, header_fields, whole_structured_data
from eventserver.decoders._severity import DEFAULT_PRIORITY, MAX_PRIORITY, priority_fields, read_priority
from eventserver.decoders._texts import Texts, encoding_problem
from eventserver.decoders._timestamps import UTC, YearRule, to_utc, zone_of, zone_problem
from eventserver.event import Batch, Event, with_raw
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

_PRIORITY = re.compile(r"<[^<>\s]{0,8}>")
#: The version, and the start of a time stamp or nil behind it: this line means to be RFC 5424.
_VERSION = re.compile(r"([1-9]\d{0,2}) (?=- |\d{4}-\d\d-)", re.ASCII)

#: How a line begins that is most likely RFC 5424.
_VERSION_1 = frozenset(f"<{priority}>1" for priority in range(MAX_PRIORITY + 1))
#: Where Cisco's mnemonic may stand behind a tag.
_MNEMONIC_STARTS = ("%", ":")

#: What RFC 5424's nil stands for.
_NIL: StructuredData = {}


class SyslogOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `syslog`."""

    time_zone: Annotated[
        str, Doc("The zone of time stamps that name none (RFC 3164), by its IANA name.", "Europe/Paris")
    ] = "UTC"
    year: Annotated[
        Literal["auto"] | int,
        Doc(
            'The year of time stamps that name none; "auto": the latest one that puts the time at most seven days '
            "behind the day of receipt.",
            2026,
        ),
    ] = "auto"
    encoding: Annotated[str, Doc("The encoding of the text, by its name in Python.", "latin-1")] = "utf-8"

    def problems(self) -> Iterable[tuple[str, str]]:
        """A zone, year or encoding that does not exist."""
        if problem := zone_problem(self.time_zone):
            yield "time_zone", problem
        if self.year != "auto" and not 1970 <= self.year <= 9999:
            yield "year", f'{self.year} is not a year from 1970 to 9999; "auto" finds it'
        if problem := encoding_problem(self.encoding):
            yield "encoding", problem


@implementer(IDecoder)
class SyslogDecoder:
    """One event a frame, whatever it holds. The module's documentation says what it becomes.

    The fast paths take the usual forms apart with `split` and remember what repeats (headers and structured data, in
    bounded memories); whatever does not fit goes through the full grammar.
    """

    Options = SyslogOptions

    def __init__(self, options: SyslogOptions | None = None) -> None:
        options = options or SyslogOptions()
        self._type = options.event_type or "syslog"
        self._texts = Texts(options.encoding, strip="\n\r\0")
        self._rule = YearRule(options.year, zone_of(options.time_zone))
        self._day: dt.date | None = None
        self._heads = Memo(_head)
        self._data = Memo(_data, entries=1024, longest=1024)
        self._bsd_heads = Memo(self._bsd_head)
        self._bsd_times = Memo(self._bsd_time)

    def decode(self, batch: Batch) -> list[Event]:
        """One event a frame. Never raises."""
        if not batch.frames:
            return []
        self._begin(batch.received.date())
        lines, damaged = self._texts.read(batch)
        batch_id, received, listener, kind = batch.id, batch.received, batch.listener, self._type
        heads, known_data, iso = self._heads, self._data, dt.datetime.fromisoformat
        broken: list[int] = []
        events: list[Event] = []
        add = events.append
        for line, suffix, peer, context in zip(lines, suffixes(batch), peers(batch), contexts(batch), strict=False):
            # The usual RFC 5424 line, here and not in a function of its own, which would cost a fifth more.
            parts = line.split(" ", 6)
            if parts[0] in _VERSION_1 and len(parts) == 7:
                priority, stamp, hostname, app_name, procid, msgid, rest = parts
                head = heads[f"{priority} {hostname} {app_name} {procid} {msgid}"]
                data: StructuredData | None = _NIL
                if rest[:2] == "- ":
                    message = rest[2:]
                else:
                    # The first "] " may lie inside a value: what stands before it is then no structured data.
                    text, end, message = rest.partition("] ")
                    data = known_data[text] if end else None
                try:
                    time = iso(stamp)
                    if time.tzinfo is not UTC:
                        time = _shifted(time)
                except ValueError:
                    head = None
                if head is not None and data is not None:
                    fields = head.copy()
                    if data:
                        fields["structured_data"] = data
                    if message[:1] == "\ufeff":
                        message = message[1:]
                    add(Event(batch_id + suffix, time, received, listener, peer, kind, message, fields, context))
                    continue
            found = self._bsd(line)
            if found is None:
                parsed = self._slow(line)
                if parsed.error is not None:
                    parsed.fields["error"] = parsed.error
                    broken.append(len(events))
                found = parsed.time or received, parsed.message, parsed.fields
            time, message, fields = found
            add(Event(batch_id + suffix, time, received, listener, peer, kind, message, fields, context))
        for index in {*damaged, *broken}:
            events[index] = with_raw(events[index], batch.frames[index])
        return events

    def _begin(self, day: dt.date) -> None:
        """Times without a year depend on the day they are read on, so they are remembered for that day only."""
        if day != self._day:
            self._day = day
            self._rule.begin(day)
            self._bsd_times.clear()

    def _bsd(self, line: str) -> tuple[dt.datetime, str, dict[str, Any]] | None:
        """The usual RFC 3164 line: priority, time stamp, host, `tag: `; None if it takes the full grammar."""
        behind = line.find(">", 2, 5) + 1
        if not behind:
            return None
        if line[behind + 15 : behind + 16] == " ":
            time = self._bsd_times[line[behind : behind + 15]]
            rest = line[behind + 16 :]
        else:
            stamp, _, rest = line[behind:].partition(" ")
            time = _iso(stamp) if stamp[10:11] == "T" else None
        if time is None:
            return None
        hostname, _, rest = rest.partition(" ")
        tag, colon, message = rest.partition(": ")
        if not colon or " " in tag or message[:1] in _MNEMONIC_STARTS:
            return None
        head = self._bsd_heads[f"{line[:behind]} {hostname} {tag}"]
        return None if head is None else (time, message, head.copy())

    def _bsd_time(self, stamp: str) -> dt.datetime | None:
        """The time of `Nov 22 10:00:00`; None if it is none."""
        parsed = _rfc3164.parse(f"{stamp} host tag: x", 0, {}, self._rule, needs_stamp=True)
        return parsed.time if parsed.error is None and parsed.fields.get("hostname") == "host" else None

    def _bsd_head(self, key: str) -> dict[str, Any] | None:
        """The fields of `<PRI> host tag`; None if they are anything else to the full grammar, which is asked here."""
        priority, hostname, tag = key.split(" ", 2)
        parsed = self._slow(f"{priority}Nov 22 10:00:00 {hostname} {tag}: x")
        plain = parsed.error is None and parsed.message == "x" and "app_name" in parsed.fields
        return parsed.fields if plain and parsed.fields.get("hostname", "-") == hostname else None

    def _slow(self, line: str) -> Parsed:
        """Any line at all, by the full grammar."""
        match = _PRIORITY.match(line)
        if match is None:
            fields = priority_fields(DEFAULT_PRIORITY)
            if not line:
                return Parsed(None, line, fields, "the frame is empty")
            return _rfc3164.parse(line, 0, fields, self._rule, needs_stamp=True)
        priority = read_priority(match[0])
        if priority is None:
            error = f"the priority {match[0]} is not one from <0> to <{MAX_PRIORITY}>"
            return Parsed(None, line, priority_fields(DEFAULT_PRIORITY), error)
        fields = priority_fields(priority)
        version = _VERSION.match(line, match.end())
        if version is None:
            return _rfc3164.parse(line, match.end(), fields, self._rule)
        if version[1] != "1":
            return Parsed(None, line, fields, f"RFC 5424: version {version[1]} is not known")
        return _rfc5424.parse(line, version.end(), fields, self._rule.zone)


def _data(text: str) -> StructuredData | None:
    """The structured data whose last `]` was cut off; None if it is none."""
    return whole_structured_data(f"{text}]")


def _iso(stamp: str) -> dt.datetime | None:
    """A time stamp with an offset, in UTC; None if it is none."""
    try:
        return _shifted(dt.datetime.fromisoformat(stamp))
    except ValueError:
        return None


def _shifted(time: dt.datetime) -> dt.datetime:
    """The time in UTC. Raises `ValueError` for one without an offset."""
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise ValueError("a time without an offset")
    return to_utc(time)


def _head(key: str) -> dict[str, Any] | None:
    """The fields of `<PRI>1 HOSTNAME APP-NAME PROCID MSGID`; None if one is empty."""
    version, *names = key.split(" ")
    priority = read_priority(version[:-1])
    if priority is None or "" in names:
        return None
    return header_fields(priority_fields(priority), *names)
