"""Replies to one stream peer: written at once while it reads, kept within a bound while it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

#: What a transport of Twisted's buffers before it pauses its producer, unless it is to read more at a time: for both
#: there is one attribute (`FileDescriptor.bufferSize`).
TRANSPORT_BUFFER = 1 << 16


@implementer(IPushProducer)
class ReplyQueue:
    """The producer of a transport. `overflow` is called when the peer left more than `limit` bytes unread.

    `used` says that something has been written: then as much is buffered, and so read at a time, as is usual.
    """

    used = False

    def __init__(self, transport: Any, limit: int, overflow: Callable[[], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._full = False
        self._closing = False
        self._gone = False
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send it, after what is waiting."""
        if self._closing or self._gone:
            return
        if not self.used:
            self.used = True
            self._transport.bufferSize = TRANSPORT_BUFFER
        if not self._full:
            self._transport.write(data)
            return
        self._waiting.append(data)
        self._size += len(data)
        if TRANSPORT_BUFFER + self._size > self._limit:
            self.drop()
            self._overflow()

    def close(self) -> None:
        """Close the connection when all is written."""
        self._closing = True
        if not self._waiting:
            self._lose()

    def drop(self) -> None:
        """Forget what is waiting: the connection is being aborted."""
        self._gone = True
        self._waiting.clear()
        self._size = 0

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._full = False
        while self._waiting and not self._full:
            data = self._waiting.popleft()
            self._size -= len(data)
            self._transport.write(data)
        if self._closing and not self._waiting:
            self._lose()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.drop()

    def _lose(self) -> None:
        if not self._gone:
            self._gone = True
            # A transport with a producer waits for it before it closes.
            self._transport.unregisterProducer()
            self._transport.loseConnection()
