"""What the connections of every stream listener have in common: a peer, TLS, a clock, and an end."""

from __future__ import annotations

import contextlib
from typing import Any
from typing import Protocol as Shape

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.interfaces import ConnectionInfo, ListenerContext
from eventserver.listeners._ingest import Ingest
from eventserver.listeners._peers import peer_context, peer_text
from eventserver.listeners._replies import ReplyQueue
from eventserver.listeners._stream_options import StreamOptions
from eventserver.listeners._tls import client_names
from eventserver.listeners._turns import Turns
from eventserver.thinned_log import ThinnedLog


class Hub(Shape):
    """What connections know of their listener."""

    context: ListenerContext
    ingest: Ingest
    log: ThinnedLog
    paused: bool
    turns: Turns

    @property
    def options(self) -> StreamOptions:
        """The listener's settings."""

    def opened(self, connection: Any) -> None:
        """The connection is made."""

    def hold(self, connection: Any) -> None:
        """The connection has a batch that the intake refused; call its `retry` when there is room."""

    def let_go(self, connection: Any) -> None:
        """The connection has given up what it held."""

    def lost(self, connection: Any) -> None:
        """The connection is gone."""


@implementer(IHandshakeListener)
class PeerConnection(Protocol):
    """One peer. A subclass speaks its protocol: `dataReceived`, `retry`, `forget_held`, `leave`, `_overdue`.

    It reads until the stream ends (or is ended), then is *finished*: nothing that still comes is looked at. It is
    *leaving* when it only waits for what it owes its peer.
    """

    transport: Any

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        context = hub.context
        self.address = address
        self.counters = context.counters
        self._hub = hub
        self._ingest = hub.ingest
        self._seconds = context.reactor.seconds
        self._batch_context = peer_context(address, context.batch_context)
        self._tls = tls
        self._shaken = not tls
        self._finished = self._aborted = self._gone = False
        self._number = 0
        self._received = self._bytes = 0
        self._leaving_since: float | None = None
        self._replies: ReplyQueue | None = None

    # What Twisted calls

    def connectionMade(self) -> None:
        context = self._hub.context
        self._since = context.now()
        self._opened = self._heard = self._seconds()
        self._peer = peer_text(self.address, self.transport)
        self._peers = (self._peer,)
        self._made()
        self._hub.opened(self)
        if self._hub.paused:
            self.pause()

    def handshakeCompleted(self) -> None:
        """TLS is up: whoever the client's certificate names goes into the context of its batches."""
        self._shaken = True
        tls = self._hub.options.tls
        certificate = self.transport.getPeerCertificate()
        if tls is None or certificate is None:
            return
        names = client_names(certificate)
        if tls.client_names and not set(names) & set(tls.client_names):
            self.abort("client_name")
            return
        self._batch_context = {**self._batch_context, "tls": {"subject": names[0] if names else ""}}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        if not self._shaken and not self._finished and not reason.check(ConnectionDone, ConnectionLost):
            self._note_closed("tls", "the TLS handshake failed: " + reason.getErrorMessage())
        self._lost()
        if self._number:
            self._hub.context.connections.remove(self._number)
        self._hub.lost(self)

    # What the listener calls

    def info(self) -> ConnectionInfo:
        """The connection, for people."""
        return ConnectionInfo(self._peer, self._since, self._received, self._bytes)

    def pause(self) -> None:
        """Read no more for now."""
        if not self._finished and not self._gone:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on. The time of the pause counts against nobody."""
        raise NotImplementedError

    def retry(self) -> bool:
        """Put what is held; whether all of it could be put."""
        raise NotImplementedError

    def forget_held(self, reason: str) -> int:
        """Count what is held as rejected. Returns the number of its frames."""
        raise NotImplementedError

    def leave(self, cut: bool = False) -> None:
        """End the stream, and close when the peer has all that it is owed. With `cut` it is the server that ends it."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """Apply what time has brought."""
        options = self._hub.options
        if self._gone or self._aborted:
            return
        if self._leaving_since is not None:
            if now - self._leaving_since >= options.close_timeout:
                self.abort("close_timeout")
        elif not self._shaken:
            if now - self._opened >= options.handshake_timeout:
                self.abort("handshake_timeout")
        else:
            self._overdue(now)

    def abort(self, reason: str) -> None:
        """Cut the connection, at once, and count it; frames that were cut off before stay."""
        if self._gone or self._aborted:
            return
        self._finished = self._aborted = True
        self._note_closed(reason)
        if self._replies is not None:
            self._replies.drop()
        self.transport.abortConnection()

    # What a subclass adds

    def _made(self) -> None:
        """The transport is there."""

    def _lost(self) -> None:
        """The transport is gone."""

    def _overdue(self, now: float) -> None:
        """Apply the deadlines of the protocol."""

    # Inside

    def _begin_replies(self) -> ReplyQueue:
        """Have `_replies`, and a number where handlers reply."""
        # Replies are small, and one that waits until the last has arrived (RFC 9293, section 3.7.4) makes its peer
        # wait, for 40 ms on Linux.
        with contextlib.suppress(AttributeError, OSError):  # a unix socket has none of it
            self.transport.setTcpNoDelay(True)
        context = self._hub.context
        self._replies = replies = ReplyQueue(self.transport, self._hub.options.max_unread_replies, self._unread)
        if context.replies:
            self._number = context.connections.add(self)
        return replies

    def _hang_up(self) -> None:
        """Close when what was written is sent."""
        if self._tls:
            # Until the peer's close_notify has come TLS is not closed, so it has to be read.
            self.transport.resumeProducing()
        if self._replies is not None:
            self._replies.close()
        else:
            self.transport.loseConnection()

    def _unread(self) -> None:
        self.abort("unread_replies")

    def _note_closed(self, reason: str, why: str = "") -> None:
        self.counters.closed[reason] += 1
        self._hub.log.warn(
            reason,
            "closed the connection of {peer}: {why}",
            peer=self._peer,
            why=why or reason,
        )
