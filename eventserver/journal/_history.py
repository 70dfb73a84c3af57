"""What has been, as far as it is kept: without a cursor."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred

from eventserver.interfaces import Entry

Fetch = Callable[[int, int, int, Collection[str] | None], Deferred[tuple[list[Entry], int]]]


def read_between(fetch: Fetch, start: int, until: int, max_bytes: int) -> Deferred[list[Entry]]:
    """The first entries with frames between two positions, about `max_bytes` of them; empty where there are none."""
    result: Deferred[list[Entry]] = Deferred()

    def go_on(position: int) -> None:
        if position >= until:
            result.callback([])
        else:
            fetch(position, until, max_bytes, None).addCallback(fetched)

    def fetched(found: tuple[list[Entry], int]) -> None:
        entries, reached = found
        kept: list[Entry] = []
        size = 0
        for entry in entries:
            if size < max_bytes and entry.first < until:
                kept.append(entry)
                size += entry.size
        if kept:
            result.callback(kept)
        else:
            go_on(reached)

    go_on(start)
    return result
