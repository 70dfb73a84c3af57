"""What becomes of what a handler failed with: wait in place, call again one by one, park, or give up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from eventserver.counters import HandlerCounters
from eventserver.delivery.options import RetryOptions
from eventserver.delivery.parking import Attempt, ParkingLot
from eventserver.delivery.retry import Backoff, verdict_of
from eventserver.errors import NotAttempted, PartialFailure, TemporaryFailure, safe_text, safe_text_and_place
from eventserver.event import Batch, Event, batch_id, frame_index
from eventserver.interfaces import Entry
from eventserver.thinned_log import ThinnedLog

#: So many events parked in a row, without one success: not they are ill, but the destination.
UNWELL_AFTER = 100
#: Seconds that a handler waits at most where it says itself for how long: no mistake in a header may stop it for good.
LONGEST_WAIT = 24 * 3600
#: What `unwell` says while a call that was cancelled runs on.
OVERDUE = "a call that took too long was cancelled and does not end"


class Failures:
    """Sorts the failures of one handler's calls.

    After `failed`, the loop finds in `waiting` what has to wait in place until `delay()` seconds have passed, in
    `again` what has to be called once more, one by one, and in `rest` what has yet to be called at all; `refused` says
    that the destination itself did not take something since the last wait. Events that failed alone are parked or
    buried in `parking`; what there is no room for waits. `event_of` gives the event for a batch of one frame.
    """

    def __init__(
        self,
        name: str,
        *,
        retry: RetryOptions,
        ordered: bool,
        parking: ParkingLot,
        counters: HandlerCounters,
        event_of: Callable[[Batch], Event],
        dead_full: Callable[[int], bool],
        now: Callable[[], dt.datetime],
        random: Callable[[], float],
        log: ThinnedLog,
    ) -> None:
        self.waiting: list[Any] = []
        self.again: list[Any] = []
        self.rest: list[Any] = []
        self.refused = False
        self.calm = True
        """Whether nothing has failed that is not settled: then successes change nothing here, and are not told."""
        self.unwell: str | None = None
        """Why the destination is unwell; None while it is well."""
        self.full = False
        """Whether something has to be given up for which there is no room among the dead letters."""
        self._name = name
        self._max_attempts = retry.max_attempts
        self._ordered = ordered
        self._max_parked = retry.max_parked
        self._parking = parking
        self._counters = counters
        self._event_of = event_of
        self._dead_full = dead_full
        # Parked events that there was no room for as dead letters.
        self._refused: dict[str, Attempt] = {}
        self._now = now
        self._log = log
        self._backoff = Backoff(retry.initial_interval, retry.max_interval, random)
        self._retry_after: float | None = None
        self._parked_in_a_row = 0
        self._attempts: dict[str, Attempt] = {}

    @property
    def suspicious(self) -> bool:
        """Whether so many events have failed in a row that the destination must be unwell, not they."""
        return self._parked_in_a_row >= UNWELL_AFTER

    @property
    def of_pile(self) -> Collection[str]:
        """The ids of those events of the current pile that have failed and that the cursor has not passed."""
        return self._attempts.keys()

    def delivered(self, count: int, attempt: Attempt | None) -> None:
        """The handler is done with `count` events; `attempt` is the parked one that it was called with."""
        self._counters.delivered += count
        self._parked_in_a_row = 0
        self._well()
        if attempt is not None:
            self._counters.parked -= 1
            self._parking.settle(attempt.event.id)
            if self._refused.pop(attempt.event.id, None) is not None and not self._refused:
                self.full = False

    def overdue(self) -> None:
        """A call is over its time, was cancelled, and runs on: nothing else can be called until it ends."""
        self._log.error("overdue", "handler {name}: a call that was cancelled does not end", name=self._name)
        self.unwell = OVERDUE
        self.calm = False

    def call_over(self) -> None:
        """A call has ended after all, if it was overdue."""
        if self.unwell is OVERDUE:
            self.unwell = None

    def settled(self, ids: Iterable[str]) -> None:
        """These events of the pile are not called with it any more, and the cursor passes them."""
        for event_id in ids:
            del self._attempts[event_id]

    def pile_done(self) -> None:
        """The pile that attempts were counted for is behind us, and nothing waits for the destination any more."""
        if self._attempts:
            self._attempts = {}
        self._well()
        self.full = bool(self._refused)
        self.calm = not (self._parked_in_a_row or len(self._parking))

    def _well(self) -> None:
        self._backoff.reset()
        if self.unwell is not None:
            self._log.warn("well", "handler {name} is well again", name=self._name)
            self.unwell = None

    def delay(self) -> float:
        """How long to wait before what waits in place is called again."""
        self.refused = False
        delay = self._backoff.next()
        if self._retry_after is not None:
            delay, self._retry_after = self._retry_after, None
        return delay

    def failed(
        self, items: list[Any], error: BaseException, attempt: Attempt | None, entries: Sequence[Entry] = ()
    ) -> None:
        """The handler failed with `items`; `attempt` is the parked event, where it was called with one.

        `entries` are those of the pile, where the frame of an event is looked up.
        """
        self.calm = False
        verdict = verdict_of(error)
        self._counters.failures[verdict] += 1
        if isinstance(error, PartialFailure):
            self._failed_in_part(items, error, attempt, entries)
        elif verdict in ("temporary", "permanent") or count_of(items) == 1:
            self._failed_alike(items, error, attempt, entries)
        else:
            # Who is the culprit? The pile is called again, event by event.
            count = count_of(items)
            self._log.warn(
                "pile",
                "handler {name} failed with {n} events: {error}",
                name=self._name,
                n=count,
                error=safe_text_and_place(error),
            )
            self.again.extend(singles(items))
            self._counters.redelivered += count

    def _failed_in_part(
        self, items: list[Any], failure: PartialFailure, attempt: Attempt | None, entries: Sequence[Entry]
    ) -> None:
        given = {id_of(item): item for item in singles(items)}
        errors = {event_id: _as_error(error) for event_id, error in failure.errors.items()}
        unnamed = [item for event_id, item in given.items() if event_id not in errors]
        unknown = errors.keys() - given.keys()
        if unknown:
            # Something failed, and nobody can say what: it may be any of those that were not named.
            names = ", ".join(sorted(map(repr, unknown))[:3])
            wrong = ValueError(f"PartialFailure names events that were not given: {names}")
            if len(given) == 1:
                self._failed_alike(list(given.values()), wrong, attempt, entries)
                return
            self._log.error("unknown", "handler {name}: {error}", name=self._name, error=str(wrong))
            self.again.extend(unnamed)
            unnamed = []
        if unnamed:
            self.delivered(len(unnamed), attempt)
        for event_id, item in given.items():
            if event_id in errors:
                self._failed_alike([item], errors[event_id], attempt, entries, alive=bool(unnamed))
        if unnamed:
            self._parked_in_a_row = 0

    def _failed_alike(
        self,
        items: list[Any],
        error: BaseException,
        attempt: Attempt | None,
        entries: Sequence[Entry],
        alive: bool = False,
    ) -> None:
        """Every one of the items failed for the same reason; `alive`: others of the same call did not fail."""
        verdict = verdict_of(error)
        if isinstance(error, NotAttempted) and attempt is None:
            self.rest.extend(items)
            return
        if verdict == "temporary":
            self.refused = True
            if isinstance(error, TemporaryFailure) and (after := _seconds_of(error.retry_after)):
                self._retry_after = max(self._retry_after or 0.0, after)
            self._destination_failed(items, error, attempt)
            return
        for item in singles(items):
            failed = attempt or self._attempt_of(item, entries)
            failed.attempts += 1
            failed.first_attempt = failed.first_attempt or self._now()
            if verdict == "permanent":
                self._bury(failed, error, attempt)
            elif attempt is None and not self._ordered and self.suspicious and not alive:
                # Not this event, but the destination: its attempts do not count.
                failed.attempts -= 1
                self._destination_failed([item], error, None)
            elif attempt is None and not self._ordered and len(self._parking) >= self._max_parked:
                failed.attempts -= 1
                self._no_room([item])
            elif failed.attempts >= self._max_attempts:
                self._bury(failed, error, attempt)
            elif self._ordered and attempt is None:
                self.waiting.append(item)
            else:
                self._park(failed, error, attempt)

    def _no_room(self, items: list[Any]) -> None:
        """Too many events wait apart: these wait in place, until others have been delivered or given up."""
        self._log.warn(
            "crowded",
            "handler {name} has {n} failed events waiting apart; the next one waits in place",
            name=self._name,
            n=len(self._parking),
        )
        self.waiting.extend(items)

    def _destination_failed(self, items: list[Any], error: BaseException, attempt: Attempt | None) -> None:
        """The items stay where they are until the destination is well; the log says so once."""
        if attempt is not None:
            self._parking.park(attempt, error, self.delay())
            return
        if self.unwell is None:
            self._log.warn(
                "unwell",
                "handler {name} is unwell and will be tried again: {error}",
                name=self._name,
                error=safe_text(error),
            )
        self.unwell = safe_text(error)
        self.waiting.extend(items)

    def _bury(self, failed: Attempt, error: BaseException, attempt: Attempt | None) -> None:
        if self._dead_full(self._parking.dead_bytes):
            self.full = True
            self._wait_for_room(failed, error, attempt)
            return
        if self.full:
            self.room_for_dead()
        self._parking.bury(failed, error)
        self._counters.dead_lettered += 1
        self._counters.parked -= attempt is not None
        self._log.error(
            "dead",
            "handler {name} gave up event {id} after {attempts} attempts: {error}",
            name=self._name,
            id=failed.event.id,
            attempts=failed.attempts,
            error=safe_text_and_place(error),
        )

    def _wait_for_room(self, failed: Attempt, error: BaseException, attempt: Attempt | None) -> None:
        """What has to be given up, and cannot be: it is tried again instead, and this attempt does not count."""
        failed.attempts -= 1
        if attempt is None:
            self.waiting.append(failed.item)
        else:
            self._parking.park(attempt, error, self._backoff.delay(attempt.attempts + 1))
            self._refused[attempt.event.id] = attempt
        self._log.error(
            "full",
            "handler {name} waits: event {id} has to be given up, and there is no room for a dead letter: {error}",
            name=self._name,
            id=failed.event.id,
            error=safe_text(error),
        )

    def room_for_dead(self) -> None:
        """There is room again: what was parked because there was none is due now."""
        self.full = False
        self._parking.hurry(self._refused.values())
        self._refused = {}

    def _park(self, failed: Attempt, error: BaseException, attempt: Attempt | None) -> None:
        self._parking.park(failed, error, self._backoff.delay(failed.attempts))
        if attempt is None:
            self._parked_in_a_row += 1
            self._counters.parked += 1
        self._log.warn(
            "parked",
            "handler {name} failed with event {id}, attempt {attempts}: {error}",
            name=self._name,
            id=failed.event.id,
            attempts=failed.attempts,
            error=safe_text_and_place(error),
        )

    def _attempt_of(self, item: Any, entries: Sequence[Entry]) -> Attempt:
        found = self._attempts.get(id_of(item))
        if found is None:
            event = item if isinstance(item, Event) else self._event_of(item)
            entry = _entry_of(item, entries)
            found = self._attempts[event.id] = Attempt(item, event, _frame_of(item, entry), origin=entry)
            batch = item if isinstance(item, Batch) else None if entry is None else entry.batch
            found.decoder = "" if batch is None else batch.decoder
        return found


def count_of(items: list[Any]) -> int:
    """The number of events, or of frames, in a list of events or batches."""
    # Their types are exact, and `isinstance` takes ten times as long for those of msgspec.
    if items and type(items[0]) is Batch:
        return sum(len(batch.frames) for batch in items)
    return len(items)


def singles(items: list[Any]) -> list[Any]:
    """The items one by one: events as they are, batches as parts of one frame."""
    if not (items and isinstance(items[0], Batch)):
        return items
    return [batch.part(index, index + 1) for batch in items for index in range(len(batch.frames))]


def id_of(item: Event | Batch) -> str:
    """The id of an event, or of the event of a batch's first frame."""
    return item.id if isinstance(item, Event) else item.id_of(0)


def _as_error(error: Any) -> BaseException:
    """What `PartialFailure` says of an event; where that is no exception, one that says so."""
    if isinstance(error, BaseException):
        return error
    said = error if isinstance(error, str) else type(error).__name__
    return TypeError(f"PartialFailure has {said!r} for it, which is no exception")


def _seconds_of(retry_after: Any) -> float | None:
    """How long to wait by what a handler says; None where that is no time to come, and its own waits are better."""
    if not isinstance(retry_after, (int, float)) or not retry_after > 0:
        return None
    return float(min(retry_after, LONGEST_WAIT))


def _frame_of(item: Event | Batch, entry: Entry | None) -> bytes | None:
    """The frame of an event, or of a batch of one."""
    if isinstance(item, Batch):
        return item.frames[0]
    return None if entry is None else entry.batch.frames[frame_index(item.id)]


def _entry_of(item: Event | Batch, entries: Sequence[Entry]) -> Entry | None:
    """The entry of the journal that an item came from."""
    wanted = batch_id(id_of(item))
    return next((entry for entry in entries if entry.batch.id == wanted), None)
