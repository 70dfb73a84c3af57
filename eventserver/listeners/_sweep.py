"""One timer a listener: no connection has a timer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds between two sweeps; time-outs are met with this precision.
INTERVAL = 1.0


class Sweeper:
    """Calls `sweep(now)` about once a second; `now` in seconds of the clock."""

    def __init__(self, clock: Any, sweep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sweep = sweep
        self._call: Any = None

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._call is None:
            self._call = self._clock.callLater(INTERVAL, self._tick)

    def stop(self) -> None:
        """End, if it has begun."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        # The next call is made first: an error in one sweep is logged by the reactor and ends nothing.
        self._call = self._clock.callLater(INTERVAL, self._tick)
        self._sweep(self._clock.seconds())
