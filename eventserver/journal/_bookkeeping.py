"""What a journal on disk knows besides frames: cursors, failed events, what senders repeat, decoders' settings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from eventserver.counters import Timings
from eventserver.durable import Cursor, DecoderSettings
from eventserver.interfaces import Parked
from eventserver.journal._catalog import Catalog, Ranges
from eventserver.journal._committing import Committer
from eventserver.journal._failed import Failed
from eventserver.journal._keeping import Keeper
from eventserver.journal._payloads import Payloads
from eventserver.journal._records import CURSOR, INFO, CursorRecord, decoder_changes, encode
from eventserver.journal._remembered import Remembered
from eventserver.journal._rows import microseconds
from eventserver.journal._segment import Segment
from eventserver.journal._window import Window


class Bookkeeping:
    """The part of `SqliteJournal` that is in `meta.db`; see `IDurableJournal` for what the methods promise."""

    committed: int
    max_dead_bytes: int
    _catalog: Catalog
    _committer: Committer
    _failed: Failed
    _keeper: Keeper
    _payloads: Payloads
    _now: Callable[[], dt.datetime]
    _remembered: Remembered
    _window: Window

    def __init__(self) -> None:
        self._decoders: list[DecoderSettings] = []
        self._on_change: list[Callable[[], None]] = []
        self._on_dead_changed: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[int, int], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        self._on_change.append(callback)

    def _tell_change(self) -> None:
        for callback in self._on_change:
            callback()

    def parked(self, name: str) -> list[Parked]:
        return self._failed.parked(name)

    @property
    def commit_times(self) -> Timings:
        return self._committer.times

    def _facts(self) -> dict[str, Any]:
        """What `info` says of all this, and of what is on disk."""
        catalog = self._catalog
        return {
            "disk_bytes": catalog.disk,
            "segments": len(catalog.segments),
            "segments_freed": self._keeper.freed,
            "lost": len(catalog.lost),
            "lost_ranges": [list(one) for one in catalog.lost.ranges],
            "damaged": [segment.first for segment in catalog.segments if segment.damaged],
            "meta_apart": self._keeper.apart,
            "parked": self._failed.count(None, False),
            "dead": self._failed.count(None, True),
            "dead_by_handler": {name: dead for name, (_, dead) in self._failed.counts().items() if dead},
            "dead_lost": self._failed.lost,
            "dead_bytes": self.dead_bytes(),
            "max_dead_bytes": self.max_dead_bytes,
            "keys": len(self._remembered),
            "keys_forgotten": self._remembered.expired,
            "cursors": {**self._keeper.left(), **self._window.positions()},
        }

    # What is on disk

    def segments(self) -> list[Segment]:
        """The segments, oldest first, as they are now."""
        return list(self._catalog.segments)

    def borders(self, first: int) -> list[int]:
        """Positions in a segment at which rows begin."""
        segment = self._catalog.get(first)
        return [] if segment is None else [c.first for c in self._catalog.index.chunks_between(first, segment.end)]

    @property
    def lost(self) -> Ranges:
        """The positions of frames that were here, and cannot be read any more."""
        return self._catalog.lost

    def lost_ranges(self) -> Sequence[tuple[int, int]]:
        return list(self._catalog.lost.ranges)

    def on_lost(self, callback: Callable[[int, int], None]) -> None:
        self._on_lost.append(callback)

    def note_lost(self, start: int | None = None, end: int = 0) -> None:
        """Have written what is known to be lost; a range that was not known before is told."""
        self._keeper.changes[INFO, "lost"] = encode(self._catalog.lost.ranges)
        self._keeper.touch()
        if start is not None:
            self._forget_keys(start, end, self._keeper.held_from())
            for callback in self._on_lost:
                callback(start, end)

    def _forget_keys(self, start: int, end: int, passed: int) -> None:
        """What all cursors have passed is done, though it is lost now: who repeats it is told so."""
        self._remembered.forget(max(start, passed), end)

    def position_at(self, time: dt.datetime) -> int:
        position = self._catalog.index.position_at(microseconds(time))
        return self._committer.head if position is None else position

    # Cursors

    def cursors(self) -> list[Cursor]:
        counts = self._failed.counts()
        active = self._window.positions(passing=False)
        now = self._now()
        found = []
        for name in sorted({*active, *self._keeper.cursors}):
            record = self._keeper.cursors.get(name) or CursorRecord(active[name], now.timestamp())
            parked, dead = counts.get(name, (0, 0))
            found.append(
                Cursor(
                    name=name,
                    position=active.get(name, record.position),
                    active=name in active,
                    seen=now if name in active else dt.datetime.fromtimestamp(record.seen, dt.UTC),
                    parked=parked,
                    dead=dead,
                )
            )
        return found

    def rename_cursor(self, old: str, new: str) -> None:
        record = self._left(old)
        if new in self._keeper.cursors or new in self._window.readers:
            raise ValueError(f"there is a cursor {new} already")
        self._forget(old)
        self._keeper.cursors[new] = record
        self._keeper.changes[CURSOR, new] = encode(record)
        self._failed.rename(old, new)
        # Not before: it may be written at once, and a crash must not find the cursor under neither name.
        self._keeper.touch()

    def drop_cursor(self, name: str) -> None:
        self._left(name)
        self._forget(name)
        self._failed.drop(name, dead=True)
        self._failed.drop(name, dead=False)
        self._keeper.touch()
        self._keeper.left_changed()

    def _left(self, name: str) -> CursorRecord:
        if name in self._window.readers:
            raise ValueError(f"a handler has the cursor {name}")
        if name not in self._keeper.cursors:
            raise ValueError(f"there is no cursor {name}")
        return self._keeper.cursors[name]

    def _forget(self, name: str) -> None:
        del self._keeper.cursors[name]
        self._keeper.changes[CURSOR, name] = None

    # Dead letters

    def dead(self, handler: str | None = None, after: int = 0, limit: int = 1000) -> list[tuple[int, Parked]]:
        return self._payloads.now(self._failed.dead(handler, after, limit))

    def read_dead(
        self, handler: str | None = None, after: int = 0, limit: int = 1000
    ) -> Deferred[list[tuple[int, Parked]]]:
        return ensureDeferred(self._payloads.soon(self._failed.dead(handler, after, limit)))

    def dead_bytes(self) -> int:
        return self._failed.dead_bytes

    def drop_dead(self, numbers: Collection[int]) -> int:
        dropped = self._failed.drop_dead(numbers)
        self._dead_changed()
        return dropped

    def retry_dead(self, numbers: Collection[int], now: dt.datetime) -> list[Parked]:
        retried = self._payloads.now(self._failed.retry_dead(numbers, now))
        self._dead_changed()
        return retried

    def revive_dead(self, numbers: Collection[int], now: dt.datetime) -> Deferred[list[Parked]]:
        async def revive() -> list[Parked]:
            retried = await self._payloads.soon(self._failed.retry_dead(numbers, now))
            self._dead_changed()
            return retried

        return ensureDeferred(revive())

    def _dead_changed(self) -> None:
        self._keeper.touch()
        for callback in self._on_dead_changed:
            callback()

    def on_dead_changed(self, callback: Callable[[], None]) -> None:
        self._on_dead_changed.append(callback)

    # What senders repeat

    def recall(self, scope: str, key: str) -> int | None:
        return self._remembered.recall(scope, key, self._keeper.time())

    def remember(self, scope: str, keys: Sequence[tuple[str, int]]) -> None:
        now = self._keeper.time()
        for key, position in keys:
            self._remembered.add(scope, key, position, now)
        # What is on disk already will have no row: these are in `meta.db` soon.
        committed = self.committed
        self._committer.remember([(scope, key, position) for key, position in keys if position > committed])
        self._keeper.touch()

    # Settings

    def keep_decoders(self, settings: Sequence[DecoderSettings]) -> None:
        self._keeper.changes.update(decoder_changes(self._decoders, list(settings)))
        self._decoders = list(settings)
        self._keeper.touch()

    def kept_decoders(self) -> list[DecoderSettings]:
        return sorted(self._decoders, key=lambda one: (one.listener, one.decoder))
