"""The control API's pages about dead letters: list, show, retry, drop."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import ensureDeferred

from eventserver.admin._control_replies import (
    DEFAULT_LISTED,
    MAX_LISTED,
    ControlError,
    bytes_as_json,
    check_keys,
    decode,
    number_of,
    time_in,
)
from eventserver.errors import ExpressionError
from eventserver.interfaces import Parked
from eventserver.matching import Match

#: Dead letters that one request looks at; where there are more, the answer says where to go on.
MAX_LOOKED_AT = 1000
_PAGE = 250
_SHORT = 200
_FILTERS = ("handler", "match", "since")


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters a POST is about: some by number, or all that the filters leave."""

    numbers: list[int] = []
    all: bool = False
    handler: str | None = None
    match: str | None = None
    since: str | None = None
    after: int = 0


class DeadLetters:
    """Dead letters, by number: oldest first, and never renumbered."""

    def __init__(self, journal: Any, replays: Any, now: Callable[[], dt.datetime]) -> None:
        self._journal = journal
        self._replays = replays
        self._now = now

    def page(self, query: Mapping[str, str]) -> Any:
        """A page of them, in short."""
        return ensureDeferred(self._page(query))

    async def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        check_keys(query, ("after", "limit", *_FILTERS))
        limit = max(1, number_of(query, "limit", DEFAULT_LISTED, MAX_LISTED))
        search = _Search(self._journal, query.get("handler"), query.get("match"), query.get("since"))
        after = number_of(query, "after", 0, 1 << 62)
        found = [in_short(number, one) for number, one in await search.after(after, limit)]
        return {"deadletters": found, "next": search.next, "bytes": self._journal.dead_bytes()}

    def show(self, number: str, query: Mapping[str, str]) -> Any:
        """One of them, whole."""
        return ensureDeferred(self._show(number, query))

    async def _show(self, number: str, query: Mapping[str, str]) -> dict[str, Any]:
        check_keys(query, ())
        wanted = number_of({"number": number}, "number", 0, 1 << 62)
        found = await self._journal.read_dead(None, wanted - 1, 1) if wanted else []
        if not found or found[0][0] != wanted:
            raise ControlError(404, f"there is no dead letter {number}")
        return in_full(*found[0])

    def retry(self, body: bytes) -> Any:
        """Have some tried again: parked events of their handlers, due now."""
        return ensureDeferred(self._retry(body))

    async def _retry(self, body: bytes) -> dict[str, Any]:
        numbers, following = await self._selected(body)
        # In the same turn: a crash must not find parked events that nobody has.
        parked = await self._journal.revive_dead(numbers, self._now())
        waiting = self._replays.take_back(parked)
        return {"retried": len(parked), "next": following, "waiting_for": sorted(waiting)}

    def drop(self, body: bytes) -> Any:
        """Forget some."""
        return ensureDeferred(self._drop(body))

    async def _drop(self, body: bytes) -> dict[str, Any]:
        numbers, following = await self._selected(body)
        return {"dropped": self._journal.drop_dead(numbers), "next": following}

    async def _selected(self, body: bytes) -> tuple[list[int], int | None]:
        wanted = decode(body, Selection)
        filters = any(getattr(wanted, name) is not None for name in _FILTERS)
        if bool(wanted.numbers) == wanted.all or (filters and not wanted.all):
            raise ControlError(
                400, 'name `numbers`, or say `"all": true`, with `handler`, `match` or `since` if need be'
            )
        if wanted.numbers:
            if len(wanted.numbers) > MAX_LISTED:
                raise ControlError(400, f"`numbers` has more than {MAX_LISTED}")
            return wanted.numbers, None
        search = _Search(self._journal, wanted.handler, wanted.match, wanted.since)
        return [number for number, _ in await search.after(wanted.after, MAX_LISTED)], search.next


class _Search:
    """Dead letters that some filters leave. `next` says where to go on; None at the end."""

    def __init__(self, journal: Any, handler: str | None, match: str | None, since: str | None) -> None:
        self.next: int | None = None
        self._journal = journal
        self._handler = handler
        self._since = None if since is None else time_in(since, "since")
        try:
            self._match = None if match is None else Match(match)
        except ExpressionError as error:
            raise ControlError(400, f"`match`: {error}") from None

    async def after(self, number: int, limit: int) -> list[tuple[int, Parked]]:
        """Those behind a number, up to a limit; looks at a bounded number of them."""
        left, found = MAX_LOOKED_AT, []
        while left > 0:
            page = await self._journal.read_dead(self._handler, number, min(_PAGE, left))
            left -= len(page)
            for number, one in page:
                if self._holds(one):
                    found.append((number, one))
                    if len(found) == limit:
                        self.next = number if await self._journal.read_dead(self._handler, number, 1) else None
                        return found
            if len(page) < _PAGE and left > 0:
                return found
        self.next = number
        return found

    def _holds(self, one: Parked) -> bool:
        if self._since is not None and one.last_attempt < self._since:
            return False
        return self._match is None or bool(self._match.select([one.event]))


def in_short(number: int, one: Parked) -> dict[str, Any]:
    """A dead letter as a list shows it."""
    event = one.event
    return {
        "number": number,
        "handler": one.handler,
        "event": event.id,
        "time": event.time,
        "listener": event.listener,
        "peer": event.peer,
        "type": event.type,
        "message": event.message[:_SHORT],
        "error": one.error[:_SHORT],
        "attempts": one.attempts,
        "first_attempt": one.first_attempt,
        "last_attempt": one.last_attempt,
    }


def in_full(number: int, one: Parked) -> dict[str, Any]:
    """A dead letter with all that is known of it."""
    return {
        **in_short(number, one),
        "event": one.event,
        "message": one.event.message,
        "error": one.error,
        "traceback": one.traceback,
        **({} if one.frame is None else bytes_as_json("frame", one.frame)),
    }
