"""A journal on a disk that is a Python object: commits, reads and crashes happen when a test says so."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from eventserver.counters import Timings
from eventserver.durable import Cursor, DecoderSettings, IDurableJournal
from eventserver.event import Batch
from eventserver.interfaces import Entry, IReader, Parked

NEVER = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass
class Disk:
    """What survives a crash."""

    entries: list[tuple[int, Batch, int]] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    waiting: dict[tuple[str, str], Parked] = field(default_factory=dict)
    dead: dict[int, Parked] = field(default_factory=dict)
    decoders: list[DecoderSettings] = field(default_factory=list)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)


@implementer(IDurableJournal)
class FakeJournal:
    """What `IDurableJournal` says, on a `Disk`.

    `hold`: appended batches are committed by `commit()` only. `later`: a read is a Deferred that `fetch()` fires, or
    `fail()` fails. Cursors are on the disk after `flush()`, `commit()` and `close()`.
    """

    durable = True

    def __init__(self, disk: Disk | None = None, max_bytes: int = 1 << 20) -> None:
        self.disk = disk or Disk()
        self.max_bytes = max_bytes
        self.hold = self.later = self.closed = False
        self.unwell: str | None = None
        self.accepting = True
        self.commit_times = Timings()
        self.entries = [Entry(end, batch, size) for end, batch, size in self.disk.entries]
        self.first = self.entries[0].first if self.entries else 0
        self.head = self.committed = self.entries[-1].end if self.entries else 0
        self.readers: dict[str, FakeReader] = {}
        self.reads: list[tuple[FakeReader, int, Deferred[list[Entry]]]] = []
        self.kept = copy.deepcopy(self.disk)
        self._commits: list[Callable[[], None]] = []
        self._changes: list[Callable[[], None]] = []
        self._dead_changes: list[Callable[[], None]] = []

    # What tests do

    def crash(self) -> Disk:
        """What is on the disk now; nothing else of this object counts any more."""
        return copy.deepcopy(self.disk)

    def commit(self) -> None:
        """A group commit of all that was appended."""
        new = [entry for entry in self.entries if entry.end > self.committed]
        self.disk.entries += [(entry.end, entry.batch, entry.size) for entry in new]
        self.disk.keys = dict(self.kept.keys)
        self.committed = self.head
        for callback in self._commits:
            callback()
        for reader in list(self.readers.values()) if new else ():
            reader.ready()

    def write(self) -> None:
        """Cursors, parked and dead events, onto the disk."""
        entries, keys = self.disk.entries, self.disk.keys
        self.kept.cursors |= {name: reader.stands for name, reader in self.readers.items() if not reader.passing}
        self.disk = copy.deepcopy(self.kept)
        self.disk.entries, self.disk.keys = entries, keys

    def fetch(self) -> None:
        """Let the reads that wait have what they read."""
        reads, self.reads = self.reads, []
        for reader, max_bytes, deferred in reads:
            deferred.callback(reader.next(max_bytes))

    def fail(self, error: Exception) -> None:
        """Let the reads that wait fail."""
        reads, self.reads = self.reads, []
        for _, _, deferred in reads:
            deferred.errback(error)

    def change(self, *, unwell: str | None = None, accepting: bool = True) -> None:
        """It gets unwell, or well."""
        self.unwell, self.accepting = unwell, accepting
        for callback in self._changes:
            callback()

    # IDurableJournal

    @property
    def size(self) -> int:
        slowest = min((reader.position for reader in self.readers.values()), default=self.head)
        return sum(entry.size for entry in self.entries if entry.end > slowest)

    def open(self) -> None:
        pass

    def close(self) -> Deferred[None]:
        self.closed = True
        self.commit()
        self.write()
        return succeed(None)

    def flush(self) -> Deferred[None]:
        self.write()
        return succeed(None)

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._commits.append(callback)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._changes.append(callback)

    def on_lost(self, callback: Callable[[int, int], None]) -> None:
        """Nothing is damaged here."""

    def lost_ranges(self) -> list[tuple[int, int]]:
        return []

    def append(self, batch: Batch, size: int) -> int:
        assert self.accepting
        assert not self.closed
        self.head += len(batch.frames)
        self.entries.append(Entry(self.head, batch, size))
        if not self.hold:
            self.commit()
        return self.head

    def reader(
        self,
        name: str,
        position: int | None = None,
        listeners: Collection[str] | None = None,
        passing: bool = False,
    ) -> FakeReader:
        if name not in self.readers:
            stands = max(self.first, self.head if position is None else position)
            self.readers[name] = FakeReader(name, self, self.kept.cursors.get(name, stands))
            self.readers[name].passing = passing
        return self.readers[name]

    def drop_reader(self, name: str) -> None:
        self.readers.pop(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.kept.cursors.pop(name, None)
        self.kept.waiting = {key: one for key, one in self.kept.waiting.items() if key[0] != name}

    def commit_cursor(
        self, name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()
    ) -> None:
        self.readers[name].pass_to(position)
        for event_id in settled:
            self.kept.waiting.pop((name, event_id), None)
        for one in parked:
            self.kept.waiting.pop((name, one.event.id), None)
            if one.next_attempt is None:
                self.kept.dead[max(self.kept.dead, default=0) + 1] = one
            else:
                self.kept.waiting[name, one.event.id] = one

    def parked(self, name: str) -> list[Parked]:
        return [one for (handler, _), one in self.kept.waiting.items() if handler == name]

    def oldest(self) -> list[str]:
        behind = {reader.name: reader.position for reader in self.readers.values() if reader.before()}
        first = min(behind.values(), default=0)
        return [name for name, position in behind.items() if position == first]

    def info(self) -> Mapping[str, Any]:
        return {"durable": True, "bytes": self.size, "head": self.head, "dead": len(self.kept.dead)}

    def cursors(self) -> list[Cursor]:
        names = sorted({*self.kept.cursors, *self.readers})
        return [
            Cursor(
                name=name,
                position=self.readers[name].stands if name in self.readers else self.kept.cursors[name],
                active=name in self.readers,
                seen=NEVER,
                parked=len(self.parked(name)),
                dead=len(self.dead(name)),
            )
            for name in names
        ]

    def rename_cursor(self, old: str, new: str) -> None:
        self.kept.cursors[new] = self.kept.cursors.pop(old)

    def drop_cursor(self, name: str) -> None:
        if name in self.readers:
            raise ValueError("it is active")
        self._forget(name)

    def position_at(self, time: dt.datetime) -> int:
        return next((entry.first for entry in self.entries if entry.batch.received >= time), self.head)

    def read_between(self, start: int, end: int, max_bytes: int) -> Deferred[list[Entry]]:
        return succeed([entry for entry in self.entries if entry.end > start and entry.first < end])

    def dead(self, handler: str | None = None, after: int = 0, limit: int = 1000) -> list[tuple[int, Parked]]:
        found = [(n, one) for n, one in self.kept.dead.items() if n > after and handler in (None, one.handler)]
        return found[:limit]

    def read_dead(
        self, handler: str | None = None, after: int = 0, limit: int = 1000
    ) -> Deferred[list[tuple[int, Parked]]]:
        return succeed(self.dead(handler, after, limit))

    def dead_bytes(self) -> int:
        return 1000 * len(self.kept.dead)

    def drop_dead(self, numbers: Collection[int]) -> int:
        dropped = [self.kept.dead.pop(number) for number in numbers if number in self.kept.dead]
        for callback in self._dead_changes:
            callback()
        return len(dropped)

    def retry_dead(self, numbers: Collection[int], now: dt.datetime) -> list[Parked]:
        raise NotImplementedError

    def revive_dead(self, numbers: Collection[int], now: dt.datetime) -> Deferred[list[Parked]]:
        return succeed(self.retry_dead(numbers, now))

    def on_dead_changed(self, callback: Callable[[], None]) -> None:
        self._dead_changes.append(callback)

    def recall(self, scope: str, key: str) -> int | None:
        return self.kept.keys.get((scope, key))

    def remember(self, scope: str, keys: Sequence[tuple[str, int]]) -> None:
        self.kept.keys |= {(scope, key): position for key, position in keys}

    def keep_decoders(self, settings: Sequence[DecoderSettings]) -> None:
        self.kept.decoders = list(settings)

    def kept_decoders(self) -> list[DecoderSettings]:
        return list(self.kept.decoders)


@implementer(IReader)
class FakeReader:
    """One cursor of a `FakeJournal`."""

    skipped = 0
    passing = False

    def __init__(self, name: str, journal: FakeJournal, position: int) -> None:
        self.name = name
        self.ready: Callable[[], None] = lambda: None
        self.stands = position
        self._journal = journal
        self._read_to = position

    def before(self) -> list[Entry]:
        """What the cursor has not passed."""
        return [entry for entry in self._journal.entries if entry.end > self.stands]

    @property
    def position(self) -> int:
        return self.stands

    def next(self, max_bytes: int) -> list[Entry]:
        """The committed entries that come next, which count as read."""
        # What is for other listeners comes as well: whoever reads goes over it.
        found: list[Entry] = []
        for entry in self._journal.entries:
            if self._read_to < entry.end <= self._journal.committed:
                found.append(entry)
                self._read_to = entry.end
                max_bytes -= entry.size
                if max_bytes <= 0:
                    break
        return found

    def read(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        if not self._journal.later:
            return self.next(max_bytes)
        deferred: Deferred[list[Entry]] = Deferred()
        self._journal.reads.append((self, max_bytes, deferred))
        return deferred

    def only(self, max_frames: int, max_bytes: int) -> Entry | None:
        return None

    def lag_bytes(self) -> int:
        return sum(entry.size for entry in self.before())

    def expire_oldest(self) -> int:
        entries = self.before()
        if entries:
            self.pass_to(entries[0].end)
        return self.stands

    def pass_to(self, position: int) -> None:
        """Move the cursor forward."""
        self.stands = max(self.stands, position)
        self._read_to = max(self._read_to, position)
