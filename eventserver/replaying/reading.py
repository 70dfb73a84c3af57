"""What a replay reads: the part of a journal's history that was asked for, marked as a replay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.awaiting import as_deferred
from eventserver.durable import IDurableJournal
from eventserver.errors import PartialFailure
from eventserver.event import Batch, Event, frame_index
from eventserver.interfaces import Entry, IHandler, IReader, Parked

#: The key of `Event.context` that names the replay.
CONTEXT_KEY = "replay"


def cut(entry: Entry, end: int) -> Entry | None:
    """The part of an entry that lies before a position; None if nothing does."""
    if entry.first >= end:
        return None
    batch = entry.batch
    if entry.end > end:
        batch = batch.part(0, end - entry.first)
    return Entry(min(entry.end, end), batch, entry.size)


def marked(entry: Entry, replay: str) -> Entry:
    """The entry as a replay brings it: its context says so. Nothing decoded is taken over: that is the point."""
    batch = msgspec.structs.replace(entry.batch, context={**entry.batch.context, CONTEXT_KEY: replay})
    return Entry(entry.end, batch, entry.size)


@implementer(IReader)
class ReplayReader:
    """A cursor that ends at a position. `exhausted` is called when it has found that nothing more comes before it."""

    def __init__(self, reader: Any, end: int, replay: str, exhausted: Callable[[], None]) -> None:
        self._reader = reader
        self._end = end
        self._replay = replay
        self._exhausted = exhausted
        self._beyond = False
        self._given = 0

    @property
    def name(self) -> str:
        return str(self._reader.name)

    @property
    def ready(self) -> Callable[[], None]:
        found: Callable[[], None] = self._reader.ready
        return found

    @ready.setter
    def ready(self, callback: Callable[[], None]) -> None:
        self._reader.ready = callback

    @property
    def position(self) -> int:
        position: int = min(self._reader.position, self._end)
        # What is left between the last entry of our listeners and the end is not ours.
        return self._end if self._beyond and position >= self._given else position

    @property
    def skipped(self) -> int:
        return int(self._reader.skipped)

    def read(self, max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        if self._beyond or self._reader.position >= self._end:
            return []
        found = self._reader.read(max_bytes)
        if isinstance(found, list):
            return self._ours(found)
        waits: Deferred[list[Entry]] = found.addCallback(self._ours)
        return waits

    def _ours(self, entries: list[Entry]) -> list[Entry]:
        found = []
        for entry in entries:
            part = cut(entry, self._end)
            if part is not None:
                found.append(marked(part, self._replay))
                self._given = part.end
            if entry.end >= self._end:
                self._beyond = True
        if self._beyond:
            self._exhausted()
        return found

    def only(self, max_frames: int, max_bytes: int) -> Entry | None:
        """Never: a replay is not in that much of a hurry."""
        return None

    def lag_bytes(self) -> int:
        return 0 if self.position >= self._end else int(self._reader.lag_bytes())

    def expire_oldest(self) -> int:
        return min(int(self._reader.expire_oldest()), self._end)


class ReplayJournal:
    """A journal as the loop of one replay sees it: it ends where the replay does."""

    durable = True

    def __init__(self, journal: IDurableJournal, end: int, replay: str, exhausted: Callable[[], None]) -> None:
        self._journal: Any = journal
        self.head = end
        self._replay = replay
        self._exhausted = exhausted

    def reader(self, name: str, position: int | None = None, listeners: Collection[str] | None = None) -> ReplayReader:
        """The cursor of the replay."""
        return ReplayReader(self._journal.reader(name, position, listeners), self.head, self._replay, self._exhausted)

    def commit_cursor(
        self, name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()
    ) -> None:
        """As the journal does it."""
        self._journal.commit_cursor(name, position, parked, settled)

    def parked(self, name: str) -> list[Parked]:
        """As the journal has it."""
        found: list[Parked] = self._journal.parked(name)
        return found


Select = Callable[[Sequence[Event]], list[Event]]


def matching_parts(batch: Batch, events: Sequence[Event], select: Select) -> list[Batch]:
    """The frames of a batch for which an event is selected, as parts of the batch, in order."""
    offset = batch.offset
    frames = sorted({frame_index(event.id) - offset for event in select(events)})
    found: list[Batch] = []
    start = 0
    for number, frame in enumerate(frames):
        if not number or frame != frames[number - 1] + 1:
            start = frame
        if number + 1 == len(frames) or frames[number + 1] != frame + 1:
            found.append(batch.part(start, frame + 1))
    return found


class MatchingFrames:
    """Stands before a handler that takes frames, and lets only those go to it whose events are selected."""

    def __init__(self, handler: IHandler, decode: Callable[[Batch], list[Event]], select: Select, reactor: Any) -> None:
        self.wants = handler.wants
        self.wants_raw = handler.wants_raw
        self.handler = handler
        self.filtered = 0
        """Frames that were kept back."""
        self._decode = decode
        self._select = select
        self._reactor = reactor

    @property
    def busy(self) -> bool:
        """As the handler says."""
        return bool(getattr(self.handler, "busy", False))

    @property
    def times_itself(self) -> bool:
        """As the handler says."""
        return bool(getattr(self.handler, "times_itself", False))

    def handle(self, pile: list[Batch]) -> Any:
        """Hand over what is selected of the pile."""
        found = [part for batch in pile for part in matching_parts(batch, self._decode(batch), self._select)]
        # What fails as a whole is called again, and counted then.
        back = sum(len(batch.frames) for batch in pile) - sum(len(part.frames) for part in found)
        try:
            result = self.handler.handle(found) if found else None
        except PartialFailure:
            self.filtered += back
            raise
        deferred = as_deferred(result, self._reactor)
        if deferred is None:
            self.filtered += back
        else:
            deferred.addCallbacks(self._done, self._failed, callbackArgs=(back,), errbackArgs=(back,))
        return deferred

    def _done(self, result: Any, back: int) -> Any:
        self.filtered += back
        return result

    def _failed(self, failure: Failure, back: int) -> Failure:
        if failure.check(PartialFailure):
            self.filtered += back
        return failure
