"""Entries back from disk, in a thread: sealed segments by a reader of their own, the others by the writer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.interfaces import Entry
from eventserver.journal._catalog import Catalog
from eventserver.journal._executor import Executor
from eventserver.journal._reader import Kept
from eventserver.journal._reading import PASSING, Piece, read_piece
from eventserver.journal._segment import Segment
from eventserver.journal._store import SealedReader, Store

#: Attempts to read what the disk does not give, and the seconds before the second; each wait is twice as long. A disk
#: that is away for half a minute has lost nothing.
ATTEMPTS, WAIT = 7, 0.5


class Fetcher:
    """Never fails: what cannot be read is counted as lost, by `lost`, and left out."""

    def __init__(
        self,
        reactor: Any,
        writer: Executor,
        reader: Executor,
        store: Store,
        catalog: Catalog,
        log: Logger,
    ) -> None:
        self.void_before = 0
        self.on_lost: Callable[[int, int], None] = lambda start, end: None
        self._reactor = reactor
        self._writer = writer
        self._reader = reader
        self._store = store
        self._sealed = SealedReader(store.disk, store.folder)
        self._catalog = catalog
        self._log = log
        self._timers: set[Any] = set()
        self._open: int | None = None  # the sealed segment that was read last

    def fetch(
        self, start: int, end: int, max_bytes: int, listeners: Collection[str] | None
    ) -> Deferred[tuple[list[Entry], int]]:
        """Entries with frames between two positions, out of one segment, and the position where to go on.

        There may be none, though some come further on.
        """
        result: Deferred[tuple[list[Entry], int]] = Deferred()
        segment, following = self._catalog.at(start)
        if segment is None:
            result.callback(([], following if start < following <= end else end))
            return result
        until = min(end, segment.end)
        first, sealed = segment.first, segment.sealed
        starts = [chunk.first for chunk in self._catalog.index.chunks_between(first, segment.end)]
        borders = starts[bisect_right(starts, start) :]
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            final = attempts >= ATTEMPTS
            read = partial(
                read_piece,
                start=start,
                until=until,
                max_bytes=max_bytes,
                listeners=listeners,
                borders=borders,
                void_before=self.void_before,
                final=final,
            )
            if sealed:
                self._open = first
                self._reader.submit(lambda: self._sealed.read(first, read), done)
            else:
                self._writer.submit(lambda: self._store.read(first, read), done)

        def done(outcome: Piece | Failure) -> None:
            if not isinstance(outcome, Failure):
                self._note(first, outcome.lost)
                result.callback(([Kept(end, batch, size, 1) for end, batch, size in outcome.found], outcome.next))
            elif self._catalog.get(first) is None:
                # Freed meanwhile: whoever asked has moved on.
                result.callback(([], until))
            elif outcome.check(*PASSING) and attempts < ATTEMPTS:
                self._later(WAIT * 2 ** (attempts - 1), attempt)
            else:
                self._give_up(segment, outcome)
                self._note(first, [(start, until)])
                result.callback(([], until))

        attempt()
        return result

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        def now() -> None:
            self._timers.discard(timer)
            call()

        timer = self._reactor.callLater(seconds, now)
        self._timers.add(timer)

    def _note(self, first: int, lost: list[tuple[int, int]]) -> None:
        ranges = [(start, end, self._catalog.lost.add(start, end)) for start, end in lost]
        new = sum(count for _, _, count in ranges)
        if new:
            if (segment := self._catalog.get(first)) is not None:
                segment.damaged = True
            self._log.error("journal: {frames} frames in segment {first} are lost", frames=new, first=first)
            for start, end, count in ranges:
                if count:
                    self.on_lost(start, end)

    def _give_up(self, segment: Segment, failure: Failure) -> None:
        self._log.error(
            "journal: segment {first} cannot be read: {error}", first=segment.first, error=failure.getErrorMessage()
        )

    def tidy(self) -> None:
        """Let go of a file that has been freed: until then it takes its room."""
        if self._open is not None and self._catalog.get(self._open) is None:
            self._open = None
            self._reader.submit(self._sealed.close, lambda outcome: None)

    def stop(self) -> None:
        """Fetch nothing more."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def close(self) -> None:
        """Let go of the file that was read last; in the reader's thread, or when that is over."""
        self._sealed.close()
