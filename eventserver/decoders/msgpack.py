"""MessagePack: one map a frame, or an array of them.

What a frame gives is what the decoder `json` gives for the same value: a map is one event, an array of maps one each
(with the ids `...`, `....1`, `....2`), anything else is undecodable, and so is what is beyond `max_depth` or
`max_keys`. `message_key`, `time_key` and `type_key` are taken out as there; a timestamp of MessagePack is a time, too.
An empty frame is no event, and an empty array gives none.

What MessagePack has and JSON has not gets the verdicts of `eventserver.decoders._msgpack`; binary values that are not
UTF-8 are base64. Where bytes of a str were lost to U+FFFD the frame is kept in `raw_base64`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._msgpack import Reader, Unreadable, count_keys, usual_map
from eventserver.decoders._timestamps import read_value
from eventserver.event import Batch, Event, undecodable, with_raw
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: How deep the maps are nested, at most, that compiled code reads: its size doubles with each level.
_USUAL_DEPTH = 8
#: The least bytes of a key and its value.
_BYTES_PER_KEY = 2


class MsgpackOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `msgpack`."""

    message_key: Annotated[str, Doc("The key that holds the message; empty: none does.", "msg")] = "message"
    time_key: Annotated[str, Doc("The key that holds the time; empty: none does.", "@timestamp")] = "time"
    type_key: Annotated[str, Doc("The key that holds the event's type; empty: none does.", "event")] = "type"
    max_depth: Annotated[int, Doc("How deep maps and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder)
class MsgpackDecoder:
    """One event for each map."""

    Options = MsgpackOptions

    def __init__(self, options: MsgpackOptions | None = None) -> None:
        options = options or MsgpackOptions()
        self._options = options
        self._type = options.event_type or "msgpack"
        usual = usual_map(min(options.max_depth, _USUAL_DEPTH))
        self._usual: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(usual)

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        events: list[Event] = []
        for index, (frame, suffix, peer, context) in enumerate(
            zip(batch.frames, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            try:
                values, damaged = self._values(frame)
            except Unreadable as error:
                events.append(undecodable(batch, index, str(error)))
                continue
            first = batch.id + suffix
            for n, value in enumerate(values):
                event = self._event(f"{first}.{n}" if n else first, value, batch, peer, context)
                events.append(with_raw(event, frame) if damaged else event)
        return events

    def _values(self, frame: bytes) -> tuple[list[dict[str, Any]], bool]:
        """The maps of a frame, within the limits, and whether bytes were lost. Raises `Unreadable`."""
        options = self._options
        try:
            value = self._usual.decode(frame)
        except (ValueError, RecursionError):
            pass
        else:
            if len(frame) <= options.max_keys * _BYTES_PER_KEY or count_keys(value) <= options.max_keys:
                return [value], False
        if not frame:
            return [], False
        reader = Reader(frame, options.max_depth, options.max_keys, "base64")
        read = reader.whole()
        values = read if isinstance(read, list) else [read]
        if not all(isinstance(one, dict) for one in values):
            raise Unreadable("MessagePack, but neither a map nor an array of maps")
        return values, reader.damaged

    def _event(self, event_id: str, value: dict[str, Any], batch: Batch, peer: str, context: dict[str, Any]) -> Event:
        """The event that a map becomes; the map itself, less what is taken out, is its `fields`."""
        options, received, kind = self._options, batch.received, self._type
        message = value.get(options.message_key) if options.message_key else None
        if isinstance(message, str):
            del value[options.message_key]
        else:
            message = "" if message is None else msgspec.json.encode(message).decode()
        time = read_value(value.get(options.time_key)) if options.time_key else None
        if time is not None:
            del value[options.time_key]
        named = value.get(options.type_key) if options.type_key else None
        if named and isinstance(named, str):
            kind = named
            del value[options.type_key]
        return Event(event_id, time or received, received, batch.listener, peer, kind, message, value, context)
