"""Frames into batches, batches into the intake, and all of it counted: once a batch, never once a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventserver.event import Batch, PerFrame
from eventserver.interfaces import Fault, ListenerContext

Marks = Mapping[int, tuple[str, ...]]

NO_MARKS: Marks = {}
TRUNCATED = ("truncated",)


class Ingest:
    """What every listener does with the frames it has cut.

    Frames are counted as received when it is settled whether they are journaled or rejected, so that the sums
    balance at any time; those of a batch that waits for room are not counted yet.
    """

    def __init__(self, context: ListenerContext) -> None:
        self._counters = context.counters
        self._put = context.intake.put
        # A batch may be one line: what is looked up here once is not looked up for each.
        self._listener = context.name
        self._decoder = context.decoder
        self._new_id = context.new_id
        self._now = context.now

    def batch(
        self,
        frames: Sequence[bytes],
        peers: PerFrame,
        context: dict[str, Any],
        connection: int | list[int],
        marks: Marks,
    ) -> Batch:
        """A batch of frames that were read just now."""
        return Batch(
            id=self._new_id(),
            listener=self._listener,
            decoder=self._decoder,
            received=self._now(),
            peers=peers,
            frames=frames,
            marks=dict(marks) if marks else {},
            context=context,
            connection=connection,
        )

    def put(self, batch: Batch) -> int | None:
        """The batch's position, or None if the intake has no room now; then nothing is counted."""
        position: int | None = self._put(batch)
        if position is not None:
            counters, frames = self._counters, len(batch.frames)
            counters.received += frames
            counters.journaled += frames
            if batch.marks:
                counters.truncated += len(batch.marks)
        return position

    def reject(self, reason: str, frames: int = 1) -> None:
        """Count frames that go nowhere."""
        self._counters.received += frames
        self._counters.rejected[reason] += frames

    def sort(self, faults: Iterable[Fault], first: int = 0) -> tuple[dict[int, tuple[str, ...]], str | None]:
        """What a framer found wrong: the marks of the frames it kept, and the reason if the stream is broken.

        What it did not keep is counted as rejected. `first` is added to the frames' indices.
        """
        marks: dict[int, tuple[str, ...]] = {}
        fatal = None
        for fault in faults:
            if fault.frame is None:
                self.reject(fault.reason)
            else:
                marks[first + fault.frame] = TRUNCATED
            if fault.fatal:
                fatal = fault.reason
        return marks, fatal
