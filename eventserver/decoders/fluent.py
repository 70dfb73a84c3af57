"""Entries of the Forward protocol: `[time, record]`, or `[[time, metadata], record]` as newer Fluent Bits send them.

The record's keys are `fields`, under the names that the sender gave them; the first of `message_keys` that holds a text
is taken out and is the message. The time is the entry's: seconds since 1970 (an integer, or a float of some clients),
or an EventTime with nanoseconds, of which microseconds are kept; with nil, and what is no time, it is `received`.
Metadata that is not empty is in `context["metadata"]`.

What MessagePack has and JSON has not gets the verdicts of `eventserver.decoders._msgpack`; binary values are texts,
since Ruby sends texts without an encoding so. Where bytes were lost to U+FFFD the frame is kept in `raw_base64`. A
frame that is no entry, is nested deeper than `max_depth` or has more than `max_keys` keys is undecodable.
"""

from __future__ import annotations

import datetime as dt
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._msgpack import Reader, Unreadable, count_keys, event_time, usual_map
from eventserver.event import Batch, Event, undecodable, with_raw
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: How deep the records are nested, at most, that compiled code reads: its size doubles with each level.
_USUAL_DEPTH = 8
#: The least bytes of a key and its value.
_BYTES_PER_KEY = 2
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Fluent Bit marks the beginning and the end of a group of entries with -1 and -2 for seconds, which are no time.
_GROUP_MARKS = 0xFFFFFFFE
_FIRST_MARK = _EPOCH + dt.timedelta(seconds=_GROUP_MARKS)


class FluentOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `fluent`."""

    message_keys: Annotated[
        tuple[str, ...],
        Doc("The keys that may hold the message, the likeliest first; empty: none does.", ["log", "message"]),
    ] = ("log", "message", "msg", "MESSAGE")
    max_depth: Annotated[int, Doc("How deep a record may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys a record may have, nested ones counted.", 1000, ge=1)] = 1000


def _extended(code: int, data: memoryview) -> dt.datetime:
    if code or len(data) != 8 or (time := event_time(data)) >= _FIRST_MARK:
        raise ValueError("no time")
    return time


@implementer(IDecoder)
class FluentDecoder:
    """One event for each entry."""

    Options = FluentOptions

    def __init__(self, options: FluentOptions | None = None) -> None:
        options = options or FluentOptions()
        self._type = options.event_type or "fluent"
        self._message_keys = options.message_keys
        self._max_depth = options.max_depth
        self._max_keys = options.max_keys
        entry = GenericAlias(tuple, (Any, usual_map(min(options.max_depth, _USUAL_DEPTH))))
        self._usual: Any = msgspec.msgpack.Decoder(entry, ext_hook=_extended)

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        usual, received, listener, kind = self._usual.decode, batch.received, batch.listener, self._type
        fewest = self._max_keys * _BYTES_PER_KEY
        events: list[Event] = []
        for index, (frame, suffix, peer, context) in enumerate(
            zip(batch.frames, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            try:
                time, record = usual(frame)
            except (ValueError, RecursionError, OverflowError):
                events.append(self._unusual(batch, index))
                continue
            if type(time) is not dt.datetime:
                if type(time) is not int or not 0 <= time < _GROUP_MARKS:
                    events.append(self._unusual(batch, index))
                    continue
                time = _EPOCH + dt.timedelta(0, time)
            if len(frame) > fewest and count_keys(record) > self._max_keys:
                events.append(self._unusual(batch, index))
                continue
            message = self._message(record)
            events.append(Event(batch.id + suffix, time, received, listener, peer, kind, message, record, context))
        return events

    def _message(self, record: dict[str, Any]) -> str:
        for key in self._message_keys:
            if type(record.get(key)) is str:
                message: str = record.pop(key)
                return message
        return ""

    def _unusual(self, batch: Batch, index: int) -> Event:
        """The event of one frame that needs a look of its own."""
        frame = batch.frames[index]
        reader = Reader(frame, self._max_depth + 1, self._max_keys, "text")
        try:
            entry = reader.whole()
            if type(entry) is not list or len(entry) != 2 or type(entry[1]) is not dict:
                raise Unreadable("no entry: an array of time and record is one")
        except Unreadable as error:
            return undecodable(batch, index, str(error))
        time, record = entry
        context = batch.context_of(index)
        if type(time) is list:
            time, metadata = (*time, None, None)[:2]
            if metadata:
                context = {**context, "metadata": metadata}
        event = Event(
            batch.id_of(index),
            _time(time) or batch.received,
            batch.received,
            batch.listener,
            batch.peer_of(index),
            self._type,
            self._message(record),
            record,
            context,
        )
        return with_raw(event, frame) if reader.damaged else event


def _time(value: object) -> dt.datetime | None:
    """A time that is not the usual one; None if it cannot be read."""
    try:
        if isinstance(value, str):
            time = dt.datetime.fromisoformat(value).astimezone(dt.UTC)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time = _EPOCH + dt.timedelta(seconds=value)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return time if time < _FIRST_MARK else None
