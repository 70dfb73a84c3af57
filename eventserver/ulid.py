"""Identifiers for batches: ULIDs (github.com/ulid/spec), made in order and without a system call each."""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits at a time are two characters.
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BITS = 80
#: The last four characters are counted; those before them stay the same for a millisecond.
_COUNTED = 1 << 20


class Ulids:
    """A source of ULIDs: 26 characters, unique, growing also within a millisecond and when the clock steps back.

    `milliseconds` gives the Unix time in milliseconds, `randbits(n)` an integer of `n` random bits.
    """

    def __init__(self, milliseconds: Callable[[], int], randbits: Callable[[int], int]) -> None:
        self._milliseconds = milliseconds
        self._randbits = randbits
        self._time = -1
        self._random = 0
        self._prefix = ""
        self._count = 0

    def __call__(self) -> str:
        now = self._milliseconds()
        if now > self._time:
            self._time = now
            # The highest bit stays free, so that counting up within a millisecond never overflows.
            self._random = self._randbits(_RANDOM_BITS - 1)
            self._begin()
        elif self._count + 1 < _COUNTED:
            self._count += 1
        else:
            self._random += _COUNTED
            self._random -= self._random % _COUNTED
            self._begin()
        count = self._count
        return f"{self._prefix}{_PAIRS[count >> 10]}{_PAIRS[count & 1023]}"

    def _begin(self) -> None:
        """Write the part that is the same for the next ids."""
        self._count = self._random % _COUNTED
        value = self._time << _RANDOM_BITS | self._random
        self._prefix = "".join([_PAIRS[value >> shift & 1023] for shift in range(120, 19, -10)])
