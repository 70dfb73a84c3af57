"""The frames of Lumberjack, without I/O: what one level of a connection says.

A frame is a version (`1` or `2`), a type and a body; all numbers are unsigned, of 32 bits, big endian
(logstash-input-beats, PROTOCOL.md). There are two levels: the connection, and what is inside of compressed frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import TypeAlias

import msgspec

from eventserver.listeners._lumberjack_pairs import as_object, shortened, whole_texts

_JSON = struct.Struct(">HII")  # version and type, sequence number, length
_JSON_HEADS = (0x324A, 0x314A)  # "2J" and, which nobody is known to send, "1J"
_PAIR_HEADS = (0x3144, 0x3244)  # "1D" and, which nobody is known to send, "2D"
_NUMBERS = struct.Struct(">II")

#: What a parser wants next: so many bytes, or if negative, up to so many, whatever there is.
_Parser: TypeAlias = Generator[int, bytes, None]


#: Data frames and ends of windows that one read may bring, or as many as it has bytes. A data frame of a client that
#: counts takes two bytes at least, however well it is compressed, and a read has no more than 64 KiB.
READ_ROOM = 1 << 16
#: Pairs of data frames of version 1 that one read may bring, for each data frame that it may bring. An honest read of
#: 64 KiB has a few ten thousand, packed well.
PAIRS_ROOM = 2


class Limits(msgspec.Struct, frozen=True):
    """What a client may send. Sizes in bytes; see `LumberjackOptions`."""

    max_frame: int
    max_data: int
    max_window: int
    max_pairs: int
    max_inflated: int
    max_ratio: float


class Window:
    """What has come of the windows of a connection, and what their client is to be told about it.

    `frames` are the payloads of one read, `truncated` the indexes of those that were cut, `acks` what is to be said
    once all of them are safe. `room` is how many data frames and ends of windows the read may still bring, and `pairs`
    how many pairs: a few bytes can unpack to very many of them, and each takes its time.
    """

    __slots__ = ("acks", "fault", "frames", "last", "left", "pairs", "room", "size", "truncated", "version")

    def __init__(self) -> None:
        self.fault: str | None = None
        self.frames: list[bytes] = []
        self.truncated: list[int] = []
        self.acks: list[bytes] = []
        self.size = 0  # data frames of the window
        self.left = 0  # those of them that are still to come
        self.last = 0  # the sequence number of the latest data frame
        self.version = b"2"
        self.grant(0)

    def grant(self, size: int) -> None:
        """Bytes have been read: what they may bring."""
        self.room = max(READ_ROOM, size)
        self.pairs = PAIRS_ROOM * self.room

    def fail(self, reason: str) -> None:
        """The connection says something else than Lumberjack."""
        self.fault = self.fault or reason

    def open(self, version: bytes, size: int) -> None:
        """A window of so many data frames begins."""
        self.version, self.size, self.left, self.last = version, size, size, 0
        if not size:
            self.end()

    def expects(self) -> bool:
        """Whether a data frame may come.

        Of version 1 there are clients that announce a window once, and send one after the other of that size.
        """
        if not self.left and self.version == b"1":
            self.left = self.size
        return self.left > 0

    def end(self) -> None:
        """All data frames of the window have come."""
        self._use()
        self.acks.append(ack(self.version, self.last))

    def add(self, sequence: int, payload: bytes, cut: bool) -> None:
        """One data frame has come."""
        self._use()
        if cut:
            self.truncated.append(len(self.frames))
        self.frames.append(payload)
        self.last = sequence
        self.left -= 1
        if not self.left:
            self.end()

    def has_pairs(self, count: int) -> bool:
        """A data frame has so many pairs; whether it may."""
        self.pairs -= count
        if self.pairs < 0:
            self.fail("bad_ratio")
        return self.pairs >= 0

    def _use(self) -> None:
        self.room -= 1
        if self.room < 0:
            self.fail("bad_ratio")


def ack(version: bytes, sequence: int) -> bytes:
    """Tells the client that all up to this data frame is taken; with 0, that it is waiting for something."""
    return version + b"A" + sequence.to_bytes(4, "big")


class Level:
    """Cuts one level's bytes into frames, which go to the window. Never raises, whatever the bytes.

    Whole data frames are cut in one loop; all else is read piece by piece. `inflate` takes the pieces of compressed
    frames, and None at the end of each; without it there must be none.
    """

    __slots__ = ("_begun", "_body", "_inflate", "_limits", "_need", "_parser", "_window")

    def __init__(self, window: Window, limits: Limits, inflate: Callable[[bytes | None], None] | None = None) -> None:
        self._window = window
        self._limits = limits
        self._inflate = inflate
        self._parser = self._parse()
        self._need = next(self._parser)
        self._body = bytearray()
        self._begun = False

    @property
    def partial(self) -> bool:
        """True in the middle of a frame."""
        return self._begun or bool(self._body)

    def feed(self, data: bytes) -> None:
        """Take what came, up to a fault."""
        position, size, window = 0, len(data), self._window
        while position < size and window.fault is None:
            if not self.partial:
                before = position
                position = self._whole_pairs(data, self._whole(data, position))
                if position != before:
                    continue
            position = self._piece(data, position)

    def _whole(self, data: bytes, position: int) -> int:
        """Cut the whole JSON frames that follow each other; returns where something else begins."""
        window, limit, size = self._window, self._limits.max_frame, len(data)
        unpack, header = _JSON.unpack_from, _JSON.size
        frames, left, sequence = window.frames, min(window.left, window.room), window.last
        before = len(frames)
        while left and position + header <= size:
            head, number, length = unpack(data, position)
            start = position + header
            end = start + length
            if head not in _JSON_HEADS or end > size or length > limit:
                break
            frames.append(data[start:end])
            sequence, position = number, end
            left -= 1
        if (taken := len(frames) - before) > 0:
            window.left -= taken
            window.room -= taken
            window.last = sequence
            if not window.left:
                window.end()
        return position

    def _whole_pairs(self, data: bytes, position: int) -> int:
        """Cut the whole data frames of pairs that follow each other; returns where something else begins."""
        window, limits, header = self._window, self._limits, _JSON.size
        while position + header <= len(data) and window.fault is None:
            head, sequence, count = _JSON.unpack_from(data, position)
            if head not in _PAIR_HEADS or count > limits.max_pairs or not window.expects():
                break
            texts, end = whole_texts(data, position + header, 2 * count)
            size = sum(map(len, texts))
            if end < 0 or size > limits.max_data:
                break
            position = end
            if window.has_pairs(count):
                texts, cut = shortened(texts, limits.max_frame) if size > limits.max_frame else (texts, [])
                window.add(sequence, as_object(texts, cut), bool(cut))
        return position

    def _piece(self, data: bytes, position: int) -> int:
        """Give the parser what it wants, if it is there; returns where the rest begins."""
        need, body = self._need, self._body
        if need < 0:
            piece = data[position : position - need]
            self._need = self._parser.send(piece)
            return position + len(piece)
        piece = data[position : position + need - len(body)]
        body += piece
        if len(body) == need:
            wanted = bytes(body)
            body.clear()
            self._need = self._parser.send(wanted)
        return position + len(piece)

    # What a level says

    def _parse(self) -> _Parser:
        """Frame after frame. After a fault nothing is fed any more."""
        window = self._window
        while True:
            self._begun = False
            head = yield 2
            self._begun = True
            version, kind = head[:1], head[1:]
            if version not in b"12":
                window.fail("bad_version")
            elif kind == b"W":
                self._open_window(version, _number((yield 4)))
            elif kind in b"JD" and not window.expects():
                window.fail("no_window")
            elif kind == b"J":
                yield from self._json()
            elif kind == b"D":
                yield from self._pairs()
            elif kind == b"C":
                yield from self._compressed()
            else:
                window.fail("bad_type")

    def _open_window(self, version: bytes, count: int) -> None:
        window = self._window
        if window.left:
            window.fail("bad_window")
        elif count > self._limits.max_window:
            window.fail("window_too_large")
        else:
            window.open(version, count)

    def _json(self) -> _Parser:
        sequence, length = _NUMBERS.unpack((yield 8))
        if length > self._limits.max_data:
            self._window.fail("too_long")
            return
        kept = min(length, self._limits.max_frame)
        payload = (yield kept) if kept else b""
        yield from _skip(length - kept)
        self._window.add(sequence, payload, kept < length)

    def _pairs(self) -> _Parser:
        """A map that has not come as a whole."""
        sequence, count = _NUMBERS.unpack((yield 8))
        limits, room, size = self._limits, self._limits.max_frame, 0
        if count > limits.max_pairs:
            self._window.fail("too_many_pairs")
        if self._window.fault is not None or not self._window.has_pairs(count):
            return
        texts: list[bytes] = []
        cut: list[int] = []
        for index in range(2 * count):
            length = _number((yield 4))
            size += length
            if size > limits.max_data:
                self._window.fail("too_long")
                return
            kept = min(length, room)
            if kept < length:
                cut.append(index)
            texts.append((yield kept) if kept else b"")
            room -= kept
            yield from _skip(length - kept)
        self._window.add(sequence, as_object(texts, cut), bool(cut))

    def _compressed(self) -> _Parser:
        left = _number((yield 4))
        inflate, window = self._inflate, self._window
        if inflate is None:
            window.fail("nested")
        elif left > self._limits.max_inflated:
            window.fail("too_long")
        else:
            while left:
                piece = yield -left
                left -= len(piece)
                inflate(piece)
            inflate(None)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _skip(count: int) -> _Parser:
    """Pass over so many bytes, without holding them."""
    while count:
        count -= len((yield -count))
