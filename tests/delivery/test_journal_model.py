"""The memory journal against a model: any order of appending, reading, moving, expiring and dropping."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, data, integers, sampled_from

from eventserver.event import size_of
from eventserver.journal.memory import MemoryJournal
from eventserver.testing import make_batch

#: By name, the listeners whose batches come to a reader.
READERS = {"a": None, "b": None, "l": ["l"], "m": ["m", "n"]}


class JournalMachine(RuleBasedStateMachine):
    """Cursors only move forward, each sees every frame for it once, and nothing is held that all have passed."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = MemoryJournal()
        self.entries: list[tuple[str, int, int, int]] = []
        """Of what was appended: listener, the positions before it and behind it, size."""
        self.starts: dict[str, int] = {}
        self.cursors: dict[str, int] = {}
        self.read: dict[str, int] = {}
        self.skipped: dict[str, int] = {}

    def before(self, name: str, position: int) -> list[tuple[str, int, int, int]]:
        """What is for the reader and ends behind a position."""
        of = READERS[name] or "lmno"
        return [one for one in self.entries if one[2] > max(position, self.starts[name]) and one[0] in of]

    @initialize(names=sampled_from(["", "a", "al", "blm"]))
    def begin(self, names: str) -> None:
        for name in names:
            self.open(name)

    @rule(name=sampled_from(sorted(READERS)))
    def open(self, name: str) -> None:
        if name not in self.cursors:
            assert self.journal.reader(name, None, READERS[name]).position == self.journal.head
            self.starts[name] = self.cursors[name] = self.read[name] = self.journal.head
            self.skipped[name] = 0

    @rule(frames=integers(1, 4), listener=sampled_from("lmno"))
    def append(self, frames: int, listener: str) -> None:
        batch = make_batch(*[b"x"] * frames, listener=listener)
        first = self.journal.head
        assert self.journal.append(batch, size_of(batch)) == first + frames
        self.entries.append((listener, first, first + frames, size_of(batch)))

    @precondition(lambda self: self.cursors)
    @rule(source=data(), whole=booleans(), one=booleans())
    def read_some(self, source: Any, whole: bool, one: bool) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        reader = self.journal.reader(name)
        expected = self.before(name, max(self.read[name], self.cursors[name]))
        if one and (entry := reader.only(3, 1 << 20)) is not None:
            assert [e[2] for e in expected] == [entry.end]
            found = [entry]
        else:
            found = reader.read(1 << 20 if whole else 1)  # type: ignore[assignment]  # never waits
            assert len(found) == len(expected[: None if whole else 1])
        for entry, (listener, first, end, size) in zip(found, expected, strict=False):
            assert (entry.batch.listener, entry.first, entry.end, entry.size) == (listener, first, end, size)
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
        behind = self.before(name, self.cursors[name])
        reader = self.journal.reader(name)
        # What follows for others is not given up: the cursor goes over it by itself.
        expected = behind[0][2] if behind else reader.position
        assert reader.expire_oldest() == expected
        if behind:
            self.cursors[name] = expected

    @precondition(lambda self: self.cursors)
    @rule(source=data())
    def drop(self, source: Any) -> None:
        name = source.draw(sampled_from(sorted(self.cursors)))
        self.journal.drop_reader(name)
        for table in (self.starts, self.cursors, self.read, self.skipped):
            del table[name]

    @invariant()
    def agrees(self) -> None:
        wanting = {name: self.before(name, cursor) for name, cursor in self.cursors.items()}
        for name, waiting in wanting.items():
            reader = self.journal.reader(name)
            self._stands_right(name, reader.position, waiting)
            assert reader.lag_bytes() == sum(size for _, _, _, size in waiting)
            # What a cursor moves over by itself is never a frame for its handler.
            others = reader.position - self.starts[name] - sum(
                min(end, reader.position) - first
                for listener, first, end, _ in self.before(name, self.starts[name])
                if first < reader.position
            )  # fmt: skip
            assert self.skipped[name] <= reader.skipped <= others
            self.skipped[name] = reader.skipped
        held = {one for waiting in wanting.values() for one in waiting}
        assert self.journal.size == sum(size for _, _, _, size in held)
        assert self.journal.info()["batches"] == len(held)
        oldest = min((one[2] for one in held), default=None)
        holders = [name for name, waiting in wanting.items() if waiting and waiting[0][2] == oldest]
        assert sorted(self.journal.oldest()) == sorted(holders)

    def _stands_right(self, name: str, position: int, waiting: list[tuple[str, int, int, int]]) -> None:
        if not waiting:
            assert position == self.journal.head
        elif READERS[name] is None:
            assert position == self.cursors[name]
        else:
            assert self.cursors[name] <= position <= max(self.cursors[name], waiting[0][1])


TestJournalModel = JournalMachine.TestCase
TestJournalModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
