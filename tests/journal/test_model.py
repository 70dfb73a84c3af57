"""Whatever is done with a journal on disk, it is what a simple model says: committed, read, crashed, freed."""

from __future__ import annotations

import shutil
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eventserver.testing.journals import parked

from .faulty import faulty_disk
from .world import World, quick_folder, read_all

NAMES = ["a", "b"]


class JournalMachine(RuleBasedStateMachine):
    """Frame number n is `n` as text; so whatever is read tells where it should have been."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = quick_folder()
        self.faulty = faulty_disk()
        disk, self.faults = self.faulty.__enter__()
        # Everything is small, so that each step crosses some border.
        self.world = World(
            self.folder,
            disk=disk,
            max_bytes=1 << 20,
            window=4000,
            segment_bytes=6000,
            ballast=4096,
            retention=5.0,
        )
        self.journal: Any = None
        self.appended = 0
        self.readers: dict[str, Any] = {}
        self.got: dict[str, int] = {}
        self.written: dict[str, int] = {}
        self.dead = 0
        self.dead_written = 0

    @initialize(before=st.lists(st.integers(0, 800), min_size=4, max_size=16))
    def begin(self, before: list[int]) -> None:
        """There is something already, of which a part is on disk only."""
        self.open()
        for size in before:
            self.append(3, [size])
            self.wait(0.005)

    def open(self) -> None:
        self.journal = self.world.open()
        self.appended = self.journal.head
        self.readers = {name: self.journal.reader(name, 0) for name in NAMES}
        self.got = {name: reader.position for name, reader in self.readers.items()}
        self.dead = len(self.journal.dead())

    @rule(count=st.integers(1, 5), sizes=st.lists(st.integers(0, 800), min_size=1, max_size=4))
    def append(self, count: int, sizes: list[int]) -> None:
        for size in sizes:
            frames = [b"%d " % (self.appended + index) + b"x" * size for index in range(count)]
            batch = self.world.batch(*frames)
            self.appended += count
            assert self.journal.append(batch, 400 + sum(map(len, frames))) == self.appended

    @rule(seconds=st.sampled_from([0.0, 0.005, 0.2, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(name=st.sampled_from(NAMES), max_bytes=st.integers(1, 10_000))
    def read(self, name: str, max_bytes: int) -> None:
        entries = self.readers[name].read(max_bytes)
        assert isinstance(entries, list)
        for entry in entries:
            assert entry.first <= self.got[name] < entry.end <= self.journal.committed
            numbers = [int(frame.split()[0]) for frame in entry.batch.frames]
            assert numbers == list(range(entry.first, entry.end))
            self.got[name] = entry.end

    @rule(name=st.sampled_from(NAMES), part=st.floats(0, 1))
    def move(self, name: str, part: float) -> None:
        position = self.readers[name].position
        if self.got[name] > position:
            self.journal.commit_cursor(name, position + int(part * (self.got[name] - position)))

    @rule(name=st.sampled_from(NAMES))
    def bury(self, name: str) -> None:
        self.dead += 1
        self.journal.commit_cursor(name, self.readers[name].position, [parked(f"B{self.dead}-0", handler=name)])
        self.dead = len(self.journal.dead())

    @rule(name=st.sampled_from(NAMES))
    def expire(self, name: str) -> None:
        before = self.readers[name].position
        end = self.readers[name].expire_oldest()
        assert before <= end <= self.journal.committed
        self.got[name] = max(self.got[name], end)

    @rule()
    def flush(self) -> None:
        self.journal.flush().addCallbacks(lambda _: self.note_written(), lambda failure: None)

    def note_written(self) -> None:
        self.written = {name: reader.position for name, reader in self.readers.items()}
        self.dead_written = self.dead

    # What is one rule here is chosen as often as appending: so that there is something to crash.

    @rule(what=st.sampled_from(["full", "fail_syncs", "fail_writes", "mend"]))
    def trouble(self, what: str) -> None:
        if what == "mend":
            self.mend()
        else:
            setattr(self.faults, what, True)

    def mend(self) -> None:
        self.faults.full = False
        self.faults.fail_syncs = self.faults.fail_writes = 0

    @rule(how=st.sampled_from(["crash", "crash", "close"]))
    def start_again(self, how: str) -> None:
        if how == "crash":
            self.crash()
        else:
            self.close()

    def crash(self) -> None:
        committed, first = self.journal.committed, self.journal.first
        positions = {name: reader.position for name, reader in self.readers.items()}
        self.world.crash(self.journal)
        self.mend()
        self.open()
        assert committed <= self.journal.head
        assert self.journal.first <= max(first, min(positions.values()))
        for name, position in positions.items():
            assert self.written.get(name, 0) <= self.readers[name].position <= position
        assert self.dead >= self.dead_written
        assert self.journal.info()["lost"] == 0

    def close(self) -> None:
        self.mend()
        for _ in range(30):
            self.world.clock.advance(0.1)
        positions = {name: reader.position for name, reader in self.readers.items()}
        head, dead = self.journal.head, self.dead
        self.journal.close()
        self.open()
        assert (self.journal.head, self.dead) == (head, dead)
        assert {name: reader.position for name, reader in self.readers.items()} == positions

    @precondition(lambda self: self.journal is not None)
    @invariant()
    def sums_hold(self) -> None:
        journal = self.journal
        assert journal.head == self.appended
        assert journal.committed <= journal.head
        for reader in self.readers.values():
            behind = reader.position < journal.committed
            assert (reader.lag_bytes() > 0) == behind
        if min(reader.position for reader in self.readers.values()) == journal.head:
            assert journal.size == 0
        assert journal.size >= 0
        if journal.unwell is None and journal.size == 0:
            assert journal.oldest() == []

    def teardown(self) -> None:
        if self.journal is not None:
            self.mend()
            for _ in range(30):
                self.world.clock.advance(0.1)
            assert self.journal.committed == self.journal.head
            for name, reader in self.readers.items():
                for entry in read_all(reader):
                    assert entry.first <= self.got[name] < entry.end
                    self.got[name] = entry.end
                assert self.got[name] == self.journal.head
                self.journal.commit_cursor(name, self.journal.head)
            assert self.journal.size == 0
            self.journal.close()
        self.faulty.__exit__(None, None, None)
        shutil.rmtree(self.folder)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
