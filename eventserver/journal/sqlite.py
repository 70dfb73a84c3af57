"""The journal on disk: segments of SQLite, group commit, cursors that survive."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from eventserver.durable import DecoderSettings, IDurableJournal
from eventserver.event import Batch
from eventserver.interfaces import Entry, Parked
from eventserver.journal._bookkeeping import Bookkeeping
from eventserver.journal._catalog import Catalog, Ranges
from eventserver.journal._committing import Committer, Group, tell
from eventserver.journal._cursors import Cursors
from eventserver.journal._disk import DISK_ERRORS, Disk
from eventserver.journal._executor import Executor, ThreadExecutor
from eventserver.journal._failed import Failed
from eventserver.journal._fetching import Fetcher
from eventserver.journal._history import read_between
from eventserver.journal._keeping import Keeper
from eventserver.journal._opening import Opened, open_store
from eventserver.journal._payloads import Payloads
from eventserver.journal._reader import SqliteReader
from eventserver.journal._records import DECODER, INFO, decode_all
from eventserver.journal._remembered import Remembered
from eventserver.journal._store import Store, Written
from eventserver.journal._window import Window

MIB = 1 << 20
#: Bytes in the log of the active segment at which it is brought into the database: when there is nothing else to do,
#: and at the latest.
LOG_IDLE, LOG_MOST = 1 * MIB, 16 * MIB


def segment_bytes_for(max_bytes: int) -> int:
    """The size of a segment: 64 MiB, or an eighth of a smaller journal."""
    return max(64 << 10, min(64 * MIB, max_bytes // 8))


@implementer(IDurableJournal)
class SqliteJournal(Bookkeeping):
    """Keeps batches in `folder/worker/`, in files of `segment_bytes` each.

    `reactor` gives time, delayed calls and `callFromThread`; `now` aware UTC times. `max_bytes` bounds what cursors
    have not passed, and beyond that what is kept for `retention` seconds after it was received; up to two segments and
    the ballast come on top of it. `window` bytes of what was committed last stay in memory. `max_keys` and
    `key_window` (seconds) bound what is remembered of what senders repeat. `point(name)` is called where a crash
    would be most interesting; `executor(name)` gives the threads, `disk` the file system. `wait(seconds)` is called
    by `open` where the disk fails, between its attempts.
    """

    durable = True

    def __init__(
        self,
        folder: Path,
        *,
        reactor: Any,
        now: Callable[[], dt.datetime],
        max_bytes: int = 1 << 30,
        retention: float = 86400.0,
        max_dead_bytes: int = 256 * MIB,
        window: int = 32 * MIB,
        worker: str = "0",
        max_keys: int = 100_000,
        key_window: float = 86400.0,
        segment_bytes: int | None = None,
        ballast: int | None = None,
        log: Logger | None = None,
        point: Callable[[str], None] = lambda name: None,
        executor: Callable[[str], Executor] | None = None,
        disk: Disk | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.files = folder / worker
        """Where the segments and `meta.db` are."""
        self.max_bytes = max_bytes
        self.max_dead_bytes = max_dead_bytes
        self.node = ""
        self.disk = disk or Disk()
        self._log = log or Logger(namespace="journal")
        self._now = now
        self._reactor = reactor
        make = executor or (lambda name: ThreadExecutor(reactor, name))
        self._writer, self._reader = make("journal-writer"), make("journal-reader")
        self._store = Store(
            self.disk,
            self.files,
            segment_bytes=segment_bytes_for(max_bytes) if segment_bytes is None else segment_bytes,
            ballast=min(64 * MIB, max_bytes // 16) if ballast is None else ballast,
            point=point,
            seconds=reactor.seconds,
        )
        self._wait = wait
        self._catalog = Catalog()
        self._window = Window(window)
        self._failed = Failed(self._lost_dead)
        self._payloads = Payloads(self._writer, self._store.meta.payloads)
        self._remembered = Remembered(max_keys, key_window)
        self._committer = Committer(
            reactor,
            self._writer,
            self._store,
            max_waiting=max(MIB, min(window, max_bytes // 2)),
            committed=self._group_committed,
            changed=self._changed,
            log=self._log,
        )
        self._committer.idle = self._idle
        self._keeper = Keeper(
            reactor,
            self._writer,
            self._store,
            now=now,
            catalog=self._catalog,
            window=self._window,
            failed=self._failed,
            remembered=self._remembered,
            committed=lambda: self.committed,
            retention=retention,
            max_bytes=max_bytes,
            log=self._log,
        )
        self._keeper.left_changed = self._left_changed
        self._keeper.changed = self._tell_change
        self._fetcher = Fetcher(reactor, self._writer, self._reader, self._store, self._catalog, self._log)
        self._fetcher.on_lost = self.note_lost
        self._cursors = Cursors(
            self._window,
            self._catalog,
            self._keeper,
            self._failed,
            self._fetcher,
            head=lambda: self.head,
            committed=lambda: self.committed,
        )
        self.committed = 0
        self._unwritten = 0
        self._maintaining = False
        self._errors = self._commits = 0
        self._closed: Deferred[None] | None = None
        self._lock: int | None = None
        self._on_commit: list[Callable[[], None]] = []

    # Opening and closing

    def open(self) -> None:
        try:
            self.disk.make_folder(self.files)
            self._lock = self.disk.lock(self.folder / "lock")
        except BlockingIOError:
            raise ValueError(f"{self.folder} is the journal of another server that runs") from None
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be used: {error.strerror or error}") from error
        try:
            self._begin(open_store(self._store, self._log, self._wait))
        except (ValueError, *DISK_ERRORS) as error:
            self._unlock()
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"{self.files} cannot be used: {error}") from error

    def _begin(self, found: Opened) -> None:
        records = self._store.meta.records
        self.node = found.node
        self.committed = found.head
        self._committer.begin(found.head)
        self._window.begin(found.head)
        self._catalog.segments = found.segments
        self._catalog.index = found.index
        self._fetcher.void_before = found.head
        self._cursors.forgetful = found.forgetful
        self._failed.lost += found.damaged.get("failed", 0) + found.damaged.get("dead", 0)
        unreadable = self._failed.restore(records)
        if unreadable:
            self._log.error("journal: {count} parked or dead events cannot be read", count=unreadable)
        self._remembered.restore(records, found.keys)
        self._decoders = list(decode_all(records, DECODER, DecoderSettings).values())
        self._keeper.cursors = found.cursors
        self._keeper.changes = found.changes
        self._restore_lost(records.get((INFO, "lost"), b""), found)
        self._store.begin()
        self._keeper.start(self._looked)
        self._keeper.touch()
        self._cursors.far_moved()

    def _restore_lost(self, data: bytes, found: Opened) -> None:
        try:
            known = msgspec.msgpack.decode(data, type=list[tuple[int, int]]) if data else []
        except (msgspec.MsgspecError, ValueError):
            known = []
        self._catalog.lost = Ranges(known)
        new = sum(self._catalog.lost.add(start, end) for start, end in found.lost)
        passed = 0 if found.forgetful else self._keeper.held_from()
        for start, end in self._catalog.lost.ranges:
            self._forget_keys(start, end, passed)
        if new:
            self._log.error("journal: {frames} frames are lost", frames=new)
            self.note_lost()

    def _lost_dead(self, number: int, handler: str) -> None:
        self._log.error("journal: dead letter {number} of {handler} cannot be read", number=number, handler=handler)
        self._keeper.touch()

    def flush(self) -> Deferred[None]:
        return self._keeper.flush()

    def close(self) -> Deferred[None]:
        if self._closed is not None:
            return self._closed
        self._closed = Deferred()
        self._committer.hurry()
        if self._committer.at_rest or self._committer.unwell is not None:
            self._close()
        return self._closed

    def _close(self) -> None:
        self._committer.stop()
        self._keeper.stop()
        self._fetcher.stop()
        self._payloads.stopped = True
        changes = self._keeper.collect()
        self._reader.submit(self._fetcher.close, lambda outcome: None)
        self._writer.submit(lambda: self._store.close(changes), self._files_closed)

    def _files_closed(self, outcome: object) -> None:
        self._writer.stop()
        self._reader.stop()
        self._unlock()
        closed = self._closed
        if closed is not None and not closed.called:
            closed.callback(None)

    def _unlock(self) -> None:
        if self._lock is not None:
            self.disk.unlock(self._lock)
            self._lock = None

    # Appending

    @property
    def head(self) -> int:
        return self._committer.head

    @property
    def size(self) -> int:
        return self._committer.size + self._window.size + self._cursors.far_size

    @property
    def first(self) -> int:
        return self._catalog.first(self.committed)

    @property
    def unwell(self) -> str | None:
        return self._committer.unwell or self._keeper.unwell

    @property
    def accepting(self) -> bool:
        return self._committer.accepting

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._on_commit.append(callback)

    def append(self, batch: Batch, size: int) -> int:
        return self._committer.append(batch, size)

    def _group_committed(self, group: Group, written: Written) -> None:
        first = self.committed
        self.committed = written.heads[-1].end
        self._errors, self._unwritten = written.errors, written.unwritten
        self._commits += 1
        self._catalog.written(written.segment, written.heads, written.disk)
        for full in written.to_seal:
            self._keeper.seal(full)
        ready = self._window.take(first, group)
        if self._window.evicted or self._cursors.far_size or self._keeper.cursors:
            self._cursors.far_moved()
        self._keeper.touch()
        if self._unwritten >= LOG_MOST:
            self._maintain()
        tell([*self._on_commit, *(reader.ready for reader in ready)], self._log)

    def _idle(self) -> None:
        if self._closed is not None:
            self._close()
        elif self._unwritten >= LOG_IDLE:
            self._maintain()

    def _maintain(self) -> None:
        if self._maintaining:
            return
        self._maintaining = True

        def maintained(left: object) -> None:
            self._maintaining = False
            self._unwritten = left if isinstance(left, int) else 0

        self._writer.submit(self._store.maintain, maintained)

    def _changed(self) -> None:
        if self._committer.unwell is not None:
            if self._closed is not None:
                self._close()
                return
            if self._store.full:
                # Whatever may go makes room at once.
                self._keeper.free(pressed=True)
        self._tell_change()

    def _looked(self) -> None:
        self._fetcher.tidy()
        segments = self._catalog.segments
        if segments and segments[-1].since < (self._keeper.time() - max(60.0, self._keeper.retention / 8)) * 1e6:
            # What comes slowly is to be freed in time as well.
            self._committer.roll = True

    # Reading

    def reader(
        self,
        name: str,
        position: int | None = None,
        listeners: Collection[str] | None = None,
        passing: bool = False,
    ) -> SqliteReader:
        return self._cursors.reader(name, position, listeners, passing)

    def drop_reader(self, name: str) -> None:
        self._cursors.drop(name)

    def commit_cursor(
        self, name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()
    ) -> None:
        self._cursors.commit(name, position, parked, settled)

    def fetch(
        self, start: int, end: int, max_bytes: int, listeners: Collection[str] | None
    ) -> Deferred[tuple[list[Entry], int]]:
        """Entries from disk, and where to go on."""
        return self._fetcher.fetch(start, end, max_bytes, listeners)

    def _left_changed(self) -> None:
        self._cursors.far_moved()
        self._tell_change()

    def oldest(self) -> list[str]:
        return self._cursors.oldest()

    def info(self) -> Mapping[str, Any]:
        return {
            **self._facts(),
            "durable": True,
            "folder": str(self.folder),
            "node": self.node,
            "max_bytes": self.max_bytes,
            "bytes": self.size,
            "first": self.first,
            "head": self.head,
            "committed": self.committed,
            "commits": self._commits,
            "disk_errors": self._errors,
            "unwell": self.unwell,
        }

    # History

    def read_between(self, start: int, end: int, max_bytes: int) -> Deferred[list[Entry]]:
        return read_between(self.fetch, start, min(end, self.committed), max_bytes)
