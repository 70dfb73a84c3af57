"""Events that failed: parked for another attempt apart from the rest, or dead."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from eventserver._plain import dictionary_of
from eventserver.errors import safe_text
from eventserver.event import Batch, Event, batch_id, frame_index
from eventserver.interfaces import Entry, Parked, Wants

#: Characters of an error's text, and of its traceback, that are kept: what is longer loses its middle.
MAX_ERROR = 4096
MAX_TRACEBACK = 16384
#: Calls that are shown of a traceback.
MAX_CALLS = 50


@dataclass(slots=True)
class Attempt:
    """An event with its failures so far. `item` is what the handler is called with: the event, or its frame's batch."""

    item: Any
    event: Event
    frame: bytes | None
    attempts: int = 0
    first_attempt: dt.datetime | None = None
    due: float = 0.0
    origin: Entry | None = None
    """Where a reply goes by, for a handler that answers."""
    decoder: str = ""


class ParkingLot:
    """The parked events of one handler, and what has to be written about them with the next move of the cursor.

    `seconds` is the reactor's monotonic time, `now` aware UTC wall time.
    """

    def __init__(self, handler: str, seconds: Callable[[], float], now: Callable[[], dt.datetime]) -> None:
        self.dead_bytes = 0
        """What the dead letters that have yet to be written take, about."""
        self._handler = handler
        self._seconds = seconds
        self._now = now
        self._parked: dict[str, Attempt] = {}
        # By the time when it is due; what has been settled, or was put off, stays in here until its turn comes.
        self._queue: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()
        self._changes: dict[str, Parked] = {}
        self._settled: set[str] = set()

    def __len__(self) -> int:
        return len(self._parked)

    def restore(self, records: Iterable[Parked], wants: Wants) -> int:
        """Take over what a journal has kept; returns how many events wait for another attempt."""
        now, seconds = self._now(), self._seconds()
        for record in records:
            if record.next_attempt is not None:
                item = record.event if wants == "events" else _batch_of(record)
                attempt = Attempt(item, record.event, record.frame, record.attempts, record.first_attempt)
                attempt.decoder = record.decoder
                self._enter(attempt, seconds + max(0.0, (record.next_attempt - now).total_seconds()))
        return len(self._parked)

    def _enter(self, attempt: Attempt, due: float) -> None:
        attempt.due = due
        self._parked[attempt.event.id] = attempt
        heapq.heappush(self._queue, (due, next(self._numbers), attempt))

    def park(self, attempt: Attempt, error: BaseException, delay: float) -> None:
        """Keep an event for another attempt in `delay` seconds."""
        self._enter(attempt, self._seconds() + delay)
        self._settled.discard(attempt.event.id)
        self._record(attempt, error, self._now() + dt.timedelta(seconds=delay))

    def bury(self, attempt: Attempt, error: BaseException) -> None:
        """Give an event up: a dead letter."""
        self._parked.pop(attempt.event.id, None)
        self._settled.discard(attempt.event.id)
        self.dead_bytes += weight(self._record(attempt, error, None))

    def settle(self, event_id: str) -> None:
        """An event that was parked has been delivered."""
        del self._parked[event_id]
        self._changes.pop(event_id, None)
        self._settled.add(event_id)

    def _record(self, attempt: Attempt, error: BaseException, next_attempt: dt.datetime | None) -> Parked:
        now = self._now()
        shown = "".join(traceback.format_exception(error, limit=-MAX_CALLS))
        record = self._changes[attempt.event.id] = Parked(
            handler=self._handler,
            event=_with_dictionary(attempt.event),
            frame=attempt.frame,
            error=_shortened(safe_text(error), MAX_ERROR),
            traceback=_shortened(shown, MAX_TRACEBACK),
            attempts=attempt.attempts,
            first_attempt=attempt.first_attempt or now,
            last_attempt=now,
            next_attempt=next_attempt,
            decoder=attempt.decoder,
        )
        return record

    def changes(self, but: Collection[str] = ()) -> tuple[list[Parked], set[str]]:
        """What has changed since the last call: records to write, and ids that are parked no more.

        What has changed of the events in `but` is kept for a later call.
        """
        if not self._changes and not self._settled:
            return [], set()
        kept = {event_id: record for event_id, record in self._changes.items() if event_id in but}
        changes = [record for event_id, record in self._changes.items() if event_id not in kept]
        still_settled = {event_id for event_id in self._settled if event_id in but}
        settled = self._settled - still_settled
        self._changes, self._settled = kept, still_settled
        self.dead_bytes = sum(weight(record) for record in kept.values() if record.next_attempt is None)
        return changes, settled

    def _first(self) -> Attempt | None:
        """The event whose next attempt comes first."""
        queue, parked = self._queue, self._parked
        while queue:
            due, _, attempt = queue[0]
            if due == attempt.due and parked.get(attempt.event.id) is attempt:
                return attempt
            heapq.heappop(queue)
        return None

    def due(self) -> Attempt | None:
        """The event whose next attempt has been due for longest, if one is due now."""
        first = self._first()
        return first if first is not None and first.due <= self._seconds() else None

    def next_due(self) -> float | None:
        """Seconds until the next attempt is due; None if nothing is parked."""
        first = self._first()
        return None if first is None else max(0.0, first.due - self._seconds())

    def hurry(self, attempts: Iterable[Attempt] | None = None) -> None:
        """Make these events due now, those that are still parked; without any named, all."""
        now = self._seconds()
        for attempt in list(self._parked.values()) if attempts is None else attempts:
            if attempt.due > now and self._parked.get(attempt.event.id) is attempt:
                self._enter(attempt, now)


def weight(record: Parked) -> int:
    """About the bytes that a record takes."""
    return 1000 + 2 * len(record.frame or record.event.message) + len(record.traceback) + len(record.error)


def _with_dictionary(event: Event) -> Event:
    """The event with fields that anybody can read, where they were made for an encoder (see `ISelecting`)."""
    fields: Any = event.fields
    return event.replace(fields=dictionary_of(fields)) if isinstance(fields, msgspec.Struct) else event


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"


def _batch_of(record: Parked) -> Batch:
    """What a handler of frames is called with for an event that a journal kept."""
    event = record.event
    frame = record.frame if record.frame is not None else event.raw_bytes
    return Batch(
        id=batch_id(event.id),
        listener=event.listener,
        # Records of former versions have none; most events have the type that their decoder is called by.
        decoder=record.decoder or event.type,
        received=event.received,
        peers=[event.peer],
        frames=[event.message.encode() if frame is None else frame],
        # The marks of the frame are in the event's context already.
        context=event.context,
        offset=frame_index(event.id),
    )
