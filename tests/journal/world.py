"""A journal on disk without threads: time and the disk's work go on when a test says so."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.task import Clock

from eventserver.event import Batch, size_of
from eventserver.interfaces import Entry
from eventserver.journal._executor import InlineExecutor
from eventserver.journal.sqlite import SqliteJournal
from eventserver.testing.data import RECEIVED, make_batch


class World:
    """Opens journals in one folder, one after the other. `held` executors wait for `run`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.settings: dict[str, Any] = {"max_bytes": 8 << 20, **settings}
        self.executors: dict[str, InlineExecutor] = {}
        self.points: list[str] = []
        self.waited: list[float] = []
        self.number = 0

    def now(self) -> dt.datetime:
        return RECEIVED + dt.timedelta(seconds=self.clock.seconds())

    def executor(self, name: str) -> InlineExecutor:
        self.executors[name] = InlineExecutor()
        return self.executors[name]

    def open(self, **settings: Any) -> SqliteJournal:
        given = {"point": self.points.append, "wait": self.waited.append, **self.settings, **settings}
        journal = SqliteJournal(self.folder, reactor=self.clock, now=self.now, executor=self.executor, **given)
        journal.open()
        return journal

    def batch(self, *frames: bytes, **keys: Any) -> Batch:
        self.number += 1
        return make_batch(*frames, **{"id": f"B{self.number:025}", "received": self.now(), **keys})

    def append(self, journal: SqliteJournal, *frames: bytes, **keys: Any) -> int:
        """Append one batch; with executors that are not held it is committed soon."""
        batch = self.batch(*frames, **keys)
        position = journal.append(batch, size_of(batch))
        self.clock.advance(0.005)
        return position

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps of a tenth of a second."""
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)

    def tamper(self, file: str, sql: str, *bindings: Any) -> None:
        """Run SQL in one of the databases, behind the back of the journal."""
        connection = apsw.Connection(str(self.folder / "0" / file))
        connection.execute(sql, bindings).fetchall()
        connection.close()

    def crash(self, journal: SqliteJournal) -> None:
        """The process is gone: nothing more is written, and the lock is free."""
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        abandon(journal)


def quick_folder() -> Path:
    """A new folder, in memory where the system has a place for that: models sync all the time."""
    memory = "/dev/shm"  # not a name that somebody else could have made
    return Path(tempfile.mkdtemp(prefix="journal-", dir=memory if os.access(memory, os.W_OK) else None))


def abandon(journal: Any) -> None:
    """Let go of the files without writing anything."""
    store = journal._store
    for file in [store.active, *store._full_segments.values()]:
        if file is not None:
            file.abandon()
    store.meta._disconnect()
    journal._fetcher.close()
    journal._unlock()


def segments(world: World) -> list[str]:
    """The names of the files of its segments, in order."""
    return sorted(path.name for path in (world.folder / "0").glob("seg-*.db"))


def fill(world: World, journal: Any, megabytes: int, **keys: Any) -> int:
    """Append so many batches of about a megabyte."""
    end = 0
    for _ in range(megabytes):
        end = world.append(journal, *[b"%06d" % world.number + b"x" * 1000 for _ in range(1000)], **keys)
    return end


def read_all(reader: Any, max_bytes: int = 1 << 20) -> list[Entry]:
    """Everything before a cursor, however many reads that takes."""
    found: list[Entry] = []
    while entries := result_of(reader.read(max_bytes)):
        found += entries
    return found


def read_patiently(world: World, reader: Any, max_bytes: int = 1 << 20) -> list[Entry]:
    """Everything before a cursor; what the disk does not give at once is tried again."""
    found: list[Entry] = []
    while True:
        waiting = reader.read(max_bytes)
        if not isinstance(waiting, list):
            entries: list[Entry] = []
            waiting.addCallback(entries.extend)
            world.wait(40)
            waiting = entries
        if not waiting:
            return found
        found += waiting


def result_of(value: Any) -> Any:
    """What a read gave, now."""
    if hasattr(value, "addCallback"):
        results: list[Any] = []
        value.addCallback(results.append)
        assert results, "it has not been read yet"
        return results[0]
    return value


def frames_of(entries: list[Entry]) -> list[bytes]:
    """The frames of entries, in order."""
    return [frame for entry in entries for frame in entry.batch.frames]
