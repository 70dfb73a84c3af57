"""A log for what peers, destinations and broken functions may cause at will: thinned out, never silent."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.logger import Logger, LogLevel

#: Seconds in which one kind of line is logged at most `burst` times.
LOG_INTERVAL = 60.0


class ThinnedLog:
    """At most `burst` lines a minute for each reason; the next line says how many were left out.

    `clock` has `seconds`, monotonic.
    """

    def __init__(self, log: Logger, clock: Any, burst: int = 1) -> None:
        self._log = log
        self._clock = clock
        self._burst = burst
        self._until: dict[str, float] = {}
        self._logged: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def info(self, reason: str, message: str, **values: Any) -> None:
        """Log `message`, a format of the values, as a matter of course."""
        self._say(LogLevel.info, reason, message, values)

    def warn(self, reason: str, message: str, **values: Any) -> None:
        """Log `message`, a format of the values, as a warning. `reason` is one of a few words of ours."""
        self._say(LogLevel.warn, reason, message, values)

    def error(self, reason: str, message: str, **values: Any) -> None:
        """Log `message`, a format of the values, as an error."""
        self._say(LogLevel.error, reason, message, values)

    def _say(self, level: Any, reason: str, message: str, values: dict[str, Any]) -> None:
        now = self._clock.seconds()
        if now >= self._until.get(reason, now):
            self._until[reason] = now + LOG_INTERVAL
            self._logged[reason] = 0
        if self._logged[reason] >= self._burst:
            self._left_out[reason] += 1
            return
        self._logged[reason] += 1
        left_out = self._left_out.pop(reason, 0)
        if left_out:
            message += " ({left_out} more like this since the last such line)"
        self._log.emit(level, message, left_out=left_out, **values)
