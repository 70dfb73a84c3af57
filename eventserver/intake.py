"""Where every listener puts its batches, waits for its acknowledgements, and is told to pause."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Literal, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.durable import IDurableJournal
from eventserver.errors import Expired, Stopped
from eventserver.event import Batch, size_of
from eventserver.interfaces import AckLevel, IIntake, IJournal, IListener

Done = Callable[[Failure | None], None]

_log = Logger()

#: Listeners pause when the journal is this full, and resume when it has been emptied so far.
HIGH, LOW = 0.8, 0.6
#: Of a handler, the stretches of frames that it gave up and that are told apart.
MOST_GONE = 100


class Consumer(Protocol):
    """A handler's cursor as the intake sees it; delivery implements it."""

    name: str
    when_full: Literal["block", "drop_oldest"]
    max_lag: int
    required_for_ack: bool

    @property
    def position(self) -> int:
        """Frames passed."""

    def lag_bytes(self) -> int:
        """Bytes of the batches not passed."""

    def expire_oldest(self) -> None:
        """Give up the oldest batch that the cursor has not passed."""


@implementer(IIntake)
class Intake:
    """The gate before the journal: takes batches while there is room, and keeps the promises made to listeners.

    At 80 % of the journal, or where a handler with `when_full = "block"` is `max_lag` behind, listeners are paused;
    they resume at 60 % and at three quarters of `max_lag`. A full journal applies `when_full` first to whoever holds
    its oldest batch. While a journal on disk is unwell and holds all that it may, nothing is taken.
    """

    def __init__(self, journal: IJournal) -> None:
        self.journal = journal
        self.paused = False
        self.stopped = False
        self._last = False
        self._consumers: dict[str, Consumer] = {}
        self._listeners: list[IListener] = []
        self._relieving = False
        # What each handler gave up: a batch may be gone before its listener gets to watch it, or be asked for again.
        self._gone: dict[str, deque[tuple[int, int]]] = {}
        self._high = self._low = 0.0
        # Below this many bytes nobody can be over a bound: one comparison a batch is all that a quiet server pays.
        self._calm = 0.0
        self._watches: dict[frozenset[str] | None, deque[tuple[int, Done]]] = {}
        self._set_bounds()
        self._disk: IDurableJournal | None = None
        if IDurableJournal.providedBy(journal):
            self._disk = IDurableJournal(journal)
            self._disk.on_change(self._changed)
            self._disk.on_lost(self._damaged)
        if journal.durable:
            journal.on_commit(self._committed)

    def add_listener(self, listener: IListener) -> None:
        """Have a listener paused and resumed."""
        self._listeners.append(listener)
        if self.paused:
            listener.pause()

    def add_consumer(self, consumer: Consumer) -> None:
        """Have a handler's cursor count for the bounds and for `delivered`."""
        self._consumers[consumer.name] = consumer
        self._set_bounds()
        for start, end in () if self._disk is None else self._disk.lost_ranges():
            # A sender may ask again for what was there when it sent it.
            if end > consumer.position:
                self._remember_gone(consumer.name, max(start, consumer.position), end)

    def remove_consumer(self, name: str) -> None:
        """Forget a handler's cursor; nobody waits for it any more."""
        del self._consumers[name]
        self._gone.pop(name, None)
        self._set_bounds()
        for names in [names for names in self._watches if names is not None and name in names]:
            watches = self._watches.pop(names)
            kept = self._watches.setdefault(names - {name}, deque())
            self._watches[names - {name}] = deque(sorted([*kept, *watches], key=lambda watch: watch[0]))
        self.moved()

    def _set_bounds(self) -> None:
        self._high = HIGH * self.journal.max_bytes
        self._low = LOW * self.journal.max_bytes
        self._calm = min([self._high, *(consumer.max_lag for consumer in self._consumers.values())])

    # Taking batches

    @property
    def refusal(self) -> str:
        if self.stopped:
            return "stopped"
        return "full" if self._accepting() else "journal"

    def _accepting(self) -> bool:
        return self._disk is None or self._disk.accepting

    def put(self, batch: Batch) -> int | None:
        journal = self.journal
        if not batch.frames:
            return journal.head
        size = size_of(batch)
        if self._disk is not None and not self._disk.accepting:
            self._pause()
            return None
        if self.stopped or (journal.size + size > journal.max_bytes and not self._make_room(size)):
            return None
        position = journal.append(batch, size)
        if journal.size >= self._calm:
            self._press()
        return position

    def _make_room(self, size: int) -> bool:
        """Whether there is room for `size` bytes, after everyone who may be moved has been.

        A batch that is larger than the whole journal is taken where the journal is empty.
        """
        while not self._last and self.journal.size and self.journal.size + size > self.journal.max_bytes:
            if not self._expire_oldest():
                self._pause()
                return False
        return True

    def _expire_oldest(self) -> bool:
        # A cursor that no handler moves gives way by what its journal says of it, not here.
        holders = [self._consumers[name] for name in self.journal.oldest() if name in self._consumers]
        if not holders or any(holder.when_full == "block" for holder in holders):
            return False
        for holder in holders:
            holder.expire_oldest()
        return True

    def _press(self) -> None:
        """Apply the bounds: first to handlers that may lose their oldest batches, then to the listeners."""
        if self._last:
            return
        late = False
        for consumer in list(self._consumers.values()):
            if consumer.lag_bytes() < consumer.max_lag:
                continue
            if consumer.when_full == "block":
                late = True
                continue
            while consumer.lag_bytes() > consumer.max_lag:
                consumer.expire_oldest()
        while self.journal.size >= self._high:
            if not self._expire_oldest():
                late = True
                break
        if late:
            self._pause()

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            for listener in self._listeners:
                listener.pause()

    def _relieved(self) -> bool:
        if self._last or not self._accepting():
            return self._accepting()
        return self.journal.size <= self._low and not self.late()

    def late(self) -> list[str]:
        """The handlers that listeners wait for, while the journal itself has room."""
        if self.journal.size > self._high:
            return []
        blocking = (consumer for consumer in self._consumers.values() if consumer.when_full == "block")
        return [c.name for c in blocking if c.lag_bytes() > 0.75 * c.max_lag]

    # Acknowledgements

    def watch(self, level: AckLevel, position: int, done: Done, handlers: Collection[str] | None = None) -> None:
        if level == "memory":
            done(None)
        elif self.stopped:
            done(Failure(Stopped("the server is stopping")))
        elif level == "durable":
            if not self.journal.durable:
                raise ValueError("a journal in memory is never durable")
            self._wait(None, position, done)
        else:
            required = (name for name, consumer in self._consumers.items() if consumer.required_for_ack)
            # A handler that is not there, or no longer, is waited for as little as one that is removed meanwhile.
            names = required if handlers is None else (name for name in handlers if name in self._consumers)
            self._wait(frozenset(names), position, done)

    def _wait(self, names: frozenset[str] | None, position: int, done: Done) -> None:
        for name in names or ():
            for start, end in self._gone.get(name, ()):
                if start < position <= end:
                    done(_never(name, start, end))
                    return
        if self._reached(names) >= position:
            done(None)
            return
        watches = self._watches.setdefault(names, deque())
        later = []
        while watches and watches[-1][0] > position:
            later.append(watches.pop())
        watches.append((position, done))
        watches.extend(reversed(later))

    def _reached(self, names: frozenset[str] | None) -> int:
        if names is None:
            return self.journal.committed
        # Where nobody has to be waited for, what is delivered is at least as safe as what is durable.
        return min((self._consumers[name].position for name in names), default=self.journal.committed)

    def _settle(self) -> None:
        for names in list(self._watches):
            reached = self._reached(names)
            # `done` may put and settle in turn, so the group is looked up afresh each time.
            while (watches := self._watches.get(names)) and watches[0][0] <= reached:
                _tell(watches.popleft()[1], None)
            if not watches:
                self._watches.pop(names, None)

    def _changed(self) -> None:
        """The journal got well or unwell, or made room."""
        if not self._accepting():
            self._pause()
        elif self.paused:
            self.moved()

    def _committed(self) -> None:
        # With `durable`, `delivered` as well: a cursor moves over what is not for its handler.
        if self._watches:
            self._settle()
        # Only what is committed lies before a cursor, and can be given up.
        if self.journal.size >= self._calm:
            self._press()
        if self.paused:
            self.moved()

    def moved(self) -> None:
        """A cursor moved: keep the promises that this settles, and let listeners read on where there is room."""
        if self._watches:
            self._settle()
        if not self.paused or self.stopped or self._relieving:
            return
        if not self._accepting():
            return
        self._relieving = True
        try:
            # What only handlers hold that may lose it must not keep the listeners waiting.
            while not self._last and self.journal.size > self._low and self._expire_oldest():
                pass
        finally:
            self._relieving = False
        if self._relieved():
            self.paused = False
            for listener in self._listeners:
                if not self.paused:
                    listener.resume()

    def expired(self, name: str, start: int, end: int) -> None:
        """Frames after `start` up to `end` will never reach the handler: whoever waits for one of them is told."""
        lost = []
        self._remember_gone(name, start, end)
        # First all of them are taken out: `done` may put and settle, and none of these must be fulfilled by that.
        for names in [names for names in self._watches if names is not None and name in names]:
            watches = self._watches.pop(names)
            lost += [watch for watch in watches if start < watch[0] <= end]
            if kept := [watch for watch in watches if not start < watch[0] <= end]:
                self._watches[names] = deque(kept)
        failure = _never(name, start, end)
        for _, done in sorted(lost, key=lambda watch: watch[0]):
            _tell(done, failure)

    def _damaged(self, start: int, end: int) -> None:
        """The journal cannot read frames any more: who has yet to pass them never gets them."""
        for name, consumer in list(self._consumers.items()):
            if (position := consumer.position) < end:
                self.expired(name, max(start, position), end)

    def take_the_last(self) -> None:
        """Before a stop, with a journal on disk: what listeners hold is taken beyond the bounds, so that none is lost.

        It is little: listeners read no more.
        """
        self._last = True
        self.moved()

    def _remember_gone(self, name: str, start: int, end: int) -> None:
        gone = self._gone.setdefault(name, deque())
        if gone and gone[-1][1] == start:
            start, _ = gone.pop()
        gone.append((start, end))
        if len(gone) > 1 and start < gone[-2][0]:
            # What is damaged is told when it is found, which may be far ahead of the cursor.
            self._gone[name] = gone = deque(sorted(gone))
        if len(gone) > MOST_GONE:
            # As one, with what lies between: that was delivered, but to say so of what was not would be worse.
            (start, end), (_, further) = gone.popleft(), gone.popleft()
            gone.appendleft((start, max(end, further)))

    def stop(self) -> None:
        """Take nothing more, and tell everyone who waits that the promise will not be kept."""
        self.stopped = True
        watches, self._watches = self._watches, {}
        for _, done in sorted((watch for group in watches.values() for watch in group), key=lambda watch: watch[0]):
            _tell(done, Failure(Stopped("the server is stopping")))


def _tell(done: Done, failure: Failure | None) -> None:
    """Keep or break a promise. What goes wrong in one listener then is not to cost the others their promises."""
    try:
        done(failure)
    except Exception:
        _log.failure("an acknowledgement could not be given")


def _never(name: str, start: int, end: int) -> Failure:
    return Failure(Expired(f"handler {name} never gets frames {start} to {end}"))
