"""The cursors of a journal on disk: made, moved and forgotten, and what they hold that is not in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred

from eventserver.interfaces import Entry, Parked
from eventserver.journal._catalog import Catalog
from eventserver.journal._failed import Failed
from eventserver.journal._fetching import Fetcher
from eventserver.journal._index import ByteIndex
from eventserver.journal._keeping import Keeper
from eventserver.journal._reader import SqliteReader
from eventserver.journal._records import CURSOR
from eventserver.journal._window import Window


class Cursors:
    """Makes, moves and forgets the readers of the window, and gives them what they ask of their journal.

    `head` and `committed` tell the positions of the journal. `forgetful`: cursors have been lost, so that one without
    a record begins with the oldest frame.
    """

    def __init__(
        self,
        window: Window,
        catalog: Catalog,
        keeper: Keeper,
        failed: Failed,
        fetcher: Fetcher,
        *,
        head: Callable[[], int],
        committed: Callable[[], int],
    ) -> None:
        self.forgetful = False
        self.far_size = 0
        """Bytes that are on disk only, and have yet to be passed."""
        self._window = window
        self._catalog = catalog
        self._keeper = keeper
        self._failed = failed
        self._fetcher = fetcher
        self._head = head
        self._committed = committed

    # As `IJournal` has it

    def reader(self, name: str, position: int | None, listeners: Collection[str] | None, passing: bool) -> SqliteReader:
        """The reader of that name, made if there is none."""
        if name in self._window.readers:
            return self._window.readers[name]
        head, first = self._head(), self._catalog.first(self.committed)
        record = None if passing else self._keeper.cursors.get(name)
        if record is not None:
            start = record.position
        elif self.forgetful and not passing:
            start = first
        else:
            start = head if position is None else max(first, min(position, head))
        reader = SqliteReader(name, self, start, listeners, passing)
        self._window.add_reader(reader, head)
        self.far_moved()
        if not passing:
            self._keeper.touch()
        return reader

    def drop(self, name: str) -> None:
        """Forget a cursor, whether it has a reader or not, and what is parked for it."""
        if name in self._window.readers:
            self._window.readers.drop(name, self._head())
        self._failed.drop(name, dead=False)
        if self._keeper.cursors.pop(name, None) is not None:
            self._keeper.changes[CURSOR, name] = None
        self.far_moved()
        self._keeper.touch()

    def commit(self, name: str, position: int, parked: Sequence[Parked], settled: Collection[str]) -> None:
        """Move a cursor forward; it is written soon, together with what has become of failed events."""
        reader = self._window.readers[name]
        passed = 0 if reader.passing else max(0, position - reader.position)
        reader.pass_to(position)
        if parked or settled:
            self._failed.keep(name, parked, settled)
        if self.far_size or len(self._keeper.cursors) > len(self._window.readers):
            self.far_moved()
        self._keeper.touch(passed)

    def oldest(self) -> list[str]:
        """The readers that hold the oldest entry; none where a cursor without a handler holds an older one."""
        readers = self._window.readers
        names = readers.oldest()
        left = min(self._keeper.left().values(), default=self._head())
        # What a cursor without a handler holds nobody can give up.
        return [] if names and left < min(readers[name].position for name in names) else names

    # What readers need

    @property
    def committed(self) -> int:
        """The position behind the last frame committed."""
        return self._committed()

    @property
    def index(self) -> ByteIndex:
        """How many bytes lie between positions, and of which listeners."""
        return self._catalog.index

    def fetch(
        self, start: int, end: int, max_bytes: int, listeners: Collection[str] | None
    ) -> Deferred[tuple[list[Entry], int]]:
        """Entries from disk, and where to go on."""
        return self._fetcher.fetch(start, end, max_bytes, listeners)

    def let_go(self, entry: Entry) -> None:
        """A reader has passed an entry of the window."""
        self._window.let_go(entry)

    def far_moved(self) -> None:
        """Count again what is on disk only and has yet to be passed."""
        lowest = self._window.lowest()
        held = [*self._keeper.left().values(), *([] if lowest is None else [lowest])]
        self.far_size = self.index.between(min(held), self._window.first(self.committed)) if held else 0
