"""What a failure means, and how long to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from eventserver.errors import CONNECTION_ERRORS, HandlerTimeout, PartialFailure, PermanentFailure

Verdict = Literal["temporary", "permanent", "partial", "timeout", "error"]


def verdict_of(failure: BaseException) -> Verdict:
    """What an exception from a handler says."""
    if isinstance(failure, CONNECTION_ERRORS):
        return "temporary"
    if isinstance(failure, PermanentFailure):
        return "permanent"
    if isinstance(failure, PartialFailure):
        return "partial"
    return "timeout" if isinstance(failure, HandlerTimeout) else "error"


class Backoff:
    """Growing delays: doubled from `initial` to `maximum` seconds, each cut by up to a half at random.

    `random` returns a float from 0 to 1.
    """

    def __init__(self, initial: float, maximum: float, random: Callable[[], float]) -> None:
        self._initial = initial
        self._maximum = maximum
        self._random = random
        self._failures = 0

    def reset(self) -> None:
        """It went well: begin with `initial` next time."""
        self._failures = 0

    def next(self) -> float:
        """The delay after one more failure, in seconds."""
        self._failures += 1
        return self.delay(self._failures)

    def delay(self, failures: int) -> float:
        """The delay after that many failures in a row, in seconds."""
        longest = min(self._maximum, self._initial * 2.0 ** min(failures - 1, 60))
        return longest * (1 - self._random() / 2)
