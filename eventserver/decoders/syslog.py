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
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._rfc5424 import StructuredData
from eventserver.decoders._syslog_json import MakesJson, json_lines
from eventserver.decoders._syslog_reader import SyslogReader
from eventserver.decoders._texts import Texts, encoding_problem
from eventserver.decoders._timestamps import YearRule, zone_of, zone_problem
from eventserver.event import Batch, Event, with_raw
from eventserver.interfaces import IDecoder, IJsonLines
from eventserver.options import Doc

#: What is dropped from the end of a frame.
_ENDS = b"\n\r\0"
#: What stands between messages while they become texts in one go: hardly any has it.
_BETWEEN = "\x7f"


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


class _MakesFields:
    """The parts of a line as an event has them."""

    def __init__(self) -> None:
        self.nil: StructuredData = {"-": {}}

    def times(self, times: list[dt.datetime]) -> list[dt.datetime]:
        """As they are."""
        return times

    def time(self, time: dt.datetime) -> dt.datetime:
        """As it is."""
        return time

    def head(self, fields: dict[str, Any]) -> dict[str, Any]:
        """As they are."""
        return fields

    def data(self, data: StructuredData) -> StructuredData:
        """As they are."""
        return data

    def whole(self, head: dict[str, Any], data: StructuredData) -> dict[str, Any]:
        """As an event has them."""
        return {**head, "structured_data": data}


@implementer(IDecoder, IJsonLines)
class SyslogDecoder:
    """One event a frame, whatever it holds. The module's documentation says what it becomes.

    Events and JSON are made from the same columns, read by two readers, as each remembers what it needs ready-made.
    """

    Options = SyslogOptions

    def __init__(self, options: SyslogOptions | None = None) -> None:
        options = options or SyslogOptions()
        self._type = options.event_type or "syslog"
        self._texts = Texts(options.encoding)
        zone = zone_of(options.time_zone)
        self._makes = _MakesFields()
        self._reader = SyslogReader(YearRule(options.year, zone), self._makes)
        self._json_reader = SyslogReader(YearRule(options.year, zone), MakesJson())

    def decode(self, batch: Batch) -> list[Event]:
        """One event a frame. Never raises."""
        if not batch.frames:
            return []
        lines, damaged = self._texts.read_as_utf_8(batch, _ENDS)
        columns, broken = self._reader.read(lines, batch.received)
        batch_id, received, listener, kind = batch.id, batch.received, batch.listener, self._type
        nil = self._makes.nil
        events: list[Event] = []
        add = events.append
        for suffix, peer, context, time, head, data, message in zip(
            suffixes(batch), peers(batch), contexts(batch), *columns[:3], _texts(columns[3]), strict=False
        ):
            fields = head.copy()
            if data is not nil:
                fields["structured_data"] = data
            add(Event(batch_id + suffix, time, received, listener, peer, kind, message, fields, context))
        for index in {*damaged, *broken}:
            events[index] = with_raw(events[index], batch.frames[index])
        return events

    def json_lines(self, batch: Batch) -> bytes | None:
        """The JSON lines of the events."""
        if not batch.frames:
            return b""
        lines, damaged = self._texts.read_as_utf_8(batch, _ENDS)
        columns, broken = self._json_reader.read(lines, batch.received)
        return json_lines(batch, self._type, columns, {*damaged, *broken})


def _texts(messages: list[bytes]) -> list[str]:
    texts = _BETWEEN.encode().join(messages).decode().split(_BETWEEN)
    return texts if len(texts) == len(messages) else [message.decode() for message in messages]
