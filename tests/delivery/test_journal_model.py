"""The memory journal against a model: any order of appending, reading, moving, expiring and dropping."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, data, integers, sampled_from

from eventserver.event import size_of
from eventserver.journal.memory import MemoryJournal
from eventserver.testing import make_batch


class JournalMachine(RuleBasedStateMachine):
    """Cursors only move forward, each sees every frame behind it once, and nothing is held that all have passed."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = MemoryJournal()
        self.ends: list[tuple[int, int]] = []
        self.starts: dict[str, int] = {}
        self.cursors: dict[str, int] = {}
        self.read: dict[str, int] = {}

    @rule(name=sampled_from("abc"))
    def open(self, name: str) -> None:
        if name not in self.cursors:
            assert self.journal.reader(name).position == self.journal.head
            self.starts[name] = self.cursors[name] = self.read[name] = self.journal.head

    @rule(frames=integers(1, 4))
    def append(self, frames: int) -> None:
        batch = make_batch(*[b"x"] * frames)
        self.journal.append(batch, size_of(batch))
        self.ends.append((self.journal.head, size_of(batch)))

    @precondition(lambda self: self.cursors)
    @rule(source=data(), whole=booleans())
    def read_some(self, source: Any, whole: bool) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        for entry in self.journal.reader(name).read(1 << 20 if whole else 1):  # type: ignore[union-attr]  # never waits
            assert entry.first <= max(self.read[name], self.cursors[name]) < entry.end
            self.read[name] = entry.end

    @precondition(lambda self: self.cursors)
    @rule(source=data())
    def commit(self, source: Any) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        position = source.draw(integers(self.starts[name], self.journal.head))
        self.journal.commit_cursor(name, position)
        self.cursors[name] = max(self.cursors[name], position)

    @precondition(lambda self: self.cursors)
    @rule(source=data())
    def expire(self, source: Any) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        behind = [end for end, _ in self.ends if end > self.cursors[name]]
        self.cursors[name] = behind[0] if behind else self.cursors[name]
        assert self.journal.reader(name).expire_oldest() == self.cursors[name]

    @precondition(lambda self: self.cursors)
    @rule(source=data())
    def drop(self, source: Any) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        self.journal.drop_reader(name)
        for table in (self.starts, self.cursors, self.read):
            del table[name]

    @invariant()
    def agrees(self) -> None:
        lags = {}
        for name, cursor in self.cursors.items():
            reader = self.journal.reader(name)
            assert reader.position == cursor
            lags[name] = sum(size for end, size in self.ends if end > cursor and end > self.starts[name])
            assert reader.lag_bytes() == lags[name]
        # Whoever is furthest behind decides what is held.
        assert self.journal.size == max(lags.values(), default=0)
        behind = min((end for end, _ in self.ends if any(end > c for c in self.cursors.values())), default=None)
        holders = sorted(n for n, c in self.cursors.items() if behind is not None and self._holds(n, c, behind))
        assert sorted(self.journal.oldest()) == holders

    def _holds(self, name: str, cursor: int, oldest: int) -> bool:
        return cursor < oldest and self.starts[name] < oldest


TestJournalModel = JournalMachine.TestCase
TestJournalModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
