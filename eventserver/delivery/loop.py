"""The loop of one handler: read, decode, match, call, retry, park, dead-letter, move the cursor."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from eventserver import options
from eventserver.counters import HandlerCounters
from eventserver.delivery.calling import Caller, Outcome
from eventserver.delivery.decoding import Decoding
from eventserver.delivery.failing import Failures, RetryOptions, count_of, singles
from eventserver.delivery.parking import Attempt, ParkingLot
from eventserver.delivery.pile import Pile, PileBuilder, Select
from eventserver.event import Batch, Event, batch_id, frame_index
from eventserver.interfaces import Entry, IHandler, IJournal, Parked
from eventserver.options import Duration, Size
from eventserver.thinned_log import ThinnedLog

#: Seconds that a sync call should take, and that one handler keeps the reactor before the others have their turn.
SLICE = 0.01
#: The size of the first pile; later ones are sized from the time that the last one took.
FIRST_PILE = 64
#: Seconds between looks at a thread that still runs past its time.
BUSY_INTERVAL = 0.25


class DeliveryOptions(options.Options, frozen=True, kw_only=True):
    """What one handler's loop needs to know."""

    max_events: int = 1000
    max_bytes: Size = Size(1 << 20)
    max_lag: Size = Size(32 << 20)
    when_full: Literal["block", "drop_oldest"] = "block"
    timeout: Duration = Duration(30)
    concurrency: int = 1
    ordered: bool = False
    required_for_ack: bool = True
    retry: RetryOptions = RetryOptions()


class Delivery:
    """Brings one handler what lies before its cursor, and moves the cursor when the handler is done.

    A sync handler is called directly; only where it waits (an async call, a wait before another attempt, the end of
    its slice of time) does the loop return to the reactor. `moved` and `expired` tell the intake about the cursor;
    `reactor` gives time and delayed calls, `random` floats from 0 to 1.
    """

    def __init__(
        self,
        name: str,
        handler: IHandler,
        *,
        journal: IJournal,
        decoding: Decoding,
        settings: DeliveryOptions,
        counters: HandlerCounters,
        reactor: Any,
        now: Callable[[], dt.datetime],
        random: Callable[[], float],
        listeners: Collection[str] | None = None,
        select: Select | None = None,
        moved: Callable[[], None] = lambda: None,
        expired: Callable[[str, int, int], None] = lambda name, start, end: None,
        reply: Callable[[Entry, str, bytes], None] | None = None,
        position: int | None = None,
    ) -> None:
        self.name = name
        self.handler = handler
        self.counters = counters
        self.when_full = settings.when_full
        self.max_lag = int(settings.max_lag)
        self.required_for_ack = settings.required_for_ack
        self._settings = settings
        self._journal = journal
        self._decoding = decoding
        self._reactor = reactor
        self._now = now
        self._moved = moved
        self._expired = expired
        self._reply = reply
        self._reader = journal.reader(name, position)
        self._start = self._reader.position
        self._parking = ParkingLot(name, reactor.seconds, now)
        self._builder = PileBuilder(
            self._reader,
            wants=handler.wants,
            events_of=decoding.events,
            listeners=listeners,
            select=select,
            max_bytes=int(settings.max_bytes),
            ready=self.wake,
        )
        self._caller = Caller(handler, reactor, float(settings.timeout), self._called)
        self._failures = Failures(
            name,
            retry=settings.retry,
            ordered=settings.ordered,
            parking=self._parking,
            counters=counters,
            event_of=decoding.decode_frame,
            now=now,
            random=random,
            # Enough for an operator to see which events, not enough to drown the log.
            log=ThinnedLog(Logger(namespace=f"handler.{name}"), reactor, burst=20),
        )
        self._limit = min(FIRST_PILE, settings.max_events)
        # The current pile, what of it is still to be called, and the parked event that a call is about.
        self._pile: Pile | None = None
        self._todo: deque[list[Any]] = deque()
        self._attempting: Attempt | None = None
        self._origins: dict[str, Entry] = {}
        self._running = self._calling = self._started = False
        self._timer: Any = None
        self._parking_timer: Any = None
        self._drained: Deferred[None] | None = None

    # What others see

    @property
    def position(self) -> int:
        """Frames passed."""
        return self._reader.position

    @property
    def unwell(self) -> str | None:
        """Why the destination is unwell; None while it is well."""
        return self._failures.unwell

    def lag_bytes(self) -> int:
        """Bytes of the batches that the cursor has not passed."""
        return self._reader.lag_bytes()

    def lag_frames(self) -> int:
        """Frames that the cursor has not passed."""
        return self._journal.head - self._reader.position

    def passed_since_start(self) -> int:
        """Frames that the cursor has moved over since this loop was made; equals `passed` + `expired` at rest."""
        return self._reader.position - self._start

    def lag_seconds(self) -> float:
        """The age of the oldest batch that the handler has not finished; 0 at the head."""
        entry = self._pile.entries[0] if self._pile is not None and self._pile.entries else self._builder.oldest
        return 0.0 if entry is None else max(0.0, (self._now() - entry.batch.received).total_seconds())

    def start(self) -> None:
        """Begin: parked events are restored, and what lies before the cursor is read."""
        self._started = True
        records = self._journal.parked(self.name)
        restored = self._parking.restore(records, self._item_of)
        self.counters.parked = self.counters.parked_at_start = restored
        self._set_parking_timer()
        self.wake()

    def wake(self) -> None:
        """There may be something to do: called after each commit. Runs the loop here and now, if it is idle."""
        if self._started and not self._running and not self._calling and self._timer is None:
            self._run()

    def expire_oldest(self) -> None:
        """Give up the oldest batch before the cursor (`when_full = "drop_oldest"`); what is in flight is not lost."""
        position = self._reader.position
        in_flight = self._pile.end if self._pile is not None else 0
        end = self._reader.expire_oldest()
        self._builder.expire(end)
        self.counters.expired += max(0, end - max(position, in_flight))
        # What is in flight may yet be delivered, but nobody can promise that any more.
        self._expired(self.name, position, end)
        self._moved()

    def drain(self) -> Deferred[None]:
        """Fires when nothing is left to do; parked events get one more attempt now."""
        self._parking.hurry()
        self._set_parking_timer()
        drained: Deferred[None] = Deferred()
        self._drained = drained
        self.wake()
        self._check_drained()
        return drained

    def lost(self) -> int:
        """Frames and parked events that would be lost if a server without a durable journal stopped now."""
        return self.lag_frames() + len(self._parking)

    def stop(self) -> None:
        """Call the handler no more; what runs is cancelled."""
        self._started = False
        for timer in (self._timer, self._parking_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._parking_timer = None
        self._caller.cancel()

    def reply(self, event: Event, payload: bytes) -> None:
        """Answer the sender of an event of the pile that the handler has; an empty payload marks it as answered."""
        entry = self._origins.get(batch_id(event.id))
        if entry is not None and self._reply is not None:
            self._reply(entry, event.id, payload)

    # The loop

    def _run(self) -> None:
        self._running = True
        until = self._reactor.seconds() + SLICE
        try:
            while self._started and self._step():
                if self._timer is None and not self._calling and self._reactor.seconds() >= until:
                    self._wait(0)
        finally:
            self._running = False
        self._check_drained()

    def _step(self) -> bool:
        """One call, or one move of the cursor. False if there is nothing to do before something happens."""
        if self._calling or self._timer is not None:
            return False
        if getattr(self.handler, "busy", False):
            self._wait(BUSY_INTERVAL)
            return False
        if self._todo:
            self._call(self._todo.popleft())
            return True
        if self._pile is not None:
            self._finish_pile(self._pile)
            return True
        if len(self._parking) and self.unwell is None and (attempt := self._parking.due()) is not None:
            self._attempting = attempt
            self._call([attempt.item])
            return True
        pile = self._builder.take(self._limit)
        if pile is None:
            return False
        if self.handler.wants == "events":
            self.counters.filtered += pile.decoded - len(pile.items)
        self.counters.decoded += pile.decoded
        self._pile = pile
        if pile.items:
            if self._reply is not None:
                self._origins = {entry.batch.id: entry for entry in pile.entries}
            self._todo.append(pile.items)
        return True

    def _finish_pile(self, pile: Pile) -> None:
        self._pile = None
        self.counters.passed += pile.end - pile.start
        self._failures.pile_done()
        self._commit(pile.end)

    def _commit(self, position: int) -> None:
        parked, settled = self._parking.changes()
        self._journal.commit_cursor(self.name, position, parked, settled)
        self._moved()

    def _wait(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(seconds, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self._failures.waiting:
            self._retry()
        self.wake()

    def _call(self, items: list[Any]) -> None:
        self._calling = True
        self.counters.calls += 1
        started = self._reactor.seconds()
        lanes = self._settings.concurrency if len(items) > 1 else 1
        self._caller.call(items, lanes)
        self._resize(count_of(items), self._reactor.seconds() - started)

    def _resize(self, count: int, seconds: float) -> None:
        """Size the next pile so that the sync part of a call takes about a slice."""
        if seconds > 2 * SLICE:
            self._limit = max(1, int(count * SLICE / seconds))
        elif seconds < SLICE and count >= self._limit:
            self._limit = min(self._settings.max_events, self._limit * 2)

    def _called(self, outcomes: list[Outcome]) -> None:
        self._calling = False
        if not self._started:
            return
        attempt, self._attempting = self._attempting, None
        entries = self._pile.entries if self._pile is not None else ()
        was_unwell = self._failures.unwell
        for items, error in outcomes:
            if error is None:
                self._failures.delivered(count_of(items), attempt)
            else:
                self._failures.failed(items, error, attempt, entries)
        if attempt is not None:
            self._commit(self._reader.position)
        self._sort_out()
        if self.counters.parked or was_unwell is not None:
            self._set_parking_timer()
        if not self._running:
            self.wake()

    def _sort_out(self) -> None:
        """Have called again what may have the culprit in it; or, if something waits in place, all wait behind it."""
        failures = self._failures
        if failures.again:
            self._todo.extend([item] for item in failures.again)
            failures.again = []
        if failures.waiting:
            for items in self._todo:
                failures.waiting.extend(items)
            self._todo.clear()
            self._wait(failures.delay())

    def _retry(self) -> None:
        failures = self._failures
        waiting, failures.waiting = failures.waiting, []
        self.counters.redelivered += count_of(waiting)
        if failures.probing:
            first, *waiting = singles(waiting)
            self._todo.append([first])
        if waiting:
            self._todo.append(waiting)

    def _item_of(self, record: Parked) -> Any:
        """What the handler is called with for an event that a journal kept."""
        event = record.event
        if self.handler.wants == "events":
            return event
        return Batch(
            id=batch_id(event.id),
            listener=event.listener,
            decoder=event.type,
            received=event.received,
            peers=[event.peer],
            frames=[record.frame or b""],
            offset=frame_index(event.id),
        )

    # Parked events and the end

    def _set_parking_timer(self) -> None:
        delay = self._parking.next_due()
        if self._parking_timer is not None and self._parking_timer.active():
            self._parking_timer.cancel()
        self._parking_timer = None
        if delay is not None and self._started and self.unwell is None:
            self._parking_timer = self._reactor.callLater(delay, self._parked_due)

    def _parked_due(self) -> None:
        self._parking_timer = None
        self.wake()

    def _check_drained(self) -> None:
        if self._drained is None or self._pile is not None or self._calling or self.lag_frames():
            return
        if self._parking.due() is None:
            drained, self._drained = self._drained, None
            drained.callback(None)
