"""Lines that lie in one block of bytes, cut when somebody looks at one: many readers need the block and no line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload

#: Windows shorter than this are not looked through one by one, see `all_below`.
_SHORTEST_WINDOW = 256


def count_lines(block: bytes) -> int:
    """How many LF there are in it."""
    # CPython 3.11 looks at each byte by itself to `count`; to `replace`, it looks for the next one with `memchr`.
    return len(block.replace(b"\n", b"\n\n")) - len(block)


def all_below(block: bytes, size: int) -> bool:
    """True if it is easily seen that each line of a block has less than `size` bytes; False where that is not so."""
    # A line of that size covers one whole window at least.
    window = size // 2
    if window < _SHORTEST_WINDOW:
        return False
    starts, ends = range(0, len(block) - window + 1, window), range(window, len(block) + 1, window)
    return min(map(block.find, repeat(b"\n"), starts, ends), default=0) >= 0


class Lines(Sequence[bytes]):
    """The lines of a block of bytes in which each ends with LF: a sequence of bytes without these, not to be changed.

    Equal to a list of the same lines. The block must end with LF, where it is not empty.
    """

    __slots__ = ("_block", "_count", "_lines")

    def __init__(self, block: bytes) -> None:
        self._count = count_lines(block)
        # One of them: both would take twice the memory that is counted.
        self._block: bytes | None = block
        self._lines: list[bytes] | None = None

    @property
    def block(self) -> bytes:
        """All lines, each with the LF that ends it; put together again where they have been cut."""
        block = self._block
        if block is None:
            lines = self._lines or []
            block = b"\n".join([*lines, b""])
        return block

    @property
    def size(self) -> int:
        """The bytes of all lines together."""
        return sum(map(len, self._lines or ())) if self._block is None else len(self._block) - self._count

    def cut(self, *, keep: bool = True) -> list[bytes]:
        """All lines as a list; not to be changed. It is kept in place of the block, or not."""
        # Read in this order, and written in the other one: a journal's thread may do this at the same time.
        block, lines = self._block, self._lines
        if lines is None:
            assert block is not None, "there is one of them"
            lines = block.split(b"\n")
            # Behind the last LF there is nothing.
            lines.pop()
            if keep:
                self._lines = lines
                self._block = None
        return lines

    def all_below(self, size: int) -> bool:
        """As the function of that name."""
        block = self._block
        return block is not None and all_below(block, size)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        block = self._block
        if index == 0 and block:
            # What the first line looks like is often asked.
            return block[: block.index(b"\n")]
        return self.cut()[index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.cut())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Lines):
            return self.block == other.block
        return self.cut() == other if isinstance(other, list) else NotImplemented

    def __add__(self, other: list[bytes]) -> list[bytes]:
        return self.cut() + other if isinstance(other, list) else NotImplemented

    def __radd__(self, other: list[bytes]) -> list[bytes]:
        return other + self.cut() if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # how Python says that there is none, as of a list

    def __repr__(self) -> str:
        return repr(self.cut())


def ended(frames: Sequence[bytes], end: bytes = b"\n") -> bytes:
    """All frames as one block, each with `end` behind it."""
    if isinstance(frames, Lines):
        return frames.block if end == b"\n" else frames.block.replace(b"\n", end)
    return end.join([*frames, b""])
