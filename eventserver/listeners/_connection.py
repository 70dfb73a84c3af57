"""The protocol of one stream connection: bytes to frames to batches, and replies back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.event import Batch
from eventserver.interfaces import Fault, ILines, IReplyWriter
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED, Marks
from eventserver.listeners._peer_connection import Hub, PeerConnection
from eventserver.listeners._turns import MUCH, USUAL


@implementer(IHalfCloseableProtocol, IReplyWriter)
class StreamConnection(PeerConnection):
    """One peer of a stream listener.

    It reads until the stream ends (or is ended), then is *finished*: the framer gave what was left, and nothing that
    still comes is looked at. Finished, it stays open while replies are due, and then closes.

    While it reads much, it takes turns with others that do (see `Turns`), and its batches are parts of what it read.

    A batch that the intake refuses is *held*, with all that follow it, and the transport paused. At most what the
    transport has read already (out of a TLS record, or in its turn) can come on top, since reading stops at once. The
    held batches outlive the connection.
    """

    def __init__(self, hub: Hub, address: Any, *, tls: bool) -> None:
        super().__init__(hub, address, tls=tls)
        self.held: deque[Batch] = deque()
        self._framer = framer = hub.context.new_framer()
        self._feed = framer.lines if ILines.providedBy(framer) else framer.feed
        self._putting = False
        self._position = 0
        self._partial_since: float | None = None

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        turns = self._hub.turns
        if len(data) < MUCH and turns.current is not self:
            self._receive(data)
        elif not self._finished:
            turns.add(self, data)

    def readConnectionLost(self) -> None:
        """The peer sends no more, and may still read (`nc -N`)."""
        self.leave()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    # What replies call

    def reply(self, payload: bytes) -> None:
        """Write one reply, ended as the framing ends a frame."""
        if self._replies is not None and not self._gone:
            self._heard = self._seconds()
            self._replies.write(self._framer.wrap(payload))

    # What the listener calls

    def resume(self) -> None:
        """Read on. The time of the pause counts against nobody."""
        if self._finished:
            return
        self._heard = self._seconds()
        if self._partial_since is not None:
            self._partial_since = self._heard
        if self not in self._hub.turns:
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

    def forget_held(self, reason: str) -> int:
        """Count what is held as rejected. Returns the number of its frames."""
        frames = sum(len(batch.frames) for batch in self.held)
        self.held.clear()
        self._ingest.reject(reason, frames)
        return frames

    def finish(self, cut: bool = False) -> None:
        """The stream ends here: what the framer has left becomes frames, once.

        With `cut` it is the server that ends it, so a frame that was not whole is marked `truncated`.
        """
        self._hub.turns.finish(self)
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
        """Cut the connection, see there; what was read before stays."""
        self._hub.turns.finish(self)
        super().abort(reason)

    # What the turns call

    @property
    def most_read(self) -> int:
        """The bytes that it may read at a time; none at its end."""
        if self._finished:
            return 0
        # Of a transport, the same attribute bounds what waits to be written.
        return USUAL if self._replies is not None and self._replies.used else self._hub.context.most_read

    @property
    def most_at_once(self) -> int:
        """The bytes that a part may have: as usual, where there may be a reply to each line of it."""
        return USUAL if self._replies is not None else self._hub.context.most_read

    def take_in(self, data: bytes) -> int:
        """Take in a part of what it has read; returns the number of its frames."""
        before = self._received
        self._receive(data)
        return self._received - before

    def read_on(self) -> None:
        """Read again, unless nothing can be taken in."""
        if not self._finished and not self._hub.paused:
            self.transport.resumeProducing()

    def fail(self) -> None:
        """Cut the connection because of the exception that is being handled, as its transport would."""
        self._hub.context.log.failure("what {peer} sent could not be taken in", peer=self._peer)
        self.abort("failed")

    # Inside

    def _receive(self, data: bytes) -> None:
        if self._finished:
            return
        framer, size = self._framer, len(data)
        frames = self._feed(data)
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

    def _made(self) -> None:
        if self._hub.context.replies:
            self._begin_replies()

    def _lost(self) -> None:
        self.finish()

    def _overdue(self, now: float) -> None:
        options = self._hub.options
        self._expire(now)
        if self._hub.paused or self.held or self._aborted:
            return
        # Of what came while it waited for its turn nobody knows.
        since = self._hub.turns.waits_since(self)
        now = now if since is None else since
        began = self._partial_since
        if options.frame_timeout and began is not None and now - began >= options.frame_timeout:
            self.finish(cut=True)
            self.abort("frame_timeout")
        elif options.idle_timeout and now - self._heard >= options.idle_timeout:
            self._note_closed("idle_timeout")
            self.leave(cut=True)

    def _emit(self, frames: Sequence[bytes], marks: Marks = NO_MARKS) -> None:
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
            # If the handler that ran has stopped the server, or the peer is gone, a tail was put after the batch.
            if (self._leaving_since == leaving and not self.held) or self.retry():
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

    def _faulty(self, frames: Sequence[bytes], faults: Sequence[Fault]) -> None:
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
        if not self._gone and not self._aborted:
            self._hang_up()
