"""The handler of S1H: a Python function that looks at every event, as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from eventserver.event import Event


class Seen:
    """What the function has counted; written to the file BENCHMARK_HANDLED when the server stops."""

    def __init__(self) -> None:
        self.events = 0
        self.errors = 0

    def write(self) -> None:
        """So that the driver knows that the function was called for every event."""
        Path(os.environ["BENCHMARK_HANDLED"]).write_text(f"{self.events} {self.errors}")


seen = Seen()


def handle(event: Event) -> None:
    """Counts events, and those of one kind."""
    if seen.events == 0:
        from twisted.internet import reactor

        reactor.addSystemEventTrigger("after", "shutdown", seen.write)
    seen.events += 1
    if "out of range" in event.message:
        seen.errors += 1
