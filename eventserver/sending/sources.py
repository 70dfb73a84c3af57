"""What is sent: events that are made up, one text again and again, or lines as they come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from eventserver.framing.lines import LinesFramer
from eventserver.options import Size
from eventserver.sending.formats import Format, Moment, Origin

#: The longest line that is read; its rest is left out.
MAX_LINE = Size(1 << 20)
#: Lines that are read ahead.
AHEAD = 10_000
_FILLER = "the quick brown fox jumps over the lazy dog "


class Source(Protocol):
    """Where events come from. `total`: how many there will be, None where nobody knows."""

    total: int | None

    def take(self, count: int, seconds: float) -> list[bytes]:
        """Up to so many events, written down at this (Unix) time. Empty: none now."""

    def waiting(self) -> bool:
        """Whether there is one now."""

    def rest(self) -> int:
        """How many are known to be left, which were to be taken and are not."""

    def stop(self) -> None:
        """No more."""

    def done(self) -> bool:
        """Whether there will be no more."""


class Made:
    """Events that are made up: `count` of them, or without end; with `text`, each has this text.

    `size` is the least number of characters of each text.
    """

    def __init__(
        self, format: Format, origin: Origin, count: int | None, *, text: str | None = None, size: int = 0
    ) -> None:
        self.total = count
        self._format = format
        self._origin = origin
        self._text = text
        self._filler = (_FILLER * (size // len(_FILLER) + 1))[:size]
        self._made = 0
        self._ended = False

    def take(self, count: int, seconds: float) -> list[bytes]:
        """See `Source.take`."""
        if self._ended:
            return []
        first = self._made
        last = first + count if self.total is None else min(first + count, self.total)
        self._made = last
        render, origin, moment, filler, text = (
            self._format.render,
            self._origin,
            Moment(seconds),
            self._filler,
            self._text,
        )
        if text is not None:
            # What somebody says is not numbered: it is to arrive as it is.
            return [render(origin, text, None, moment) for _ in range(first, last)]
        if not filler:
            return [render(origin, f"message {number}", number, moment) for number in range(first, last)]
        texts = (f"message {number} {filler[len(str(number)) + 9 :]}" for number in range(first, last))
        return [render(origin, text, number, moment) for number, text in enumerate(texts, first)]

    def waiting(self) -> bool:
        """See `Source.waiting`."""
        return not self.done()

    def rest(self) -> int:
        """See `Source.rest`."""
        return 0 if self.total is None or self._ended else self.total - self._made

    def stop(self) -> None:
        """No more."""
        self._ended = True

    def done(self) -> bool:
        """See `Source.done`."""
        return self._ended or (self.total is not None and self._made >= self.total)


class Lines:
    """Lines that are fed in, up to `limit` of them; empty ones are left out. `more` is called when some can be used."""

    total: int | None = None

    def __init__(self, format: Format, origin: Origin, limit: int | None, more: Callable[[], None]) -> None:
        self._format = format
        self._origin = origin
        self._limit = limit
        self._more = more
        self._framer = LinesFramer(LinesFramer.Options(max_frame=MAX_LINE))
        self._lines: deque[bytes] = deque()
        self._taken = 0
        self._ended = False
        self._asked = False
        #: Lines of which only the head is sent.
        self.truncated = 0

    def ask(self) -> None:
        """Have some read, if there is room and nobody does already."""
        if not (self._asked or self._ended) and len(self._lines) < AHEAD:
            self._asked = True
            self._more()

    def feed(self, data: bytes) -> None:
        """What was read; empty at the end."""
        self._asked = False
        frames = self._framer.feed(data) if data else self._framer.finish()
        self.truncated += sum(fault.reason == "oversize" for fault in self._framer.faults)
        self._lines += filter(None, frames)
        self._ended = self._ended or not data

    def take(self, count: int, seconds: float) -> list[bytes]:
        """See `Source.take`."""
        if self._limit is not None:
            count = min(count, self._limit - self._taken)
        lines = self._lines
        found = [lines.popleft() for _ in range(min(count, len(lines)))]
        self._taken += len(found)
        render, origin, moment = self._format.render, self._origin, Moment(seconds)
        return [render(origin, line.decode(errors="surrogateescape"), None, moment) for line in found]

    def waiting(self) -> bool:
        """See `Source.waiting`."""
        return bool(self._lines) and not self.done()

    def rest(self) -> int:
        """See `Source.rest`: the lines that were read."""
        return len(self._lines)

    def stop(self) -> None:
        """No more; what was read and not taken is left out."""
        self._ended = True
        self._lines.clear()

    def done(self) -> bool:
        """See `Source.done`."""
        return (self._ended and not self._lines) or (self._limit is not None and self._taken >= self._limit)
