"""What the framers that count bytes share: a frame whose length was announced, and what has come of it."""

from __future__ import annotations

from eventserver.framing._base import INCOMPLETE, Framer, FramerOptions


class CountedFramer(Framer):
    """Header, counted bytes, and for some formats a terminator.

    A subclass provides `_scan` (cut what is whole with a tight loop, hand the rest to `_start`) and `_header_of`.
    Positions are indexes into the chunk: nothing is sliced but the frames, so a chunk costs one pass.
    """

    __slots__ = ("_body", "_count", "_header", "_missing", "_open", "_skip")

    #: The byte behind the counted ones, if the format has one.
    terminator = b""

    def __init__(self, options: FramerOptions) -> None:
        super().__init__(options)
        self._header = b""  # an unfinished header: a few bytes, never with a body
        self._body = bytearray()
        self._open = False  # in the middle of a frame whose header is read
        self._count = 0  # its announced length
        self._missing = 0  # bytes of it that are still to be kept
        self._skip = 0  # bytes that are passed over after those

    @property
    def partial(self) -> bool:
        """True from the first byte of a header to the last byte of the frame."""
        return self._open or bool(self._header)

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call: of a header (at most 9) or of one body (`max_frame`)."""
        return len(self._body) + len(self._header)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        A frame over `max_frame` is cut at once when its head is there (or refused when its header is), and exactly
        as many bytes are skipped as were announced.
        """
        self.faults = ()
        frames: list[bytes] = []
        if self._dead:
            return frames
        if self._header:
            data = self._header + data
            self._header = b""
        position = self._take(data, 0, frames) if self._open else 0
        self._scan(data, position, frames)
        return frames

    def finish(self) -> list[bytes]:
        """What has come of the last frame, if the end of the stream cut it.

        `Fault("incomplete", None, False)` if nothing of its content has come.
        """
        self.faults = ()
        frames: list[bytes] = []
        if self._body:
            self._report(INCOMPLETE, 0)
            frames.append(bytes(self._body))
        elif self._header or (self._open and self._count <= self._limit) or self._missing:
            self._report(INCOMPLETE, None)
        self._forget()
        return frames

    def rest(self) -> bytes:
        """The bytes of an unfinished frame with its header; nothing of one that is being skipped."""
        unread = self._header
        if self._open and (self._missing or self._count <= self._limit):
            unread = self._header_of(self._count) + bytes(self._body)
        self._forget()
        return unread

    def wrap(self, payload: bytes) -> bytes:
        """The payload with its length before it."""
        return self._header_of(len(payload)) + payload + self.terminator

    def _header_of(self, count: int) -> bytes:
        raise NotImplementedError

    def _scan(self, data: bytes, position: int, frames: list[bytes]) -> None:
        raise NotImplementedError

    def _start(self, count: int, data: bytes, position: int, frames: list[bytes]) -> int:
        """Begin a frame that is not whole in `data`, or over the limit. Returns the position behind it.

        At the end of `data` if the frame goes on there, or if the stream is given up.
        """
        self._open = True
        self._count = count
        self._missing, self._skip = count, 0
        if count > self._limit:
            if self._oversize != "truncate":
                self._missing = 0
                self._overflow(b"", frames)
                if self._dead:
                    return self._give_up(data)
            else:
                self._missing = self._limit
            self._skip = count - self._missing
        return self._take(data, position, frames)

    def _take(self, data: bytes, position: int, frames: list[bytes]) -> int:
        """Move the open frame on by what lies behind `position`. Returns as `_start` does."""
        if self._missing:
            part = data[position : position + self._missing]
            self._body += part
            position += len(part)
            self._missing -= len(part)
            if self._missing:
                return position
            if self._skip:
                self._overflow(self._take_body(), frames)
        if self._skip:
            step = min(self._skip, len(data) - position)
            position += step
            self._skip -= step
            if self._skip:
                return position
        if self.terminator:
            if position == len(data):
                return position
            if data[position : position + 1] != self.terminator:
                return self._fail("bad_terminator", data)
            position += 1
        if self._count <= self._limit:
            frames.append(self._take_body())
        self._open = False
        return position

    def _take_body(self) -> bytes:
        body = bytes(self._body)
        self._body.clear()
        return body

    def _fail(self, reason: str, data: bytes) -> int:
        """The stream is out of step: say so, and let nothing more of it pass."""
        self._report(reason, None, fatal=True)
        return self._give_up(data)

    def _give_up(self, data: bytes) -> int:
        self._forget()
        return len(data)

    def _forget(self) -> None:
        self._body.clear()
        self._header = b""
        self._open = False
        self._count = self._missing = self._skip = 0
