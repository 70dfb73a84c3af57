"""Is it the destination that is unwell, or are it the events? Tried out with a few of them at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

#: Events that are tried one by one, each time, to see whether the destination is well again.
PROBES = 100
#: Piles of events that are held, at most, while newer ones are tried.
FURTHEST = 10
#: Seconds between two looks at whether something new gets through.
INTERVAL = 1.0


class Probing:
    """All that waits while so many events have failed in a row, and which of them is tried next.

    As soon as one succeeds the destination is well, and all the others follow. So a destination that is down costs a
    few calls at a time, and many bad events in a row cannot stop the good ones behind them for good. The newest are
    tried first: they show best what is wrong.
    """

    def __init__(self) -> None:
        self.active = False
        self.soon = False
        """Whether something new has come, for which the wait has been cut short."""
        self.again = 0.0
        """When something new may be tried next, in the reactor's seconds."""
        self._suspects: list[Any] = []
        self._probes: deque[Any] = deque()
        self._probed: Any = None

    def begin(self, waiting: list[Any], newer: list[Any], now: float) -> None:
        """Begin with what waits and what has come since; `next` says what to try."""
        probes = [*reversed(newer), *waiting]
        self._suspects = [*waiting, *newer]
        self._probes = deque(probes[: 1 if self.soon else PROBES])
        self.active, self.soon, self.again = True, False, now + INTERVAL

    def tried(self, waits: bool) -> None:
        """The event that was tried waits on, or it is settled, one way or the other."""
        if self._probed is not None and not waits:
            self._suspects = [item for item in self._suspects if item is not self._probed]
        self._probed = None

    def next(self) -> Any:
        """The event to try now; None if enough have been tried for this time."""
        self._probed = self._probes.popleft() if self._probes else None
        return self._probed

    def end(self) -> list[Any]:
        """All that has not been settled, in the order in which it came."""
        self.active = False
        suspects, self._suspects = self._suspects, []
        return suspects
