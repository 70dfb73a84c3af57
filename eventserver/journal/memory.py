"""The journal in memory: bounded, fast, and empty after a restart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from eventserver.event import Batch
from eventserver.interfaces import Entry, IJournal, IReader, Parked


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
        self._appended_bytes = 0
        # Entries by serial number, from `_tail` to `_next`: any reader finds its place in O(1).
        self._entries: dict[int, Entry] = {}
        self._tail = 0
        self._next = 0
        self._readers: dict[str, MemoryReader] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._parked: OrderedDict[tuple[str, str], Parked] = OrderedDict()

    @property
    def committed(self) -> int:
        return self.head

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def append(self, batch: Batch, size: int) -> int:
        self.head = head = self.head + len(batch.frames)
        readers = len(self._readers)
        self._appended_bytes += size
        if readers:
            self.size += size
            self._entries[self._next] = Entry(head, batch, size, readers)
            self._next += 1
            for callback in self._callbacks:
                callback()
        return head

    def reader(self, name: str, position: int | None = None) -> MemoryReader:
        if name not in self._readers:
            self._readers[name] = MemoryReader(name, self)
        return self._readers[name]

    def drop_reader(self, name: str) -> None:
        reader = self._readers.pop(name)
        reader.pass_to(self.head)
        self._free()
        for key in [key for key in self._parked if key[0] == name]:
            self._take_out(key)

    def commit_cursor(
        self, name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()
    ) -> None:
        self._readers[name].pass_to(position)
        self._free()
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

    def _free(self) -> None:
        entries = self._entries
        while (entry := entries.get(self._tail)) is not None and not entry.readers_left:
            del entries[self._tail]
            self._tail += 1
            self.size -= entry.size

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
        return [reader.name for reader in self._readers.values() if reader.held == self._tail < self._next]

    def info(self) -> Mapping[str, Any]:
        return {
            "durable": False,
            "max_bytes": self.max_bytes,
            "bytes": self.size,
            "batches": len(self._entries),
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
class MemoryReader:
    """One handler's cursor in a `MemoryJournal`; starts at the head, since there is no history before it."""

    def __init__(self, name: str, journal: MemoryJournal) -> None:
        self.name = name
        self.position = journal.head
        self.held = journal._next
        """The serial number of the oldest entry that the cursor has not passed."""
        self._unread = journal._next
        self._journal = journal
        self._passed_bytes = journal._appended_bytes

    def read(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        entries, found, size = self._journal._entries, [], 0
        while size < max_bytes and (entry := entries.get(self._unread)) is not None:
            found.append(entry)
            size += entry.size
            self._unread += 1
        return found

    def lag_bytes(self) -> int:
        return self._journal._appended_bytes - self._passed_bytes

    def expire_oldest(self) -> int:
        if (entry := self._journal._entries.get(self.held)) is not None:
            self.pass_to(entry.end)
            self._journal._free()
        return self.position

    def pass_to(self, position: int) -> None:
        """Move the cursor forward, and let go of the entries that end at or before it."""
        if position <= self.position:
            return
        self.position = position
        entries = self._journal._entries
        while (entry := entries.get(self.held)) is not None and entry.end <= position:
            entry.readers_left -= 1
            self._passed_bytes += entry.size
            self.held += 1
        self._unread = max(self._unread, self.held)
