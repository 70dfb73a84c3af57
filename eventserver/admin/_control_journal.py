"""The control API's pages about the journal itself: what it holds, its cursors, its batches."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred

from eventserver.admin._control_replies import MAX_LISTED, ControlError, bytes_as_json, check_keys, decode, number_of
from eventserver.interfaces import Entry
from eventserver.replaying import position_of

#: Bytes of frames in one answer, or four times as many of what is said of them, about; soft by one frame.
MAX_BYTES = 256 << 10
#: Bytes of what is said of each frame, about, besides its context.
_SAID = 200
#: Seconds of reading in one answer of `verify`; whoever asks goes on from `next`.
BUDGET = 2.0
#: What settings take as the name of a handler.
_HANDLER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class Rename(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `cursors/rename`."""

    old: str
    new: str


class Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `cursors/drop`."""

    name: str


class JournalPages:
    """The journal, its cursors and what it keeps. `seconds` is a monotonic clock."""

    def __init__(self, journal: Any, seconds: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._seconds = seconds

    def info(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Sizes, counts and positions."""
        check_keys(query, ())
        journal = self._journal
        return {
            **journal.info(),
            "first": journal.first,
            "committed": journal.committed,
            "head": journal.head,
            "unwell": journal.unwell,
            "dead_bytes": journal.dead_bytes(),
        }

    def cursors(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Where every handler stands."""
        check_keys(query, ())
        committed = self._journal.committed
        found = [
            {
                **msgspec.to_builtins(cursor, builtin_types=(type(cursor.seen),)),
                "lag": max(0, committed - cursor.position),
            }
            for cursor in self._journal.cursors()[:MAX_LISTED]
        ]
        return {"cursors": found}

    def rename_cursor(self, body: bytes) -> dict[str, Any]:
        """Give the cursor of a handler that is not in the settings to another one that has none yet."""
        wanted = decode(body, Rename)
        self._needs(wanted.old)
        if not _HANDLER.fullmatch(wanted.new):
            # Nobody would ever move that cursor; and with a replay's name it would be dropped at the next start.
            raise ControlError(400, f"no handler can be called {wanted.new!r}")
        try:
            self._journal.rename_cursor(wanted.old, wanted.new)
        except ValueError as error:
            raise ControlError(409, str(error)) from None
        return {"renamed": wanted.old, "to": wanted.new}

    def drop_cursor(self, body: bytes) -> dict[str, Any]:
        """Forget the cursor of a handler that is not in the settings."""
        wanted = decode(body, Drop)
        self._needs(wanted.name)
        try:
            self._journal.drop_cursor(wanted.name)
        except ValueError as error:
            raise ControlError(409, str(error)) from None
        return {"dropped": wanted.name}

    def _needs(self, name: str) -> None:
        names = [cursor.name for cursor in self._journal.cursors()]
        if name not in names:
            raise ControlError(404, f"there is no cursor {name!r}; there are: {', '.join(names) or 'none'}")

    def frames(self, query: Mapping[str, str]) -> Deferred[dict[str, Any]]:
        """Frames as they were journaled, from a position or time up to another; `next` says where to go on."""
        check_keys(query, ("from", "to", "max_bytes"))
        size = max(1, number_of(query, "max_bytes", MAX_BYTES, MAX_BYTES))
        return ensureDeferred(self._frames(query, size))

    async def _frames(self, query: Mapping[str, str], size: int) -> dict[str, Any]:
        start, end = await self._range(query)
        entries = await self._journal.read_between(start, end, size)
        found: list[dict[str, Any]] = []
        left = size
        for entry in entries:
            # What is said of each frame is bounded too: one batch may have 100,000, and of each a long path.
            # It counts for a quarter, since the whole batch is read again for each answer.
            each = (_SAID + sum(len(str(value)) for value in entry.batch.context.values())) // 4
            for index in range(max(start - entry.first, 0), min(end, entry.end) - entry.first):
                if found and left <= 0:
                    return {"frames": found, "next": entry.first + index}
                found.append(frame_as_json(entry, index))
                left -= len(entry.batch.frames[index]) + each
        last = entries[-1].end if entries else end
        return {"frames": found, "next": last if last < end else None}

    async def _range(self, query: Mapping[str, str]) -> tuple[int, int]:
        committed = self._journal.committed
        start = await position_of(query.get("from", "beginning"), "from", self._journal)
        end = min(await position_of(query.get("to", "end"), "to", self._journal), committed)
        start = max(start, self._journal.first)
        return start, max(start, end)

    def verify(self, query: Mapping[str, str]) -> Deferred[dict[str, Any]]:
        """Reads what is kept, checksums and all, from a position on; says which positions are missing."""
        check_keys(query, ("from", "to"))
        return ensureDeferred(self._verify(query))

    async def _verify(self, query: Mapping[str, str]) -> dict[str, Any]:
        start, end = await self._range(query)
        until, at = self._seconds() + BUDGET, start
        counts = {"batches": 0, "frames": 0}
        missing: list[list[int]] = []
        while at < end and self._seconds() < until and len(missing) < MAX_LISTED:
            entries = await self._journal.read_between(at, end, MAX_BYTES)
            for entry in entries:
                if entry.first > at:
                    missing.append([at, entry.first])
                at = entry.end
                counts["batches"] += 1
                counts["frames"] += len(entry.batch.frames)
            if not entries:
                missing.append([at, end])
                at = end
        return {"from": start, "to": end, **counts, "missing": missing, "next": at if at < end else None}


def frame_as_json(entry: Entry, index: int) -> dict[str, Any]:
    """A frame of a batch, with its position and what the batch knows of it."""
    batch = entry.batch
    context = batch.context_of(index)
    return {
        "position": entry.first + index,
        "id": batch.id_of(index),
        "listener": batch.listener,
        "decoder": batch.decoder,
        "received": batch.received,
        "peer": batch.peer_of(index),
        **({"context": context} if context else {}),
        **bytes_as_json("frame", batch.frames[index]),
    }
