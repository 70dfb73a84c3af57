"""One replay that goes on now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from eventserver.delivery import Delivery
from eventserver.replaying.gate import Gate
from eventserver.replaying.reading import MatchingFrames
from eventserver.replaying.records import ReplayRecord

#: What becomes of the events of a replay, as its counters name it.
OUTCOMES = ("delivered", "filtered", "dead_lettered", "expired")


@dataclass(eq=False)
class Running:
    """A replay's loop and gate. `before` is what it had counted before the server was started.

    `frames` stands before a handler that takes frames, where only some of them match.
    """

    record: ReplayRecord
    delivery: Delivery
    gate: Gate
    before: ReplayRecord
    frames: MatchingFrames | None = None
    timer: Any = None

    def outcomes(self) -> Counter[str]:
        """What became of its events since the server was started."""
        counters = self.delivery.counters
        kept_back = 0 if self.frames is None else self.frames.filtered
        return Counter(
            delivered=counters.delivered - kept_back,
            filtered=counters.filtered + kept_back,
            dead_lettered=counters.dead_lettered,
            expired=counters.expired,
        )

    def cancel_timer(self) -> None:
        """Look no more at whether it is done."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def update(self) -> None:
        """Note in the record what it has counted."""
        record, before, found = self.record, self.before, self.outcomes()
        record.delivered = before.delivered + found["delivered"]
        record.filtered = before.filtered + found["filtered"]
        record.dead_lettered = before.dead_lettered + found["dead_lettered"]
        record.expired = before.expired + found["expired"]
