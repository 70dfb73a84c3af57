"""The memory journal and the intake keep the promises of their interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from eventserver.journal.memory import MemoryJournal
from eventserver.testing import IntakeConformance, JournalConformance

from .world import Recorder, World


class TestMemoryJournal(JournalConformance):
    def make(self, tmp_path: Any) -> MemoryJournal:
        return MemoryJournal()


class TestIntake(IntakeConformance):
    def make(self) -> tuple[Any, Callable[[], None]]:
        world = World(max_bytes=10_000)
        waits: Deferred[None] = Deferred()
        world.add(Recorder(waits), max_lag=1_000_000)
        return world.intake, lambda: None if waits.called else waits.callback(None)
