"""The protocol of one connection of the Forward protocol: messages to batches, and what becomes of those to acks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from typing import Protocol as Shape

from twisted.python.failure import Failure

from eventserver.event import Batch
from eventserver.listeners import _peer_connection
from eventserver.listeners._fluent import Reply, Session, Step, acknowledge
from eventserver.listeners._fluent_messages import Message, joined, parts
from eventserver.listeners._fluent_options import FluentOptions
from eventserver.listeners._fluent_partials import Partials
from eventserver.listeners._http_body import Budget
from eventserver.listeners._http_repeats import Keys
from eventserver.listeners._ingest import NO_MARKS, TRUNCATED
from eventserver.listeners._peers import limit_key
from eventserver.listeners._promising_connection import PromisingConnection

#: Bytes that a connection may hold however much others do.
FREE_BYTES = 64 << 10


class Hub(_peer_connection.Hub, Shape):
    """What connections know of their listener."""

    budget: Budget
    keys: Keys
    scope: str

    def new_session(self) -> Session:
        """The protocol's state for a new connection."""

    def alone(self, put: Callable[[], bool]) -> bool:
        """Have something put, and what others hold after it."""


class _Owed:
    """A message that was read: batches that the intake has not taken yet, and the ack that it asks for.

    `key` is what its repeats are recognised by; empty where it asks for no ack. `size` counts for the budget while it
    is held. `positions` are those of its batches, of which `unkept` have yet to be acknowledged.
    """

    __slots__ = ("batches", "chunk", "frames", "json", "key", "positions", "since", "size", "unkept")

    def __init__(self, since: float, message: Message, batches: list[Batch], sender: str) -> None:
        self.since = since
        self.batches = deque(batches)
        self.frames = len(message.frames)
        self.size = sum(map(len, message.frames))
        self.chunk = message.chunk
        self.json = message.json
        self.key = "" if message.chunk is None else message.key(sender)
        self.positions: list[int] = []
        self.unkept = 0


class FluentConnection(PromisingConnection[_Owed]):
    """One sender.

    What one read brought without asking for acks is one batch a tag. A message that asks for one becomes batches of its
    own, and its ack is written when the last of them is acknowledged as `ack` says; not at all, if that takes longer
    than `ack_timeout`: its sender sends it again.

    What is held outlives the connection: senders forget what they ask no ack for, and the others find out that the
    server has it when they send it again.
    """

    _hub: Hub

    def __init__(self, hub: Hub, address: Any, options: FluentOptions, *, tls: bool) -> None:
        super().__init__(hub, address, tls=tls)
        self._options = options
        self._session = hub.new_session()
        self._partials = Partials(options.max_partials, options.partial_timeout, int(options.max_frame))
        self._owed: dict[_Owed, None] = {}  # put, or held, and their ack is awaited
        self._held_size = self._used = 0
        self._taking = False

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        now = self._begin(data)
        session = self._session
        steps = session.feed(data)
        fault = session.fault
        self._note_partial(session.partial, bool(steps), now)
        self._taking = True
        for message in self._messages(steps, now):
            self._take(message, now)
        self._taking = False
        # A handler may have run, and stopped the server: then what is partial has been counted.
        if fault is not None:
            self._ingest.reject(fault)
            self._broken(fault)
        elif not self._finished and not self._has_room(self._partials.size):
            self._broken("busy")
        self._account()
        self._leave_if_done()
        self._read_or_not()

    # What the listener calls

    def retry(self) -> bool:
        """Put what is held; False if there is no room for all of it."""
        done = super().retry()
        self._account()
        self._leave_if_done()
        return done

    def forget_held(self, reason: str) -> int:
        """Count what is held as rejected. Returns the number of its frames."""
        held = self._forget_held()
        frames = sum(len(batch.frames) for owed in held for batch in owed.batches)
        for owed in held:
            self._owed.pop(owed, None)
            self._held_size -= owed.size
        self._account()
        self._ingest.reject(reason, frames)
        return frames

    def leave(self, cut: bool = False) -> None:
        """Take no more, acknowledge what can be, and close."""
        if self._gone or self._aborted or self._leaving_since is not None:
            return
        self._leaving_since = self._seconds()
        self.pause()
        self._end()
        self._leave_if_done()

    def abort(self, reason: str) -> None:
        """Cut the connection, at once, and count it. What was read is kept; what was not acknowledged comes again."""
        super().abort(reason)
        self._end(reason)
        self._owed.clear()

    # What the base asks for

    def _made(self) -> None:
        self._sender = limit_key(self.address) or ""
        replies = self._begin_replies()
        if greeting := self._session.greeting():
            replies.write(greeting)

    def _lost(self) -> None:
        self._end()
        self._owed.clear()

    def _overdue(self, now: float) -> None:
        options = self._options
        self._forget_unmet(now)
        for message in self._partials.expire(now):
            self._take(message, now)
        self._account()
        if not self._reading:
            return
        began = self._partial_since
        if not self._session.authorized:
            if now - self._opened >= options.handshake_timeout:
                self.abort("handshake_timeout")
        elif options.frame_timeout and began is not None and now - began >= options.frame_timeout:
            self.abort("frame_timeout")
        elif options.idle_timeout and now - self._heard >= options.idle_timeout and not self._owed:
            self._note_closed("idle_timeout")
            self.leave(cut=True)

    # Inside: from messages to the intake

    def _messages(self, steps: Iterable[Step], now: float) -> Iterator[Message]:
        """The messages of one read: those that ask for no ack by tag, each of the others by itself."""
        gathered: list[Message] = []
        for step in steps:
            if isinstance(step, Reply):
                assert self._replies is not None
                self._replies.write(step.data)
                if step.last:
                    self._leaving_since = now
            elif step.chunk is not None:
                yield from joined(gathered)
                gathered = []
                yield step
            elif self._options.merge_partials:
                gathered += self._partials.take(step, now, self._has_room)
            else:
                gathered.append(step)
        yield from joined(gathered)

    def _take(self, message: Message, now: float) -> None:
        self._received += len(message.frames)
        context = {**self._batch_context, "tag": message.tag}
        if self._session.user:
            context["user"] = self._session.user
        batches = [
            self._ingest.batch(frames, self._peers, context, self._number, dict.fromkeys(cut, TRUNCATED) or NO_MARKS)
            for frames, cut in parts(message)
        ]
        owed = _Owed(now, message, batches, self._sender)
        if message.chunk is not None and not self._aborted:
            self._owed[owed] = None
        self._held_size += owed.size
        self._hold(owed)

    def _put(self, owed: _Owed) -> bool:
        if not (self._hub.alone(partial(self._store, owed)) if owed.key else self._store(owed)):
            return False
        self._held_size -= owed.size
        if owed.chunk is not None:
            owed.unkept = len(owed.positions)
            for position in owed.positions:
                self._intake.watch(self._ack, position, partial(self._kept, owed))
            if not owed.positions:
                self._settled(owed, None)  # it carries nothing
        return True

    def _store(self, owed: _Owed) -> bool:
        keys, scope, batches = self._hub.keys, self._hub.scope, owed.batches
        if owed.key:
            position = keys.recall(scope, owed.key)
            if position is not None:
                # Also of one that was stored in part: it came again meanwhile, and found room as a whole.
                self.counters.duplicates += sum(len(batch.frames) for batch in batches)
                batches.clear()
                owed.positions = [position]
                return True
        while batches:
            position = self._ingest.put(batches[0])
            if position is None:
                return False
            batches.popleft()
            owed.positions.append(position)
        if owed.key and owed.positions:
            # In the same turn as the frames, so that the journal writes both or neither.
            keys.remember(scope, [(owed.key, owed.positions[-1])])
        return True

    def _end(self, reason: str = "incomplete") -> None:
        """Nothing more is read: half a message is lost for that reason, lines in parts are kept as far as they came."""
        self._finished = True
        if self._session.partial:
            self._ingest.reject(reason)
        self._session.drop()
        for message in self._partials.finish():
            self._take(message, self._heard)
        self._account()

    def _broken(self, reason: str) -> None:
        """End a connection that says what cannot be read, or more than can be held."""
        if self._session.authorized or self._leaving_since is None:
            self.abort(reason)
            return
        # A refused handshake: the client is told why.
        self._finished = True
        self._note_closed(reason)
        self._hang_up()

    # Inside: room

    def _has_room(self, in_parts: int) -> bool:
        """Whether this connection may hold what it holds, and so many bytes of lines in parts."""
        own = self._session.buffered + self._held_size + in_parts
        budget = self._hub.budget
        return own <= FREE_BYTES or budget.used - self._used + own <= budget.limit

    def _account(self) -> None:
        used = self._session.buffered + self._held_size + self._partials.size
        self._hub.budget.used += used - self._used
        self._used = used

    def _full(self) -> bool:
        return len(self._owed) >= self._options.max_unacknowledged

    def _read_or_not(self) -> None:
        if not self._taking:
            super()._read_or_not()

    # Inside: from the intake to acks

    def _kept(self, owed: _Owed, failure: Failure | None) -> None:
        """The promise about one batch of a message: each may be given up by itself."""
        owed.unkept -= 1
        if failure is not None or not owed.unkept:
            self._settled(owed, failure)

    def _settled(self, owed: _Owed, failure: Failure | None) -> None:
        """The promise about a message is kept, or will never be."""
        if owed not in self._owed:
            return
        del self._owed[owed]
        if failure is not None:
            self._leave_unsent(failure.getErrorMessage())
        elif self._replies is not None and owed.chunk is not None:
            self.counters.acknowledged += owed.frames
            self._replies.write(acknowledge(owed.chunk, json=owed.json))
        self._leave_if_done()
        self._read_or_not()

    def _forget_unmet(self, now: float) -> None:
        """No ack is sent for what took too long: its sender sends it again, and is told then."""
        while self._owed:
            owed = next(iter(self._owed))
            if now - owed.since < self._ack_timeout:
                return
            del self._owed[owed]
            self._leave_unsent("not acknowledged in time")
            self._read_or_not()

    def _leave_unsent(self, why: str) -> None:
        self.counters.replies["unsent"] += 1
        self._hub.log.warn("unsent", "no ack for a message of {peer}: {why}", peer=self._peer, why=why)

    def _leave_if_done(self) -> None:
        waiting = self._held or self._owed or self._trying or self._taking or self._gone or self._aborted
        if self._leaving_since is not None and not waiting:
            self._hang_up()
