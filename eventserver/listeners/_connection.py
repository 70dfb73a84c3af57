"""The protocol of one stream connection: bytes to frames to batches, and replies back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any
from typing import Protocol as Shape

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.event import Batch
from eventserver.interfaces import ConnectionInfo, Fault, IReplyWriter, ListenerContext
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED, Ingest, Marks
from eventserver.listeners._peers import transport_text
from eventserver.listeners._replies import ReplyQueue
from eventserver.listeners._stream_options import StreamOptions
from eventserver.listeners._tls import client_names
from eventserver.thinned_log import ThinnedLog


class Hub(Shape):
    """What connections know of their listener."""

    options: StreamOptions
    context: ListenerContext
    ingest: Ingest
    log: ThinnedLog
    paused: bool

    def opened(self, connection: StreamConnection) -> None:
        """The connection is made."""

    def hold(self, connection: StreamConnection) -> None:
        """The connection has a batch that the intake refused; call its `retry` when there is room."""

    def lost(self, connection: StreamConnection) -> None:
        """The connection is gone."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IReplyWriter)
class StreamConnection(Protocol):
    """One peer of a stream listener.

    It reads until the stream ends (or is ended), then is *finished*: the framer gave what was left, and nothing that
    still comes is looked at. Finished, it stays open while replies are due, and then closes.

    A batch that the intake refuses is *held*, with all that follow it, and the transport paused. At most what the
    transport has read already (64 KiB, out of a TLS record) can come on top, since reading stops at once. The
    held batches outlive the connection.
    """

    transport: Any

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        context = hub.context
        self.address = address
        self.counters = context.counters
        self.held: deque[Batch] = deque()
        self._hub = hub
        self._ingest = hub.ingest
        self._seconds = context.reactor.seconds
        self._framer = context.new_framer()
        self._batch_context = context.batch_context
        self._tls = tls
        self._shaken = not tls
        self._finished = self._aborted = self._gone = self._putting = False
        self._number = self._position = 0
        self._received = self._bytes = 0
        self._leaving_since: float | None = None
        self._partial_since: float | None = None
        self._replies: ReplyQueue | None = None

    # What Twisted calls

    def connectionMade(self) -> None:
        context, options = self._hub.context, self._hub.options
        self._since = context.now()
        self._opened = self._heard = self._seconds()
        self._peer = transport_text(self.transport)
        self._peers = (self._peer,)
        if context.replies:
            self._replies = ReplyQueue(self.transport, options.max_unread_replies, self._unread)
            self._number = context.connections.add(self)
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

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        framer = self._framer
        frames = framer.feed(data)
        size = len(data)
        self.counters.bytes += size
        self._bytes += size
        self._heard = now = self._seconds()
        if framer.faults:
            self._faulty(frames, framer.faults)
        elif frames:
            self._emit(frames)
        if framer.partial:
            if frames or self._partial_since is None:
                self._partial_since = now
        elif self._partial_since is not None:
            self._partial_since = None

    def readConnectionLost(self) -> None:
        """The peer sends no more, and may still read (`nc -N`)."""
        self.leave()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        if not self._shaken and not self._finished and not reason.check(ConnectionDone, ConnectionLost):
            self._note_closed("tls", "the TLS handshake failed: " + reason.getErrorMessage())
        self.finish()
        if self._number:
            self._hub.context.connections.remove(self._number)
        self._hub.lost(self)

    # What replies call

    def reply(self, payload: bytes) -> None:
        """Write one reply, ended as the framing ends a frame."""
        if self._replies is not None and not self._gone:
            self._heard = self._seconds()
            self._replies.write(self._framer.wrap(payload))

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
        if self._finished:
            return
        self._heard = self._seconds()
        if self._partial_since is not None:
            self._partial_since = self._heard
        self.transport.resumeProducing()

    def retry(self) -> bool:
        """Put what is held; whether all of it could be put."""
        while self.held:
            # Taken out first: while the intake takes it, a handler may run, make room, and have this called again.
            batch = self.held.popleft()
            if not self._put(batch):
                self.held.appendleft(batch)
                return False
        if self._leaving_since is not None and not self._putting:
            self._close_when_answered()
        return True

    def sweep(self, now: float) -> None:
        """Apply what time has brought."""
        options = self._hub.options
        if self._gone or self._aborted:
            return
        if self._leaving_since is not None:
            if now - self._leaving_since >= options.close_timeout:
                self.abort("close_timeout")
            return
        if not self._shaken:
            if now - self._opened >= options.handshake_timeout:
                self.abort("handshake_timeout")
            return
        self._expire(now)
        if self._hub.paused or self.held or self._aborted:
            return
        began = self._partial_since
        if options.frame_timeout and began is not None and now - began >= options.frame_timeout:
            self.finish(cut=True)
            self.abort("frame_timeout")
        elif options.idle_timeout and now - self._heard >= options.idle_timeout:
            self._note_closed("idle_timeout")
            self.leave(cut=True)

    def finish(self, cut: bool = False) -> None:
        """The stream ends here: what the framer has left becomes frames, once.

        With `cut` it is the server that ends it, so a frame that was not whole is marked `truncated`.
        """
        if self._finished:
            return
        self._finished = True
        framer = self._framer
        partial = framer.partial
        frames = framer.finish()
        marks, _fatal = self._ingest.sort(framer.faults)
        if cut and partial and frames:
            marks[len(frames) - 1] = TRUNCATED
        if frames:
            self._emit(frames, marks)

    def leave(self, cut: bool = False) -> None:
        """End the stream, and close when what was sent is answered."""
        if self._leaving_since is not None or self._gone:
            return
        self._leaving_since = self._seconds()
        self.pause()
        self.finish(cut)
        if not self.held and not self._putting:
            self._close_when_answered()

    def abort(self, reason: str) -> None:
        """Cut the connection, at once, and count it; frames that were cut off before stay."""
        if self._gone or self._aborted:
            return
        self._finished = self._aborted = True
        self._note_closed(reason)
        if self._replies is not None:
            self._replies.drop()
        self.transport.abortConnection()

    # Inside

    def _emit(self, frames: list[bytes], marks: Marks = NO_MARKS) -> None:
        batch = self._ingest.batch(frames, self._peers, self._batch_context, self._number, marks)
        self._received += len(frames)
        if self.held or self._putting:
            self.held.append(batch)
            return
        leaving = self._leaving_since
        self._putting = True
        position = self._ingest.put(batch)
        self._putting = False
        if position is None:
            self.held.appendleft(batch)
        else:
            if position > self._position:
                self._position = position
            # If the handler that ran has stopped the server, a tail was put after the batch.
            if self._leaving_since == leaving or self.retry():
                return
        self._hub.hold(self)
        self.pause()

    def _put(self, batch: Batch) -> bool:
        """Whether the intake took it. A handler may run before this returns, and stop the server, or make room."""
        putting, self._putting = self._putting, True
        position = self._ingest.put(batch)
        self._putting = putting
        if position is None:
            return False
        if position > self._position:
            self._position = position
        return True

    def _faulty(self, frames: list[bytes], faults: Sequence[Fault]) -> None:
        marks, fatal = self._ingest.sort(faults)
        if frames:
            self._emit(frames, marks)
        if fatal is not None:
            self.abort(fatal)

    def _expire(self, now: float) -> None:
        """Frames that a reassembling framer gives up waiting for."""
        framer = self._framer
        frames = framer.expire(now)
        if framer.faults:
            self._faulty(frames, framer.faults)
        elif frames:
            self._emit(frames)

    def _close_when_answered(self) -> None:
        if self._number and self._position:
            context = self._hub.context
            handlers = None if context.answered_by is None else [context.answered_by]
            context.intake.watch("delivered", self._position, self._answered, handlers)
        else:
            self._answered(None)

    def _answered(self, _failure: Failure | None) -> None:
        # Whether delivered or given up: no further reply will come.
        if self._gone or self._aborted:
            return
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
