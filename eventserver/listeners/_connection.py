"""The protocol of one stream connection: bytes to frames to batches, and replies back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.event import Batch
from eventserver.interfaces import Fault, ILines, IReplyWriter
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED, Marks
from eventserver.listeners._peer_connection import Hub, PeerConnection

#: What Twisted reads at a time, in bytes. Reads of half of that and more are taken to leave something behind.
_READ, _MUCH = 1 << 16, 1 << 15
#: The frames that a batch of a large read has, and its bytes at most. What a batch costs in itself is a tenth of what
#: 300 events cost; of more than these, some would not fit into a handler's pile (1,000), or the processor's cache.
_FRAMES, _BATCH = 960, 3 << 16
#: The seconds that large reads of all peers, and what handlers make of these at once, are to take, as other peers wait
#: for so long; and of how many peers at least.
_WHILE, _PEERS = 0.1, 20


@implementer(IHalfCloseableProtocol, IReplyWriter)
class StreamConnection(PeerConnection):
    """One peer of a stream listener.

    It reads until the stream ends (or is ended), then is *finished*: the framer gave what was left, and nothing that
    still comes is looked at. Finished, it stays open while replies are due, and then closes.

    A batch that the intake refuses is *held*, with all that follow it, and the transport paused. At most what the
    transport has read already (out of a TLS record) can come on top, since reading stops at once. The
    held batches outlive the connection.
    """

    #: The bytes that become one batch. Of the class: with more than 30 attributes of its own an object costs a KiB more
    #: (CPython 3.11).
    _at_once = _READ

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
        size = len(data)
        if size < _MUCH:
            self._receive(data)
            return
        began, before = self._seconds(), self._received
        for part in _parts(data, self._at_once):
            self._receive(part)
        self._fit_reads(size, self._received - before, self._seconds() - began)

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

    def _fit_reads(self, size: int, frames: int, seconds: float) -> None:
        """After a large read, which there may be more behind: the larger, the less a byte costs."""
        replies = self._replies
        # The same attribute of a transport bounds what waits to be written.
        most = _READ if replies is not None and replies.used else max(_READ, self._hub.context.most_read)
        self._at_once = at_once = max(_READ, min(size * _FRAMES // max(1, frames), _BATCH, most))
        if seconds > 0:
            most = min(most, int(size * _WHILE / max(_PEERS, self.counters.connections) / seconds))
        self.transport.bufferSize = max(1, most // at_once) * at_once

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


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    """The data in equal parts of about that size at most. A line that is cut in two has to be put together again."""
    start = 0
    for left in range(-(-len(data) // size), 1, -1):
        end = start + (len(data) - start) // left
        end = data.rfind(b"\n", start, end) + 1 or end
        yield data[start:end]
        start = end
    yield data[start:] if start else data
