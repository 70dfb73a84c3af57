"""Group commit: what was appended is handed to the writer, and told when it is durable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.counters import Timings
from eventserver.event import Batch
from eventserver.journal._executor import Executor
from eventserver.journal._rows import Key
from eventserver.journal._store import Store, Written

#: What is appended while a commit runs waits for so many frames or bytes, or so many seconds.
FRAMES, BYTES, LINGER = 1000, 1 << 20, 0.005
#: Seconds between attempts while the disk refuses: at first, and at most (the promise is 5 s).
RETRY, LONGEST = 0.25, 2.0

Group = list[tuple[Batch, int]]


class Committer:
    """At once when idle; one commit at a time. What could not be committed stays, and is tried again.

    `committed(group, written)` is called in the reactor's thread for each group that is durable, in order;
    `changed()` when `unwell` or `accepting` has changed. More than `max_waiting` bytes are not accepted.
    """

    def __init__(
        self,
        reactor: Any,
        executor: Executor,
        store: Store,
        *,
        max_waiting: int,
        committed: Callable[[Group, Written], None],
        changed: Callable[[], None],
        log: Logger,
    ) -> None:
        self.head = self.first = 0
        self.size = 0
        """Bytes that are not committed."""
        self.unwell: str | None = None
        self.accepting = True
        self.roll = False
        """Whether the next commit begins a new segment."""
        self.times = Timings()
        self.idle = lambda: None
        self._reactor = reactor
        self._executor = executor
        self._store = store
        self._max_waiting = max_waiting
        self._committed = committed
        self._changed = changed
        self._log = log
        self._waiting: Group = []
        self._keys: list[Key] = []
        self._frames = self._bytes = 0
        self._since = 0.0
        self._group: Group = []
        self._group_keys: list[Key] = []
        self._busy = self._stopped = False
        self._delay = RETRY
        self._began = 0.0
        self._timer: Any = None

    def begin(self, head: int) -> None:
        """Begin at a position."""
        self.head = self.first = head

    @property
    def at_rest(self) -> bool:
        """Whether all that was appended is committed."""
        return not self._group and not self._waiting

    def append(self, batch: Batch, size: int) -> int:
        """Take a batch; returns the position behind it."""
        count = len(batch.frames)
        self.head += count
        self.size += size
        self._waiting.append((batch, size))
        self._frames += count
        self._bytes += size
        if not self._busy and not self._stopped:
            # At the end of this turn: what is remembered of these frames (`remember`) belongs into the same group.
            if self._timer is None:
                self._timer = self._reactor.callLater(0, self._hand_over)
            elif self._many() and self.unwell is None:
                self._timer.reset(0)
        elif len(self._waiting) == 1:
            self._since = self._reactor.seconds()
        if self.size >= self._max_waiting:
            self._tell()
        return self.head

    def remember(self, keys: list[Key]) -> None:
        """Write these with the group that is committed next."""
        self._keys += keys

    def _many(self) -> bool:
        return self._frames >= FRAMES or self._bytes >= BYTES

    def hurry(self) -> None:
        """Do not wait any longer for more, or for another attempt."""
        if not self._busy and self._timer is not None:
            self._timer.cancel()
            self._hand_over()

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_over(self) -> None:
        self._timer = None
        if not self._group:
            self._group, self._waiting = self._waiting, []
            self._group_keys, self._keys = self._keys, []
            self._frames = self._bytes = 0
        self._busy = True
        self._began = self._reactor.seconds()
        first, group, keys, roll = self.first, self._group, self._group_keys, self.roll
        self._executor.submit(lambda: self._store.commit(first, group, keys, roll), self._done)

    def _done(self, outcome: Written | Failure) -> None:
        self._busy = False
        if isinstance(outcome, Failure):
            self._failed(outcome)
            return
        self.times.add(self._reactor.seconds() - self._began)
        group, self._group, self._group_keys = self._group, [], []
        self.first = outcome.heads[-1].end
        self.size -= sum(size for _, size in group)
        self.roll = False
        self._delay = RETRY
        if self._waiting and not self._stopped:
            # Before anyone is told: the disk works while they think.
            self._next()
        self._committed(group, outcome)
        if self.unwell is not None or not self.accepting:
            if self.unwell is not None:
                self._log.info("journal: storing again")
            self.unwell = None
            self._tell(force=True)
        if self.at_rest:
            self.idle()

    def _next(self) -> None:
        wait = self._since + LINGER - self._reactor.seconds()
        if wait <= 0 or self._many():
            self._hand_over()
        else:
            self._timer = self._reactor.callLater(wait, self._hand_over)

    def _failed(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        first = self.unwell is None
        if first:
            self._log.error("journal: nothing can be stored: {reason}", reason=reason)
        self.unwell = reason
        if not self._stopped:
            self._timer = self._reactor.callLater(self._delay, self._hand_over)
        self._delay = min(LONGEST, 2 * self._delay)
        self._tell(force=first)

    def _tell(self, force: bool = False) -> None:
        accepting = self.size < self._max_waiting
        if accepting != self.accepting or force:
            self.accepting = accepting
            self._changed()


def tell(callbacks: Iterable[Callable[[], None]], log: Logger) -> None:
    """Call all of them: one that raises must not keep the others from what they wait for."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.failure("journal: somebody failed who was told of a commit")
