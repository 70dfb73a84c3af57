"""What connections have in common whose peers are told when their messages are safe: when they read, and when they put.

`_acking_connection` and `_fluent_connection` say what is put, and how it is acknowledged.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from eventserver.interfaces import IReplyWriter
from eventserver.listeners._peer_connection import Hub, PeerConnection

Owed = TypeVar("Owed")


@implementer(IHalfCloseableProtocol, IReplyWriter)
class PromisingConnection(PeerConnection, Generic[Owed]):
    """One peer that is acknowledged.

    What the intake refuses is *held*, with all that follows, and the transport paused. It is paused too while the
    listener is, and while too much is unanswered: `_full`.
    """

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        super().__init__(hub, address, tls=tls)
        context = hub.context
        self._ack = context.ack or "delivered"
        self._ack_timeout = context.ack_timeout
        self._intake = context.intake
        self._held: deque[Owed] = deque()
        self._in_line = False  # the listener calls `retry` when there is room
        self._reading = True
        self._trying = False  # `retry` runs
        self._partial_since: float | None = None

    # What Twisted calls

    def readConnectionLost(self) -> None:
        """The peer sends no more: what it is owed is still answered."""
        self.leave()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    # What replies call

    def reply(self, payload: bytes) -> None:
        """The protocol has no place for an answer to an event: that it is not sent is counted."""
        self.counters.replies["unsent"] += 1

    # What the listener calls

    def pause(self) -> None:
        """Read no more for now."""
        self._reading = False
        super().pause()

    def resume(self) -> None:
        """Read on, unless there are reasons of its own not to."""
        self._read_or_not()

    def retry(self) -> bool:
        """Put what is held, as far as it may be; False if the intake has no room for it."""
        trying, self._trying = self._trying, True
        refused = False
        while self._held and not refused and self._may_put():
            # Taken out first: while the intake takes it, a handler may run, make room, and have this called again.
            owed = self._held.popleft()
            if not self._put(owed):
                self._held.appendleft(owed)
                refused = not self._give_up_held()
        self._trying = trying
        self._in_line = refused
        return not refused

    # What a subclass adds

    def _full(self) -> bool:
        """Whether so much is unanswered that no more is to be read."""
        raise NotImplementedError

    def _put(self, owed: Owed) -> bool:
        """Whether the intake took it; if so, the peer is told when the promise is kept.

        A handler may run before this returns, and stop the server, or make room.
        """
        raise NotImplementedError

    def _may_put(self) -> bool:
        """Whether more may be put now, as far as this connection knows."""
        return True

    def _give_up_held(self) -> bool:
        """The intake has refused what is held; whether it was given up for that."""
        return False

    # Inside: reading

    def _begin(self, data: bytes) -> float:
        """Count what was read; returns the time."""
        size = len(data)
        self.counters.bytes += size
        self._bytes += size
        now: float = self._seconds()
        self._heard = now
        return now

    def _note_partial(self, partial: bool, progress: bool, now: float) -> None:
        """After a read: whether it ends in the middle of a message, and whether it has completed one."""
        if not partial:
            self._partial_since = None
        elif progress or self._partial_since is None:
            self._partial_since = now

    def _read_or_not(self) -> None:
        """Read while there is room for what comes. The time of a pause counts against nobody."""
        if self._finished or self._gone:
            return
        read = not (self._held or self._hub.paused or self._full())
        if read == self._reading:
            return
        self._reading = read
        if not read:
            self.transport.pauseProducing()
            return
        self._heard = self._opened = now = self._seconds()
        if self._partial_since is not None:
            self._partial_since = now
        self.transport.resumeProducing()

    # Inside: putting

    def _hold(self, owed: Owed) -> None:
        """Put it, behind what is held."""
        self._held.append(owed)
        self._put_held()

    def _put_held(self) -> None:
        """Put what is held, if nobody is about to do that."""
        if self._held and not (self._in_line or self._trying) and not self.retry():
            self._hub.hold(self)

    def _forget_held(self) -> deque[Owed]:
        """Hold nothing any more; returns what was held."""
        held, self._held = self._held, deque()
        self._in_line = False
        return held
