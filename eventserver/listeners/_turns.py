"""Busy peers of a listener take turns: much is read from one at a time, and quiet peers do not wait for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from eventserver.interfaces import ListenerContext
from eventserver.listeners._replies import TRANSPORT_BUFFER

#: What Twisted reads at a time, in bytes. A peer is busy if half of that has come since the last look.
USUAL, MUCH = TRANSPORT_BUFFER, TRANSPORT_BUFFER // 2
#: The frames that a part of a read has, about, and its bytes at most. What a batch costs in itself is a tenth of what
#: 300 events cost; of more than these, some would not fit into a handler's pile (1,000), or the processor's cache.
_FRAMES, _PART = 960, 3 << 16
#: Seconds after which the reactor looks after the quiet peers; a turn of it costs about a hundredth of that.
_WHILE = 0.005


class Busy(Protocol):
    """A connection that takes turns."""

    transport: Any

    @property
    def most_read(self) -> int:
        """The bytes that it may read at a time: it takes turns where that is more than usual, and none at its end."""

    @property
    def most_at_once(self) -> int:
        """The bytes that a part may have."""

    def take_in(self, data: bytes) -> int:
        """Take in a part of what it has read; returns the number of its frames."""

    def pause(self) -> None:
        """Read no more for now."""

    def read_on(self) -> None:
        """Read again, unless nothing can be taken in."""

    def fail(self) -> None:
        """It cannot go on, because of the exception that is being handled."""


class Turns:
    """The busy connections of a listener. One has the turn; the others are not read.

    A turn is one large read: the larger it is, the less a byte costs, as the kernel wakes the sender less often. It is
    taken in part by part, since the events of all of it would leave the processor's cache. Who finds nothing much to
    read in its turn is not busy any more. While it is `paused`, nothing can be taken in; call `go_on` when it can.
    """

    def __init__(self, context: ListenerContext) -> None:
        self._reactor = context.reactor
        self._seconds = context.reactor.seconds
        #: Who waits for a turn, in order, with the size of its parts, and since when.
        self._waiting: dict[Busy, tuple[int, float]] = {}
        #: Who has the turn.
        self.current: Busy | None = None
        #: What it has read and not taken in; whether it has read much since it has the turn; the size of its parts.
        self._parts: deque[bytes] = deque()
        self._has_read = False
        self._size = USUAL
        #: Since when it waited for the turn; None for the first one.
        self._since: float | None = None
        self._timer: Any = None
        self.paused = False

    def __contains__(self, connection: Busy) -> bool:
        """Whether the connection is not to be read now: it waits for its turn, or has enough to do."""
        return connection in self._waiting or (connection is self.current and bool(self._parts))

    def waits_since(self, connection: Busy) -> float | None:
        """When the connection was read last, if it could not be since then, but for its turn; else None."""
        if connection is self.current:
            return None if self._has_read else self._since
        _, since = self._waiting.get(connection, (0, None))
        return since

    def add(self, connection: Busy, data: bytes) -> None:
        """A connection has read much, or it has the turn."""
        if connection is self.current and self._parts:
            self._parts.append(data)
            return
        if len(data) < MUCH or connection.most_read <= USUAL:
            connection.take_in(data)
            return
        if self.current is None:
            self.current, self._size, self._since = connection, USUAL, None
        if connection is self.current:
            self._has_read = True
            self._parts.extend(_cut(data, self._size))
            self._work(connection)
            self._soon()
            return
        size = USUAL
        for part in _cut(data, USUAL):
            size = self._take_in(connection, part)
        self._wait(connection, size)

    def go_on(self) -> None:
        """Things can be taken in again."""
        self.paused = False
        self._soon()

    def finish(self, connection: Busy) -> None:
        """The connection ends: what it has read is taken in at once, and then it is forgotten."""
        self._waiting.pop(connection, None)
        try:
            while connection is self.current and self._parts:
                connection.take_in(self._parts.popleft())
        finally:
            if connection is self.current:
                # What is left is behind a gap.
                self._parts.clear()
                self.current = None
            self._soon()

    def _soon(self) -> None:
        """Go on when the reactor has looked after all others."""
        if self.current is None and not self._waiting:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self.paused:
            self._timer = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if self.paused:
            return
        worked = bool(self._parts)
        if self.current is not None and worked:
            self._try_to_work(self.current)
        if not self._parts and not self.paused:
            if self._waiting or self.current is None or not self._has_read:
                self._next(self.current)
            else:
                self._has_read = False
                if worked:
                    self.current.read_on()
        self._soon()

    def _next(self, current: Busy | None) -> None:
        """Give the turn to who has waited longest."""
        if current is not None:
            current.transport.bufferSize = USUAL
            if self._has_read:
                self._wait(current, self._size)
        self.current, self._has_read = None, False
        if self._waiting:
            self.current = current = next(iter(self._waiting))
            self._size, self._since = self._waiting.pop(current)
            self._have_read_much(current)
            current.read_on()

    def _wait(self, connection: Busy, size: int) -> None:
        """Have it wait for its turn, if it still takes turns."""
        if connection.most_read > USUAL:
            connection.pause()
            self._waiting[connection] = size, self._seconds()
        else:
            connection.read_on()

    def _try_to_work(self, current: Busy) -> None:
        """As `_work`, where nobody else would see to what is raised."""
        try:
            self._work(current)
        except Exception:
            # Of its listener's intake, or somebody's framer: the others go on.
            current.fail()

    def _work(self, current: Busy) -> None:
        """Take in what was read, for a while."""
        parts, until = self._parts, self._seconds() + _WHILE
        while parts and not self.paused:
            try:
                self._size = self._take_in(current, parts.popleft())
            except BaseException:
                # Nothing is to be taken in behind a gap.
                parts.clear()
                raise
            self._have_read_much(current)
            if self._seconds() >= until or current.most_read <= USUAL:
                # In the second case it is answered, and replies go out when the reactor has its turn.
                break
        if parts:
            current.pause()

    def _have_read_much(self, current: Busy) -> None:
        """Have it read as many parts as it may."""
        current.transport.bufferSize = max(USUAL, current.most_read // self._size * self._size)

    def _take_in(self, connection: Busy, part: bytes) -> int:
        """Take in a part; returns the size that the next ones should have."""
        frames = connection.take_in(part)
        most = min(_PART, connection.most_at_once, connection.most_read)
        return max(USUAL, min(len(part) * _FRAMES // max(1, frames), most))


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in so many parts that they have that size, if it were equal: they end behind an LF where there is one.

    A line that is cut in two has to be put together again.
    """
    start = 0
    for left in range(-(-len(data) // size), 1, -1):
        end = start + (len(data) - start) // left
        end = data.rfind(b"\n", start, end) + 1 or end
        yield data[start:end]
        start = end
    yield data[start:] if start else data
