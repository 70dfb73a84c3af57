"""Framing by delimiter: lines that end with LF (or CR LF, or a delimiter of your own), and frames that end with NUL.

Every delimiter ends a frame, so empty lines are frames. A payload that holds the delimiter is several frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from zope.interface import implementer

from eventserver.framing._base import CRLF, Framer, FramerOptions, Line
from eventserver.interfaces import IFramer
from eventserver.options import Doc

_LF = b"\n"
_MAX_DELIMITER = 16


class _DelimitedFramer(Framer):
    """Cuts at a delimiter. One split a call, and no work on bytes that were searched before."""

    def __init__(self, options: FramerOptions, delimiter: bytes) -> None:
        super().__init__(options)
        self._delimiter = delimiter
        self._strip = delimiter == _LF
        self._line = Line(self._limit, CRLF if self._strip else delimiter)

    @property
    def partial(self) -> bool:
        """True while there is a line without its delimiter."""
        return not self._dead and bool(self._line)

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call; never more than `max_frame`."""
        return len(self._line.held)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their delimiters.

        A line over `max_frame` is cut (or refused) at once, and skipped up to its delimiter.
        """
        self.faults = ()
        frames: list[bytes] = []
        line = self._line
        if self._dead:
            return frames
        if line.skipping:
            data = self._skip(data)
        if self._delimiter not in line.window(data):
            self._carry(data, frames)
            return frames
        # What is held holds no delimiter, so it is joined and searched again once in its life.
        held = line.take()
        block = held + data if held else data
        frames = block.split(self._delimiter)
        tail = frames.pop()
        if self._strip and b"\r" in block:
            frames = [frame.removesuffix(b"\r") for frame in frames]
        if len(block) > self._limit and max(map(len, frames)) > self._limit:
            lines, frames = frames, []
            self._limited(lines, frames)
        self._carry(tail, frames)
        return frames

    def finish(self) -> list[bytes]:
        """The unterminated last line, if there is one. A CR at its end stays: no LF followed it."""
        self.faults = ()
        frames: list[bytes] = []
        text = self._line.take()
        if text:
            self._limited((text,), frames)
        return frames

    def rest(self) -> bytes:
        """The unterminated line; nothing of one that is being skipped."""
        return self._line.take()

    def wrap(self, payload: bytes) -> bytes:
        """The payload and the delimiter."""
        return payload + self._delimiter

    def _carry(self, tail: bytes, frames: list[bytes]) -> None:
        if tail and not self._dead:
            head = self._line.add(tail)
            if head is not None:
                self._overflow(head, frames)

    def _skip(self, data: bytes) -> bytes:
        """What comes after the line that is being skipped; nothing if its delimiter is not in `data`."""
        window = self._line.window(data)
        at = window.find(self._delimiter)
        if at < 0:
            self._line.pass_over(data)
            return b""
        self._line.take()
        return window[at + len(self._delimiter) :]


@implementer(IFramer)
class LinesFramer(_DelimitedFramer):
    """Lines. With the default delimiter LF a CR before it is stripped; any other is taken literally."""

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


@implementer(IFramer)
class NulFramer(_DelimitedFramer):
    """Frames that end with a NUL byte, as GELF over TCP and some syslog senders write them."""

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "nul"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, b"\0")
