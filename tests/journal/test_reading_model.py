"""Reads that take their time, while cursors move, expire and go, and segments are freed: a model says what is right."""

from __future__ import annotations

import shutil
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.python.failure import Failure

from eventserver.interfaces import Entry

from .world import World, quick_folder

#: By name, the listeners whose batches come to a reader; those that are never written.
READERS: dict[str, list[str] | None] = {"all": None, "some": ["a"], "other": ["b", "c"], "passing": ["a"]}
PASSING = {"passing"}


class ReadingMachine(RuleBasedStateMachine):
    """Frame number n is `n` as text, and the model knows its listener."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = quick_folder()
        # A window of a few batches, segments of a few more, and no history beyond two of these.
        self.world = World(self.folder, max_bytes=30_000, window=3000, segment_bytes=5000, ballast=0, retention=2.0)
        self.journal: Any = None
        self.listeners: list[str] = []
        self.readers: dict[str, Any] = {}
        self.got: dict[str, int] = {}
        self.reading: dict[str, Any] = {}
        self.joined: dict[str, int] = {}
        self.errors: list[Failure] = []

    @initialize(held=st.booleans(), before=st.lists(st.sampled_from("abcd"), min_size=4, max_size=16))
    def begin(self, held: bool, before: list[str]) -> None:
        """There is something already, of which a part is on disk only."""
        self.held = held
        self.open()
        for listener in before:
            self.append(3, 200, listener)
            self.wait(0.005)

    def open(self) -> None:
        self.journal = self.world.open()
        self.world.executors["journal-reader"].held = self.held
        self.readers, self.reading = {}, {}
        for name in READERS:
            self.join(name)

    def join(self, name: str, position: int | None = 0) -> None:
        reader = self.journal.reader(name, position, READERS[name], passing=name in PASSING)
        self.readers[name] = reader
        self.got[name] = self.joined[name] = reader.position
        self.reading.pop(name, None)

    def wanted(self, name: str, start: int, end: int) -> list[int]:
        """The frames of a reader between two positions."""
        of = READERS[name]
        return [n for n in range(start, end) if of is None or self.listeners[n] in of]

    @rule(count=st.integers(1, 5), size=st.integers(0, 900), listener=st.sampled_from("abcd"))
    def append(self, count: int, size: int, listener: str) -> None:
        first = len(self.listeners)
        frames = [b"%d " % (first + index) + b"x" * size for index in range(count)]
        batch_size = 400 + sum(map(len, frames))
        # What the intake does for handlers with `drop_oldest`.
        while self.journal.size + batch_size > self.journal.max_bytes:
            names = self.journal.oldest()
            if not names:
                # All of it waits to be committed: the intake would refuse.
                return
            for name in names:
                self.expire(name)
        self.listeners += [listener] * count
        assert self.journal.append(self.world.batch(*frames, listener=listener), batch_size) == len(self.listeners)

    @rule(seconds=st.sampled_from([0.0, 0.005, 0.2, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(jobs=st.integers(1, 3))
    def disk(self, jobs: int) -> None:
        self.world.executors["journal-reader"].run(jobs)

    @rule(name=st.sampled_from(sorted(READERS)), max_bytes=st.integers(1, 10_000))
    def read(self, name: str, max_bytes: int) -> None:
        if name in self.reading:
            return
        reader = self.readers[name]
        found = reader.read(max_bytes)
        if isinstance(found, list):
            self.take(found, name)
            return
        self.reading[name] = reader

        def came(entries: list[Entry]) -> None:
            if self.readers.get(name) is reader:
                self.reading.pop(name, None)
                self.take(entries, name)

        found.addCallback(came).addErrback(self.errors.append)

    def take(self, entries: list[Entry], name: str) -> None:
        """They are the next ones for the reader, and none of its frames is left out."""
        for entry in entries:
            position = self.readers[name].position
            self.got[name] = max(self.got[name], position)
            # What the cursor has been moved over meanwhile may come all the same: whoever reads leaves it out.
            if entry.end <= self.got[name]:
                assert entry.end <= position, f"{name} gets {entry.first} to {entry.end} again"
                continue
            assert self.wanted(name, self.got[name], entry.first) == [], f"{name} does not get all"
            assert entry.batch.listener in (READERS[name] or "abcd")
            numbers = [int(frame.split()[0]) for frame in entry.batch.frames]
            assert numbers == list(range(entry.first, entry.end))
            self.got[name] = entry.end

    @rule(name=st.sampled_from(sorted(READERS)), part=st.floats(0, 1))
    def move(self, name: str, part: float) -> None:
        position = self.readers[name].position
        if self.got[name] > position:
            self.journal.commit_cursor(name, position + int(part * (self.got[name] - position)))

    @rule(name=st.sampled_from(sorted(READERS)))
    def expire(self, name: str) -> None:
        before = self.readers[name].position
        end = self.readers[name].expire_oldest()
        assert before <= end <= max(before, self.journal.committed)
        self.got[name] = max(self.got[name], end)

    @rule(besides=st.sampled_from(sorted(READERS)))
    def handle_all(self, besides: str) -> None:
        """One is left behind, and alone in holding what there is."""
        for name, reader in self.readers.items():
            if name != besides:
                self.journal.commit_cursor(name, self.journal.committed)
                self.got[name] = max(self.got[name], reader.position)
        self.wait(3.0)

    @rule(name=st.sampled_from([*sorted(READERS), ""]), position=st.sampled_from([0, None]))
    def come_back(self, name: str, position: int | None) -> None:
        """One handler, or the server: one rule, so that it does not happen all the time."""
        if not name:
            self.restart()
            return
        self.journal.drop_reader(name)
        self.join(name, position)

    @rule(start=st.floats(0, 1), end=st.floats(0, 1), max_bytes=st.integers(1, 8000))
    def look_back(self, start: float, end: float, max_bytes: int) -> None:
        first, last = sorted((int(start * self.journal.head), int(end * self.journal.head)))
        # More may be committed until the answer comes.
        last = min(last, self.journal.committed)
        found = self.journal.read_between(first, last, max_bytes)

        def came(entries: list[Entry]) -> None:
            reached = entries[0].first if entries else last
            # Whatever is left out before that was freed.
            assert max(first, self.journal.first) >= reached, (first, reached, self.journal.first)
            for entry in entries:
                assert (entry.first, entry.first < last, entry.end > first) == (max(reached, entry.first), True, True)
                assert [int(frame.split()[0]) for frame in entry.batch.frames] == list(range(entry.first, entry.end))
                reached = entry.end

        # What is raised in a callback nobody would see.
        found.addCallback(came).addErrback(self.errors.append)

    def restart(self) -> None:
        for _ in range(30):
            self.world.clock.advance(0.1)
        executor = self.world.executors["journal-reader"]
        executor.held = False
        executor.run()
        positions = {name: reader.position for name, reader in self.readers.items() if name not in PASSING}
        head = self.journal.head
        self.journal.close()
        self.open()
        assert self.journal.head == head
        for name, position in positions.items():
            # What lies before it may turn out to be for others.
            assert self.readers[name].position >= position
            assert self.wanted(name, position, self.readers[name].position) == []

    @invariant()
    def sums_hold(self) -> None:
        journal = self.journal
        if journal is None:
            return
        for failure in self.errors:
            failure.raiseException()
        assert (journal.head, journal.info()["lost"], journal.unwell) == (len(self.listeners), 0, None)
        assert 0 <= journal.first <= journal.committed
        for name, reader in self.readers.items():
            # A new one at the head is ahead of what waits to be committed, and not for it.
            assert reader.position <= max(journal.committed, self.joined[name])
            assert reader.position >= journal.first or not self.wanted(name, reader.position, journal.committed)
            if self.wanted(name, max(reader.position, self.got[name]), journal.committed):
                assert reader.lag_bytes() > 0, f"{name} is behind, and says that it is not"
        if all(not reader.lag_bytes() for reader in self.readers.values()) and journal.committed == journal.head:
            assert (journal.size, journal.oldest()) == (0, [])
        assert journal.size >= 0

    def teardown(self) -> None:
        if self.journal is not None:
            executor = self.world.executors["journal-reader"]
            executor.held = False
            executor.run()
            for _ in range(40):
                self.world.clock.advance(0.1)
            for name, reader in self.readers.items():
                assert name not in self.reading
                for _ in range(1000):
                    if not reader.lag_bytes():
                        break
                    self.read(name, 5000)
                    self.journal.commit_cursor(name, self.got[name])
                assert reader.position == self.journal.head, f"{name} does not get to the head"
            for _ in range(40):
                self.world.clock.advance(0.1)
            assert (self.journal.size, self.journal.info()["lost"]) == (0, 0)
            self.journal.close()
        shutil.rmtree(self.folder)


TestReadingMachine = ReadingMachine.TestCase
TestReadingMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
