"""What came of the events that were to be sent: counts, and how long acknowledgements took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Each step of the histogram is one percent above the one before.
_STEP = math.log(1.01)
_SMALLEST = 1e-6
#: The percentiles that are reported.
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Latencies:
    """Times in seconds, to within one percent: one count for each step of that size, at most about 2,000."""

    __slots__ = ("_steps", "count", "largest")

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self._steps: dict[int, int] = {}

    def add(self, seconds: float, count: int = 1) -> None:
        """`count` events had to wait so long."""
        step = int(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _STEP)
        self._steps[step] = self._steps.get(step, 0) + count
        self.count += count
        self.largest = max(self.largest, seconds)

    def percentile(self, percent: float) -> float:
        """Within how many seconds so many percent of the events were acknowledged; 0 where there were none."""
        wanted = math.ceil(self.count * percent / 100)
        for step in sorted(self._steps):
            wanted -= self._steps[step]
            if wanted <= 0:
                return min(self.largest, _SMALLEST * math.exp((step + 1) * _STEP))
        return self.largest


@dataclass(slots=True)
class Statistics:
    """The counts of one run, in events.

    `taken` were to be sent; `sent` went out at least once, and `resent` counts how often some went out again;
    `acknowledged` the server has taken; `refused` it, or the system, has not and never will. `connections` were made.
    `cut` counts connections of protocols without acknowledgements that did not end well: what the peer had not read
    is lost, and nobody knows how much that is. `problems` says what went wrong, each kind once.
    """

    acknowledges: bool
    taken: int = 0
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    resent: int = 0
    connections: int = 0
    cut: int = 0
    bytes: int = 0
    started: float = 0.0
    ended: float | None = None
    latencies: Latencies = field(default_factory=Latencies)
    problems: dict[str, int] = field(default_factory=dict)

    #: Different problems that are kept in words.
    MAX_PROBLEMS = 20

    @property
    def lost(self) -> int:
        """Events of which it is not known that they arrived, or, without acknowledgements, that they went out."""
        return self.taken - self.acknowledged if self.acknowledges else self.taken - self.sent + self.refused

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return 0.0 if self.ended is None else max(0.0, self.ended - self.started)

    def trouble(self, problem: str) -> None:
        """Something went wrong; `problem` is for people."""
        if problem in self.problems or len(self.problems) < self.MAX_PROBLEMS:
            self.problems[problem] = self.problems.get(problem, 0) + 1
