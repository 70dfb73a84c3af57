"""A connection until it is known what its peer speaks; then the protocol for that takes its place."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Shape

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.interfaces import ConnectionInfo, ListenerContext
from eventserver.listeners._auto_options import AutoOptions
from eventserver.listeners._detect import detect
from eventserver.listeners._peers import peer_text
from eventserver.thinned_log import ThinnedLog


class Hub(Shape):
    """What such connections know of their listener."""

    context: ListenerContext
    log: ThinnedLog
    paused: bool

    @property
    def options(self) -> AutoOptions:
        """The listener's settings."""

    def undecided(self, connection: DetectingConnection) -> None:
        """The connection is open, and nobody knows what it speaks."""

    def decided(self, connection: DetectingConnection, *, goes_on: bool) -> None:
        """It is known, and another protocol `goes_on` with it; or the connection is gone."""

    def speaker(self, address: Any, peer: str, found: str, *, tls: bool) -> Any:
        """The protocol for what was found, `tls` included; None if it is not allowed, which is counted."""


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class DetectingConnection(Protocol):
    """One peer. It holds what comes until that tells what the peer speaks: one read more than
    `_detect.MOST_OF_OBJECT` at most.

    With `tls` its transport is TLS already; and there is no TLS inside of that.
    """

    transport: Any

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        self.address = address
        self._hub = hub
        self._tls = tls
        self._shaken = not tls
        self._buffer = b""
        self._inner: Any = None
        self._over = False
        self._began: float | None = None

    # What Twisted calls

    def connectionMade(self) -> None:
        context = self._hub.context
        self._since = context.now()
        self._opened = context.reactor.seconds()
        self._peer = peer_text(self.address, self.transport)
        self._hub.undecided(self)
        if self._hub.paused:
            self.pause()

    def handshakeCompleted(self) -> None:
        """TLS is up: what follows is looked at."""
        self._shaken = True
        self._opened = self._hub.context.reactor.seconds()
        if self._inner is not None:
            self._inner.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            # Only a transport that cannot be told of the other protocol goes on calling this one.
            self._inner.dataReceived(data)
        elif not self._over:
            seen = len(self._buffer)
            self._buffer += data
            if self._began is None:
                self._began = self._hub.context.reactor.seconds()
            found = detect(self._buffer, seen=seen)
            if found is not None:
                self._become(found)

    def readConnectionLost(self) -> None:
        """The peer sends no more: what it has sent has to do."""
        self.decide()
        if self._inner is None:
            self._let_go()
            self.transport.loseConnection()
        elif IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not (self._shaken or self._over or reason.check(ConnectionDone, ConnectionLost)):
            self._note_closed("tls", "the TLS handshake failed: " + reason.getErrorMessage())
        if self._inner is None:
            self.decide()
        if self._inner is not None:
            self._inner.connectionLost(reason)
        self._let_go()

    # What the listener calls

    def info(self) -> ConnectionInfo:
        """The connection, for people."""
        return ConnectionInfo(self._peer, self._since, 0, len(self._buffer))

    def pause(self) -> None:
        """Read no more for now."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on. The time of the pause counts against nobody."""
        self._opened = now = self._hub.context.reactor.seconds()
        if self._began is not None:
            self._began = now
        self.transport.resumeProducing()

    def decide(self) -> None:
        """No more comes: what there is has to do. Nothing, if that is nothing."""
        if self._buffer and not self._over and self._inner is None:
            self._become(detect(self._buffer, whole=True) or "lines")

    def leave(self) -> None:
        """The server stops: what there is is taken, and the connection closed."""
        self.decide()
        if self._inner is not None:
            self._inner.leave(cut=True)
        elif not self._over:
            self._let_go()
            self.transport.abortConnection()

    def sweep(self, now: float) -> None:
        """Apply what time has brought."""
        options = self._hub.options
        if self._over or self._inner is not None or self._hub.paused:
            return
        if not self._shaken:
            if now - self._opened >= options.handshake_timeout:
                self.abort("handshake_timeout")
        elif self._began is not None:
            if now - self._began >= options.detect_timeout:
                self.decide()
        elif options.shared_key is not None and now - self._opened >= options.detect_timeout:
            # It may wait for the server's first word.
            self._become("fluent")
        elif options.idle_timeout and now - self._opened >= options.idle_timeout:
            self.abort("idle_timeout")

    def abort(self, reason: str, why: str = "") -> None:
        """Cut the connection, and count it."""
        if self._over:
            return
        self._let_go()
        self._note_closed(reason, why or reason)
        self.transport.abortConnection()

    # Inside

    def _note_closed(self, reason: str, why: str) -> None:
        self._hub.context.counters.closed[reason] += 1
        self._hub.log.warn(reason, "closed the connection of {peer}: {why}", peer=self._peer, why=why)

    def _let_go(self, *, goes_on: bool = False) -> None:
        self._over = True
        self._buffer = b""
        self._hub.decided(self, goes_on=goes_on)

    def _become(self, found: str) -> None:
        """Have another protocol take this one's place."""
        data = self._buffer
        inner = self._hub.speaker(self.address, self._peer, found, tls=self._tls)
        if inner is None:
            self._hub.context.counters.bytes += len(data)
            self.abort("protocol", f"it speaks {found}, which is not allowed here")
            return
        # Its place is free before the next protocol takes one.
        self._let_go(goes_on=True)
        self._inner = inner
        for attribute in ("protocol", "wrappedProtocol"):
            if getattr(self.transport, attribute, None) is self:
                # From here on the transport calls the other protocol, as after STARTTLS.
                setattr(self.transport, attribute, inner)
        inner.makeConnection(self.transport)
        if self._tls:
            inner.handshakeCompleted()
        if data:
            inner.dataReceived(data)
