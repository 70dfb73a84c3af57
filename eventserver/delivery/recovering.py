"""What a handler is called with again after something went wrong."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.counters import HandlerCounters
from eventserver.delivery.failing import Failures, count_of, id_of, singles
from eventserver.delivery.options import DeliveryOptions
from eventserver.delivery.parking import Attempt, ParkingLot
from eventserver.delivery.pile import Pile
from eventserver.delivery.probing import FURTHEST, Probing
from eventserver.delivery.standing import Standing
from eventserver.event import batch_id, frame_index
from eventserver.interfaces import IJournal


class Recovering(Standing):
    """The part of a handler's loop that knows what is still to be called of the current pile.

    `_failures` judges what went wrong; here it is decided what is called next, and when.
    """

    _failures: Failures
    _seconds: Callable[[], float]
    _log: Logger

    def __init__(
        self,
        name: str,
        journal: IJournal,
        settings: DeliveryOptions,
        counters: HandlerCounters,
        parking: ParkingLot,
        moved: Callable[[], None],
        listeners: Collection[str] | None,
        position: int | None,
    ) -> None:
        super().__init__(name, journal, counters, parking, moved, listeners, position)
        self._settings = settings
        # The current pile, and what of it is still to be called.
        self._pile: Pile | None = None
        self._todo: deque[list[Any]] = deque()
        self._probing = Probing()
        self._timer: Any = None

    @abstractmethod
    def _wait(self, seconds: float) -> None:
        """Go on after so many seconds, with what waits in place."""

    @abstractmethod
    def _take(self) -> Pile | None:
        """The next pile."""

    @abstractmethod
    def _not_made(self, failure: Failure) -> None:
        """What comes next could not be made ready for the handler."""

    def _settle(self, items: list[Any], error: BaseException | None, attempt: Attempt | None) -> None:
        failures = self._failures
        try:
            if error is None:
                failures.delivered(count_of(items), attempt)
            else:
                failures.failed(items, error, attempt, self._pile.entries if self._pile is not None else ())
        except Exception:
            # Whatever is wrong here, the cursor must not pass these events.
            self._log.failure("handler {name}: its failure could not be dealt with", name=self.name)
            if attempt is None:
                failures.waiting.extend(items)

    def _sort_out(self) -> None:
        """Have called again what may have the culprit in it; or, if something waits in place, all wait behind it."""
        failures = self._failures
        if failures.again:
            self._todo.extend([item] for item in failures.again)
            failures.again = []
        if failures.rest:
            self._todo.appendleft(failures.rest)
            failures.rest = []
        if self._probing.active:
            if not self._todo:
                self._probe()
        elif failures.waiting and self._timer is None:
            for items in self._todo:
                failures.waiting.extend(items)
            self._todo.clear()
            if failures.full:
                self._pass_settled(failures.waiting)
            self._wait(failures.delay())

    def _pass_settled(self, waiting: list[Any]) -> None:
        """Move the cursor up to the first event of the pile that waits.

        So the dead letters before it get into the journal, where they can be dropped: they may be all that fills it.
        """
        pile = self._pile
        if pile is None:
            return
        entries = {entry.batch.id: entry for entry in pile.entries}

        def place(event_id: str) -> int:
            entry = entries.get(batch_id(event_id))
            return pile.start if entry is None else entry.first + frame_index(event_id)

        first = min(place(id_of(item)) for item in waiting)
        if first > pile.start:
            self._failures.settled([event_id for event_id in self._failures.of_pile if place(event_id) < first])
            self._counters.passed += first - pile.start
            pile.start = first
            pile.entries = [entry for entry in pile.entries if entry.end > first]
            self._commit(first, self._failures.of_pile)

    def _retry(self) -> None:
        failures = self._failures
        waiting, failures.waiting = failures.waiting, []
        if failures.suspicious:
            self._probing.begin(singles(waiting), self._newer(), self._seconds())
            self._probe()
            return
        self._counters.redelivered += count_of(waiting)
        if self._settings.ordered:
            first, *waiting = singles(waiting)
            self._todo.append([first])
        if waiting:
            self._todo.append(waiting)

    def _probe(self) -> None:
        failures, probing = self._failures, self._probing
        probing.tried(bool(failures.waiting))
        failures.waiting = []
        if not failures.suspicious:
            if suspects := probing.end():
                self._counters.redelivered += count_of(suspects)
                self._todo.append(suspects)
        elif not failures.refused and (item := probing.next()) is not None:
            self._counters.redelivered += 1
            self._todo.append([item])
        else:
            failures.waiting = probing.end()
            self._wait(failures.delay())

    def _further(self) -> Pile | None:
        try:
            return self._take()
        except Exception:
            # A step or a decoder of somebody's: what waits is still ours, and is tried without what comes then.
            self._not_made(Failure())
            return None

    def _newer(self) -> list[Any]:
        """What has come since, up to a bound; the pile grows by it."""
        pile, found = self._pile, []
        furthest = FURTHEST * self._settings.max_events
        while pile is not None and len(pile.items) < furthest and (further := self._further()) is not None:
            # Whatever lies between has expired meanwhile, and is counted as that.
            pile.start += further.start - pile.end
            pile.end = further.end
            pile.entries += further.entries
            pile.items = [*pile.items, *further.items]
            found += singles(further.items)
        return found
