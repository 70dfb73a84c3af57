"""What `logfmt`, `kv`, `csv` and `regex` share: a line becomes texts by name, and some names mean something.

- The message, the time and the level are looked for by their usual names, or by those of the options.
- A level gives `severity` and `severity_code` besides; it stays, since programs have more levels than syslog.
- A byte order mark of UTF-8 at the start of a frame is no part of it.
- Values are texts. With `numbers = true` those become numbers that the same text would be written for again: 200 and
  -1.5, but not 007, 1.10 or 1e5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._levels import severity_of
from eventserver.decoders._text_times import TextTimes, format_problem
from eventserver.decoders._texts import Texts, encoding_problem
from eventserver.decoders._timestamps import zone_problem
from eventserver.event import Batch, Event, undecodable, with_raw
from eventserver.options import Doc

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?")


class NamedOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options that these decoders share."""

    message_key: Annotated[
        str, Doc("The name of the value that is the message; empty: the first there is of `message`, `msg`.", "text")
    ] = ""
    time_key: Annotated[
        str,
        Doc(
            "The name of the value that is the time; empty: the first of `time`, `ts`, `timestamp`, `t` that can be "
            "read.",
            "when",
        ),
    ] = ""
    level_key: Annotated[
        str, Doc("The name of the level; empty: the first there is of `level`, `lvl`, `severity`.", "loglevel")
    ] = ""
    time_format: Annotated[
        str,
        Doc(
            "How the time is written, as for Python's `strptime`; empty: as in RFC 3339, or a number since 1970.",
            "%d/%b/%Y:%H:%M:%S %z",
        ),
    ] = ""
    time_zone: Annotated[str, Doc("The zone of times that name none, by its IANA name.", "Europe/Paris")] = "UTC"
    numbers: Annotated[bool, Doc("Whether values that are plain numbers become numbers.", True)] = False
    max_keys: Annotated[int, Doc("How many keys an event may have.", 1000, ge=1)] = 1000
    encoding: Annotated[str, Doc("The encoding of the text, by its name in Python.", "latin-1")] = "utf-8"

    def problems(self) -> Iterable[tuple[str, str]]:
        """A zone, format or encoding that does not exist."""
        if problem := zone_problem(self.time_zone):
            yield "time_zone", problem
        if self.time_format and (problem := format_problem(self.time_format)):
            yield "time_format", problem
        if problem := encoding_problem(self.encoding):
            yield "encoding", problem


class NamedDecoder:
    """One event a frame. Subclasses say what a line's values are."""

    def __init__(self, options: NamedOptions, name: str) -> None:
        self._type = options.event_type or name
        self._texts = Texts(options.encoding, skip_bom=True)
        self._times = TextTimes(options.time_format, options.time_zone)
        self._message_keys = (options.message_key,) if options.message_key else ("message", "msg")
        self._time_keys = (options.time_key,) if options.time_key else ("time", "ts", "timestamp", "t")
        self._level_keys = (options.level_key,) if options.level_key else ("level", "lvl", "severity")
        self._numbers = options.numbers
        self._max_keys = options.max_keys

    def values(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """The message, if it has no name, and a new dictionary of the values; None for no event.

        Raises `ValueError` with the reason if the text cannot be read.
        """
        raise NotImplementedError

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        texts, damaged = self._texts.read(batch)
        received, listener, kind = batch.received, batch.listener, self._type
        events: list[Event] = []
        for index, (text, suffix, peer, context) in enumerate(
            zip(texts, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            try:
                found = self.values(text)
                if found is None:
                    continue
                message, fields = found
                if len(fields) > self._max_keys:
                    raise ValueError(f"more than {self._max_keys} keys")
            except ValueError as error:
                events.append(undecodable(batch, index, str(error)))
                continue
            time = self._take_time(fields) or received
            message = message or self._take_message(fields)
            self._add_severity(fields)
            if self._numbers:
                _make_numbers(fields)
            event = Event(batch.id + suffix, time, received, listener, peer, kind, message, fields, context)
            events.append(with_raw(event, batch.frames[index]) if damaged and index in damaged else event)
        return events

    def _take_time(self, fields: dict[str, Any]) -> Any:
        for key in self._time_keys:
            value = fields.get(key)
            if value is not None and value is not True:
                time = self._times.read(value)
                if time is not None:
                    del fields[key]
                    return time
        return None

    def _take_message(self, fields: dict[str, Any]) -> str:
        for key in self._message_keys:
            if isinstance(fields.get(key), str):
                message: str = fields.pop(key)
                return message
        return ""

    def _add_severity(self, fields: dict[str, Any]) -> None:
        for key in self._level_keys:
            level = fields.get(key)
            if isinstance(level, str):
                severity = severity_of(level)
                if severity is not None:
                    fields["severity"], fields["severity_code"] = severity
                return


def _make_numbers(fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = number_of(value)


def number_of(text: str) -> int | float | str:
    """The number that a text is, if that number is written just so; else the text."""
    found = _NUMBER.fullmatch(text)
    if found is None or text == "-0":
        return text
    if found[1] is None:
        return int(text)
    number = float(text)
    return number if repr(number) == text else text
