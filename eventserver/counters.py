"""Plain integers that the hot path adds to once a batch; the metrics page reads them.

The sums balance at rest, and tests check it:

- frames, a listener: received = journaled + rejected (all reasons);
- frames, a handler: pending at start + journaled = passed + expired + pending now;
- events, a handler: decoded + parked at start = delivered + filtered + dead-lettered + parked now.

At rest is when no call runs. What a journal on disk kept for a handler is pending at start, or parked at start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(slots=True)
class ListenerCounters:
    """What one listener received, and what became of it."""

    received: int = 0
    """Frames cut from what peers sent, those rejected later among them."""
    journaled: int = 0
    """Frames that the intake took. On disk they are a few milliseconds later: what a crash takes was not acknowledged
    as `durable`."""
    acknowledged: int = 0
    """Frames whose sender was told that the promise of `ack` is kept; outside the sums."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Frames refused, by reason."""
    duplicates: int = 0
    """Frames that their sender sent again, and that the journal has: acknowledged, not journaled; outside the sums."""
    truncated: int = 0
    """Frames that were kept but cut; outside the sums."""
    bytes: int = 0
    """Bytes read from peers."""
    kernel_drops: int = 0
    """Datagrams that the kernel dropped before they were read (a full receive buffer); outside the sums."""
    connections: int = 0
    """Connections open now (a gauge)."""
    connections_total: int = 0
    """Connections accepted."""
    closed: Counter[str] = field(default_factory=Counter)
    """Connections that the server closed or refused, by reason."""
    protocols: Counter[str] = field(default_factory=Counter)
    """Connections by what their peers speak, where that is found out (`type = "auto"`): `tls`, and what is inside."""
    replies: Counter[str] = field(default_factory=Counter)
    """Replies by outcome: `sent`, `gone` (no connection any more), `repeated` (answered before), `unsent`."""

    def balanced(self) -> bool:
        """Whether received = journaled + rejected."""
        return self.received == self.journaled + sum(self.rejected.values())


@dataclass(slots=True)
class HandlerCounters:
    """What one handler was given, and what became of it."""

    passed: int = 0
    """Frames that the cursor moved over, done."""
    pending_at_start: int = 0
    """Frames that were before the cursor when the handler was started."""
    expired: int = 0
    """Frames that the cursor was moved over by `when_full = "drop_oldest"`."""
    decoded: int = 0
    """Events that the frames of this handler's listeners gave (frames, for a handler that wants frames)."""
    delivered: int = 0
    """Events that the handler said it is done with."""
    filtered: int = 0
    """Events that `match` or a step kept from the handler."""
    dead_lettered: int = 0
    """Events given up."""
    parked: int = 0
    """Events waiting apart for another attempt (a gauge)."""
    parked_at_start: int = 0
    forgotten: int = 0
    """Dead letters that were forgotten because there were too many; outside the sums."""
    redelivered: int = 0
    """Events handed over again after a failure; outside the sums."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed calls, by kind: `temporary`, `permanent`, `partial`, `error`, `timeout`."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Events of `delivered` that the handler could make nothing of, by reason; outside the sums."""
    calls: int = 0
    """Calls of the handler."""
    overdue: int = 0
    """What was cancelled because it took too long, and does not end (a gauge); for handlers that time themselves."""

    def balanced(self) -> bool:
        """Whether decoded + parked at start = delivered + filtered + dead-lettered + parked now."""
        settled = self.delivered + self.filtered + self.dead_lettered
        return self.decoded + self.parked_at_start == settled + self.parked


class Timings:
    """How long something took, each time: counts by upper bound in seconds, and the sum."""

    BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * (len(self.BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """It has taken so long once more."""
        self.sum += seconds
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, int]]:
        """By bound, how often it took no longer than that; the last one is `+Inf`, and has all."""
        return list(zip([*map(str, self.BOUNDS), "+Inf"], accumulate(self._counts), strict=True))
