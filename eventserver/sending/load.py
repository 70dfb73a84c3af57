"""What there is to send, how fast, and what became of it: shared by all connections of a run."""

from __future__ import annotations

from collections.abc import Callable

from eventserver.sending.parcels import Parcel
from eventserver.sending.sources import Source
from eventserver.sending.statistics import Statistics


class Pace:
    """So many events a second, evenly, from `start` (seconds of the reactor's clock) on; None: as fast as it goes."""

    def __init__(self, rate: float | None, start: float) -> None:
        self.rate = rate
        self._start = start

    def allowed(self, now: float, taken: int) -> int:
        """How many events may be taken now, after so many."""
        if self.rate is None:
            return 1 << 30
        # The first one is due at once. A hair more than exact, so that a timer that fires in time finds its event due.
        return max(0, int((now - self._start) * self.rate + 1e-6) + 1 - taken)

    def rest(self, now: float, taken: int) -> None:
        """There was nothing to send until now: that time is not made up for."""
        if self.rate is not None:
            self._start = max(self._start, now - taken / self.rate)

    def due(self, taken: int) -> float:
        """When the event after so many is due."""
        return self._start if self.rate is None else self._start + taken / self.rate


class Load:
    """Hands out parcels as they become due, and keeps the counts.

    `clock` is the reactor's, for rates and latencies; `wall` the Unix time that events have. `batch` events at most
    are in a parcel.
    """

    def __init__(
        self,
        source: Source,
        pace: Pace,
        statistics: Statistics,
        *,
        batch: int,
        run: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.source = source
        self.statistics = statistics
        self.pace = pace
        self._batch = batch
        self._run = run
        self._clock = clock
        self._wall = wall
        self._parcels = 0
        self._behind = False
        #: When something was taken or settled last.
        self.progress = clock()

    def take(self, room: int) -> Parcel | None:
        """The next parcel, of at most `room` events; None if none is due."""
        now, taken = self._clock(), self.statistics.taken
        count = min(room, self._batch, self.pace.allowed(now, taken))
        payloads = self.source.take(count, self._wall()) if count else []
        if not payloads:
            return None
        # What had to wait for the server is late since it was due; what had to wait for our timer is not.
        rate = self.pace.rate if self._behind else None
        due, step = (now, 0.0) if rate is None else (self.pace.due(taken), 1 / rate)
        self.statistics.taken += len(payloads)
        self.progress = now
        self._parcels += 1
        return Parcel(f"{self._run}-{self._parcels}", payloads, due, step=step)

    def rested(self) -> None:
        """Every connection has taken what it could: what is due now and still here waits for the server."""
        now, taken = self._clock(), self.statistics.taken
        if not self.source.waiting():
            self.pace.rest(now, taken)
        self._behind = self.source.waiting() and self.pace.allowed(now, taken) > 0

    def next(self) -> float:
        """Seconds until the next event is due."""
        return self.pace.due(self.statistics.taken) - self._clock()

    # What became of them

    def out(self, parcel: Parcel) -> None:
        """A parcel of a protocol with acknowledgements goes out."""
        if parcel.sent:
            self.statistics.resent += parcel.left
        else:
            self.statistics.sent += parcel.left
        parcel.sent = True

    def gone(self, parcel: Parcel, count: int) -> None:
        """The system has taken so many events of a protocol without acknowledgements."""
        self._settle(parcel, count)
        self.statistics.sent += count

    def acknowledged(self, parcel: Parcel, count: int) -> None:
        """The server has taken so many."""
        self._settle(parcel, count)
        self.statistics.acknowledged += count
        add, waited = self.statistics.latencies.add, self._clock() - parcel.due
        if not parcel.step:
            add(waited, count)
            return
        for at in range(parcel.settled - count, parcel.settled):
            add(waited - at * parcel.step)

    def refused(self, parcel: Parcel, count: int, reason: str) -> None:
        """So many will never be taken."""
        self._settle(parcel, count)
        if not self.statistics.acknowledges:
            # They were to go out, and did not.
            self.statistics.sent += count
        self.statistics.refused += count
        self.statistics.trouble(reason)

    def _settle(self, parcel: Parcel, count: int) -> None:
        parcel.settled += count
        self.progress = self._clock()

    def read(self) -> None:
        """A server without acknowledgements has read all that one connection brought: so long it took."""
        self.statistics.ended = self._clock()

    def alive(self) -> None:
        """The server has shown that it is there."""
        self.progress = self._clock()
