"""A dry run: what a replay would hand over, counted without calling anybody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from eventserver.delivery import Decoding
from eventserver.durable import IDurableJournal
from eventserver.event import Event
from eventserver.replaying.reading import cut, marked, matching_parts

#: Bytes that are read and decoded between two turns of the reactor.
CHUNK = 128 << 10
#: Seconds after which what has been counted is returned; whoever asks goes on from `next`.
BUDGET = 5.0


class Counted(msgspec.Struct, kw_only=True):
    """What was counted from `start` to `next`. `delivered` and `filtered` are events (frames, where it takes frames).

    `complete` is False where there is more up to `end`: ask again, from `next`.
    """

    start: int
    end: int
    next: int
    complete: bool = False
    frames: int = 0
    delivered: int = 0
    filtered: int = 0


async def count(
    counted: Counted,
    *,
    journal: IDurableJournal,
    decoding: Decoding,
    listeners: Collection[str] | None,
    select: Callable[[Sequence[Event]], list[Event]] | None,
    as_frames: bool,
    reactor: Any,
) -> Counted:
    """Counts from `counted.next` on, for at most `BUDGET` seconds; a turn of the reactor after each chunk."""
    until = reactor.seconds() + BUDGET
    while reactor.seconds() < until:
        entries = await journal.read_between(counted.next, counted.end, CHUNK)
        for entry in entries:
            part = cut(entry, counted.end)
            if part is None or part.end <= counted.next:
                continue
            batch = part.batch
            if part.first < counted.next:
                batch = batch.part(counted.next - part.first, len(batch.frames))
            counted.next = part.end
            if listeners is not None and batch.listener not in listeners:
                continue
            counted.frames += len(batch.frames)
            if select is None and as_frames:
                counted.delivered += len(batch.frames)
                continue
            batch = marked(part, "dry-run").batch if batch is part.batch else batch
            events = decoding.decode(batch)
            if not as_frames:
                chosen = len(events if select is None else select(events))
                counted.delivered += chosen
                counted.filtered += len(events) - chosen
            elif select is not None:
                chosen = sum(len(found.frames) for found in matching_parts(batch, events, select))
                counted.delivered += chosen
                counted.filtered += len(batch.frames) - chosen
        if not entries or counted.next >= counted.end:
            counted.next = counted.end
            counted.complete = True
            return counted
        await deferLater(reactor, 0)
    return counted
