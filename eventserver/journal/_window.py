"""The readers of a journal, and the committed batches that they find in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from eventserver.event import Batch
from eventserver.interfaces import Entry
from eventserver.journal._reader import SqliteReader
from eventserver.journal._readers import Readers


class Window:
    """The newest batches that somebody has yet to pass, at most `max_bytes` of them.

    What is older is on disk only; readers that have not read it are told so.
    """

    def __init__(self, max_bytes: int) -> None:
        self.readers: Readers[SqliteReader] = Readers()
        self.size = 0
        """Bytes of the entries that a reader has yet to pass."""
        self.evicted = False
        """Whether the last group pushed something out."""
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._first = 0
        self._young = 0

    def begin(self, head: int) -> None:
        """Begin at a position: what lies before it is on disk."""
        self._first = head

    def first(self, committed: int) -> int:
        """The position from which on everything that is wanted is here."""
        return self._first if self._entries else committed

    def add_reader(self, reader: SqliteReader, head: int) -> None:
        """A reader that is told of what comes; what was appended before `head` may not be for it."""
        self.readers.add(reader)
        self._young = head

    def take(self, first: int, group: Iterable[tuple[Batch, int]]) -> list[SqliteReader]:
        """A group that begins at `first` is committed; returns the readers that it brings something."""
        ready: dict[str, SqliteReader] = {}
        end, entries = first, self._entries
        if not entries:
            self._first = first
        for batch, size in group:
            start, end = end, end + len(batch.frames)
            wanting = self.readers.wanting(batch.listener)
            if end <= self._young:
                wanting = [reader for reader in wanting if reader.starts < end]
            if wanting:
                entry = Entry(end, batch, size, len(wanting))
                entries.append(entry)
                self.size += size
                self._bytes += size
                for reader in wanting:
                    reader.arrived(entry, start)
                    ready[reader.name] = reader
        self.evicted = self._bytes > self._max_bytes
        if self.evicted:
            self._evict()
        return list(ready.values())

    def _evict(self) -> None:
        entries = self._entries
        while self._bytes > self._max_bytes and entries:
            entry = entries.popleft()
            self._first = entry.end
            self._bytes -= entry.size
            if entry.readers_left:
                self.size -= entry.size
                for reader in self.readers.values():
                    reader.evicted(entry)

    def let_go(self, entry: Entry) -> None:
        """A reader has passed an entry."""
        if not entry.let_go() or entry.end <= self._first:
            return
        self.size -= entry.size
        entries = self._entries
        while entries and not entries[0].readers_left:
            oldest = entries.popleft()
            self._first = oldest.end
            self._bytes -= oldest.size

    def lowest(self) -> int | None:
        """The position from which on a reader needs what is on disk."""
        held = [position for reader in self.readers.values() if (position := reader.holds_from) is not None]
        return min(held, default=None)

    def positions(self, passing: bool | None = None) -> dict[str, int]:
        """Where the readers stand."""
        return {r.name: r.position for r in self.readers.values() if passing is None or r.passing == passing}
