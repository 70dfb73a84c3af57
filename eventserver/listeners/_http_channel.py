"""The protocol of one HTTP connection: Twisted's parser, with the limits and deadlines that it lacks."""

from __future__ import annotations

from typing import Any, Literal
from typing import Protocol as Shape

import msgspec
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.interfaces import ConnectionInfo
from eventserver.listeners import _http_exchange
from eventserver.listeners._http_exchange import Exchange
from eventserver.listeners._http_parser import StrictChannel
from eventserver.listeners._http_refusals import PHRASES, Refusal
from eventserver.listeners._peers import peer_context, peer_text
from eventserver.listeners._tls import client_names

#: How long, in seconds, the rest of a body that is not wanted is read and dropped, so that its sender gets to read
#: the answer: a socket that is closed with bytes unread resets the connection.
LINGER = 5.0
#: The rate of a body is looked at from this many seconds on.
_RATE_AFTER = 10.0

#: `idle`: nothing of a request has come; `head`, `body`: some of it has; `answer`: all of it has; `dropping`: it is
#: answered, and what is left of its body is dropped; `closing`: what still comes is not looked at.
Phase = Literal["idle", "head", "body", "answer", "dropping", "closing"]


class Hub(_http_exchange.Hub, Shape):
    """What connections know of their listener."""

    paused: bool

    def date(self) -> bytes:
        """The time as the header Date has it."""

    def opened(self, connection: Any) -> None:
        """The connection is made."""

    def lost(self, connection: Any) -> None:
        """The connection is gone."""


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class HttpConnection(StrictChannel):
    """One peer of an HTTP listener. One request is worked on at a time; the next ones wait in the socket."""

    requestFactory = Exchange  # type: ignore[assignment]  # it has what the channel calls, and nothing else of Request
    timeOut = None
    transport: Any

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        options = hub.options
        super().__init__(int(options.max_header_bytes), options.max_headers)
        self.hub = hub
        self.address = address
        self.counters = hub.context.counters
        self.batch_context = peer_context(address, hub.context.batch_context)
        self._seconds = hub.context.reactor.seconds
        self._shaken = not tls
        self._gone = self._fresh = self._half_closed = self._replaying = False
        self._phase: Phase = "idle"
        self._entered = 0.0
        self._method = b""
        self._body_bytes = 0
        self._received = self._bytes = 0

    # What Twisted calls

    def connectionMade(self) -> None:
        super().connectionMade()
        self._since = self.hub.context.now()
        self._fresh = True
        self._enter("idle")
        self.peer = peer_text(self.address, self.transport)
        self.hub.opened(self)
        if self.hub.paused:
            self.pause()

    def handshakeCompleted(self) -> None:
        """TLS is up: whoever the client's certificate names goes into the context of its batches."""
        self._shaken = True
        self._enter("idle")
        tls = self.hub.options.tls
        certificate = self.transport.getPeerCertificate()
        if tls is None or certificate is None:
            return
        names = client_names(certificate)
        if tls.client_names and not set(names) & set(tls.client_names):
            self.abort("client_name")
            return
        self.batch_context = {**self.batch_context, "tls": {"subject": names[0] if names else ""}}

    def dataReceived(self, data: bytes) -> None:
        if self._busyReceiving or self._replaying:
            # The parser hands itself what it kept while a request was worked on.
            super().dataReceived(data)
            return
        self.counters.bytes += len(data)
        self._bytes += len(data)
        phase = self._phase
        if phase == "closing":
            return
        if phase == "idle":
            self._enter("head")
        elif phase == "dropping":
            self._body_bytes += len(data)
            if self._body_bytes > self.hub.options.max_body:
                self._hang_up()
                return
        super().dataReceived(data)
        self._check_rest()

    def readConnectionLost(self) -> None:
        """The peer sends no more, and may still read (`nc -N`): a request that is whole is answered."""
        self._half_closed = True
        if self._phase == "answer":
            self.persistent = False
        else:
            self._hang_up()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        if not self._shaken and not reason.check(ConnectionDone, ConnectionLost):
            self.note_closed("tls", "the TLS handshake failed: " + reason.getErrorMessage())
        self._phase = "closing"
        super().connectionLost(reason)
        self.hub.lost(self)

    # What the parser calls

    def allHeadersReceived(self) -> None:
        """Have the request checked before its body is read."""
        if self._phase == "closing":
            return
        exchange: Exchange = self.requests[-1]
        tokens = {token.strip().lower() for token in exchange.requestHeaders.get("connection", "").split(",")}
        self.persistent = self._version == b"HTTP/1.1" and "close" not in tokens and not self._half_closed
        self._enter("body")
        self._method = self._command
        wanted = exchange.begin(self._command, self._path, self._version, self.length)
        if not wanted and exchange.answered:
            self._enter("dropping")
        elif self.length != 0 and "expect" in exchange.requestHeaders and self._version == b"HTTP/1.1":
            self._send100Continue()

    def rawDataReceived(self, data: bytes) -> None:
        if self._phase == "closing":
            return
        if self._phase == "body":
            self._body_bytes += len(data)
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._phase == "closing":
            return
        self._enter("answer")
        super().allContentReceived()

    def requestDone(self, request: Exchange) -> None:
        """The request is read and answered: on to the next one, or the end."""
        self._fresh = False
        if self.persistent:
            waiting = self._buffer or any(self._dataBuffer)
            self._enter("head" if waiting else "idle")
            replaying, self._replaying = self._replaying, True
            super().requestDone(request)
            self._replaying = replaying
            if not self._busyReceiving:
                self._check_rest()
            if self.hub.paused:
                self.pause()
        else:
            del self.requests[0]
            self._hang_up()

    def resumeProducing(self) -> None:
        """The peer has read what was written."""
        super().resumeProducing()
        if self.hub.paused:
            self.pause()

    # What exchanges call

    def respond(
        self, status: int, body: bytes, content_type: bytes, headers: tuple[tuple[str, str], ...], *, close: bool
    ) -> None:
        """Write a whole response, in one write."""
        if close:
            self.persistent = False
        lines = [b"HTTP/1.1 %d %s" % (status, PHRASES[status]), b"Date: " + self.hub.date()]
        lines += [b"Content-Type: " + content_type, b"Content-Length: %d" % len(body)]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
        if not self.persistent:
            lines.append(b"Connection: close")
        if self._method == b"HEAD":
            body = b""
        self.transport.write(b"\r\n".join((*lines, b"", body)))
        if close and self._phase == "body":
            self._enter("dropping")

    def stored(self, frames: int) -> None:
        """So many frames of this connection were taken."""
        self._received += frames

    def note_closed(self, reason: str, why: str = "") -> None:
        """Count and log that the server ends the connection."""
        self.counters.closed[reason] += 1
        self.hub.log.warn(reason, "closed the connection of {peer}: {why}", peer=self.peer, why=why or reason)

    # What the listener calls

    def info(self) -> ConnectionInfo:
        """The connection, for people."""
        return ConnectionInfo(self.peer, self._since, self._received, self._bytes)

    def pause(self) -> None:
        """Read no more for now."""
        if self._phase != "closing":
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on. The time of the pause counts against nobody."""
        if self._phase in ("idle", "head", "body", "dropping"):
            self._enter(self._phase)
            if not self._waitingForTransport:
                self.transport.resumeProducing()

    def retry(self) -> bool:
        """Nothing is ever held: what there is no room for is answered 503."""
        return True

    def forget_held(self, reason: str) -> int:
        """See `retry`."""
        return 0

    def leave(self, cut: bool = False) -> None:
        """The server stops: answer what is whole, refuse what is not, close the rest."""
        if self._phase in ("idle", "head"):
            self._hang_up()
        elif self._phase == "body":
            self.requests[-1].stop()
        elif self._phase == "answer":
            self.persistent = False

    def abort(self, reason: str) -> None:
        """Cut the connection, at once, and count it."""
        if not self._gone:
            self.note_closed(reason)
            self._phase = "closing"
            self.transport.abortConnection()

    def fail(self, refusal: Refusal) -> bool:
        """Answer what is no request, and close: where the next one would begin is not known. Always False."""
        if self._phase == "closing":
            return False
        dropping, self._phase = self._phase == "dropping", "closing"
        if not dropping:
            self.hub.ingest.reject(refusal.word)
            self.hub.log.warn(refusal.word, "refused a request of {peer}: {why}", peer=self.peer, why=refusal.reason)
            body = msgspec.json.encode({"error": refusal.reason})
            self.respond(refusal.status, body, b"application/json", refusal.headers, close=True)
        for request in self.requests:
            request.drop()
        self._hang_up()
        return False

    def sweep(self, now: float) -> None:
        """Apply what time has brought."""
        options, phase, waited = self.hub.options, self._phase, now - self._entered
        if self._gone:
            return
        if not self._shaken:
            if waited >= options.handshake_timeout:
                self.abort("handshake_timeout")
        elif phase == "closing":
            if waited >= options.close_timeout:
                # Closed already, only its peer has not read what was written.
                self.transport.abortConnection()
        elif phase == "dropping":
            if waited >= LINGER:
                self._hang_up()
        elif phase == "answer":
            self.requests[0].sweep(now)
        elif self._waitingForTransport:
            if waited >= options.close_timeout:
                self.abort("unread_replies")
        elif not self.hub.paused:
            self._overdue(phase, waited)

    # Inside

    def _check_rest(self) -> None:
        if self._phase == "head":
            self.look_for_bare_lf()

    def _overdue(self, phase: Phase, waited: float) -> None:
        options = self.hub.options
        if phase == "body":
            slow = waited >= _RATE_AFTER and self._body_bytes < options.min_rate * waited
            if slow or (options.frame_timeout and waited >= options.frame_timeout):
                reason = "min_rate" if slow else "frame_timeout"
                self.note_closed(reason)
                self.requests[-1].time_out(reason)
        elif phase == "head" or self._fresh:
            if waited >= options.header_timeout:
                self.note_closed("header_timeout")
                if phase == "head":
                    self.fail(Refusal(408, "header_timeout", "the request took too long (header_timeout)"))
                else:
                    self._hang_up()
        elif options.idle_timeout and waited >= options.idle_timeout:
            self._hang_up()

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._entered = self._seconds()
        if phase == "head":
            self.head_bytes = 0
            self._method = b""
        if phase in ("body", "dropping"):
            self._body_bytes = 0

    def _hang_up(self) -> None:
        """Close when what was written is sent."""
        self._phase = "closing"
        self._entered = self._seconds()
        if not self._gone:
            # Until the peer's close_notify has come TLS is not closed, so it has to be read.
            self.transport.resumeProducing()
            self.loseConnection()
