"""What is written to `meta.db` soon after it has changed, and what is done once a second: cursors, age, room."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.journal._catalog import Catalog
from eventserver.journal._executor import Executor
from eventserver.journal._failed import Failed
from eventserver.journal._meta import FORGETFUL, PAYLOAD, Changes
from eventserver.journal._records import CURSOR, INFO, SEGMENT, CursorRecord, SegmentRecord, encode
from eventserver.journal._remembered import Remembered
from eventserver.journal._segment import Segment
from eventserver.journal._store import Store
from eventserver.journal._window import Window

#: Seconds in which cursors and the like are gathered before they are written; at most.
FLUSH = 0.2
#: Frames that cursors pass after which they are written sooner, since after a kill all that was not written is handled
#: again. But not before so many seconds since the last time, nor so many times as long as that took: each is a sync,
#: and must not keep frames from being committed.
MANY, SOON, PATIENCE = 1000, 0.02, 2.0
#: Seconds between looks at what is too old or too much.
LOOK = 1.0
#: Seconds after which it is noted again that a handler has its cursor, though it has not moved.
SEEN = 3600.0
#: Seconds after the start in which no cursor expires: its handler may be about to come.
GRACE = 60.0


class Keeper:
    """Cursors on disk, and the segments that they hold. `now` gives aware UTC times.

    `cursors` are those on disk, as they were written last; readers of the window are ahead of them.
    """

    def __init__(
        self,
        reactor: Any,
        executor: Executor,
        store: Store,
        *,
        now: Callable[[], dt.datetime],
        catalog: Catalog,
        window: Window,
        failed: Failed,
        remembered: Remembered,
        committed: Callable[[], int],
        retention: float,
        max_bytes: int,
        log: Logger,
    ) -> None:
        self.cursors: dict[str, CursorRecord] = {}
        self.changes: Changes = {}
        self.unwell: str | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called when `unwell` has changed."""
        self.freed = 0
        """Segments freed since the start."""
        self.apart = 0
        """Files of records that could not be read whole and were put apart, since the start."""
        self._reactor = reactor
        self._executor = executor
        self._store = store
        self._now = now
        self._catalog = catalog
        self._window = window
        self._failed = failed
        self._remembered = remembered
        self._committed = committed
        self.retention = retention
        self._max_bytes = max_bytes
        self._log = log
        self._timer: Any = None
        self._look: Any = None
        self._writing = self._freeing = False
        self._again = self._stopped = False
        self._passed = 0
        self._wrote = self._took = 0.0
        self._waiting: list[Deferred[None]] = []
        self._payloads: list[str] = []  # of dead letters, that were to be written
        self._started = (0.0, 0.0)
        self._begun = 0
        self._unsealed: set[int] = set()
        self.left_changed: Callable[[], None] = lambda: None
        """Called when a cursor that no handler has is gone, or holds nothing any more."""

    def start(self, looked: Callable[[], None]) -> None:
        """Begin to look after things; `looked` is called after each look."""
        # Steps of the wall clock while the server runs make nothing older.
        self._started = self._now().timestamp(), self._reactor.seconds()
        self._begun = self._committed()
        self._note_apart()

        def look() -> None:
            self._look = self._reactor.callLater(LOOK, look)
            self.look()
            looked()

        self._look = self._reactor.callLater(LOOK, look)

    def time(self) -> float:
        """Seconds since 1970, by a clock that nobody sets while the server runs."""
        wall, seconds = self._started
        now: float = wall + self._reactor.seconds() - seconds
        return now

    # Writing

    def touch(self, passed: int = 0) -> None:
        """Something has changed; cursors have passed so many frames."""
        self._passed += passed
        if self._stopped:
            return
        if self._writing:
            self._again = True
        elif passed and self._passed >= MANY and self._wait() <= 0:
            # Not with a timer: in one turn of the event loop a quick handler gets thousands. But only for cursors:
            # other changes may be in the middle of something, such as a dead letter of a replay that is to go on.
            self._write()
        elif self._timer is None:
            self._timer = self._reactor.callLater(FLUSH, self._write)

    def _wait(self) -> float:
        """Seconds until cursors may be written sooner than usual."""
        least = FLUSH if self.unwell is not None else max(SOON, PATIENCE * self._took)
        now: float = self._reactor.seconds()
        return self._wrote + least - now

    def flush(self) -> Deferred[None]:
        """Fires when everything is written as it is now."""
        done: Deferred[None] = Deferred()
        if self._stopped:
            done.errback(OSError("the journal is closed"))
            return done
        self._waiting.append(done)
        if self._writing:
            self._again = True
        else:
            self._write()
        return done

    def collect(self) -> Changes:
        """What is to be written; from now on it counts as written, unless it is given back."""
        now, changes = self.time(), self.changes
        self.changes = {}
        self._passed = 0
        committed = self._committed()
        for name, position in self._window.positions(passing=False).items():
            # A new cursor at the head may be before what is committed; a crash takes what lies between.
            position = min(position, committed)
            record = self.cursors.get(name)
            unchanged = record is not None and record.position == position and not (record.expired or record.left)
            if record is None or not unchanged or record.seen < now - SEEN:
                self.cursors[name] = record = CursorRecord(position, now)
                changes[CURSOR, name] = encode(record)
        changes.update(self._failed.changes)
        self._failed.changes = {}
        changes.update(self._remembered.take(committed))
        changes[INFO, "committed"] = b"%d" % committed
        if committed > self._begun and FORGETFUL in self._store.meta.records:
            # Before a server listens it waits until its cursors are on the disk: `flush`.
            changes[FORGETFUL] = None
        return changes

    def _write(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._writing = True
        self._again = False
        began = self._reactor.seconds()
        changes, waiting = self.collect(), self._waiting
        self._waiting = []
        payloads = _payloads_of(changes)
        self._executor.submit(
            lambda: self._store.flush(changes),
            lambda outcome: self._written(outcome, began, payloads, waiting),
        )

    def _written(
        self,
        outcome: object,
        began: float,
        payloads: list[str],
        waiting: list[Deferred[None]],
    ) -> None:
        self._writing = False
        self._wrote = self._reactor.seconds()
        self._took = self._wrote - began
        self._note_apart()
        # Those that could not be written are, with the next that are.
        self._payloads += payloads
        if isinstance(outcome, Failure):
            self._not_written(outcome)
        else:
            self._well()
        for done in waiting:
            if isinstance(outcome, Failure):
                done.errback(outcome)
            else:
                done.callback(None)
        if self._stopped:
            # The files are closed behind this, and whatever is still to be written is written then.
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done.errback(OSError("the journal is closed"))
        elif self._waiting:
            self._write()
        elif self._again:
            self._again = False
            self.touch()

    def _note_apart(self) -> None:
        apart = self._store.meta.apart
        while apart:
            self.apart += 1
            self._log.error(
                "journal: not all of meta.db could be read; what it was is kept as {path}", path=str(apart.popleft())
            )

    def _well(self) -> None:
        payloads, self._payloads = self._payloads, []
        self._failed.written(payloads)
        if self.unwell is not None:
            self.unwell = None
            self.changed()

    def _not_written(self, failure: Failure) -> None:
        # The store has kept the changes, and writes them with the next.
        if self.unwell is None:
            self._log.error("journal: cursors cannot be written: {reason}", reason=failure.getErrorMessage())
            self.unwell = failure.getErrorMessage()
            self.changed()
        # At the next look, not in a hurry.
        self._again = False

    # Segments

    def seal(self, first: int) -> None:
        """A segment is full."""

        def sealed(disk: int | Failure | None) -> None:
            segment = self._catalog.get(first)
            if isinstance(disk, Failure) and segment is not None:
                self._unsealed.add(first)
            if segment is None or isinstance(disk, Failure) or disk is None:
                return
            self._unsealed.discard(first)
            segment.sealed, segment.disk = True, disk
            chunks = self._catalog.index.chunks_between(segment.first, segment.end)
            self.changes[SEGMENT, str(first)] = encode(SegmentRecord(segment, chunks))
            self.touch()
            self.free()

        self._executor.submit(lambda: self._store.seal(first), sealed)

    def held_from(self) -> int:
        """The position that the last of all cursors has reached."""
        positions = [*self._window.positions().values(), *self.left().values()]
        return min(positions, default=self._committed())

    def left(self) -> dict[str, int]:
        """The positions of the cursors that hold something though no handler has them."""
        readers = self._window.readers
        return {n: record.position for n, record in self.cursors.items() if n not in readers and not record.expired}

    def free(self, pressed: bool = False) -> None:
        """Unlink what is old or too much, or everything that has been handled where room is needed at once."""
        if self._freeing or self._stopped:
            return
        older = self.time() - self.retention
        limit = 0 if pressed else self._max_bytes
        segments = self._catalog.to_free(self.held_from(), older_than=int(older * 1e6), max_bytes=limit)
        if not segments:
            return
        self._freeing = True
        changes = self.collect()
        payloads = _payloads_of(changes)
        marks: Changes = {(SEGMENT, str(segment.first)): None for segment in segments}
        # Names may come back after a power cut, in any order: what begins before this is known to be left over.
        marks[INFO, "freed"] = b"%d" % segments[-1].end
        firsts = [segment.first for segment in segments]

        def freed(outcome: object) -> None:
            self._freeing = False
            self._note_apart()
            self._payloads += payloads
            if isinstance(outcome, Failure):
                self._not_written(outcome)
                return
            self._forget(segments)

        damaged = [segment.first for segment in segments if segment.damaged]
        self._executor.submit(lambda: self._store.free(firsts, damaged, changes, marks), freed)

    def _forget(self, segments: list[Segment]) -> None:
        self.freed += len(segments)
        self._catalog.freed(segments)

    def look(self) -> None:
        """Let go of what is too old or too much; try again what could not be written."""
        self._expire_cursors()
        self._remembered.expire(self.time())
        self.free(pressed=self._store.full)
        if not self._store.full:
            for first in list(self._unsealed):
                self._unsealed.discard(first)
                self.seal(first)
        if self.changes or self.unwell is not None:
            self.touch()

    def _expire_cursors(self) -> None:
        now = self.time()
        if self._reactor.seconds() - self._started[1] < GRACE:
            return
        for name, record in list(self.cursors.items()):
            if name in self._window.readers or record.expired:
                continue
            if not record.left:
                # Counted from here: while no server ran nobody could see that its handler is not there.
                self.cursors[name] = record = msgspec.structs.replace(record, left=now)
                self.changes[CURSOR, name] = encode(record)
                self.touch()
            if record.left + self.retention < now:
                self._log.warn(
                    "journal: the cursor of {name} holds nothing any more: no handler has had it for {retention:g} s",
                    name=name,
                    retention=self.retention,
                )
                self.cursors[name] = record = msgspec.structs.replace(record, expired=True)
                self.changes[CURSOR, name] = encode(record)
                self.touch()
                self.left_changed()

    def stop(self) -> None:
        """Look after nothing any more: the files are about to be closed, and may be another journal's soon."""
        self._stopped = True
        for timer in (self._timer, self._look):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._look = None


def _payloads_of(changes: Changes) -> list[str]:
    return [key for (kind, key), data in changes.items() if kind == PAYLOAD and data is not None]
