"""Framing of syslog streams as they come: counted frames and lines, told apart for every frame.

RFC 6587 describes both framings and no way to announce which one is used; relays mix them on one connection.
"""

from __future__ import annotations

import re

from zope.interface import implementer

from eventserver.framing._base import CRLF, FramerOptions, Line
from eventserver.framing._body import CountedFramer
from eventserver.framing.counted import LARGEST_USUAL, STRAY, cut_usual
from eventserver.interfaces import IFramer

_MAX_HEADER = 9  # seven digits, SP, "<"
_STRAY_BYTES = b"\n\0 "
_ZERO = 0x30
#: No line that is not less than this begins with a digit.
_BEHIND_DIGITS = b":"
# Two expressions, as one with a literal first byte is searched for ten times faster than one with a class.
_HEADER_AFTER_LF = re.compile(rb"\n[1-9][0-9]{0,6} <")
_HEADER_AFTER_ANY = re.compile(rb"[\n\0][1-9][0-9]{0,6} <")
_UNDECIDED = re.compile(rb"[1-9][0-9]{0,6} ?")


@implementer(IFramer)
class AutoFramer(CountedFramer):
    """Decides for every frame: `[1-9][0-9]{0,6} SP <` begins a counted frame, anything else a line.

    A line ends at LF (a CR before it is stripped) or NUL. As a counted frame is recognised only by the `<` of its
    priority, lines that begin with a year or a sequence number stay lines. Nothing is looked for inside a counted
    frame. Empty frames are skipped: empty lines, and LF, NUL and SP after a counted frame. `12` or `12 ` at the end
    of a read is undecided until more comes, and a line at the end of the stream.
    """

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "auto"`."""

    __slots__ = ("_after_counted", "_ending", "_header_in_lines", "_line")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        # Made when it is needed first: most connections send whole lines.
        self._line: Line | None = None
        self._after_counted = False  # only strays have come since the last counted frame
        self._ending = b"\n"  # of the latest frame; nothing if it was counted
        self._header_in_lines = _HEADER_AFTER_LF  # as the chunk at hand needs it

    @property
    def partial(self) -> bool:
        """True in the middle of a line or of a counted frame."""
        return not self._dead and (self._open or bool(self._header) or bool(self._line))

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call: at most `max_frame`, or 8 of an undecided header."""
        return (0 if self._line is None else len(self._line.held)) + len(self._body) + len(self._header)

    def finish(self) -> list[bytes]:
        """The unterminated last line, or what has come of a counted frame."""
        text = self._header + self._take_line()
        self._header = b""
        frames = super().finish()
        if text and not self._dead:
            self._limited((text,), frames)
        self._after_counted = False
        return frames

    def rest(self) -> bytes:
        """The bytes of the unfinished frame; nothing of one that is being skipped."""
        text = self._take_line()
        return super().rest() + text

    def wrap(self, payload: bytes) -> bytes:
        """The payload framed as the latest frame of this stream was: with LF (as at first), NUL, or counted.

        An empty payload ends with LF where the others are counted: octet counting cannot express it.
        """
        if self._ending or not payload:
            return payload + (self._ending or b"\n")
        return super().wrap(payload)

    def _header_of(self, count: int) -> bytes:
        return b"%d " % count

    def _scan(self, data: bytes, position: int, frames: list[bytes]) -> None:
        if self._cut_plain(data, position, frames):
            return
        self._header_in_lines = _HEADER_AFTER_ANY if b"\0" in data else _HEADER_AFTER_LF
        if self._line is not None:
            if self._line.skipping:
                position = self._pass_over(data)
            elif self._line:
                position = self._cut_lines(data, position, frames)
        end = len(data)
        while position < end and not self._dead:
            position = self._cut_counted(data, position, frames)
            if position == end:
                return
            self._after_counted = False
            if _UNDECIDED.fullmatch(data, position):
                self._header = data[position:]
                return
            position = self._cut_lines(data, position, frames)

    def _cut_plain(self, data: bytes, position: int, frames: list[bytes]) -> bool:
        """Cut what lies behind `position` if it is plain: whole lines, none of which begins with a digit.

        There is no counted frame in it then. False, and nothing is done, where that has to be found out, and where
        lines end with CR or NUL, are empty or over the limit.
        """
        line = self._line
        held: bytes | bytearray = b""
        if line:
            if line.skipping or line.window(b""):
                return False
            held = line.held
        if (held or data[position : position + 1])[:1] < _BEHIND_DIGITS or b"\0" in data or b"\r" in data:
            return False
        lines = (data[position:] if position else data).split(b"\n")
        tail = lines.pop()
        if not lines or (tail and tail < _BEHIND_DIGITS):
            return False
        if held:
            lines[0] = bytes(held) + lines[0]
        if min(lines) < _BEHIND_DIGITS or (len(held) + len(data) > self._limit < max(map(len, lines))):
            return False
        self._take_line()
        frames += lines
        self._after_counted = False
        self._ending = b"\n"
        self._carry(tail, frames)
        return True

    def _take(self, data: bytes, position: int, frames: list[bytes]) -> int:
        position = super()._take(data, position, frames)
        if not self._open:
            self._after_counted = True
            self._ending = b""
        return position

    def _cut_counted(self, data: bytes, position: int, frames: list[bytes]) -> int:
        """Cut the counted frames that begin at `position`. Returns where something else begins, or the end."""
        end, limit, find, append = len(data), self._limit, data.find, frames.append
        while position < end:
            if self._after_counted and data[position] in _STRAY_BYTES:
                stray = STRAY.match(data, position)
                position = stray.end() if stray is not None else position
            space = find(b" <", position, position + _MAX_HEADER)
            digits = data[position:space] if space > 0 else b""
            if not digits.isdigit() or digits[0] == _ZERO:
                break
            count, start = int(digits), space + 1
            stop = start + count
            if stop <= end and count <= limit:
                append(data[start:stop])
                position = stop
                self._after_counted = True
                self._ending = b""
                if 10 <= count <= LARGEST_USUAL <= limit:
                    position = cut_usual(data, stop, frames, priority=True)
            else:
                position = self._start(count, data, start, frames)
        return position

    def _cut_lines(self, data: bytes, position: int, frames: list[bytes]) -> int:
        """Cut the lines from `position` on. Returns where a counted frame begins, or the end."""
        stop = self._next_counted(data, position)
        block = data[position:stop]
        if b"\n" not in block and b"\0" not in block:
            self._carry(block, frames)
            return stop
        held = self._take_line()
        text = held + block if held else block
        lines = text.split(b"\n")
        tail = lines.pop()
        if b"\r" in text:
            lines = [line.removesuffix(b"\r") for line in lines]
        if b"\0" in block:
            lines, tail = self._cut_at_nul(lines, tail)
        elif any(lines):
            self._ending = b"\n"
        if not all(lines):
            lines = list(filter(None, lines))
        if len(text) > self._limit and max(map(len, lines), default=0) > self._limit:
            self._limited(lines, frames)
        else:
            frames += lines
        if _UNDECIDED.fullmatch(tail) and not self._dead:
            self._header = tail
        else:
            self._carry(tail, frames)
        return stop

    def _next_counted(self, data: bytes, position: int) -> int:
        """Where the next counted frame begins if lines begin at `position`; the end of `data` if none does."""
        # Most chunks of lines have no " <" at all, which is found out many times faster than by the expression.
        if data.find(b" <", position) < 0:
            return len(data)
        found = self._header_in_lines.search(data, position)
        return found.start() + 1 if found else len(data)

    def _cut_at_nul(self, lines: list[bytes], tail: bytes) -> tuple[list[bytes], bytes]:
        """Cut lines, which ended with LF, and what follows them at NUL bytes too."""
        for line in (tail.rpartition(b"\0")[0] + b"\0", *reversed(lines)):
            if line.strip(b"\0"):
                self._ending = b"\0" if line.endswith(b"\0") else b"\n"
                break
        lines = [part for line in (*lines, tail) for part in line.split(b"\0")]
        return lines, lines.pop()

    def _pass_over(self, data: bytes) -> int:
        """The position behind the line that is being skipped; the end if it goes on there."""
        ends = [at for at in (data.find(b"\n"), data.find(b"\0")) if at >= 0]
        if not ends:
            return len(data)
        self._take_line()
        return min(ends) + 1

    def _take_line(self) -> bytes:
        """The line in progress, which is then none."""
        return b"" if self._line is None else self._line.take()

    def _carry(self, tail: bytes, frames: list[bytes]) -> None:
        if tail and not self._dead:
            if self._line is None:
                self._line = Line(self._limit, CRLF)
            head = self._line.add(tail)
            if head is not None:
                self._overflow(head, frames)
