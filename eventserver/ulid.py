"""Identifiers for batches: ULIDs (github.com/ulid/spec), made in order and without a system call each."""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits are two characters.
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TIME_BITS = 50
_RANDOM_BITS = 80
_COUNTED_BITS = 20


class Ulids:
    """A source of ULIDs: 26 characters, unique, growing also within a millisecond and when the clock steps back.

    `nanoseconds` gives the Unix time in nanoseconds (`time.time_ns`), `randbits(n)` an integer of `n` random bits.

    The last four characters are counted, from id to id; the random ones before them are drawn anew when that is over,
    and about once a second. So most ids are put together of three strings.
    """

    def __init__(self, nanoseconds: Callable[[], int], randbits: Callable[[int], int]) -> None:
        self._nanoseconds = nanoseconds
        self._randbits = randbits
        self._time = -1
        self._random = 0
        self._count = 0
        self._before = self._behind = self._prefix = ""

    def __call__(self) -> str:
        now = self._nanoseconds() // 1_000_000
        self._count += 1
        if now > self._time:
            self._tick(now)
        elif self._count >> _COUNTED_BITS:
            self._count = 0
            self._random += 1
            self._write()
        count = self._count
        return f"{self._prefix}{_PAIRS[count >> 10]}{_PAIRS[count & 1023]}"

    def _tick(self, now: int) -> None:
        """A new millisecond."""
        if now >> 10 != self._time >> 10 or self._count >> _COUNTED_BITS:
            # The highest bit stays free, so that counting up within a millisecond never overflows.
            drawn = self._randbits(_RANDOM_BITS - 1)
            self._random, self._count = drawn >> _COUNTED_BITS, drawn & (1 << _COUNTED_BITS) - 1
            self._time = now
            self._write()
        else:
            self._time = now
            self._prefix = f"{self._before}{_PAIRS[now & 1023]}{self._behind}"

    def _write(self) -> None:
        """The characters before the counted ones."""
        self._before = _text(self._time >> 10, _TIME_BITS - 10)
        self._behind = _text(self._random, _RANDOM_BITS - _COUNTED_BITS)
        self._prefix = f"{self._before}{_PAIRS[self._time & 1023]}{self._behind}"


def _text(value: int, bits: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(bits - 10, -1, -10)])
