"""Busy peers of a listener take turns: much is read from one at a time, and quiet peers do not wait for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from eventserver.interfaces import ListenerContext

#: What Twisted reads at a time, in bytes. A peer is busy if half of that has come since the last look.
USUAL, MUCH = 1 << 16, 1 << 15
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

    def take_in(self, data: bytes) -> int:
        """Take in a part of what it has read; returns the number of its frames."""

    def pause(self) -> None:
        """Read no more for now."""

    def read_on(self) -> None:
        """Read again, unless nothing can be taken in."""


class Turns:
    """The busy connections of a listener. One has the turn; the others are not read.

    A turn is one large read: the larger it is, the less a byte costs, as the kernel wakes the sender less often. It is
    taken in part by part, since the events of all of it would leave the processor's cache. Who finds nothing much to
    read in its turn is not busy any more. While it is `paused`, nothing can be taken in; call `go_on` when it can.
    """

    def __init__(self, context: ListenerContext) -> None:
        self._reactor = context.reactor
        self._seconds = context.reactor.seconds
        #: Who waits for a turn, in order, and the size of its parts.
        self._waiting: dict[Busy, int] = {}
        self._current: Busy | None = None
        #: What it has read and not taken in; whether it has read much since it has the turn; the size of its parts.
        self._parts: deque[bytes] = deque()
        self._has_read = False
        self._size = USUAL
        self._timer: Any = None
        self.paused = False

    def __contains__(self, connection: Busy) -> bool:
        """Whether the connection is not to be read now: it waits for its turn, or has enough to do."""
        return connection in self._waiting or (connection is self._current and bool(self._parts))

    def add(self, connection: Busy, data: bytes) -> None:
        """A connection has read much."""
        if connection.most_read <= USUAL:
            connection.take_in(data)
            return
        if self._current is None:
            self._current, self._size = connection, USUAL
        if connection is self._current:
            self._has_read = True
            working = bool(self._parts)
            self._parts.extend(_cut(data, self._size))
            if not working:
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
        if connection is self._current:
            while self._parts:
                connection.take_in(self._parts.popleft())
            self._current = None
        self._soon()

    def _soon(self) -> None:
        """Go on when the reactor has looked after all others."""
        if self._current is None and not self._waiting:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self.paused:
            self._timer = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if self.paused:
            return
        current, worked = self._current, bool(self._parts)
        if current is not None and worked:
            self._work(current)
        if not self._parts:
            if self._waiting or self._current is None or not self._has_read:
                self._next(self._current)
            else:
                self._has_read = False
                if worked:
                    self._current.read_on()
        self._soon()

    def _next(self, current: Busy | None) -> None:
        """Give the turn to who has waited longest."""
        if current is not None:
            current.transport.bufferSize = USUAL
            if self._has_read:
                self._wait(current, self._size)
        self._current, self._has_read = None, False
        if self._waiting:
            self._current = current = next(iter(self._waiting))
            self._size = self._waiting.pop(current)
            self._have_read_much(current)
            current.read_on()

    def _wait(self, connection: Busy, size: int) -> None:
        """Have it wait for its turn, if it still takes turns."""
        if connection.most_read > USUAL:
            connection.pause()
            self._waiting[connection] = size
        else:
            connection.read_on()

    def _work(self, current: Busy) -> None:
        """Take in what was read, for a while."""
        parts, until = self._parts, self._seconds() + _WHILE
        while parts and not self.paused:
            self._size = self._take_in(current, parts.popleft())
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
        return max(USUAL, min(len(part) * _FRAMES // max(1, frames), _PART, connection.most_read))


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
