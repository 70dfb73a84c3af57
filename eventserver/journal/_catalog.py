"""Which segments there are, what is in them, what of it is lost, and which may go."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from eventserver.journal._index import ByteIndex
from eventserver.journal._rows import Head
from eventserver.journal._segment import Segment


class Ranges:
    """Positions, as ranges that do not overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> int:
        """Add a range; returns how many of its positions are new."""
        before = len(self)
        apart = [one for one in self.ranges if one[1] < start or one[0] > end]
        touching = [one for one in self.ranges if one not in apart]
        if end > start or touching:
            merged = (min([start, *(one[0] for one in touching)]), max([end, *(one[1] for one in touching)]))
            self.ranges = sorted([*apart, merged])
        return len(self) - before

    def remove(self, start: int, end: int) -> None:
        """Take a range out."""
        parts = [((low, min(high, start)), (max(low, end), high)) for low, high in self.ranges]
        self.ranges = [(low, high) for pair in parts for low, high in pair if low < high]

    def __len__(self) -> int:
        return sum(end - start for start, end in self.ranges)


class Catalog:
    """The segments, oldest first; the last one grows. Their chunks are in `index`."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.index = ByteIndex()
        self.lost = Ranges()

    def first(self, head: int) -> int:
        """The position before the oldest frame kept."""
        return self.segments[0].first if self.segments else head

    def written(self, segment_first: int, heads: list[Head], disk: int) -> bool:
        """A group commit has been written there; returns whether that segment is new."""
        segments = self.segments
        new = not segments or segments[-1].first != segment_first
        if new:
            if segments and segments[-1].first > segment_first:
                raise AssertionError("segments go forward")
            segments.append(Segment(segment_first, segment_first, since=heads[0].received))
            self.index.begin(heads[0].first)
        last = segments[-1]
        for head in heads:
            self.index.add(head.first, head.end, head.size, head.received, head.listeners)
            last.received = max(last.received, head.received)
        last.end = heads[-1].end
        last.disk = disk
        return new

    def get(self, first: int) -> Segment | None:
        """The segment that begins at a position."""
        index = bisect_right(self.segments, first, key=lambda segment: segment.first) - 1
        return self.segments[index] if index >= 0 and self.segments[index].first == first else None

    def at(self, position: int) -> tuple[Segment | None, int]:
        """The segment that has the frame behind a position, and where the next one begins (or the position)."""
        index = bisect_right(self.segments, position, key=lambda segment: segment.first) - 1
        following = self.segments[index + 1].first if index + 1 < len(self.segments) else position
        if index < 0 or self.segments[index].end <= position:
            return None, following
        return self.segments[index], following

    @property
    def disk(self) -> int:
        """Bytes on disk, about."""
        return sum(segment.disk for segment in self.segments)

    def to_free(self, held_from: int, *, older_than: int, max_bytes: int) -> list[Segment]:
        """The segments that nobody needs any more: all cursors passed them, and they are old or take too much.

        `older_than` is a time in microseconds since 1970. The last one never goes, since it grows.
        """
        excess = self.disk - max_bytes
        free: list[Segment] = []
        for segment in self.segments[:-1]:
            if segment.end > held_from or (excess <= 0 and segment.received >= older_than):
                break
            excess -= segment.disk
            free.append(segment)
        return free

    def freed(self, segments: Iterable[Segment]) -> None:
        """These are gone."""
        gone = {segment.first for segment in segments}
        self.segments = [segment for segment in self.segments if segment.first not in gone]
        if self.segments:
            self.index.forget(self.segments[0].first)
