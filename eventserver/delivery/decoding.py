"""Batches to events, once for all handlers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

from twisted.logger import Logger

from eventserver.encoders import JsonEncoder
from eventserver.event import Batch, Event, frame_index, undecodable, with_raw
from eventserver.interfaces import Entry, IDecoder, IMatch, ISelecting
from eventserver.matching import Match

_GET: Any = dict.get
_FIELDS = attrgetter("fields")
#: Of an entry, the fields whose values are remembered.
_MOST_COLUMNS = 16
#: A condition is asked for each different value of a field instead of each event, where on average as many have one.
_ALIKE = 4
#: Values of these types that are equal are the same for every expression; 1, 1.0 and True might not be.
_TELLING = {str, int, type(None)}


class Decoding:
    """Decodes the entries of the journal, and keeps the events on an entry for the handlers that come later.

    `decoder_of` gives the decoder for a batch, or None where there is none any more. `raw_listeners` are the listeners
    whose events carry their raw bytes. `max_bytes` bounds what is kept, counted in bytes of the frames (decoded events
    take about nine times that); beyond it the oldest are decoded again.
    """

    def __init__(
        self,
        decoder_of: Callable[[Batch], IDecoder | None],
        *,
        raw_listeners: Collection[str] = (),
        max_bytes: int = 1 << 20,
        log: Logger | None = None,
    ) -> None:
        self._decoder_of = decoder_of
        self.raw_listeners = frozenset(raw_listeners)
        self._max_bytes = max_bytes
        self._log = log or Logger()
        self._to_json = JsonEncoder(JsonEncoder.Options()).encode_lines
        self._kept: deque[Entry] = deque()
        self._kept_by_id: dict[str, Entry] = {}
        self._kept_bytes = 0

    def events(self, entry: Entry) -> list[Event]:
        """The events of an entry, in the order of its frames. Shared: never change the list."""
        events = entry.events
        if events is None:
            events = self.decode(entry.batch)
            if entry.readers_left > 1:
                self._keep(entry, events)
        return events

    def selected(
        self, entry: Entry, match: IMatch, plain: Mapping[str, Any], to_encode: bool = False
    ) -> list[Event] | None:
        """The events of an entry for which a condition holds, if these can be had without decoding the others.

        They have `plain` among their fields, which need be no dictionaries if they are only `to_encode`. None if not,
        or if the events are there already, or another handler will want them.
        """
        batch = entry.batch
        if entry.events is not None or entry.readers_left > 1 or batch.listener in self.raw_listeners:
            return None
        decoder: Any = self._decoder_of(batch)
        if not ISelecting.providedBy(decoder):
            return None
        try:
            more = {"to_encode": True} if to_encode else {}
            found: list[Event] | None = decoder.select(batch, match, plain, **more)
        except Exception:
            self._log.failure("decoder {decoder} raised", decoder=batch.decoder)
            return None
        return found

    def matching(self, entry: Entry, events: list[Event], match: Match) -> list[Event]:
        """Those of an entry's events for which a condition holds.

        Where that depends on a few fields, their values are looked up once for all handlers; where it depends on one,
        of which many events have the same value, it is asked once for each value.
        """
        names = match.values
        if not names or entry.events is not events:
            return match.select(events)
        columns = entry.columns
        if columns is None:
            columns, entry.distinct = {}, {}
            entry.columns = columns
        try:
            for name in names:
                if name not in columns and len(columns) < _MOST_COLUMNS:
                    columns[name] = list(map(_GET, map(_FIELDS, events), repeat(name)))
            if len(names) == 1 and (found := self._by_values(entry, events, match)) is not None:
                return found
            indexes = match.columns(columns)
        except TypeError:
            # Fields that are no plain dictionary.
            indexes = None
        return match.select(events) if indexes is None else [events[index] for index in indexes]

    def _by_values(self, entry: Entry, events: list[Event], match: Match) -> list[Event] | None:
        """`matching` for a condition on one field, by its different values; None if these are too many."""
        [name] = match.values
        columns, distinct = entry.columns, entry.distinct
        if columns is None or distinct is None or name not in columns:
            return None
        if name not in distinct:
            distinct[name] = _distinct(columns[name])
        values = distinct[name]
        indexes = None if values is None else match.columns({name: values})
        if values is None or indexes is None:
            return None
        if len(indexes) == len(values):
            return events
        wanted = {values[index] for index in indexes}
        # Most handlers of many want nothing of most batches.
        return [event for event, value in zip(events, columns[name], strict=True) if value in wanted] if wanted else []

    def json_lines(self, batches: Sequence[Batch]) -> bytes:
        """What the encoder `json` writes for the events of the batches, without making the events where possible."""
        if len(batches) == 1:
            return self._json_lines(batches[0])
        return b"".join(map(self._json_lines, batches))

    def _json_lines(self, batch: Batch) -> bytes:
        kept = self._kept_by_id.get(batch.id)
        if kept is not None and kept.events is not None and kept.batch is batch:
            return self._to_json(kept.events)
        decoder: Any = self._decoder_of(batch)
        if decoder is not None and batch.listener not in self.raw_listeners:
            try:
                # Whoever asks knows that the decoders of all its listeners can do this (see `HandlerContext`).
                lines: bytes | None = decoder.json_lines(batch)
            except Exception:
                self._log.failure("decoder {decoder} raised", decoder=batch.decoder)
            else:
                if lines is not None:
                    return lines
        return self._to_json(self.decode(batch))

    def decode(self, batch: Batch) -> list[Event]:
        """The events of a batch, or of a part of one."""
        decoder = self._decoder_of(batch)
        if decoder is None:
            return [undecodable(batch, index, "no_decoder") for index in range(len(batch.frames))]
        try:
            events = decoder.decode(batch)
        except Exception as error:
            # A decoder must not raise; one that does is a bug that must cost nobody an event.
            self._log.failure("decoder {decoder} raised", decoder=batch.decoder)
            reason = f"decoder raised {type(error).__name__}"
            return [undecodable(batch, index, reason) for index in range(len(batch.frames))]
        if batch.listener in self.raw_listeners:
            frames, offset = batch.frames, batch.offset
            events = [with_raw(event, frames[frame_index(event.id) - offset]) for event in events]
        return events

    def decode_frame(self, part: Batch) -> Event:
        """The event of a batch of one frame, for a dead letter: its first, under its own id."""
        events = self.decode(part) or [undecodable(part, 0, "the decoder gives no event for it")]
        return events[0]

    def _keep(self, entry: Entry, events: list[Event]) -> None:
        entry.events = events
        kept = self._kept
        kept.append(entry)
        self._kept_by_id[entry.batch.id] = entry
        self._kept_bytes += entry.size
        # What every handler has passed goes first, and for nothing; entries are passed about in order.
        while kept and (self._kept_bytes > self._max_bytes or not kept[0].readers_left):
            oldest = kept.popleft()
            oldest.events = oldest.columns = oldest.distinct = None
            self._kept_by_id.pop(oldest.batch.id, None)
            self._kept_bytes -= oldest.size


def _distinct(column: list[Any]) -> list[Any] | None:
    """The different values of a column, if these are few and of types that tell them apart."""
    try:
        values = set(column)
    except TypeError:
        return None
    few = len(values) * _ALIKE <= len(column)
    return list(values) if few and _TELLING.issuperset(map(type, column)) else None
