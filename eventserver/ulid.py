"""Identifiers for batches: ULIDs (github.com/ulid/spec), made in order and without a system call each."""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits at a time: thirteen look-ups and one join make the 26 characters.
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BITS = 80


class Ulids:
    """A source of ULIDs: 26 characters, unique, growing also within a millisecond and when the clock steps back.

    `milliseconds` gives the Unix time in milliseconds, `randbits(n)` an integer of `n` random bits.
    """

    def __init__(self, milliseconds: Callable[[], int], randbits: Callable[[int], int]) -> None:
        self._milliseconds = milliseconds
        self._randbits = randbits
        self._time = -1
        self._random = 0

    def __call__(self) -> str:
        now = self._milliseconds()
        if now > self._time:
            self._time = now
            # The highest bit stays free, so that counting up within a millisecond never overflows.
            self._random = self._randbits(_RANDOM_BITS - 1)
        else:
            self._random += 1
        value = self._time << _RANDOM_BITS | self._random
        pairs = _PAIRS
        return "".join([pairs[value >> shift & 1023] for shift in range(120, -1, -10)])
