"""The journal on disk keeps the promises of the interfaces, in steps and with threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from eventserver.durable import IDurableJournal
from eventserver.journal.sqlite import SqliteJournal
from eventserver.testing import JournalConformance

from .world import World


class TestSqliteJournal(JournalConformance):
    def make(self, tmp_path: Path) -> SqliteJournal:
        self.world = World(tmp_path / "journal")
        return self.world.open()

    def commit(self, journal: Any) -> None:
        self.world.clock.advance(0.005)

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[SqliteJournal]:  # type: ignore[override]  # it is closed as well
        journal = self.make(tmp_path)
        yield journal
        journal.close()

    def test_it_is_a_durable_journal(self, journal: Any) -> None:
        assert verifyObject(IDurableJournal, journal)
