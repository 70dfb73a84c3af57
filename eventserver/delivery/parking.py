"""Events that failed: parked for another attempt apart from the rest, or dead."""

from __future__ import annotations

import datetime as dt
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eventserver.errors import safe_text
from eventserver.event import Batch, Event, batch_id, frame_index
from eventserver.interfaces import Entry, Parked, Wants


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


class ParkingLot:
    """The parked events of one handler, and what has to be written about them with the next move of the cursor.

    `seconds` is the reactor's monotonic time, `now` aware UTC wall time.
    """

    def __init__(self, handler: str, seconds: Callable[[], float], now: Callable[[], dt.datetime]) -> None:
        self._handler = handler
        self._seconds = seconds
        self._now = now
        self._parked: dict[str, Attempt] = {}
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
                attempt.due = seconds + max(0.0, (record.next_attempt - now).total_seconds())
                self._parked[record.event.id] = attempt
        return len(self._parked)

    def park(self, attempt: Attempt, error: BaseException, delay: float) -> None:
        """Keep an event for another attempt in `delay` seconds."""
        attempt.due = self._seconds() + delay
        self._parked[attempt.event.id] = attempt
        self._settled.discard(attempt.event.id)
        self._record(attempt, error, self._now() + dt.timedelta(seconds=delay))

    def bury(self, attempt: Attempt, error: BaseException) -> None:
        """Give an event up: a dead letter."""
        self._parked.pop(attempt.event.id, None)
        self._settled.discard(attempt.event.id)
        self._record(attempt, error, None)

    def settle(self, event_id: str) -> None:
        """An event that was parked has been delivered."""
        del self._parked[event_id]
        self._changes.pop(event_id, None)
        self._settled.add(event_id)

    def _record(self, attempt: Attempt, error: BaseException, next_attempt: dt.datetime | None) -> None:
        now = self._now()
        self._changes[attempt.event.id] = Parked(
            handler=self._handler,
            event=attempt.event,
            frame=attempt.frame,
            error=safe_text(error),
            traceback="".join(traceback.format_exception(error)),
            attempts=attempt.attempts,
            first_attempt=attempt.first_attempt or now,
            last_attempt=now,
            next_attempt=next_attempt,
        )

    def changes(self) -> tuple[list[Parked], set[str]]:
        """What has changed since the last call: records to write, and ids that are parked no more."""
        if not self._changes and not self._settled:
            return [], set()
        changes, settled = list(self._changes.values()), self._settled
        self._changes, self._settled = {}, set()
        return changes, settled

    def due(self) -> Attempt | None:
        """The event whose next attempt has been due for longest, if one is due now."""
        first = min(self._parked.values(), key=lambda attempt: attempt.due, default=None)
        return first if first is not None and first.due <= self._seconds() else None

    def next_due(self) -> float | None:
        """Seconds until the next attempt is due; None if nothing is parked."""
        first = min((attempt.due for attempt in self._parked.values()), default=None)
        return None if first is None else max(0.0, first - self._seconds())

    def hurry(self) -> None:
        """Make every event due now: there may be no later."""
        for attempt in self._parked.values():
            attempt.due = min(attempt.due, self._seconds())


def _batch_of(record: Parked) -> Batch:
    """What a handler of frames is called with for an event that a journal kept."""
    event = record.event
    return Batch(
        id=batch_id(event.id),
        listener=event.listener,
        decoder=event.type,
        received=event.received,
        peers=[event.peer],
        frames=[record.frame or b""],
        offset=frame_index(event.id),
    )
