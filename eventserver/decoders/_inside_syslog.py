"""What CEF and LEEF share: lines that begin with a word of their own, alone or behind the header of syslog."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any

from msgspec.structs import replace

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._severity import SEVERITIES
from eventserver.decoders._text_times import DeviceTimes
from eventserver.decoders._texts import Texts
from eventserver.decoders._timestamps import zone_problem
from eventserver.decoders.syslog import SyslogDecoder, SyslogOptions
from eventserver.event import Batch, Event, undecodable, with_raw
from eventserver.options import Doc

#: What a message's header may give.
_HEADER_FIELDS = ("hostname", "app_name", "procid", "msgid", "structured_data")
_PRIORITY_FIELDS = ("facility", "facility_code")

#: Severities 0 to 10, as CEF has them (low to 3, medium to 6, high to 8, then very high), as syslog's.
_CODES = (6, 6, 6, 6, 4, 4, 4, 3, 3, 2, 2)


class InsideSyslogOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options that these decoders share."""

    time_zone: Annotated[str, Doc("The zone of times that name none, by its IANA name.", "Europe/Paris")] = "UTC"
    max_keys: Annotated[int, Doc("How many keys an event may have.", 1000, ge=1)] = 1000

    def problems(self) -> Iterable[tuple[str, str]]:
        """A zone that does not exist."""
        if problem := zone_problem(self.time_zone):
            yield "time_zone", problem


class InsideSyslogDecoder:
    """One event a frame. Subclasses read what begins with `mark`."""

    mark: bytes
    """What the format begins with, such as `b"CEF:"`."""

    def __init__(self, options: InsideSyslogOptions, name: str) -> None:
        self._type = options.event_type or name
        self._texts = Texts()
        self._times = DeviceTimes(options.time_zone)
        self._syslog = SyslogDecoder(SyslogOptions(time_zone=options.time_zone))
        self._max_keys = options.max_keys

    def values(self, text: str) -> tuple[dt.datetime | None, str, dict[str, Any]]:
        """Time, message and fields (a new dictionary) of a text from the mark on.

        Raises `ValueError` with the reason if it cannot be read.
        """
        raise NotImplementedError

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        if not batch.frames:
            return []
        self._times.begin(batch.received)
        texts, damaged = self._texts.read(batch)
        headers = self._headers(batch)
        mark, listener, kind = self.mark.decode(), batch.listener, self._type
        events: list[Event] = []
        for index, (text, suffix, peer, context) in enumerate(
            zip(texts, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            start = text.find(mark)
            try:
                if start < 0:
                    raise ValueError(f"there is no `{mark}` in it")
                time, message, fields = self.values(text[start:].rstrip("\r\n\0"))
                if len(fields) > self._max_keys:
                    raise ValueError(f"more than {self._max_keys} keys")
            except ValueError as error:
                events.append(undecodable(batch, index, str(error)))
                continue
            sent = batch.received
            if headers is not None and start > 0:
                sent = _add_header(headers[index], text, fields)
            event = Event(
                batch.id + suffix, time or sent, batch.received, listener, peer, kind, message, fields, context
            )
            events.append(with_raw(event, batch.frames[index]) if damaged and index in damaged else event)
        return events

    def _headers(self, batch: Batch) -> list[Event] | None:
        """What stands before the mark, read as syslog; None if nothing does."""
        mark = self.mark
        starts = [frame.find(mark) for frame in batch.frames]
        if max(starts) <= 0:
            return None
        # The mark looks like a tag: so the word before it is read as the host, if there is but one.
        heads = [frame[: max(start, 0)] + mark + b" -" for frame, start in zip(batch.frames, starts, strict=True)]
        return self._syslog.decode(replace(batch, frames=heads))


def _add_header(header: Event, text: str, fields: dict[str, Any]) -> dt.datetime:
    """Add what the header of a syslog message says to the fields; returns its time."""
    found = header.fields
    if "error" in found:
        return header.received
    for key in _HEADER_FIELDS:
        if key in found and (key != "app_name" or found[key] not in ("CEF", "LEEF")):
            fields.setdefault(key, found[key])
    if text[:1] == "<":
        for key in _PRIORITY_FIELDS:
            fields.setdefault(key, found[key])
        if "severity_code" not in fields:
            fields["severity"], fields["severity_code"] = found["severity"], found["severity_code"]
    return header.time


def add_severity(fields: dict[str, Any], number: int) -> None:
    """Add the severity of syslog for one from 0 to 10; nothing for others."""
    if 0 <= number < len(_CODES):
        code = _CODES[number]
        fields["severity"], fields["severity_code"] = SEVERITIES[code], code
