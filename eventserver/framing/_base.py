"""What all framers share: the two options, the list of faults, the oversize policy, and the line in progress."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from eventserver import options
from eventserver.interfaces import Fault
from eventserver.options import Doc, Size

#: A CR before the LF is no part of the line.
CRLF = b"\r\n"

#: The reason of the fault for a frame over `max_frame`.
OVERSIZE = "oversize"
#: The reason of the fault for a counted frame that the end of the stream cut short.
INCOMPLETE = "incomplete"


class FramerOptions(options.Options, frozen=True, kw_only=True):
    """The options of every framer."""

    max_frame: Annotated[
        Size,
        Doc(
            "The largest frame that is kept whole, and the most that is held between two reads (with `multiline`: of "
            "the line, and of the event in progress).",
            "64 KiB",
            ge=1,
        ),
    ] = Size(65536)
    oversize: Annotated[
        Literal["truncate", "drop", "close"],
        Doc(
            "What becomes of a frame over `max_frame`: its head is kept and marked, the frame is refused, or the "
            "connection is closed.",
            "drop",
        ),
    ] = "truncate"


class Framer:
    """The base of the framers: counts nothing, owns nothing but the bytes of the frame in progress.

    A framer over its limit acts at once: the head of a frame is returned as soon as it is known to be too long, not
    when its end arrives. So a frame without an end is seen, nothing of it is held while it is skipped, and the frames
    depend on the bytes alone, not on how the network cut them.
    """

    # Every connection has one, and most are idle.
    __slots__ = ("_dead", "_found", "_limit", "_oversize", "faults")

    def __init__(self, options: FramerOptions) -> None:
        self.faults: Sequence[Fault] = ()
        self._limit = int(options.max_frame)
        self._oversize = options.oversize
        self._dead = False

    def expire(self, now: float) -> list[bytes]:
        """Nothing: no frame of a plain framer is complete because time passed."""
        self.faults = ()
        return []

    def _report(self, reason: str, frame: int | None, fatal: bool = False) -> None:
        if not self.faults:
            self._found: list[Fault] = []
            self.faults = self._found
        self._found.append(Fault(reason, frame, fatal))
        self._dead = self._dead or fatal

    def _overflow(self, head: bytes, frames: list[bytes]) -> None:
        """Do with a frame over the limit what `oversize` says; `head` is its first `max_frame` bytes."""
        if self._oversize == "truncate":
            self._report(OVERSIZE, len(frames))
            frames.append(head)
        else:
            self._report(OVERSIZE, None, fatal=self._oversize == "close")

    def _limited(self, lines: Iterable[bytes], frames: list[bytes]) -> None:
        """Add whole lines to `frames`, some of which may be over the limit."""
        limit = self._limit
        for line in lines:
            if len(line) <= limit:
                frames.append(line)
                continue
            self._overflow(line[:limit], frames)
            if self._dead:
                return


@functools.cache
def _prefixes(ending: bytes) -> tuple[bytes, ...]:
    """What may be the beginning of a delimiter, longest first."""
    return tuple(ending[:n] for n in range(len(ending) - 1, 0, -1))


class Line:
    """The line in progress: what has come of it, never more than `limit` bytes.

    A line is too long once its content is, and bytes that may turn out to be the beginning of the delimiter are no
    content yet. Where the content has exactly `limit` bytes, such bytes are not held: as they are the beginning of
    `ending`, which is known, their number is enough. The same number finds a delimiter that came in two reads.

    `ending` is the longest form of the delimiter: CR LF where the delimiter is LF and a CR before it is stripped.
    """

    __slots__ = ("_beyond", "_ending", "_limit", "_matched", "_prefixes", "held", "skipping")

    def __init__(self, limit: int, ending: bytes) -> None:
        self.held = bytearray()
        #: True in a line whose head has been dealt with: the rest is passed over up to the delimiter.
        self.skipping = False
        self._limit = limit
        self._ending = ending
        self._prefixes = _prefixes(ending)
        self._matched = 0  # how many bytes of `ending` the line ends with
        self._beyond = 0  # how many of those lie beyond the limit and are not in `held`

    def __bool__(self) -> bool:
        return self.skipping or bool(self.held)

    @property
    def plain(self) -> bool:
        """Whether what is held is all of the line so far, and has no CR in it."""
        return not (self.skipping or self._beyond or b"\r" in self.held)

    def window(self, data: bytes) -> bytes:
        """The bytes in which a delimiter that `data` completes is to be looked for."""
        return self._ending[: self._matched] + data if self._matched else data

    def add(self, data: bytes) -> bytes | None:
        """Hold on to `data`, which completes no line. The head of the line if it is now known to be too long.

        The line is skipped from then on.
        """
        held = self.held
        if self._beyond:
            held += self._unheld()
            self._beyond = 0
        held += data
        self._matched = self._match(held)
        beyond = len(held) - self._limit
        if beyond <= 0:
            return None
        if beyond <= self._matched:
            del held[self._limit :]
            self._beyond = beyond
            return None
        head = bytes(held[: self._limit])
        held.clear()
        self.skipping = True
        return head

    def pass_over(self, data: bytes) -> None:
        """`data` belongs to the line that is skipped, and does not end it."""
        self._matched = self._match(self.window(data))

    def take(self) -> bytes:
        """All that came of the line, which is then empty and not skipped any more."""
        self.skipping = False
        taken = bytes(self.held) + self._unheld() if self.held else b""
        if taken:
            self.held.clear()
        self._matched = self._beyond = 0
        return taken

    def _unheld(self) -> bytes:
        return self._ending[self._matched - self._beyond : self._matched]

    def _match(self, data: bytes | bytearray) -> int:
        for prefix in self._prefixes:
            if data.endswith(prefix):
                return len(prefix)
        return 0
