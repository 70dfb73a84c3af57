"""Datagrams to one peer: one for each payload."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from eventserver.errors import PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.handlers._destinations import Destination
from eventserver.interfaces import HandlerContext

#: The largest payload of an IPv4 UDP datagram: 65,535 bytes less the headers of IP (20) and UDP (8).
MAX_DATAGRAM = 65507
#: Seconds between looks at a socket whose queue is full.
_LOOK_UP = 0.005
_FULL = {errno.EAGAIN, errno.ENOBUFS}

Item = tuple[str, bytes]


class DatagramPeer:
    """A connected datagram socket; it is opened, and the name looked up, when there is none.

    A full queue is waited for, up to `send_timeout` seconds without progress. The peer may say that nobody listens
    (ECONNREFUSED): that is about an earlier datagram, which is lost; the rest waits.
    """

    def __init__(
        self, to: Destination, context: HandlerContext, *, send_timeout: float, delay: Callable[[int], float]
    ) -> None:
        self._to = to
        self._context = context
        self._send_timeout = send_timeout
        self._delay = delay
        self._failures = 0
        self._socket: socket.socket | None = None

    def send(self, items: Iterable[Item]) -> Deferred[None]:
        """Send the payload of each (id, payload).

        Fails with `TemporaryFailure`, or, if only some were not sent, with `PartialFailure` that names them: those too
        large with `PermanentFailure`, those that were not reached with `TemporaryFailure`.
        """
        sending = _Sending(deque(items), self._send_timeout, self._context.reactor)
        return self._open().addCallbacks(sending.run, _unreachable).addCallbacks(self._sent, self._not_sent)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> Deferred[socket.socket]:
        if self._socket is not None:
            return succeed(self._socket)
        return self._addresses().addCallback(self._connect)

    def _addresses(self) -> Deferred[Any]:
        kind, host, port = self._to
        if kind == "unix-datagram":
            return succeed([(socket.AF_UNIX, None, None, None, host)])
        try:
            flags = socket.AI_NUMERICHOST
            return succeed(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags))
        except socket.gaierror:
            reactor = self._context.reactor
            pool = reactor.getThreadPool()
            return deferToThreadPool(reactor, pool, socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM)

    def _connect(self, addresses: list[Any]) -> socket.socket:
        family, *_, address = addresses[0]
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            opened.connect(address)
        except BaseException:
            opened.close()
            raise
        self.close()
        self._socket = opened
        return opened

    def _sent(self, _: None) -> None:
        self._failures = 0

    def _not_sent(self, failure: Failure) -> Failure:
        unwell = _unwell(failure.value)
        if unwell is None:
            self._failures = 0
            return failure
        # The address may have changed, or somebody may listen on a new socket of that path.
        self.close()
        if not self._failures:
            self._context.log.warn("{handler}: {why}", handler=self._context.name, why=unwell)
        self._failures += 1
        unwell.retry_after = self._delay(self._failures)
        return failure


def _unwell(error: BaseException | None) -> TemporaryFailure | None:
    errors = error.errors.values() if isinstance(error, PartialFailure) else [error]
    return next((one for one in errors if isinstance(one, TemporaryFailure)), None)


def _unreachable(failure: Failure) -> None:
    failure.trap(OSError)
    raise TemporaryFailure(f"the peer cannot be reached: {failure.getErrorMessage()}") from failure.value


class _Sending:
    """One pile on its way."""

    def __init__(self, items: deque[Item], patience: float, reactor: Any) -> None:
        self._items = items
        self._patience = patience
        self._reactor = reactor
        self._total = len(items)
        self._errors: dict[str, BaseException] = {}
        self._since = reactor.seconds()

    def run(self, peer: socket.socket) -> Deferred[None] | None:
        """Send all, waiting while the queue is full. Raises, or fails, as `DatagramPeer.send` does."""
        return None if self._push(peer) else self._wait(peer)

    def _push(self, peer: socket.socket) -> bool:
        """Send on. True if all is sent, False if the queue is full."""
        items = self._items
        while items:
            name, payload = items[0]
            try:
                if len(payload) > MAX_DATAGRAM:
                    raise OSError(errno.EMSGSIZE, "too large for a datagram")
                peer.send(payload)
            except OSError as error:
                if error.errno in _FULL:
                    return self._may_wait()
                if error.errno != errno.EMSGSIZE:
                    raise self._stopped(f"the peer cannot be reached: {error.strerror}") from error
                self._errors[name] = PermanentFailure(f"{len(payload)} bytes do not fit into a datagram")
            items.popleft()
            self._since = self._reactor.seconds()
        if self._errors:
            raise PartialFailure(self._errors)
        return True

    def _may_wait(self) -> bool:
        """False, for as long as waiting makes sense."""
        if self._reactor.seconds() - self._since > self._patience:
            raise self._stopped(f"the peer took nothing for {self._patience:g} s")
        return False

    def _wait(self, peer: socket.socket) -> Deferred[None]:
        """One Deferred, however often the socket is looked at: they are cancelled from the first to the last."""

        call: Any = None

        def cancel(waiting: Deferred[None]) -> None:
            call.cancel()
            waiting.errback(Failure(self._stopped("the call was cancelled")))

        def look() -> None:
            nonlocal call
            try:
                done = self._push(peer)
            except Exception:
                waiting.errback(Failure())
                return
            if done:
                waiting.callback(None)
            else:
                call = self._reactor.callLater(_LOOK_UP, look)

        waiting: Deferred[None] = Deferred(cancel)
        call = self._reactor.callLater(_LOOK_UP, look)
        return waiting

    def _stopped(self, why: str) -> TemporaryFailure | PartialFailure:
        error = TemporaryFailure(why)
        if len(self._items) == self._total:
            return error
        return PartialFailure(self._errors | dict.fromkeys((name for name, _ in self._items), error))
