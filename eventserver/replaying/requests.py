"""What somebody asks to have replayed, and which part of the journal that is."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from eventserver.delivery import Delivery, DeliveryOptions
from eventserver.durable import IDurableJournal
from eventserver.errors import EventServerError, ExpressionError
from eventserver.event import Event
from eventserver.matching import compile_match
from eventserver.options import Size
from eventserver.steps import Pipeline

#: Bytes that are read at once to find a time.
_CHUNK = 256 << 10
#: A position, a time (RFC 3339), `"beginning"` or `"end"`.
Where = int | str
#: SQLite's integers have 64 bits, one of them for the sign.
MAX_POSITION = (1 << 63) - 1


class ReplayError(EventServerError):
    """A replay cannot be had; the message says why."""


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """What to replay: for which handler, from where up to (and without) where, of that what matches, how quickly."""

    handler: str
    start: Where
    to: Where = "end"
    match: str | None = None
    rate: float | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Replayable:
    """A handler that can have replays: its live loop, and what that was made of."""

    delivery: Delivery
    options: DeliveryOptions
    listeners: tuple[str, ...] | None
    select: Callable[[Sequence[Event]], list[Event]] | None


def check(request: ReplayRequest) -> None:
    """Raises `ReplayError` for what is wrong with the request by itself."""
    if request.rate is not None and not (math.isfinite(request.rate) and request.rate > 0):
        raise ReplayError("`rate` is a number of events a second, more than 0")
    if request.match is not None:
        try:
            compile_match(request.match)
        except ExpressionError as error:
            raise ReplayError(f"`match`: {error}") from None


async def range_of(request: ReplayRequest, journal: IDurableJournal) -> tuple[int, int]:
    """The positions that a request means, within what the journal still has and has committed."""
    committed = journal.committed
    start = await position_of(request.start, "from", journal)
    end = await position_of(request.to, "to", journal)
    first = journal.first
    start, end = max(start, first), min(end, committed)
    if start > end and not (start >= committed or end <= first):
        raise ReplayError(f"`from` (position {start}) lies behind `to` (position {end})")
    return min(start, end), end


async def position_of(where: Where, key: str, journal: IDurableJournal) -> int:
    """The position that somebody named. Raises `ReplayError`."""
    if isinstance(where, int):
        return _in_range(where, key)
    if where == "beginning":
        return journal.first
    if where == "end":
        return journal.committed
    if where.isascii() and where.isdigit():
        # Python refuses to read thousands of digits.
        digits = where.lstrip("0") or "0"
        return _in_range(int(digits[:20]), key)
    time = time_of(where, key)
    # The journal names a place that is near, and not behind it.
    position = journal.position_at(time)
    while position < (committed := journal.committed):
        entries = await journal.read_between(position, committed, _CHUNK)
        if not entries:
            return committed
        for entry in entries:
            if entry.batch.received >= time:
                return max(position, entry.first)
            position = entry.end
    return position


def _in_range(position: int, key: str) -> int:
    if position < 0:
        raise ReplayError(f"`{key}` is a position, and no less than 0")
    if position > MAX_POSITION:
        raise ReplayError(f"`{key}`: a position is a number from 0 to {MAX_POSITION}")
    return position


def time_of(text: str, key: str) -> dt.datetime:
    """A time in a request. Raises `ReplayError`."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ReplayError(
            f'`{key}` is a position, a time such as 2026-01-31T08:00:00Z, "beginning" or "end", not {text!r}'
        ) from None
    if found.tzinfo is None:
        raise ReplayError(f"`{key}`: {text!r} has no time zone; write 2026-01-31T08:00:00Z, or +01:00 for the Z")
    try:
        return found.astimezone(dt.UTC)
    except OverflowError:
        raise ReplayError(f"`{key}`: there is no such time as {text!r}") from None


def narrowed(own: Any, match: str | None) -> Any:
    """What selects the events of a replay: the handler's own match and steps, behind the replay's `match`."""
    if match is None:
        return own
    narrow = Pipeline(match)
    return narrow if own is None else lambda events: own(narrow(events))


def options_for(options: DeliveryOptions, rate: float | None) -> DeliveryOptions:
    """The settings of a replay's loop: those of the handler, but it gives way where the journal is full."""
    max_events = options.max_events if rate is None else max(1, min(options.max_events, math.ceil(rate / 10)))
    return msgspec.structs.replace(
        options, max_events=max_events, max_lag=Size(1 << 62), when_full="drop_oldest", required_for_ack=False
    )
