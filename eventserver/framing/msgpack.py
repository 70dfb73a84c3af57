"""Framing of MessagePack: values one after another, with nothing between, as its libraries write them to a stream."""

from __future__ import annotations

import msgspec
from zope.interface import implementer

from eventserver.framing._base import INCOMPLETE, Framer, FramerOptions
from eventserver.framing._msgpack import Malformed, Scan
from eventserver.interfaces import IFramer

#: The reason of the fault for a byte that no value begins with.
BAD_VALUE = "bad_value"

_encode = msgspec.msgpack.Encoder().encode


@implementer(IFramer)
class MsgpackFramer(Framer):
    """Each value is a frame, its bytes as they came.

    A value over `max_frame` is known by what its headers announce; of one that is skipped no more is held than a header
    that has not come whole. The byte 0xc1, which is no value, is a fatal fault: `bad_value`.
    """

    __slots__ = ("_buffer", "_scan", "_skipping")

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "msgpack"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._scan = Scan()
        self._buffer = bytearray()  # what has come of a value; the scan goes on in it
        self._skipping = False

    @property
    def partial(self) -> bool:
        """True in the middle of a value."""
        return bool(self._buffer) or self._skipping

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call: of a value (`max_frame` and at most 5), or of a header."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The values that `data` completes."""
        self.faults = ()
        frames: list[bytes] = []
        if self._dead or not data:
            return frames
        if self.partial:
            self._buffer += data
            if not self._complete(self._buffer, 0, frames):
                self._shorten()
                return frames
            data, end = bytes(self._buffer), self._scan.position
            self._buffer.clear()
            self._end(data, 0, end, frames)
        else:
            end = 0
        scan = self._scan
        while end < len(data) and not self._dead:
            start = end
            scan.begin(start)
            if not self._complete(data, start, frames):
                self._buffer += data[start:] if not self._dead else b""
                scan.position -= start
                self._shorten()
                break
            end = scan.position
            self._end(data, start, end, frames)
        return frames

    def finish(self) -> list[bytes]:
        """What has come of the last value, if the end of the stream cut it."""
        self.faults = ()
        frames: list[bytes] = []
        if self._buffer and not self._skipping:
            self._report(INCOMPLETE, 0)
            frames.append(bytes(self._buffer[: self._limit]))
        self._forget()
        return frames

    def rest(self) -> bytes:
        """The bytes of an unfinished value; nothing of one that is being skipped."""
        unread = b"" if self._skipping else bytes(self._buffer)
        self._forget()
        return unread

    def wrap(self, payload: bytes) -> bytes:
        """The payload as a str, or as a bin where it is not UTF-8."""
        try:
            return _encode(payload.decode())
        except UnicodeDecodeError:
            return _encode(payload)

    def _complete(self, data: bytes | bytearray, start: int, frames: list[bytes]) -> bool:
        """Whether the value that is scanned ends in `data`; if not, whatever can be said of it is done."""
        scan = self._scan
        try:
            complete = scan.run(data)
        except Malformed:
            self._judge(data, start, scan.position, frames)
            if not self._dead:
                self._report(BAD_VALUE, None, fatal=True)
            self._forget()
            return False
        if not complete:
            self._judge(data, start, len(data), frames)
        return complete

    def _judge(self, data: bytes | bytearray, start: int, end: int, frames: list[bytes]) -> None:
        """Deal with a value, of which the bytes up to `end` have come, as soon as it is known to be too long."""
        scan, limit = self._scan, self._limit
        # Every value that is awaited takes a byte at least.
        if self._skipping or scan.position - start + scan.pending <= limit:
            return
        if self._oversize == "truncate" and end - start < limit:
            return
        self._skipping = True
        self._overflow(bytes(data[start : start + limit]), frames)
        if self._dead:
            self._forget()

    def _end(self, data: bytes, start: int, end: int, frames: list[bytes]) -> None:
        """A value is whole."""
        if self._skipping:
            self._skipping = False
        elif end - start <= self._limit:
            frames.append(data[start:end])
        else:
            self._overflow(data[start : start + self._limit], frames)

    def _shorten(self) -> None:
        """Of a value that is skipped hold only what the scan has not seen."""
        if self._skipping:
            seen = min(self._scan.position, len(self._buffer))
            del self._buffer[:seen]
            self._scan.position -= seen

    def _forget(self) -> None:
        self._buffer.clear()
        self._skipping = False
