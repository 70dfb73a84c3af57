"""Framing by delimiter: lines that end with LF (or CR LF, or a delimiter of your own), and frames that end with NUL.

Every delimiter ends a frame, so empty lines are frames. A payload that holds the delimiter is several frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from zope.interface import implementer

from eventserver.blocks import Lines, all_below
from eventserver.framing._base import CRLF, Framer, FramerOptions, Line
from eventserver.interfaces import IFramer, ILines
from eventserver.options import Doc

_LF = b"\n"
_MAX_DELIMITER = 16
#: In a read of fewer bytes there are not enough lines to look twice.
_MANY = 2048


class _DelimitedFramer(Framer):
    """Cuts at a delimiter. One split a call, and no work on bytes that were searched before.

    `partial` is True while there is a line without its delimiter.
    """

    __slots__ = ("_delimiter", "_line", "_strip", "partial")

    def __init__(self, options: FramerOptions, delimiter: bytes) -> None:
        super().__init__(options)
        self._delimiter = delimiter
        self._strip = delimiter == _LF
        # Made when it is needed first: most connections send whole lines.
        self._line: Line | None = None
        self.partial = False

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call; never more than `max_frame`."""
        return 0 if self._line is None else len(self._line.held)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their delimiters.

        A line over `max_frame` is cut (or refused) at once, and skipped up to its delimiter.
        """
        self.faults = ()
        if self.partial:
            return self._go_on(data)
        if self._dead:
            return []
        frames = data.split(self._delimiter)
        tail = frames.pop()
        if self._strip and b"\r" in data:
            frames = [frame.removesuffix(b"\r") for frame in frames]
        if len(data) > self._limit:
            frames = self._within_limit(frames)
        if tail:
            self._carry(tail, frames)
        return frames

    def finish(self) -> list[bytes]:
        """The unterminated last line, if there is one. A CR at its end stays: no LF followed it."""
        self.faults = ()
        text = self.rest()
        return self._within_limit([text]) if text else []

    def rest(self) -> bytes:
        """The unterminated line; nothing of one that is being skipped."""
        self.partial = False
        return b"" if self._line is None else self._line.take()

    def wrap(self, payload: bytes) -> bytes:
        """The payload and the delimiter."""
        return payload + self._delimiter

    def _go_on(self, data: bytes) -> list[bytes]:
        """As `feed`, in the middle of a line."""
        line = self._line
        assert line is not None, "there is a line in progress"
        frames: list[bytes] = []
        if line.skipping:
            data = self._skip(line, data)
            if not data:
                return frames
        if self._delimiter not in line.window(data):
            self._carry(data, frames)
            return frames
        # What is held holds no delimiter, at most the beginning of one: it is not searched again, nor copied often.
        held = line.take()
        self.partial = False
        start = max(0, len(held) - len(self._delimiter) + 1)
        frames = (held[start:] + data).split(self._delimiter)
        frames[0] = held[:start] + frames[0]
        tail = frames.pop()
        if self._strip and (b"\r" in data or b"\r" in held):
            frames = [frame.removesuffix(b"\r") for frame in frames]
        if len(frames[0]) > self._limit or len(data) > self._limit:
            frames = self._within_limit(frames)
        if tail:
            self._carry(tail, frames)
        return frames

    def _within_limit(self, lines: list[bytes]) -> list[bytes]:
        """Whole lines, of which those over the limit are cut or refused."""
        if max(map(len, lines), default=0) <= self._limit:
            return lines
        frames: list[bytes] = []
        self._limited(lines, frames)
        return frames

    def _carry(self, tail: bytes, frames: list[bytes]) -> None:
        if self._dead:
            return
        line = self._line
        if line is None:
            line = self._line = Line(self._limit, CRLF if self._strip else self._delimiter)
        head = line.add(tail)
        self.partial = True
        if head is not None:
            self._overflow(head, frames)
            self.partial = not self._dead

    def _skip(self, line: Line, data: bytes) -> bytes:
        """What comes after the line that is being skipped; nothing if its delimiter is not in `data`."""
        window = line.window(data)
        at = window.find(self._delimiter)
        if at < 0:
            line.pass_over(data)
            return b""
        line.take()
        self.partial = False
        return window[at + len(self._delimiter) :]


@implementer(IFramer, ILines)
class LinesFramer(_DelimitedFramer):
    """Lines. With the default delimiter LF a CR before it is stripped; any other is taken literally."""

    __slots__ = ()

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "lines"`."""

        delimiter: Annotated[
            str,
            Doc(
                "What ends a line: 1 to 16 bytes, taken literally (TOML's escapes in double quotes serve). With "
                "the default, LF, a CR before it is stripped.",
                "\r\n",
                "||",
            ),
        ] = "\n"

        def problems(self) -> Iterable[tuple[str, str]]:
            """A delimiter that is empty or too long."""
            if not 1 <= len(self.delimiter.encode()) <= _MAX_DELIMITER:
                yield "delimiter", f"a delimiter has 1 to {_MAX_DELIMITER} bytes"

    def __init__(self, options: Options) -> None:
        super().__init__(options, options.delimiter.encode())

    def lines(self, data: bytes) -> Sequence[bytes]:
        """As `feed`. Where it brings many lines, and nothing has to be done to one of them, they are not cut yet."""
        end = data.rfind(_LF) + 1 if self._strip and len(data) >= _MANY else 0
        line = self._line if self.partial else None
        if not end or self._dead or b"\r" in data or not (line is None or self._completes(line, data)):
            return self.feed(data)
        if len(data) > self._limit and not all_below(data, self._limit + 1):
            return self.feed(data)
        if type(self) is not LinesFramer:
            # Somebody's own, who may have another `feed`.
            return self.feed(data)
        self.faults = ()
        block = data
        if line is not None or end < len(data):
            # One copy of what is long.
            block = b"".join((b"" if line is None else line.take(), memoryview(data)[:end]))
        self.partial = False
        if end < len(data):
            self._carry(data[end:], [])
        return Lines(block)

    def _completes(self, line: Line, data: bytes) -> bool:
        """Whether `data` brings the end of the line in progress, which is kept as it is."""
        return line.plain and len(line.held) + data.index(_LF) <= self._limit


@implementer(IFramer)
class NulFramer(_DelimitedFramer):
    """Frames that end with a NUL byte, as GELF over TCP and some syslog senders write them."""

    __slots__ = ()

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "nul"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, b"\0")
