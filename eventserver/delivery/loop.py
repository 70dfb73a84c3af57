"""The loop of one handler: read, decode, match, call, retry, park, dead-letter, move the cursor."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.counters import HandlerCounters
from eventserver.delivery.calling import Caller, Outcome, Turns
from eventserver.delivery.decoding import Decoding
from eventserver.delivery.ending import Ending
from eventserver.delivery.failing import Failures, count_of
from eventserver.delivery.options import DeliveryOptions
from eventserver.delivery.parking import Attempt, ParkingLot
from eventserver.delivery.pile import SLICE, Pile, PileBuilder, PileSize, Select
from eventserver.event import Event, batch_id
from eventserver.interfaces import Entry, IHandler, IJournal, Parked
from eventserver.thinned_log import ThinnedLog

#: Seconds between looks at a thread that still runs past its time.
BUSY_INTERVAL = 0.25


class Delivery(Ending):
    """Brings one handler what lies before its cursor, and moves the cursor when the handler is done.

    A sync handler is called directly; only where it waits (an async call, a wait before another attempt, the end of
    its slice of time) does the loop return to the reactor. `moved` and `expired` tell the intake about the cursor;
    `reactor` gives time and delayed calls, `random` floats from 0 to 1; `dead_full` tells whether there is room for
    no further dead letter, behind so many bytes of them that the journal has yet to get.
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
        dead_full: Callable[[int], bool] = lambda size: False,
    ) -> None:
        parking = ParkingLot(name, reactor.seconds, now)
        super().__init__(name, journal, settings, counters, parking, moved, listeners, position)
        self.handler = handler
        self.when_full = settings.when_full
        self.max_lag = int(settings.max_lag)
        self.required_for_ack = settings.required_for_ack
        self._reactor = reactor
        self._seconds = reactor.seconds
        self._now = now
        self._expired = expired
        self._reply = reply
        self._log = Logger(namespace=f"handler.{name}")
        # Enough for an operator to see which events, not enough to drown the log.
        self._thinned = ThinnedLog(self._log, reactor, burst=20)
        self._builder = PileBuilder(
            self._reader,
            wants=handler.wants,
            events_of=decoding.events,
            selected_of=decoding.selected,
            matching=decoding.matching,
            listeners=listeners,
            select=select,
            max_bytes=int(settings.max_bytes),
            ready=self.wake,
            unread=self._not_read,
            to_encode=getattr(handler, "only_encodes", False),
        )
        self._failures = Failures(
            name,
            retry=settings.retry,
            ordered=settings.ordered,
            parking=parking,
            counters=counters,
            event_of=decoding.decode_frame,
            dead_full=dead_full,
            now=now,
            random=random,
            log=self._thinned,
        )
        timeout = 0.0 if getattr(handler, "times_itself", False) else float(settings.timeout)
        self._caller = Caller(handler, reactor, timeout, self._called, self._failures.overdue)
        self._size = PileSize(settings.max_events)
        self._lanes = settings.concurrency
        self._as_frames = handler.wants == "frames"
        self._max_bytes = int(settings.max_bytes)
        self._passes_on = self._as_frames and reply is None
        self._reader.ready = self.wake
        # The parked event that a call is about.
        self._attempting: Attempt | None = None
        self._origins: dict[str, Entry] = {}
        self._running = self._calling = self._started = False

    # What others see

    def lag_seconds(self) -> float:
        """The age of the oldest batch that the handler has not finished; 0 at the head."""
        entry = self._pile.entries[0] if self._pile is not None and self._pile.entries else self._builder.oldest
        return 0.0 if entry is None else max(0.0, (self._now() - entry.batch.received).total_seconds())

    def start(self) -> None:
        """Begin: parked events are restored, and what lies before the cursor is read."""
        self._started = True
        self._begin_here()
        records = self._journal.parked(self.name)
        restored = self._parking.restore(records, self.handler.wants)
        self._counters.parked = self._counters.parked_at_start = restored
        self._failures.calm = not restored
        self._set_parking_timer()
        self.wake()

    @property
    def calling(self) -> bool:
        """Whether a call of the handler is under way."""
        return self._calling

    def take_turns(self, turns: Turns | None) -> None:
        """Have calls of the handler wait for their turn from now on; None ends that."""
        self._caller.turns = turns

    def take_back(self, records: Sequence[Parked]) -> None:
        """Dead letters of this handler that are to be tried again, and that the journal has as parked now."""
        before = len(self._parking)
        added = self._parking.restore(records, self.handler.wants) - before
        self._counters.parked += added
        self._counters.parked_at_start += added
        self._failures.calm = self._failures.calm and not added
        self._set_parking_timer()
        self.wake()

    def wake(self) -> None:
        """There may be something to do: called after each commit for it. Runs the loop here and now, if it is idle."""
        if self._running or self._calling or not self._started:
            return
        if self._passes_on and self._pass_on():
            return
        if self._drained is None and not self._finishing and self._at_rest():
            return
        if self._timer is not None and self._failures.suspicious and not self._probing.soon:
            # Something new may show that the destination is well: it need not wait for long.
            soon = max(self._probing.again, self._seconds())
            if self._timer.getTime() > soon:
                self._probing.soon = True
                self._timer.cancel()
                self._wait(soon - self._seconds())
        self._run()

    def _at_rest(self) -> bool:
        """Whether all is done that there is, and nothing has failed that is not settled."""
        return self._pile is None and not self._reader.lag_bytes() and self._failures.calm

    def expire_oldest(self) -> None:
        """Give up the oldest batch before the cursor (`when_full = "drop_oldest"`); what is in flight is not lost."""
        position = self._reader.position
        in_flight = self._pile.end if self._pile is not None else 0
        end = self._reader.expire_oldest()
        self._builder.expire(end)
        self._counters.expired += max(0, end - max(position, in_flight))
        # What is in flight may yet be delivered, but nobody can promise that any more.
        self._expired(self.name, position, end)
        self._moved()

    def stop(self) -> None:
        """Call the handler no more; what runs is cancelled."""
        self._started = False
        self._cancel_timers()
        self._caller.cancel()

    def reply(self, event: Event, payload: bytes) -> None:
        """Answer the sender of an event of the pile that the handler has; an empty payload marks it as answered."""
        attempt = self._attempting
        entry = self._origins.get(batch_id(event.id)) if attempt is None else attempt.origin
        if entry is not None and self._reply is not None:
            self._reply(entry, event.id, payload)

    # The loop

    def _pass_on(self) -> bool:
        """What the loop does with the next pile, if that is one whole entry and there is nothing else to think of.

        This is what a single line costs. True if that was all there is; False, and then the loop says what to do.
        """
        if self._pile is not None or self._timer is not None or not self._failures.calm or self._drained is not None:
            return False
        if self._finishing:
            return False
        if getattr(self.handler, "busy", False):
            return False
        entry = self._reader.only(self._size.limit, self._max_bytes)
        if entry is None:
            return False
        batch, end, counters = entry.batch, entry.end, self._counters
        count = len(batch.frames)
        self._pile = pile = Pile(end - count)
        pile.end, pile.items, pile.decoded, pile.entries = end, [batch], count, [entry]
        counters.decoded += count
        self._running = True
        try:
            if not self._call(pile.items, count):
                self._builder.expire(end)
                return False
            self._pile = None
            counters.passed += count
            self._move(end)
        finally:
            self._running = False
        return not self._reader.lag_bytes()

    def _run(self) -> None:
        self._running = True
        until = self._seconds() + SLICE
        try:
            while self._started and self._step() and not (self._drained is None and self._at_rest()):
                if self._timer is None and not self._calling and self._seconds() >= until:
                    self._wait(0)
        except Exception:
            # A step or a decoder of somebody's that raises is this handler's trouble, and nobody else's.
            self._not_made(Failure())
        finally:
            self._running = False
        if self._drained is not None or self._finished is not None:
            self._check_over()

    def _step(self) -> bool:
        """One call, or one move of the cursor. False if there is nothing to do before something happens."""
        if self._calling:
            return False
        waiting = self._timer is not None
        if getattr(self.handler, "busy", False):
            if not waiting:
                self._wait(BUSY_INTERVAL)
            return False
        if self._finishing and (self._todo or self._failures.waiting or self._pile is None):
            return False
        if self._todo and not waiting:
            items = self._todo.popleft()
            self._call(items, count_of(items))
            return True
        if self._pile is not None and not waiting:
            self._finish_pile(self._pile)
            return True
        if len(self._parking) and self._failures.unwell is None and (attempt := self._parking.due()) is not None:
            self._attempting = attempt
            self._call([attempt.item], 1)
            return True
        return not waiting and not self._failures.full and self._go_on()

    def _go_on(self) -> bool:
        """The next pile, to its end if it is quick and all goes well. False if there is none."""
        pile = self._take()
        if pile is None:
            return False
        self._pile = pile
        items = pile.items
        if not items or self._call(items, pile.decoded if self._as_frames else len(items)):
            self._finish_pile(pile)
        return True

    def _take(self) -> Pile | None:
        # The cursor may have moved on without the builder.
        self._builder.expire(self._reader.position)
        pile = self._builder.take(self._size.limit)
        if pile is not None:
            self._unreadable = None
            counters = self._counters
            counters.decoded += pile.decoded
            if not self._as_frames:
                counters.filtered += pile.decoded - len(pile.items)
            if self._reply is not None:
                self._origins |= {entry.batch.id: entry for entry in pile.entries}
        return pile

    def _finish_pile(self, pile: Pile) -> None:
        self._pile = None
        if self._reply is not None:
            self._origins = {}
        self._counters.passed += pile.end - pile.start
        if self._failures.calm:
            self._move(pile.end)
            return
        self._failures.pile_done()
        self._set_parking_timer()
        self._commit(pile.end)

    def _wait(self, seconds: float) -> None:
        if not self._started:
            return
        self._timer = self._reactor.callLater(seconds, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self._failures.waiting:
            self._retry()
        self.wake()

    def _call(self, items: list[Any], count: int) -> bool:
        """Call the handler with so many events. True if it is done, well, and nothing else is on our mind.

        Otherwise `_called` has been called, or will be.
        """
        self._calling = True
        self._counters.calls += 1
        caller, started = self._caller, self._seconds()
        well = caller.call_one(items) if self._lanes == 1 or len(items) == 1 else caller.call(items, self._lanes)
        seconds = self._seconds() - started
        # At a limit of one no call has more, and it would stay there for good.
        if count > 1 or seconds > SLICE or self._size.limit == 1:
            self._size.took(count, seconds)
        if well and self._failures.calm and self._attempting is None and self._started:
            self._calling = False
            self._counters.delivered += count
            return True
        if well:
            self._called([(items, None)])
        return False

    def _called(self, outcomes: list[Outcome]) -> None:
        self._calling = False
        if not self._started:
            return
        attempt, self._attempting = self._attempting, None
        was_unwell = self._failures.unwell
        self._failures.call_over()
        # Failures last: what they say of the destination holds.
        for items, error in sorted(outcomes, key=lambda outcome: outcome[1] is not None):
            self._settle(items, error, attempt)
        if attempt is not None:
            self._commit(self._reader.position, self._failures.of_pile)
        self._sort_out()
        if self._counters.parked or was_unwell is not None:
            self._set_parking_timer()
        if not self._running:
            self.wake()
