"""What the cursors of every journal have in common: where they stand, whose batches they want, who is the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TypeVar


class JournalReader(ABC):
    """The part of a reader that says where it stands; batches of listeners not among `listeners` never come to it.

    `_position` is where it was moved to. With nothing before it, it is at the head all the same: `position`.
    """

    def __init__(self, name: str, position: int, listeners: Collection[str] | None) -> None:
        self.name = name
        self.ready: Callable[[], None] = lambda: None
        self._listeners = None if listeners is None else frozenset(listeners)
        self._position = position
        self._skipped = 0

    @property
    @abstractmethod
    def position(self) -> int:
        """Frames passed."""

    @abstractmethod
    def oldest_end(self) -> int | None:
        """The end of the oldest entry that it has not passed; None at the head."""

    @abstractmethod
    def pass_to(self, position: int) -> None:
        """Move forward, and let go of the entries that end at or before the position."""

    @property
    def skipped(self) -> int:
        """Frames that the cursor has moved over by itself: of other listeners, or lost."""
        return self._skipped + self.position - self._position

    def wants(self, listener: str) -> bool:
        """Whether batches of the listener come here."""
        return self._listeners is None or listener in self._listeners

    def expire_oldest(self) -> int:
        """Move behind the oldest entry that it has not passed; returns where that ends.

        The cursor may be further then: over what follows for others it goes by itself, and that was not given up.
        """
        end = self.oldest_end()
        if end is None:
            return self.position
        self.pass_to(end)
        return end

    def _skip_to(self, position: int) -> None:
        self._skipped += position - self._position
        self._position = position


ReaderT = TypeVar("ReaderT", bound=JournalReader)


class Readers(dict[str, ReaderT]):
    """The readers of a journal by name, and by listener those who want its batches."""

    def __init__(self) -> None:
        super().__init__()
        # Found out once, not for every batch.
        self._wanting: dict[str, list[ReaderT]] = {}

    def add(self, reader: ReaderT) -> None:
        """A reader that is told of what comes."""
        self[reader.name] = reader
        self._wanting = {}

    def drop(self, name: str, head: int) -> None:
        """Forget a reader; what it alone held is let go."""
        self._wanting = {}
        self.pop(name).pass_to(head)

    def wanting(self, listener: str) -> list[ReaderT]:
        """Those to whom batches of the listener come."""
        found = self._wanting.get(listener)
        if found is None:
            found = self._wanting[listener] = [reader for reader in self.values() if reader.wants(listener)]
        return found

    def oldest(self) -> list[str]:
        """The names of those that hold the oldest entry."""
        ends = {name: end for name, reader in self.items() if (end := reader.oldest_end()) is not None}
        first = min(ends.values(), default=0)
        return [name for name, end in ends.items() if end == first]
