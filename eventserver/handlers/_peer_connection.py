"""The connection of a relay to its peer: one at a time, made again when needed, and no doubt about what went out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IHandshakeListener, IPullProducer, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.errors import TemporaryFailure
from eventserver.interfaces import HandlerContext

#: Seconds that closing may take before the connection is cut, and seconds after which nobody waits for that either.
_CLOSING = 5.0
_CUTTING = 1.0


@implementer(IPullProducer, IHandshakeListener)
class PeerProtocol(Protocol):
    """Writes, and knows when the kernel has taken all that was written. What the peer says is not read.

    A transport asks a pull producer for more whenever its buffer is empty: that is the moment. With TLS that question
    is asked of the transport below, as TLS keeps nothing back once the handshake is over.
    """

    transport: Any

    def __init__(self, secure: bool, lost: Callable[[PeerProtocol], None]) -> None:
        self._secure = secure
        self._lost = lost
        self._sending: list[Deferred[None]] = []
        self._registering = False
        self._closed = False
        #: Fires with this protocol once it can be written to: after the TLS handshake, if there is one.
        self.ready: Deferred[PeerProtocol] = Deferred(lambda _: self.abort())
        #: Fires when the connection is gone.
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Ready, unless there is a handshake to come."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)
            self.transport.setTcpNoDelay(True)
        if not self._secure:
            self.ready.callback(self)

    def handshakeCompleted(self) -> None:
        """TLS is up, and the peer is who it should be; if it is not, the connection is being cut."""
        if not (self._closed or self.transport.disconnecting):
            self.ready.callback(self)

    def send(self, data: bytes) -> Deferred[None]:
        """Write; the Deferred fires when the kernel has all of it. Cancelled, it cuts the connection."""
        if self._closed:
            raise TemporaryFailure("the connection was lost")
        sent: Deferred[None] = Deferred(lambda _: self.abort())
        watching = bool(self._sending)
        self._sending.append(sent)
        self.transport.write(data)
        if not watching:
            # Registering asks for the first piece at once; that question is not the one.
            self._registering = True
            self._consumer.registerProducer(self, False)
            self._registering = False
        return sent

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        if self._registering:
            return
        self._consumer.unregisterProducer()
        sending, self._sending = self._sending, []
        for sent in sending:
            if not sent.called:
                sent.callback(None)

    def stopProducing(self) -> None:
        """The connection is being lost; `connectionLost` follows."""

    def close(self) -> None:
        """Close the connection after what was written."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection. Real transports call `connectionLost` a turn of the reactor later."""
        self._closed = True
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What was not wholly taken by the kernel has failed."""
        self._closed = True
        self._lost(self)
        if not self.gone.called:
            self.gone.callback(None)
        if not self.ready.called:
            self.ready.errback(reason)
        sending, self._sending = self._sending, []
        for sent in sending:
            # What was cancelled has had its failure: it is what cut the connection.
            if not sent.called:
                sent.errback(Failure(TemporaryFailure(f"the connection was lost: {_said(reason)}")))

    @property
    def _consumer(self) -> Any:
        return self.transport.transport if self._secure else self.transport


class _PeerFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], PeerProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> PeerProtocol:
        return self._make()


class StreamPeer:
    """The peer behind a stream endpoint. `send` connects where there is no connection.

    There is one mechanism for trying again, and it is delivery's: what fails raises `TemporaryFailure`, whose
    `retry_after` grows with each failure in a row, as `delay(failures)` says, until something has been sent.
    Times are in seconds.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        name: str,
        context: HandlerContext,
        *,
        connect_timeout: float,
        send_timeout: float,
        delay: Callable[[int], float],
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._secure = name.startswith("tls:")
        self._context = context
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._delay = delay
        self._failures = 0
        self._closing = False
        self._protocol: PeerProtocol | None = None
        self._attempt: Deferred[Any] | None = None
        self._waiting: list[Deferred[PeerProtocol]] = []

    def send(self, data: bytes) -> Deferred[None]:
        """Hand data (not empty) to the kernel, connecting first if need be. Fails with `TemporaryFailure` alone."""
        sent: Deferred[None] = self.connected().addCallback(self._send, data)
        return sent.addErrback(self._not_sent)

    def connected(self) -> Deferred[PeerProtocol]:
        """The connection; fails with `TemporaryFailure` if the attempt that runs, or is made now, does."""
        if self._protocol is not None:
            return succeed(self._protocol)
        waiting: Deferred[PeerProtocol] = Deferred()
        self._waiting.append(waiting)
        if self._attempt is None:
            self._connect()
        return waiting

    def close(self) -> Deferred[None] | None:
        """Give up connecting, and close the connection after what was written; a stuck one is cut after a while."""
        self._closing = True
        if self._attempt is not None:
            self._attempt.cancel()
        protocol = self._protocol
        if protocol is None:
            return None
        protocol.close()
        cut = self._context.reactor.callLater(_CLOSING, protocol.abort)

        def gone(_: object) -> None:
            # Also when it was not gone in time: the server's end does not hang on one connection.
            if cut.active():
                cut.cancel()

        return protocol.gone.addTimeout(_CLOSING + _CUTTING, self._context.reactor).addBoth(gone)

    def _connect(self) -> None:
        factory = _PeerFactory(lambda: PeerProtocol(self._secure, self._lost))
        attempt: Deferred[Any] = self._endpoint.connect(factory)
        self._attempt = attempt
        attempt.addCallback(lambda protocol: protocol.ready)
        attempt.addTimeout(self._connect_timeout, self._context.reactor)
        attempt.addCallbacks(self._made, self._not_made)

    def _made(self, protocol: PeerProtocol) -> None:
        self._attempt = None
        self._protocol = protocol
        self._context.log.info("{handler}: connected to {to}", handler=self._context.name, to=self._name)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(protocol)

    def _not_made(self, failure: Failure) -> None:
        self._attempt = None
        late = failure.check(TimeoutError, CancelledError)
        why = f"no connection in {self._connect_timeout:g} s" if late else _said(failure)
        error = self._failed(f"cannot connect to {self._name}: {why}")
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.errback(Failure(error))

    def _lost(self, protocol: PeerProtocol) -> None:
        if protocol is self._protocol:
            self._protocol = None
            self._context.log.info("{handler}: disconnected from {to}", handler=self._context.name, to=self._name)

    def _send(self, protocol: PeerProtocol, data: bytes) -> Deferred[None]:
        sent = protocol.send(data)
        sent.addTimeout(self._send_timeout, self._context.reactor, onTimeoutCancel=_not_taken)
        return sent.addCallback(self._sent)

    def _sent(self, _: None) -> None:
        self._failures = 0

    def _not_sent(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, TemporaryFailure) and error.retry_after is not None:
            raise error
        raise self._failed(f"{self._name}: {_said(failure) or 'the call was cancelled'}") from None

    def _failed(self, why: str) -> TemporaryFailure:
        if not self._failures and not self._closing:
            # Once an outage; delivery counts and names the rest.
            self._context.log.warn("{handler}: {why}", handler=self._context.name, why=why)
        self._failures += 1
        return TemporaryFailure(why, retry_after=self._delay(self._failures))


def _not_taken(result: object, timeout: float) -> object:
    if isinstance(result, Failure):
        raise TemporaryFailure(f"the peer took nothing for {timeout:g} s")
    return result


def _said(failure: Failure) -> str:
    """A failure in words. OpenSSL's come as a list of (library, function, reason)."""
    if failure.check(SSL.Error) and failure.value is not None and failure.value.args:
        return ", ".join(str(reason) for *_, reason in failure.value.args[0]) or "TLS failed"
    return failure.getErrorMessage()
