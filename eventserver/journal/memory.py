"""The journal in memory: bounded, fast, and empty after a restart."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from eventserver.event import Batch
from eventserver.interfaces import Entry, IJournal, IReader, Parked
from eventserver.journal._readers import JournalReader, Readers


@implementer(IJournal)
class MemoryJournal:
    """Holds batches until every reader has passed them; what is appended is committed at once.

    `max_bytes` bounds the batches, `max_parked_bytes` the parked and dead events together: beyond it the oldest dead
    letter is forgotten (`forgotten` counts them), and `log_forgotten` is told. What is parked is never forgotten; each
    handler's `retry.max_parked` bounds it.
    """

    durable = False

    def __init__(
        self,
        max_bytes: int = 64 << 20,
        max_parked_bytes: int = 16 << 20,
        log_forgotten: Callable[[Parked], None] = lambda parked: None,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_parked_bytes = max_parked_bytes
        self._parked_bytes = 0
        self.size = 0
        self.head = 0
        self.forgotten = 0
        self._log_forgotten = log_forgotten
        self._readers: Readers[MemoryReader] = Readers()
        self._callbacks: list[Callable[[], None]] = []
        self._parked: OrderedDict[tuple[str, str], Parked] = OrderedDict()

    @property
    def committed(self) -> int:
        return self.head

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def append(self, batch: Batch, size: int) -> int:
        first = self.head
        self.head = head = first + len(batch.frames)
        if wanting := self._readers.wanting(batch.listener):
            self.size += size
            entry = Entry(head, batch, size, len(wanting))
            for reader in wanting:
                reader.arrived(entry, first)
            for callback in self._callbacks:
                callback()
            for reader in wanting:
                reader.ready()
        return head

    def reader(
        self,
        name: str,
        position: int | None = None,
        listeners: Collection[str] | None = None,
        passing: bool = False,
    ) -> MemoryReader:
        if name not in self._readers:
            self._readers.add(MemoryReader(name, self, listeners))
        return self._readers[name]

    def drop_reader(self, name: str) -> None:
        self._readers.drop(name, self.head)
        for key in [key for key in self._parked if key[0] == name]:
            self._take_out(key)

    def commit_cursor(
        self, name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()
    ) -> None:
        self._readers[name].pass_to(position)
        if parked or settled:
            self._keep(name, parked, settled)

    def _keep(self, name: str, parked: Sequence[Parked], settled: Collection[str]) -> None:
        for event_id in settled:
            self._take_out((name, event_id))
        for one in parked:
            self._take_out((name, one.event.id))
            self._parked[name, one.event.id] = one
            self._parked_bytes += _weight(one)
        if self._parked_bytes > self.max_parked_bytes:
            self._forget()

    def _take_out(self, key: tuple[str, str]) -> Parked | None:
        one = self._parked.pop(key, None)
        if one is not None:
            self._parked_bytes -= _weight(one)
        return one

    def _forget(self) -> None:
        excess = self._parked_bytes - self.max_parked_bytes
        doomed = []
        for key, one in self._parked.items():
            if excess <= 0:
                break
            if one.next_attempt is None:
                doomed.append(key)
                excess -= _weight(one)
        for key in doomed:
            self.forgotten += 1
            if (gone := self._take_out(key)) is not None:
                self._log_forgotten(gone)

    def parked(self, name: str) -> list[Parked]:
        return [one for (handler, _), one in self._parked.items() if handler == name]

    def oldest(self) -> list[str]:
        return self._readers.oldest()

    def info(self) -> Mapping[str, Any]:
        return {
            "durable": False,
            "max_bytes": self.max_bytes,
            "bytes": self.size,
            "batches": len({entry.end for reader in self._readers.values() for entry in reader.before}),
            "head": self.head,
            "parked": sum(one.next_attempt is not None for one in self._parked.values()),
            "dead": sum(one.next_attempt is None for one in self._parked.values()),
            "parked_bytes": self._parked_bytes,
            "forgotten": self.forgotten,
            "cursors": {reader.name: reader.position for reader in self._readers.values()},
        }


def _weight(parked: Parked) -> int:
    """About the bytes of memory that a record takes: its texts, the frame as bytes and in the event, and objects."""
    return 2000 + 3 * len(parked.frame or parked.event.message) + len(parked.traceback) + len(parked.error)


@implementer(IReader)
class MemoryReader(JournalReader):
    """One handler's cursor in a `MemoryJournal`; starts at the head, since there is no history before it.

    Batches of listeners that are not among `listeners` never come here, and cost nothing: with nothing else before it
    the cursor is at the head, wherever that is.
    """

    def __init__(self, name: str, journal: MemoryJournal, listeners: Collection[str] | None = None) -> None:
        super().__init__(name, journal.head, listeners)
        self._journal = journal
        self.before: deque[Entry] = deque()
        """What the cursor has not passed, oldest first."""
        self._read = 0  # how many of these have been read
        self._lag = 0

    @property
    def position(self) -> int:
        return self._position if self.before else self._journal.head

    def oldest_end(self) -> int | None:
        return self.before[0].end if self.before else None

    def arrived(self, entry: Entry, first: int) -> None:
        """An entry that begins at `first` is appended."""
        if not self.before and first != self._position:
            self._skip_to(first)
        self.before.append(entry)
        self._lag += entry.size

    def read(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        found: list[Entry] = []
        size = 0
        # What was read and not passed is no more than a handler has in its hands.
        for entry in islice(self.before, self._read, None):
            found.append(entry)
            size += entry.size
            if size >= max_bytes:
                break
        self._read += len(found)
        return found

    def only(self, max_frames: int, max_bytes: int) -> Entry | None:
        if len(self.before) != 1 or self._read:
            return None
        entry = self.before[0]
        if len(entry.batch.frames) > max_frames or entry.size > max_bytes:
            return None
        self._read = 1
        return entry

    def lag_bytes(self) -> int:
        return self._lag

    def pass_to(self, position: int) -> None:
        before = self.before
        if len(before) == 1 and before[0].end == position:
            # All there is: so it is after each read, as long as the server is not busy.
            entry = before.popleft()
            self._position = position
            self._lag = self._read = 0
            self._let_go(entry)
            return
        if not before or position <= self._position:
            return
        self._position = position
        while before and before[0].end <= position:
            entry = before.popleft()
            self._lag -= entry.size
            self._read = max(0, self._read - 1)
            self._let_go(entry)
        # What was read is a handler's, who counts what lies between as well.
        if before and not self._read and self._listeners is not None and (first := before[0].first) > position:
            self._skip_to(first)

    def _let_go(self, entry: Entry) -> None:
        if entry.let_go():
            self._journal.size -= entry.size
