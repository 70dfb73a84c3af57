"""Where a handler stands in the journal: its cursor, what it has passed, what lies before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from eventserver.counters import HandlerCounters
from eventserver.delivery.parking import ParkingLot
from eventserver.interfaces import IJournal, Parked


class Standing:
    """The part of a handler's loop that moves the cursor, and that others look at.

    `moved` tells the intake whenever the cursor has moved. With `listeners` only their batches come here.
    """

    def __init__(
        self,
        name: str,
        journal: IJournal,
        counters: HandlerCounters,
        parking: ParkingLot,
        moved: Callable[[], None],
        listeners: Collection[str] | None,
        position: int | None,
    ) -> None:
        self.name = name
        self._journal = journal
        self._counters = counters
        self._parking = parking
        self._moved = moved
        self._reader = journal.reader(name, position, listeners)
        self._start = self._reader.position
        self._skipped = 0

    def _begin_here(self) -> None:
        """The cursor may have been moved before there was anything to deliver; what was counted since remains."""
        self._start = self._reader.position - self._counters.passed - self._counters.expired
        self._counters.pending_at_start = self._journal.head - self._start
        self._skipped = self._reader.skipped

    @property
    def counters(self) -> HandlerCounters:
        """What the handler was given, and what became of it."""
        # What the cursor moves over by itself costs nothing until somebody looks.
        skipped = self._reader.skipped
        self._counters.passed += skipped - self._skipped
        self._skipped = skipped
        return self._counters

    @property
    def position(self) -> int:
        """Frames passed."""
        return self._reader.position

    def lag_bytes(self) -> int:
        """Bytes of the batches that the cursor has not passed."""
        return self._reader.lag_bytes()

    def lag_frames(self) -> int:
        """Frames that the cursor has not passed."""
        return self._journal.head - self._reader.position

    def passed_since_start(self) -> int:
        """Frames that the cursor has moved over since this loop was made; equals `passed` + `expired` at rest."""
        return self._reader.position - self._start

    def lost(self) -> int:
        """Frames and parked events that would be lost if a server without a durable journal stopped now."""
        return self.lag_frames() + len(self._parking)

    def _commit(self, position: int, but: Collection[str] = ()) -> None:
        """Move the cursor, and write in the same transaction what has become of failed events.

        `but` are events that the cursor has yet to pass: a crash must not find them both before it and parked.
        """
        parked, settled = self._parking.changes(but)
        self._move(position, parked, settled)

    def _move(self, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()) -> None:
        self._journal.commit_cursor(self.name, position, parked, settled)
        self._moved()
