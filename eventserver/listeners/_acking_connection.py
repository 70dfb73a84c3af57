"""What connections have in common whose peers are told when their messages are safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.python.failure import Failure

from eventserver.errors import Stopped
from eventserver.event import Batch
from eventserver.listeners._acking_options import AckingOptions
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED
from eventserver.listeners._peer_connection import Hub
from eventserver.listeners._promising_connection import PromisingConnection


class Owed:
    """What the peer is still to be told about messages that came together, or about another command.

    `batch` is what the intake has not taken yet, `reply` is None until the promise is kept. `what` is the protocol's
    own: of what the reply is made then. `frames` is the number of messages, `count` and `size` are what the window
    counts. It is `gone` when it is answered, or will never be.
    """

    __slots__ = ("batch", "count", "frames", "gone", "last", "reply", "since", "size", "what")

    def __init__(self, since: float, size: int, what: Any = None, frames: int = 0) -> None:
        self.since = since
        self.size = size
        self.what = what
        self.frames = frames
        self.count = frames or 1
        self.batch: Batch | None = None
        self.reply: bytes | None = None
        self.last = self.gone = False


class AckingConnection(PromisingConnection[Owed]):
    """One client of a listener that acknowledges. A subclass speaks its protocol: `dataReceived`, `_reply_to`.

    What the client is owed stands in one queue, in the order in which it came, and is answered from the front: one
    write for all that a group commit or a cursor's move settles of a batch. What came together with more than may be
    unanswered is held until there is room for it.

    What is not answered when the connection ends, its client sends again on the next one: so nothing that is held
    outlives the connection, or is put by a server that stops.
    """

    #: What is said before the server closes.
    farewell = b""

    def __init__(self, hub: Hub, address: Any, options: AckingOptions, *, tls: bool) -> None:
        super().__init__(hub, address, tls=tls)
        self._options = options
        self._owed: deque[Owed] = deque()
        self._frames = self._size = 0  # of `_owed`
        self._held_frames = self._held_size = 0
        self._untold = 0  # frames whose promise is kept, and whose acknowledgement another one says
        self._cut = False

    # What the listener calls

    def forget_held(self, reason: str) -> int:
        """Count what is held as rejected. Returns the number of its frames."""
        held = self._forget_held()
        self._held_frames = self._held_size = 0
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
        self._reject_held()

    # What the base asks for

    def _made(self) -> None:
        self._begin_replies()

    def _lost(self) -> None:
        self._finished = True
        if self._incomplete():
            self._ingest.reject("incomplete")
        self._owed.clear()
        self._reject_held()

    def _overdue(self, now: float) -> None:
        options = self._options
        if self._owed and now - self._owed[0].since >= self._ack_timeout:
            self.abort("ack_timeout")
            return
        if self._owed or not self._reading:
            self._still_waiting(now)
            return
        began = self._partial_since
        if options.frame_timeout and began is not None and now - began >= options.frame_timeout:
            self.abort("frame_timeout")
        elif not self._too_late(now) and options.idle_timeout and now - self._heard >= options.idle_timeout:
            self._note_closed("idle_timeout")
            self.leave(cut=True)

    # What a subclass adds

    def _reply_to(self, owed: Owed) -> bytes:
        """What the client is told about messages whose promise is kept; nothing where a later reply says it."""
        raise NotImplementedError

    def _incomplete(self) -> bool:
        """Whether some of a message has come that will not be complete any more."""
        raise NotImplementedError

    def _still_waiting(self, now: float) -> None:
        """The client waits: for a promise, or to be read. Called once a second."""

    def _too_late(self, now: float) -> bool:
        """Apply further deadlines while nothing is owed; whether one has passed."""
        return False

    # Inside: from messages to the intake

    def _take(self, frames: list[bytes], truncated: Iterable[int], owed: Owed) -> None:
        """Put messages; `owed` says what the client is told about them."""
        self._received += len(frames)
        marks = dict.fromkeys(truncated, TRUNCATED) if truncated else NO_MARKS
        owed.batch = self._ingest.batch(frames, self._peers, self._batch_context, self._number, marks)
        self._enqueue(owed)
        self._held_frames += owed.count
        self._held_size += owed.size
        self._hold(owed)

    def _say(self, owed: Owed, data: bytes) -> None:
        """Reply to something that needs no promise, once everything before it is answered."""
        owed.reply = data
        self._enqueue(owed)
        if owed.last:
            self._finished = True
            self._leaving_since = owed.since
        if self._owed[0] is owed:
            self._answer()

    def _enqueue(self, owed: Owed) -> None:
        self._owed.append(owed)
        self._frames += owed.count
        self._size += owed.size

    def _put(self, owed: Owed) -> bool:
        batch, owed.batch = owed.batch, None
        assert batch is not None
        position = self._ingest.put(batch)
        if position is None:
            owed.batch = batch
            return False
        if not self._in_line:
            # Until now it was this connection that made it wait, and no lack of room.
            owed.since = self._seconds()
        self._held_frames -= owed.count
        self._held_size -= owed.size
        self._intake.watch(self._ack, position, partial(self._settled, owed))
        return True

    def _full(self) -> bool:
        options = self._options
        frames, size = self._frames - self._held_frames, self._size - self._held_size
        return frames >= options.max_unacknowledged or size >= options.max_unacknowledged_bytes

    def _may_put(self) -> bool:
        return not self._full() or self._is_over()

    def _give_up_held(self) -> bool:
        if over := self._is_over():
            self.forget_held(self._intake.refusal)
        return over

    def _is_over(self) -> bool:
        """Whether nothing can be held any more."""
        return self._gone or self._aborted or self._cut

    def _reject_held(self) -> None:
        """The connection has ended before what it holds was put: for lack of room, or since too much was unanswered."""
        self.forget_held(self._intake.refusal if self._in_line or self._trying else "unacknowledged")

    # Inside: from the intake to replies

    def _settled(self, owed: Owed, failure: Failure | None) -> None:
        """The promise about a batch is kept, or will never be."""
        if self._gone or self._aborted:
            return
        if failure is None:
            owed.reply = self._reply_to(owed)
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
            owed.gone = True
            self._frames -= owed.count
            self._size -= owed.size
            self._untold += owed.frames
            if data:
                replies.append(data)
                self.counters.acknowledged += self._untold
                self._untold = 0
            last = owed.last
        done = self._leaving_since is not None and not queue
        if done and not last and self.farewell:
            replies.append(self.farewell)
        if replies and self._replies is not None:
            self._replies.write(b"".join(replies))
        if done and not self._aborted:
            self._hang_up()
        else:
            self._put_held()
            self._read_or_not()

    def _drop_from(self, owed: Owed) -> None:
        """Forget it and what is behind it: replies keep the order of commands, so none of these can be sent."""
        while not owed.gone:
            dropped = self._owed.pop()
            dropped.gone = True
            self._frames -= dropped.count
            self._size -= dropped.size
