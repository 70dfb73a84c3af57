"""How many bytes lie between two positions, without looking: sums for each megabyte of the journal.

So start-up needs no look at the backlog, and whoever asks for a lag gets it at once: exact at the borders of chunks,
in proportion to the frames between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection

import msgspec

#: Bytes after which a new chunk is begun.
CHUNK = 1 << 20


class Chunk(msgspec.Struct, array_like=True):
    """What lies between two positions: bytes, by listener too, and the latest time of a batch (microseconds)."""

    first: int
    end: int
    size: int
    received: int
    listeners: dict[str, int]


class ByteIndex:
    """The chunks of all that is kept, in order, with running sums."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._starts: list[int] = []
        # Sums before each chunk, and at the end; under None those of all listeners.
        self._before: dict[str | None, list[int]] = {None: []}
        self._total: dict[str | None, int] = {None: 0}
        # The latest time up to and with each chunk, so that clocks that were set back do not confuse a search.
        self._latest: list[int] = []

    def begin(self, first: int) -> None:
        """Have the next `add` begin a chunk at `first`."""
        self._starts.append(first)
        self.chunks.append(Chunk(first, first, 0, 0, {}))
        self._latest.append(self._latest[-1] if self._latest else 0)
        for listener, sums in self._before.items():
            sums.append(self._total[listener])

    def add(self, first: int, end: int, size: int, received: int, listeners: dict[str, int]) -> None:
        """Something more at the end."""
        if not self.chunks or self.chunks[-1].end != first or self.chunks[-1].size >= CHUNK:
            self.begin(first)
        chunk = self.chunks[-1]
        chunk.end = end
        chunk.size += size
        chunk.received = max(chunk.received, received)
        self._latest[-1] = max(self._latest[-1], received)
        self._total[None] += size
        for listener, bytes_of in listeners.items():
            chunk.listeners[listener] = chunk.listeners.get(listener, 0) + bytes_of
            if listener not in self._total:
                self._total[listener] = 0
                self._before[listener] = [0] * len(self.chunks)
            self._total[listener] += bytes_of

    def between(self, start: int, end: int, listeners: Collection[str] | None = None) -> int:
        """About the bytes from position `start` to `end`, of all or of some listeners."""
        if start >= end:
            return 0
        if listeners is None:
            return self._at(end, None) - self._at(start, None)
        return sum(self._at(end, name) - self._at(start, name) for name in listeners if name in self._total)

    def _at(self, position: int, listener: str | None) -> int:
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return self._before[listener][0] if self.chunks else 0
        chunk = self.chunks[index]
        size = chunk.size if listener is None else chunk.listeners.get(listener, 0)
        if position < chunk.end:
            size = size * (position - chunk.first) // (chunk.end - chunk.first)
        return self._before[listener][index] + size

    def holds(self, start: int, end: int, listeners: Collection[str]) -> bool:
        """Whether there may be anything of these listeners between two positions."""
        low, high = self.border_before(start), self.border_after(end)
        return self.between(low, high, listeners) > 0

    def border_before(self, position: int) -> int:
        """The last border of a chunk at or before a position."""
        index = bisect_right(self._starts, position) - 1
        return self._starts[index] if index >= 0 else position

    def border_after(self, position: int) -> int:
        """The first end of a chunk at or behind a position; the position itself at the end."""
        index = max(0, bisect_left(self._starts, position) - 1)
        for chunk in self.chunks[index : index + 2]:
            if chunk.end >= position:
                return chunk.end
        return position

    def position_at(self, received: int) -> int | None:
        """A border with nothing from that time on before it, as near as the chunks tell; None if all is older."""
        index = bisect_left(self._latest, received)
        return self._starts[index] if index < len(self._starts) else None

    def chunks_between(self, first: int, end: int) -> list[Chunk]:
        """The chunks of a segment."""
        return self.chunks[bisect_left(self._starts, first) : bisect_left(self._starts, end)]

    def forget(self, position: int) -> None:
        """Let go of the chunks that end at or before a position."""
        count = 0
        while count < len(self.chunks) and self.chunks[count].end <= position:
            count += 1
        if count:
            del self.chunks[:count], self._starts[:count], self._latest[:count]
            for sums in self._before.values():
                del sums[:count]
