"""What a handler gets in one call: built from the journal's entries, up to a limit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.python.failure import Failure

from eventserver.event import Batch, Event, frame_index
from eventserver.interfaces import Entry, IMatch, IReader, Wants
from eventserver.matching import Match
from eventserver.steps import Pipeline

#: Seconds that a sync call should take, and that one handler keeps the reactor before the others have their turn.
SLICE = 0.01
#: The size of the first pile; later ones are sized from the time that the last one took.
FIRST_PILE = 64

Select = Callable[[Sequence[Event]], list[Event]]


class Pile:
    """Events (or parts of batches) that a handler gets, and the frames that the cursor passes when it is done.

    `decoded` counts the events before `match` and steps; frames, for a handler that wants frames.
    """

    __slots__ = ("decoded", "end", "entries", "items", "start")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.items: list[Any] = []
        self.decoded = 0
        self.entries: list[Entry] = []


class PileSize:
    """How many events the next pile has, so that the sync part of a call takes about a slice."""

    def __init__(self, max_events: int) -> None:
        self.limit = min(FIRST_PILE, max_events)
        self._max_events = max_events

    def took(self, count: int, seconds: float) -> None:
        """A call with so many events took so long, before it returned."""
        if seconds > 2 * SLICE:
            self.limit = max(1, int(count * SLICE / seconds))
        elif seconds * self.limit * 2 <= SLICE * count:
            # Piles are often smaller than the limit: what `match` leaves of a batch, or all that there is.
            self.limit = min(self._max_events, self.limit * 2)


class PileBuilder:
    """Reads one cursor's entries and cuts them into piles.

    `listeners` narrows to some listeners, decided a batch without decoding; `select` is `match` and the steps;
    `selected_of` is the short way to the events that match, see `Decoding.selected`, and `matching` the other one;
    `to_encode` says that events are encoded as JSON and nothing else. `ready` is called when entries that had to be
    fetched have come, `unread` when they could not be.
    """

    def __init__(
        self,
        reader: IReader,
        *,
        wants: Wants,
        events_of: Callable[[Entry], list[Event]],
        selected_of: Callable[[Entry, IMatch, Mapping[str, Any], bool], list[Event] | None],
        matching: Callable[[Entry, list[Event], Match], list[Event]],
        listeners: Collection[str] | None,
        select: Select | None,
        max_bytes: int,
        ready: Callable[[], None],
        unread: Callable[[Failure], None],
        to_encode: bool = False,
    ) -> None:
        self._reader = reader
        self._as_frames = wants == "frames"
        self._events_of = events_of
        self._selected_of = selected_of
        self._matching = matching
        self._listeners = None if listeners is None else frozenset(listeners)
        self._select = select
        self._pipeline = select if isinstance(select, Pipeline) else None
        self._to_encode = to_encode and self._pipeline is not None and self._pipeline.only_plain
        self._max_bytes = max_bytes
        self._ready = ready
        self._unread = unread
        self._queue: deque[Entry] = deque()
        self._reading = self._wanted = False
        self._next = reader.position
        # The entry that was looked at last, whole, and what was found.
        self._looked_at: Entry | None = None
        self._looked: tuple[list[Event], int] = ([], 0)
        # The events of the entry that is being cut, and the frame of each.
        self._cut: Entry | None = None
        self._cut_events: list[Event] = []
        self._cut_frames: list[int] = []

    @property
    def oldest(self) -> Entry | None:
        """The entry that comes next, if it has been read."""
        return self._queue[0] if self._queue else None

    def expire(self, position: int) -> None:
        """Forget what lies before `position`: the cursor has been moved there."""
        while self._queue and self._queue[0].end <= position:
            self._queue.popleft()
        self._next = max(self._next, position)

    def take(self, max_events: int) -> Pile | None:
        """The next pile, of at most `max_events` events (soft by one frame); None if there is nothing yet.

        A pile without items only moves the cursor: nothing in it is for this handler.
        """
        pile, size, queue = Pile(self._next), 0, self._queue
        may_read = True
        while len(pile.items) < max_events and size < self._max_bytes:
            if not queue:
                # Once is enough: a read brings all that there is, or as much as a pile may have.
                if not may_read or not self._read():
                    break
                may_read = False
            entry = queue[0]
            if self._listeners is not None and entry.batch.listener not in self._listeners:
                self._passed(pile, entry)
                continue
            if self._as_frames and pile.decoded >= max_events:
                break
            try:
                taken = self._take(pile, entry, max_events, self._max_bytes - size)
            except Exception:
                self._give_back(pile)
                raise
            if not taken:
                break
            size += taken
        return pile if pile.end > pile.start else None

    def _give_back(self, pile: Pile) -> None:
        """A pile comes to nothing: what is in it comes again with the next."""
        for entry in reversed(pile.entries):
            if not self._queue or self._queue[0] is not entry:
                self._queue.appendleft(entry)
        self._next = pile.start

    def _read(self) -> bool:
        """Whether there are entries in the queue now; otherwise `ready` is called when some have come."""
        if self._reading:
            # Something was committed meanwhile, which the read may have been too early for.
            self._wanted = True
            return False
        found = self._reader.read(self._max_bytes)
        if isinstance(found, list):
            self._queue.extend(found)
            return bool(found)
        self._reading = True
        found.addCallbacks(self._fetched, self._not_fetched)
        return bool(self._queue)

    def _fetched(self, entries: list[Entry]) -> None:
        wanted = self._wanted
        self._reading = self._wanted = False
        self._queue.extend(entry for entry in entries if entry.end > self._next)
        if entries or wanted:
            self._ready()

    def _not_fetched(self, failure: Failure) -> None:
        self._reading = self._wanted = False
        self._unread(failure)

    def _passed(self, pile: Pile, entry: Entry) -> None:
        self._cut = self._looked_at = None
        self._cut_events, self._looked = [], ([], 0)
        self._queue.popleft()
        self._next = pile.end = entry.end

    def _take(self, pile: Pile, entry: Entry, max_events: int, max_bytes: int) -> int:
        """Add what fits of an entry to the pile; returns the bytes that it counts for, 0 if nothing fits."""
        count = len(entry.batch.frames)
        # What lies between two entries is not for this reader.
        start = max(0, self._next - entry.end + count)
        take = self._take_frames if self._as_frames else self._take_events
        end = take(pile, entry, start, max_events, max_bytes)
        if end == start:
            return 0
        pile.entries.append(entry)
        if end == count:
            self._passed(pile, entry)
        else:
            self._next = pile.end = entry.first + end
        return max(1, entry.size * (end - start) // count)

    def _take_frames(self, pile: Pile, entry: Entry, start: int, max_events: int, max_bytes: int) -> int:
        """Add frames from `start` on; returns the frame behind the last that fits."""
        batch, room = entry.batch, max_events - pile.decoded
        count = len(batch.frames)
        if pile.items and not start and count > room:
            # A fresh entry that does not fit starts the next pile: most piles are whole entries then.
            return start
        end = min(count, start + room)
        if entry.size > max_bytes:
            end = min(end, _frames_within(batch, start, max_bytes))
        pile.items.append(batch if end - start == count else batch.part(start, end))
        pile.decoded += end - start
        return end

    def _take_events(self, pile: Pile, entry: Entry, start: int, max_events: int, max_bytes: int) -> int:
        """Add the events of the frames from `start` on; returns the frame behind the last that fits."""
        batch, room = entry.batch, max_events - len(pile.items)
        end = len(batch.frames)
        if entry.size <= max_bytes:
            if not start:
                chosen, decoded = self._look(entry)
                if len(chosen) <= room:
                    pile.items += chosen
                    pile.decoded += decoded
                    return end
                if pile.items:
                    # As above; what `match` keeps away takes no room.
                    return start
        else:
            end = _frames_within(batch, start, max_bytes)
        events, end = self._cut_out(entry, start, room, end)
        pile.items += events if self._select is None else self._select(events)
        pile.decoded += len(events)
        return end

    def _look(self, entry: Entry) -> tuple[list[Event], int]:
        """What the handler gets of a whole entry, and how many events that was chosen from."""
        if entry is not self._looked_at:
            pipeline, chosen, decoded = self._pipeline, None, len(entry.batch.frames)
            if pipeline is not None and pipeline.match is not None and pipeline.match.fields:
                chosen = self._selected_of(entry, pipeline.match, pipeline.plain, self._to_encode)
            if chosen is not None and pipeline is not None:
                chosen = pipeline.after_plain(chosen)
            else:
                events = self._events_of(entry)
                decoded = len(events)
                if pipeline is not None and pipeline.match is not None:
                    chosen = pipeline.after_match(self._matching(entry, events, pipeline.match))
                else:
                    chosen = events if self._select is None else self._select(events)
            self._looked_at, self._looked = entry, (chosen, decoded)
        return self._looked

    def _cut_out(self, entry: Entry, start: int, room: int, fit: int) -> tuple[list[Event], int]:
        """The events of the frames from `start` that fit, and the frame behind the last of them."""
        if entry is not self._cut:
            self._cut, self._cut_events = entry, self._events_of(entry)
            self._cut_frames = [frame_index(event.id) for event in self._cut_events]
        events, frames = self._cut_events, self._cut_frames
        first = bisect_left(frames, start)
        last = min(first + room, bisect_left(frames, fit))
        if last >= len(events):
            return events[first:], len(entry.batch.frames)
        end = frames[last]
        if last > first and frames[first] == end:
            # One frame with more events than fit: it is not cut.
            last = bisect_right(frames, end)
            end += 1
        else:
            last = bisect_left(frames, end)
        return events[first:last], max(end, start + 1)


def _frames_within(batch: Batch, start: int, max_bytes: int) -> int:
    """The index behind the last frame that fits into `max_bytes`, at least one frame from `start`."""
    size = 0
    for index in range(start, len(batch.frames)):
        size += len(batch.frames[index])
        if size > max_bytes:
            return max(index, start + 1)
    return len(batch.frames)
