"""What statsd's figures are sent with: a bounded row of flushes, one after another, each again until it is out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from eventserver.errors import PartialFailure, TemporaryFailure
from eventserver.handlers._datagrams import DatagramPeer
from eventserver.handlers._peer_connection import StreamPeer
from eventserver.interfaces import HandlerContext

#: What fits into one frame of Ethernet with room for tunnels: what statsd's clients use on intranets.
DATAGRAM = 1432
#: Series and values from which on figures are made in a thread: it would hold up all else.
_SMALL = 5000
#: Seconds that the last flush has when the server stops.
_LAST = 5.0


T = TypeVar("T")


def apart(reactor: Any, work: int, function: Callable[..., T], *args: Any) -> Deferred[T]:
    """Call the function, in a thread if it is much work: a number of series and values."""
    if work <= _SMALL:
        return execute(function, *args)
    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)


class Outbox:
    """Sends flushes to a peer, in order. `size` is the bytes that wait, made lines only."""

    def __init__(self, peer: StreamPeer | DatagramPeer, context: HandlerContext) -> None:
        self._peer = peer
        self._context = context
        self._waiting: deque[bytes] = deque()
        self._making = 0
        self._sending: Deferred[None] | None = None
        self._retry: Any = None
        self._closed: Deferred[None] | None = None
        self._over = False
        self.size = 0

    def put(self, work: int, make: Callable[[], Iterator[str]]) -> None:
        """Send what `make` yields, lines without LF; `work` is the number of series and values that it goes through."""
        self._making += 1
        apart(self._context.reactor, work, _joined, make).addCallback(self._made).addErrback(self._not_made)

    def hurry(self) -> None:
        """Try now what waits for another attempt."""
        if self._retry is not None:
            self._cancel_retry()
            self._send()

    def close(self) -> Deferred[None]:
        """Send what waits, with one attempt and within a few seconds; then close the connection."""
        closed: Deferred[None] = Deferred(lambda _: None)
        self._closed = closed
        self._cancel_retry()
        self._send()
        closed.addTimeout(_LAST, self._context.reactor, onTimeoutCancel=lambda result, timeout: None)
        return closed.addCallback(self._close_peer)

    def _close_peer(self, _: object) -> Deferred[None] | None:
        self._closed, self._over = None, True
        if self._waiting:
            self._context.log.warn(
                "{handler}: {count} lines of figures could not be sent and are lost",
                handler=self._context.name,
                count=sum(each.count(b"\n") for each in self._waiting),
            )
            self._waiting.clear()
            self.size = 0
        if self._sending is not None:
            self._sending.cancel()
        return self._peer.close()

    def _made(self, data: bytes) -> None:
        self._making -= 1
        self._add(data)

    def _not_made(self, failure: Failure) -> None:
        self._making -= 1
        self._context.log.failure("{handler}: the figures could not be made", failure, handler=self._context.name)

    def _add(self, data: bytes) -> None:
        if data:
            self._waiting.append(data)
            self.size += len(data)
        if self._retry is None:
            self._send()

    def _send(self) -> None:
        if self._sending is not None or self._over:
            return
        if not self._waiting:
            if self._closed is not None and not self._making:
                self._closed.callback(None)
            return
        peer, data = self._peer, self._waiting[0]
        if isinstance(peer, DatagramPeer):
            sending = peer.send((str(number), part) for number, part in enumerate(datagrams(data)))
        else:
            sending = peer.send(data)
        self._sending = sending
        sending.addCallbacks(self._sent, self._not_sent, callbackArgs=(data,), errbackArgs=(data,))

    def _sent(self, _: object, data: bytes) -> None:
        self._sending = None
        self._drop(data)
        self._send()

    def _not_sent(self, failure: Failure, data: bytes) -> None:
        self._sending = None
        if self._over:
            return
        delay = 1.0
        errors = failure.value.errors if isinstance(failure.value, PartialFailure) else {"": failure.value}
        for error in errors.values():
            if isinstance(error, TemporaryFailure) and error.retry_after is not None:
                delay = error.retry_after
        if isinstance(failure.value, PartialFailure):
            parts = [part for number, part in enumerate(datagrams(data)) if str(number) in errors]
            rest = b"".join(parts)
            self.size -= len(data) - len(rest)
            self._waiting[0] = rest
        if self._closed is not None:
            self._closed.callback(None)
        elif self._retry is None:
            self._retry = self._context.reactor.callLater(delay, self._try_again)

    def _drop(self, data: bytes) -> None:
        if self._waiting and self._waiting[0] is data:
            self._waiting.popleft()
            self.size -= len(data)

    def _try_again(self) -> None:
        self._retry = None
        self._send()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def datagrams(data: bytes, longest: int = DATAGRAM) -> Iterable[bytes]:
    """Whole lines, as many as fit into a datagram; one that does not fit alone is one all the same."""
    lines = data.splitlines(keepends=True)
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and size + len(line) > longest:
            yield b"".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield b"".join(part)


def _joined(make: Callable[[], Iterator[str]]) -> bytes:
    return "".join(f"{line}\n" for line in make()).encode()
