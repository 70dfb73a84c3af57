"""Lines that lie in one block of bytes, cut when somebody looks at one: many readers need the block and no line.

CPython looks at each byte by itself to `split` and `count` one character (seen in 3.11); what is done here instead
looks for the next one with `memchr`, and takes a fifth to a half of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import repeat
from operator import itemgetter
from typing import overload

_WITHOUT_END = itemgetter(slice(-1))
#: Windows shorter than this are not looked through one by one, see `Lines.all_below`.
_SHORTEST_WINDOW = 256


def count_lines(block: bytes) -> int:
    """How many LF there are in it."""
    return len(block.replace(b"\n", b"\n\n")) - len(block)


def cut_lines(block: bytes) -> list[bytes]:
    """The lines of a block that ends with LF, without these."""
    return list(map(_WITHOUT_END, BytesIO(block).readlines()))


class Lines(Sequence[bytes]):
    """The lines of `block`, each of which ends with LF in it: a sequence of bytes without these, not to be changed.

    Equal to a list of the same lines. The block must end with LF.
    """

    __slots__ = ("_count", "_lines", "block")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._count = count_lines(block)
        self._lines: list[bytes] | None = None

    @property
    def size(self) -> int:
        """The bytes of all lines together."""
        return len(self.block) - self._count

    def cut(self) -> list[bytes]:
        """All lines as a list, which is kept: not to be changed."""
        lines = self._lines
        if lines is None:
            lines = self._lines = cut_lines(self.block)
        return lines

    def all_below(self, size: int) -> bool:
        """True if it is easily seen that each line has less than `size` bytes; False where that is not so."""
        # A line of that size covers one whole window at least.
        window, block = size // 2, self.block
        if window < _SHORTEST_WINDOW:
            return False
        starts, ends = range(0, len(block) - window + 1, window), range(window, len(block) + 1, window)
        return min(map(block.find, repeat(b"\n"), starts, ends), default=0) >= 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if index == 0 and self._lines is None and self._count:
            # What the first line looks like is often asked.
            return self.block[: self.block.index(b"\n")]
        return self.cut()[index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.cut())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Lines):
            return self.block == other.block
        return self.cut() == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.cut())
