"""The protocol of one RELP connection: commands to batches, and what becomes of those to replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.errors import Stopped
from eventserver.event import Batch
from eventserver.interfaces import IReplyWriter
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED
from eventserver.listeners._peer_connection import Hub, PeerConnection
from eventserver.listeners._relp import SERVERCLOSE, Messages, Reply, Session, Step, acknowledge
from eventserver.listeners._relp_options import RelpOptions
from eventserver.listeners._replies import ReplyQueue


class _Owed:
    """What the client is still to be told about messages that came together, or about another command.

    `batch` is what the intake has not taken yet, `reply` is None until the promise is kept. `first` is the TXNR of the
    first message, 0 for another command; `count` and `size` are what the window counts.
    """

    __slots__ = ("batch", "count", "first", "last", "reply", "since", "size")

    def __init__(self, since: float, first: int, count: int, size: int) -> None:
        self.since = since
        self.first, self.count, self.size = first, count, size
        self.batch: Batch | None = None
        self.reply: bytes | None = None
        self.last = False


@implementer(IHalfCloseableProtocol, IReplyWriter)
class RelpConnection(PeerConnection):
    """One client of a RELP listener.

    What it is owed stands in one queue, in the order of its commands, and is answered from the front: one write for
    all that a group commit or a cursor's move settles of a batch. The transport is paused while the intake refuses a
    batch (which is *held*), while the listener is paused, and while too much is unanswered.

    What is not answered when the connection ends, its client sends again on the next one: so nothing that is held
    outlives the connection, or is put by a server that stops.
    """

    def __init__(self, hub: Hub, address: Any, options: RelpOptions, software: str, *, tls: bool) -> None:
        super().__init__(hub, address, tls=tls)
        context = hub.context
        self._options = options
        self._session = Session(int(options.max_frame), int(options.max_data), software)
        self._ack = context.ack or "delivered"
        self._ack_timeout = context.ack_timeout
        self._intake = context.intake
        self._owed: deque[_Owed] = deque()
        self._held: deque[_Owed] = deque()
        self._frames = self._size = 0  # of `_owed`
        self._reading = True
        self._putting = self._cut = False
        self._partial_since: float | None = None

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        size = len(data)
        self.counters.bytes += size
        self._bytes += size
        self._heard = now = self._seconds()
        session = self._session
        steps = session.feed(data)
        if not session.partial:
            self._partial_since = None
        elif steps or self._partial_since is None:
            self._partial_since = now
        for step in steps if len(steps) < 2 else _joined(steps):
            self._take(step, now)
        if session.fault is not None:
            self._ingest.reject(session.fault)
            self.abort(session.fault)
        self._read_or_not()

    def readConnectionLost(self) -> None:
        """The client sends no more: what it is owed is still answered."""
        self.leave()

    def writeConnectionLost(self) -> None:
        """Never called: the server does not half-close."""

    # What replies call

    def reply(self, payload: bytes) -> None:
        """RELP has no place for an answer to an event: that it is not sent is counted."""
        self.counters.replies["unsent"] += 1

    # What the listener calls

    def pause(self) -> None:
        """Read no more for now."""
        self._reading = False
        super().pause()

    def resume(self) -> None:
        """Read on, unless there are reasons of its own not to."""
        self._read_or_not()

    def retry(self) -> bool:
        """Put what is held; whether nothing is held any more."""
        while self._held:
            # Taken out first: while the intake takes it, a handler may run, make room, and have this called again.
            owed = self._held.popleft()
            if not self._put(owed):
                self._held.appendleft(owed)
                if not (self._gone or self._aborted or self._cut):
                    return False
                self.forget_held(self._intake.refusal)
        return True

    def forget_held(self, reason: str) -> int:
        """Count what is held as rejected. Returns the number of its frames."""
        held, self._held = self._held, deque()
        frames = sum(len(owed.batch.frames) for owed in held if owed.batch is not None)
        if held:
            self._ingest.reject(reason, frames)
            self._hub.let_go(self)
        return frames

    def leave(self, cut: bool = False) -> None:
        """Take no more, answer what can be answered, and close. With `cut`, what is not stored yet is given up."""
        if self._gone or self._aborted:
            return
        if cut:
            self._cut = True
            if self._held:
                self._drop_from(self._held[0])
                self.forget_held("stopped")
        if self._leaving_since is None:
            self._leaving_since = self._seconds()
            self.pause()
            self._finished = True
        self._answer()

    def abort(self, reason: str) -> None:
        """Cut the connection, at once, and count it. The client sends again what was not answered."""
        super().abort(reason)
        self._owed.clear()
        self.forget_held(self._intake.refusal)

    # What the base asks for

    def _made(self) -> None:
        context = self._hub.context
        self._replies = ReplyQueue(self.transport, self._options.max_unread_replies, self._unread)
        if context.replies:
            self._number = context.connections.add(self)

    def _lost(self) -> None:
        self._finished = True
        if self._session.partial:
            self._ingest.reject("incomplete")
        self._owed.clear()
        self.forget_held(self._intake.refusal)

    def _overdue(self, now: float) -> None:
        options = self._options
        if self._owed:
            if now - self._owed[0].since >= self._ack_timeout:
                self.abort("ack_timeout")
            return
        if not self._reading:
            return
        began = self._partial_since
        if options.frame_timeout and began is not None and now - began >= options.frame_timeout:
            self.abort("frame_timeout")
        elif not self._session.opened:
            if now - self._opened >= options.open_timeout:
                self.abort("open_timeout")
        elif options.idle_timeout and now - self._heard >= options.idle_timeout:
            self._note_closed("idle_timeout")
            self.leave(cut=True)

    # Inside: from commands to the intake

    def _take(self, step: Step, now: float) -> None:
        if isinstance(step, Reply):
            owed = _Owed(now, 0, 1, len(step.data))
            owed.reply, owed.last = step.data, step.last
            self._enqueue(owed)
            if owed.last:
                self._finished = True
                self._leaving_since = now
            if self._owed[0] is owed:
                self._answer()
            return
        frames = step.frames
        self._received += len(frames)
        owed = _Owed(now, step.first, len(frames), step.size)
        marks = dict.fromkeys(step.truncated, TRUNCATED) if step.truncated else NO_MARKS
        owed.batch = self._ingest.batch(frames, self._peers, self._batch_context, self._number, marks)
        self._enqueue(owed)
        self._held.append(owed)
        if len(self._held) == 1 and not self._putting and not self.retry():
            self._hub.hold(self)

    def _enqueue(self, owed: _Owed) -> None:
        self._owed.append(owed)
        self._frames += owed.count
        self._size += owed.size

    def _put(self, owed: _Owed) -> bool:
        """Whether the intake took it. A handler may run before this returns, and stop the server, or make room."""
        batch, owed.batch = owed.batch, None
        assert batch is not None
        putting, self._putting = self._putting, True
        position = self._ingest.put(batch)
        self._putting = putting
        if position is None:
            owed.batch = batch
            return False
        self._intake.watch(self._ack, position, partial(self._settled, owed))
        return True

    def _read_or_not(self) -> None:
        """Read while there is room for what comes. The time of a pause counts against nobody."""
        if self._finished or self._gone:
            return
        options = self._options
        full = self._frames >= options.max_unacknowledged or self._size >= options.max_unacknowledged_bytes
        read = not (full or self._held or self._hub.paused)
        if read == self._reading:
            return
        self._reading = read
        if not read:
            self.transport.pauseProducing()
            return
        self._heard = self._opened = now = self._seconds()
        if self._partial_since is not None:
            self._partial_since = now
        self.transport.resumeProducing()

    # Inside: from the intake to replies

    def _settled(self, owed: _Owed, failure: Failure | None) -> None:
        """The promise about a batch is kept, or will never be."""
        if self._gone or self._aborted:
            return
        if failure is None:
            owed.reply = acknowledge(owed.first, owed.count)
            if self._owed and self._owed[0] is owed:
                self._answer()
        elif self._leaving_since is None:
            self.abort("stopped" if failure.check(Stopped) else "expired")
        else:
            self._drop_from(owed)
            self._answer()

    def _answer(self) -> None:
        """Send the replies that are due, and close if nothing more is."""
        queue = self._owed
        replies, last = [], False
        while queue and (data := queue[0].reply) is not None:
            owed = queue.popleft()
            replies.append(data)
            self._frames -= owed.count
            self._size -= owed.size
            if owed.first:
                self.counters.acknowledged += owed.count
            last = owed.last
        done = self._leaving_since is not None and not queue
        if done and not last:
            replies.append(SERVERCLOSE)
        if replies and self._replies is not None:
            self._replies.write(b"".join(replies))
        if done and not self._aborted:
            self._hang_up()
        else:
            self._read_or_not()

    def _drop_from(self, owed: _Owed) -> None:
        """Forget it and what is behind it: replies keep the order of commands, so none of these can be sent."""
        queue = self._owed
        while owed in queue:
            dropped = queue.pop()
            self._frames -= dropped.count
            self._size -= dropped.size


def _joined(steps: Iterable[Step]) -> list[Step]:
    """The steps of one read, messages that follow each other made one."""
    joined: list[Step] = []
    for step in steps:
        before = joined[-1] if joined else None
        if isinstance(step, Messages) and isinstance(before, Messages):
            truncated = before.truncated + [len(before.frames) + index for index in step.truncated]
            joined[-1] = Messages(before.first, before.frames + step.frames, truncated, before.size + step.size)
        else:
            joined.append(step)
    return joined
