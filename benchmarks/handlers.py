"""The handler of S1H: a Python function that looks at every event, as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor

from eventserver.event import Event

events = errors = 0


def handle(event: Event) -> None:
    """Counts events, and those of one kind."""
    global events, errors
    events += 1
    if "out of range" in event.message:
        errors += 1


def write() -> None:
    """So that the driver knows that the function was called for every event."""
    Path(os.environ["BENCHMARK_HANDLED"]).write_text(f"{events} {errors}")


# A server loads this when it has its reactor, whose module has no such function for the type checker.
reactor.addSystemEventTrigger("after", "shutdown", write)  # type: ignore[attr-defined]
