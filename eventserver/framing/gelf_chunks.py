"""GELF messages that come in chunks, put together again. Sans-I/O: the time is an argument.

A chunk is the two bytes 1E 0F, a message id of 8 bytes, its index from 0, the number of chunks (1 to 128), and a piece
of the payload. All have to come within five seconds, in whatever order (GELF specification, "GELF via UDP").

Anybody can send datagrams, so what is held is bounded four ways: in time, in messages of one source, in messages, and
in bytes. Where a bound is reached the oldest message gives way: a flood costs those messages whose chunks are slowest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

MAGIC = b"\x1e\x0f"
#: The bytes of a chunk before its piece of the payload, and the most chunks of a message.
HEADER = 12
MOST = 128
#: What Python needs for a message and for a chunk besides the bytes of its piece.
_MESSAGE_BYTES, _CHUNK_BYTES = 1000, 100

#: Reasons of rejected frames. A message whose chunks did not all come in time:
INCOMPLETE = "incomplete"
#: The oldest message, which gave way to a new one because a bound was reached:
EVICTED = "chunks_evicted"
#: A chunk without a whole header, with an index or a number that cannot be, or of a number that its message denies:
BAD_CHUNK = "bad_chunk"
#: A chunk that had come before:
DUPLICATE = "duplicate_chunk"
#: A message larger than the limit:
OVERSIZE = "oversize"


class ChunkLimits(NamedTuple):
    """`timeout`: seconds from a message's first chunk to its last. `messages`, `per_source`: messages that wait for
    chunks, in all and of one source. `bytes`: what these hold. `message`: bytes of one message."""

    timeout: float
    messages: int
    per_source: int
    bytes: int
    message: int


class _Message:
    """A message that waits for chunks. `pieces` is None once it is refused: then its other chunks are passed over."""

    __slots__ = ("count", "pieces", "seen", "since", "size", "source")

    def __init__(self, source: Hashable, count: int, since: float) -> None:
        self.source = source
        self.count = count
        self.since = since
        self.size = 0
        self.seen = 0  # a bit for each chunk that came
        self.pieces: dict[int, bytes] | None = {}


class Chunks:
    """The messages that wait for chunks. `reject(reason)` is called for each message and chunk that goes nowhere."""

    def __init__(self, limits: ChunkLimits, reject: Callable[[str], None]) -> None:
        self._limits = limits
        self._reject = reject
        #: By sender and id; the oldest first, since a message keeps its place.
        self._waiting: dict[tuple[Hashable, bytes], _Message] = {}
        #: The same by source.
        self._by_source: dict[Hashable, dict[tuple[Hashable, bytes], None]] = {}
        self._held = 0

    def __len__(self) -> int:
        """The messages that wait."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """The bytes that they take, about."""
        return self._held

    def add(self, chunk: bytes, sender: Hashable, source: Hashable, now: float) -> bytes | None:
        """The payload that the chunk completes, if it does.

        Chunks belong together by `sender` and message id; `source` is what the bound for one source counts: a sender
        is free to change its port. `now` in seconds of a monotonic clock.
        """
        key = (sender, chunk[2:10])
        index, count = (chunk[10], chunk[11]) if len(chunk) >= HEADER else (0, 0)
        if not index < count <= MOST:
            self._reject(BAD_CHUNK)
            return None
        self.expire(now)
        message = self._waiting.get(key)
        if message is None:
            if count == 1:
                return self._alone(chunk[HEADER:])
            message = self._begin(key, source, count, now)
        elif message.count != count:
            self._reject(BAD_CHUNK)
            return None
        if message.seen >> index & 1:
            self._reject(DUPLICATE)
            return None
        message.seen |= 1 << index
        return self._keep(key, message, index, chunk[HEADER:])

    def expire(self, now: float) -> None:
        """Give up the messages whose time is over."""
        while self._waiting:
            key = next(iter(self._waiting))
            if now - self._waiting[key].since < self._limits.timeout:
                return
            self._give_up(key, INCOMPLETE)

    def finish(self) -> None:
        """No more chunks will come: give up all messages."""
        while self._waiting:
            self._give_up(next(iter(self._waiting)), INCOMPLETE)

    def _alone(self, piece: bytes) -> bytes | None:
        if len(piece) <= self._limits.message:
            return piece
        self._reject(OVERSIZE)
        return None

    def _begin(self, key: tuple[Hashable, bytes], source: Hashable, count: int, now: float) -> _Message:
        same = self._by_source.setdefault(source, {})
        if len(same) >= self._limits.per_source:
            self._give_up(next(iter(same)), EVICTED)
            same = self._by_source.setdefault(source, {})
        if len(self._waiting) >= self._limits.messages:
            self._give_up(next(iter(self._waiting)), EVICTED)
            same = self._by_source.setdefault(source, {})
        message = self._waiting[key] = _Message(source, count, now)
        same[key] = None
        self._held += _MESSAGE_BYTES
        return message

    def _keep(self, key: tuple[Hashable, bytes], message: _Message, index: int, piece: bytes) -> bytes | None:
        """Take the piece of a chunk that is new; the payload, if it is the last one."""
        pieces = message.pieces
        if pieces is not None:
            pieces[index] = piece
            message.size += len(piece)
            self._held += len(piece) + _CHUNK_BYTES
            if message.size > self._limits.message:
                # Its other chunks are still to come; without what is left of it here they would be a new message.
                self._held -= message.size + len(pieces) * _CHUNK_BYTES
                message.pieces = pieces = None
                self._reject(OVERSIZE)
        if message.seen == (1 << message.count) - 1:
            self._forget(key)
            return b"".join([pieces[number] for number in range(message.count)]) if pieces is not None else None
        while self._held > self._limits.bytes:
            self._give_up(next(iter(self._waiting)), EVICTED)
        return None

    def _give_up(self, key: tuple[Hashable, bytes], reason: str) -> None:
        if self._forget(key).pieces is not None:
            self._reject(reason)

    def _forget(self, key: tuple[Hashable, bytes]) -> _Message:
        message = self._waiting.pop(key)
        same = self._by_source[message.source]
        del same[key]
        if not same:
            del self._by_source[message.source]
        self._held -= _MESSAGE_BYTES
        if message.pieces is not None:
            self._held -= message.size + len(message.pieces) * _CHUNK_BYTES
        return message
