"""The journal on a crashing disk: a workload drawn from one seed. `tests.faults.judging` judges what power cuts leave.

No threads: the journal's work on the disk runs in its executor when the simulation says so, and time is a clock that
it advances. What the outside was told goes into the disk's log as marks, so that each power cut knows what had been
promised before it.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from eventserver.event import Batch, Event, size_of
from eventserver.interfaces import Entry, Parked
from eventserver.journal._disk import Disk
from eventserver.journal._executor import InlineExecutor
from eventserver.journal.sqlite import SqliteJournal
from tests.faults.crashing_disk import CrashingDisk
from tests.faults.oracle import message

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
READERS = ("first", "second")


class Acked(msgspec.Struct):
    """Everything up to the position has been acknowledged as durable."""

    position: int


class Handled(msgspec.Struct):
    """A handler is done with everything up to the position."""

    reader: str
    position: int


class Failed(msgspec.Struct):
    """The event of a frame was parked together with the cursor's move to a position; `settled`: it no longer is."""

    reader: str
    event: str
    position: int
    settled: bool = False


class Remembered(msgspec.Struct):
    """A key that a sender may repeat, with the position behind its frame."""

    key: str
    position: int


class FakeTime:
    """A clock, and wall time that goes with it."""

    def __init__(self) -> None:
        self.clock = Clock()

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self.clock.seconds())


def open_journal(
    folder: Path, at: FakeTime, executor: InlineExecutor, *, vfs: str = "", **options: Any
) -> SqliteJournal:
    """A journal with small segments, opened."""
    chosen: dict[str, Any] = {
        "max_bytes": 64 << 20, "retention": 0.0, "max_dead_bytes": 1 << 20, "segment_bytes": 24_000, "ballast": 0,
    }  # fmt: skip
    journal = SqliteJournal(
        folder,
        reactor=at.clock,
        now=at.now,
        disk=Disk(vfs),
        executor=lambda name: executor,
        log=Logger(namespace="journal", observer=lambda event: None),
        **(chosen | options),
    )
    journal.open()
    return journal


class Simulation:
    """One run of a journal. Frame number n, from 0, is `message(n)`, so position and content tell each other."""

    def __init__(self, disk: CrashingDisk, seed: int, **options: Any) -> None:
        self.disk = disk
        self.folder = disk.root / "journal"
        self.chance = random.Random(seed)
        self.at = FakeTime()
        self.executor = InlineExecutor(held=True)
        # Half of the runs read back from the disk what others have in memory, and keep what all have handled.
        drawn = {"window": self.chance.choice((3000, 32 << 20)), "retention": self.chance.choice((0.0, 0.0, 5.0))}
        self.options = drawn | options
        self.failing: dict[str, dict[str, Parked]] = {name: {} for name in READERS}
        self.batches = 0
        self._start()

    def _start(self) -> None:
        self.journal = open_journal(self.folder, self.at, self.executor, vfs=self.disk.name, **self.options)
        self.journal.on_commit(self._committed)
        self.readers = {name: self.journal.reader(name, 0) for name in READERS}
        # New cursors are durable before anything is acknowledged, as the server has it.
        flushed = self.journal.flush()
        self.settle()
        assert flushed.called
        self._reading: set[str] = set()
        self._closing = False
        for name, failing in self.failing.items():
            assert {one.event.id for one in self.journal.parked(name)} == failing.keys(), "after a good stop"
        self._reached = {name: reader.position for name, reader in self.readers.items()}

    def _committed(self) -> None:
        self.disk.mark(Acked(self.journal.committed))

    def settle(self) -> None:
        """Runs everything that waits for the disk, or for the next group commit."""
        for _ in range(5):
            while len(self.executor):
                self.executor.run(1)
            self.at.clock.advance(0.01)

    def run(self, steps: int) -> None:
        """So many steps, each of a kind that is drawn."""
        kinds: list[tuple[Callable[[], None], int]] = [
            (self.append, 6), (self.work, 8), (self.wait, 3), (self.read, 6), (self.fail, 1), (self.restart, 0),
        ]  # fmt: skip
        steps_drawn = self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds], k=steps)
        for index, step in enumerate(steps_drawn):
            step()
            if index % 150 == 149:
                self.restart()

    def append(self) -> None:
        """A batch; its last frame may have a key."""
        if not self.journal.accepting:
            return
        first = self.journal.head
        count = self.chance.choice((1, 1, 2, 5, 20, 60))
        self.batches += 1
        batch = Batch(
            id=f"{self.batches:026d}", listener="l", decoder="text", received=self.at.now(), peers=["p"],
            frames=[message(first + n, 120) for n in range(count)],
        )  # fmt: skip
        end = self.journal.append(batch, size_of(batch))
        if self.chance.random() < 0.3:
            self.journal.remember("scope", [(f"key{end}", end)])

    def work(self) -> None:
        """The disk's thread gets on."""
        self.executor.run(self.chance.choice((1, 1, 2, 5)))

    def wait(self) -> None:
        """Time passes: cursors are written, room is made."""
        self.at.clock.advance(self.chance.choice((0.005, 0.02, 0.21, 0.21, 2.1)))

    def read(self) -> None:
        """A handler takes what comes next, and is done with it."""
        name = self.chance.choice(READERS)
        if name in self._reading:
            return
        got = self.readers[name].read(self.chance.choice((500, 5000, 50000)))
        if isinstance(got, Deferred):
            self._reading.add(name)
            got.addCallback(self._read_later, self._read, name, self.journal)
        else:
            self._read(got, name)

    def _read_later(
        self, entries: list[Entry], then: Callable[[list[Entry], str], None], name: str, journal: SqliteJournal
    ) -> None:
        # Handlers are not called any more once a journal closes.
        if journal is self.journal and not self._closing:
            then(entries, name)

    def _read(self, entries: list[Entry], name: str) -> None:
        self._reading.discard(name)
        if self._take(entries, name):
            self.disk.mark(Handled(name, entries[-1].end))
            self.journal.commit_cursor(name, entries[-1].end)

    def _take(self, entries: list[Entry], name: str) -> bool:
        """Whether there are any; each must be the next one, with the right content."""
        for entry in entries:
            assert entry.first <= self._reached[name] < entry.end, f"{name} got {entry.first} at {self._reached[name]}"
            check_entry(entry)
            self._reached[name] = entry.end
        return bool(entries)

    def fail(self) -> None:
        """A handler parks an event with the next move of its cursor, or settles one."""
        name = self.chance.choice(READERS)
        held = self.failing[name]
        if held and self.chance.random() < 0.5:
            event, _ = held.popitem()
            self.disk.mark(Failed(name, event, 0, settled=True))
            self.journal.commit_cursor(name, self.readers[name].position, (), [event])
            return
        if name in self._reading:
            return
        got = self.readers[name].read(500)
        if isinstance(got, Deferred):
            self._reading.add(name)
            got.addCallback(self._read_later, self._fail, name, self.journal)
        else:
            self._fail(got, name)

    def _fail(self, entries: list[Entry], name: str) -> None:
        self._reading.discard(name)
        if not self._take(entries, name):
            return
        last = entries[-1]
        event = Event(last.batch.id_of(0), EPOCH, EPOCH, "l", "p", "text", "failed")
        parked = Parked(
            handler=name, event=event, frame=b"frame", error="error", traceback="", attempts=1, first_attempt=EPOCH,
            last_attempt=EPOCH, next_attempt=EPOCH,
        )  # fmt: skip
        self.disk.mark(Handled(name, last.end))
        self.journal.commit_cursor(name, last.end, [parked])
        # Noted last: who saw this mark knows that the journal had been told.
        self.disk.mark(Failed(name, event.id, last.end))
        self.failing[name][event.id] = parked

    def restart(self) -> None:
        """The server stops well, and starts again."""
        self.close()
        self._start()

    def recover(self) -> None:
        """The disk is sound again: soon everything that was taken is committed."""
        for _ in range(100):
            self.settle()
            if self.journal.committed == self.journal.head and self.journal.unwell is None:
                return
            self.at.clock.advance(0.1)
        raise AssertionError(f"does not recover: {self.journal.unwell}")

    def close(self) -> None:
        """The server stops well."""
        self._closing = True
        closed = self.journal.close()
        self.settle()
        assert closed.called
        self.disk.mark(Acked(self.journal.committed))


def check_entry(entry: Entry) -> None:
    """Each frame is the one of its position."""
    for index, frame in enumerate(entry.batch.frames):
        expected = message(entry.first + index, 120)
        if frame != expected:
            raise AssertionError(f"position {entry.first + index} holds {frame[:20]!r}")
