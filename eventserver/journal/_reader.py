"""One cursor in the journal on disk: what is in memory comes at once, what is older is fetched in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from eventserver.interfaces import Entry, IReader
from eventserver.journal._index import ByteIndex
from eventserver.journal._readers import JournalReader


class Kept(Entry, eq=False):
    """An entry that was read back from disk; nobody shares it."""


class Source(Protocol):
    """What a reader needs of its journal."""

    @property
    def index(self) -> ByteIndex:
        """How many bytes lie between positions, and of which listeners."""

    @property
    def committed(self) -> int:
        """The position behind the last frame committed."""

    def fetch(
        self, start: int, end: int, max_bytes: int, listeners: Collection[str] | None
    ) -> Deferred[tuple[list[Entry], int]]:
        """Entries from disk, and where to go on. Never fails."""

    def let_go(self, entry: Entry) -> None:
        """A reader has passed an entry of the window."""

    def far_moved(self) -> None:
        """A reader needs less of what is on disk."""


@implementer(IReader)
class SqliteReader(JournalReader):
    """The entries before a cursor lie in three heaps, each older than the next.

    `_far`, from `_next` to `_far_end`, is on disk; `_near` in the journal's window in memory. What `read` gave and the
    cursor has not passed is in `_taken`; `_fetched` came from disk and was more than was asked for.
    """

    def __init__(
        self, name: str, journal: Source, position: int, listeners: Collection[str] | None, passing: bool
    ) -> None:
        super().__init__(name, position, listeners)
        self.passing = passing
        self.starts = position
        self._journal = journal
        self._next = position
        self._far_end = journal.committed
        self._taken: deque[Entry] = deque()
        self._fetched: deque[Entry] = deque()
        self._near: deque[Entry] = deque()
        self._lag = 0  # bytes in the deques
        self._fetching = False
        self._skip_far()

    # Where it stands

    @property
    def _is_far(self) -> bool:
        return self._next < self._far_end

    @property
    def _behind(self) -> bool:
        """Whether anything is before the cursor."""
        return bool(self._near or self._taken or self._fetched) or self._next < self._far_end

    @property
    def position(self) -> int:
        return self._position if self._behind else max(self._position, self._journal.committed)

    @property
    def holds_from(self) -> int | None:
        """The position from which on it needs what is on disk; None if that is in memory, or nothing."""
        if self._is_far or self._fetched or (self._taken and isinstance(self._taken[0], Kept)):
            return self._position
        return None

    def lag_bytes(self) -> int:
        return self._lag + self._far_bytes() if self._is_far else self._lag

    def _far_bytes(self) -> int:
        # Never 0: there is something to be fetched, if only to find that it is nothing.
        return max(1, self._journal.index.between(self._next, self._far_end, self._listeners))

    def oldest_end(self) -> int | None:
        """The end of the oldest entry not passed, or of the piece of the journal that it is in; None at the head."""
        for heap in (self._taken, self._fetched):
            if heap:
                return heap[0].end
        if self._is_far:
            return min(self._journal.index.border_after(self._next + 1), self._far_end)
        return self._near[0].end if self._near else None

    # What comes

    def arrived(self, entry: Entry, first: int) -> None:
        """An entry that begins at `first` is committed."""
        if not self._behind and first != self._position:
            self._skip_to(first)
        self._near.append(entry)
        self._lag += entry.size

    def evicted(self, entry: Entry) -> None:
        """An entry leaves the window; if it has not been read, it will have to be fetched."""
        if self._near and self._near[0] is entry:
            self._near.popleft()
            self._lag -= entry.size
            if not self._is_far:
                self._next = max(self._next, entry.first)
            self._far_end = entry.end

    def read(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        if self._fetched:
            return self._take(self._fetched, max_bytes)
        if self._next < self._far_end:
            return self._fetch(max_bytes)
        return self._take(self._near, max_bytes)

    def _take(self, heap: deque[Entry], max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        while heap and size < max_bytes:
            entry = heap.popleft()
            found.append(entry)
            size += entry.size
        if found:
            self._taken.extend(found)
            if heap is self._near:
                self._next = self._far_end = found[-1].end
        return found

    def only(self, max_frames: int, max_bytes: int) -> Entry | None:
        if len(self._near) != 1 or self._taken or self._fetched or self._next < self._far_end:
            return None
        entry = self._near[0]
        if len(entry.batch.frames) > max_frames or entry.size > max_bytes:
            return None
        self._near.popleft()
        self._taken.append(entry)
        self._next = self._far_end = entry.end
        return entry

    def _fetch(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        result: Deferred[list[Entry]] = Deferred()
        if self._fetching:
            # Whoever asked first gets it.
            return []
        self._fetching = True

        def again() -> None:
            start = self._next
            self._journal.fetch(start, self._far_end, max_bytes, self._listeners).addCallback(fetched, start)

        def fetched(found: tuple[list[Entry], int], start: int) -> None:
            entries, reached = found
            # The cursor may have been moved meanwhile.
            entries = [entry for entry in entries if entry.end > max(self._position, self._next)]
            self._next = max(self._next, min(reached, max(self._far_end, start)))
            if not entries and self._is_far:
                again()
                return
            self._fetching = False
            if not entries:
                self._journal.far_moved()
            self._fetched.extend(entries)
            self._lag += sum(entry.size for entry in entries)
            entries = self._take(self._fetched if self._fetched else self._near, max_bytes)
            result.callback(entries)
            if not entries:
                # There was nothing for it: it is at the head now, which somebody may wait for.
                self.ready()

        again()
        if result.called:
            done: list[Entry] = result.result  # type: ignore[assignment]  # what `callback` was given
            return done
        return result

    def _skip_far(self) -> None:
        """Go over what is on disk, if none of it is for this reader."""
        listeners = self._listeners
        if listeners is None or not self._is_far:
            return
        if not self._journal.index.holds(self._next, self._far_end, listeners):
            self._next = self._far_end

    # Moving

    def pass_to(self, position: int) -> None:
        if position <= self._position or not self._behind:
            return
        was_far = self.holds_from is not None
        self._position = position
        taken = self._taken
        while taken and taken[0].end <= position:
            self._let_go(taken.popleft())
        if (
            not taken
            and not self._fetched
            and not self._near
            and self._next >= position
            and self._next >= self._far_end
        ):
            # So it is after each pile, as long as the server is not busy.
            if was_far:
                self._journal.far_moved()
            return
        while self._fetched and self._fetched[0].end <= position:
            self._let_go(self._fetched.popleft())
        while self._near and self._near[0].end <= position:
            self._let_go(self._near.popleft())
        if self._next < position:
            self._next = position
            self._far_end = max(self._far_end, position)
        # What was read is a handler's, who counts what lies between as well.
        if not taken and not self._fetched and not self._is_far and self._near and self._listeners is not None:
            self._skip_to(max(self._position, self._near[0].first))
        if was_far:
            self._journal.far_moved()

    def _let_go(self, entry: Entry) -> None:
        self._lag -= entry.size
        if not isinstance(entry, Kept):
            self._journal.let_go(entry)
