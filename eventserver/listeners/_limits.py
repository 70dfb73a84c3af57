"""How many may connect."""

from __future__ import annotations

import os
import resource
from collections import Counter
from typing import Any

from eventserver.listeners._peers import limit_key

#: Descriptors that connections leave to files, the journal, destinations and the admin endpoint; at most a quarter.
RESERVED = 128


def few_descriptors() -> bool:
    """Whether so few of the files that the process may open (RLIMIT_NOFILE) are left that connections must not."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        probe = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(probe)
    # It was the lowest that is free: so many are taken (open(2)).
    return limit != resource.RLIM_INFINITY and probe >= limit - min(RESERVED, limit // 4)


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
