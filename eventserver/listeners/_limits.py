"""How many may connect, and how often the log says the same thing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.logger import Logger

from eventserver.listeners._peers import limit_key

#: Seconds in which one kind of line is logged at most once.
LOG_INTERVAL = 60.0


class ConnectionLimits:
    """Counts open connections, altogether and by peer."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._open = 0
        self._peers: Counter[str] = Counter()

    def refusal(self, address: Any) -> str | None:
        """The limit that a new connection from there would break, by its option's name; None if it may come."""
        if self._open >= self._total:
            return "max_connections"
        key = limit_key(address)
        if key is not None and self._peers[key] >= self._per_peer:
            return "max_connections_per_peer"
        return None

    def opened(self, address: Any) -> None:
        """A connection from there counts from now on."""
        self._open += 1
        key = limit_key(address)
        if key is not None:
            self._peers[key] += 1

    def closed(self, address: Any) -> None:
        """It counts no more."""
        self._open -= 1
        key = limit_key(address)
        if key is not None:
            self._peers[key] -= 1
            if not self._peers[key]:
                del self._peers[key]


class ThinnedLog:
    """A log for what peers may cause at will: one line a minute for each reason, with how many were left out."""

    def __init__(self, log: Logger, clock: Any) -> None:
        self._log = log
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def warn(self, reason: str, message: str, **values: Any) -> None:
        """Log `message`, a format of the values, unless a line with this reason came in the last minute.

        `reason` is one of a few words of ours, never what a peer sent.
        """
        now = self._clock.seconds()
        if now < self._next.get(reason, now):
            self._left_out[reason] += 1
            return
        self._next[reason] = now + LOG_INTERVAL
        left_out = self._left_out.pop(reason, 0)
        if left_out:
            message += " ({left_out} more like this since the last such line)"
        self._log.warn(message, left_out=left_out, **values)
