"""Rows of one segment back to batches, going on behind whatever is damaged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import msgspec

from eventserver.event import Batch
from eventserver.journal._rows import Damaged, Head, counted, read_batches, read_head

#: Bytes that are looked at in one go, where most of them are not wanted.
SCAN_BYTES = 16 << 20

#: Errors that may be gone at the next attempt.
PASSING = (
    apsw.IOError, apsw.BusyError, apsw.LockedError, apsw.NoMemError, apsw.CantOpenError, apsw.FullError,
)  # fmt: skip

#: Numbers above this SQLite has no room for.
_MOST = (1 << 63) - 2

_ROWS = """
SELECT first, frames, size, received, listeners, keys, head_crc, codec, crc, data FROM batches
WHERE first >= ifnull((SELECT max(first) FROM batches WHERE first <= ?1), ?1) AND first < ?2 ORDER BY first
"""
_HEADS = """
SELECT first, frames, size, received, listeners, keys, head_crc FROM batches
WHERE first >= ?1 AND first < ?2 ORDER BY first
"""


@dataclass(slots=True)
class Piece:
    """What was read: batches with the position behind each, where to go on, and what could not be read."""

    next: int
    found: list[tuple[int, Batch, int]] = field(default_factory=list)
    """The position behind a batch's last frame, the batch, and the bytes it counts for."""
    lost: list[tuple[int, int]] = field(default_factory=list)


def read_piece(
    connection: apsw.Connection,
    start: int,
    until: int,
    max_bytes: int,
    *,
    listeners: Collection[str] | None = None,
    borders: Sequence[int] = (),
    void_before: int = 0,
    final: bool = True,
) -> Piece:
    """The batches with frames behind `start`, up to position `until`: whole rows until there are `max_bytes`.

    `until` is the end of the segment, or what has been committed: up to there all must be found, and what is not is
    lost. `borders` are positions at which rows begin, to go on at when the tree is damaged. Connections of batches
    before `void_before` are those of an earlier process, and set to 0. An error of the disk is raised unless this is
    the `final` attempt; then what it hides is lost.
    """
    piece = Piece(start)
    size = looked = 0
    for head, row in rows(connection, start, until, borders, final):
        if head.end <= piece.next:
            continue
        try:
            batches = read_batches(row, head.frames)
        except Damaged:
            continue
        if head.first > piece.next:
            piece.lost.append((piece.next, head.first))
        piece.next = end = head.first
        for batch in batches:
            first, end = end, end + len(batch.frames)
            # A row may go on behind `until`, with what is still in memory.
            if end > start and first < until and (listeners is None or batch.listener in listeners):
                if end <= void_before and batch.connection:
                    batch = msgspec.structs.replace(batch, connection=0)
                counts = counted(batch)
                piece.found.append((end, batch, counts))
                size += counts
        piece.next = max(until, start) if head.end > until else head.end
        looked += head.size
        if size >= max_bytes or looked >= SCAN_BYTES:
            return piece
    if piece.next < until:
        piece.lost.append((piece.next, until))
        piece.next = until
    return piece


def rows(
    connection: apsw.Connection, start: int, until: int, borders: Sequence[int], final: bool
) -> Iterator[tuple[Head, Sequence[Any]]]:
    """The rows whose heads are sound. An error of SQLite costs the row, or what is up to the next border."""
    position: int | None = start
    while position is not None and position < until:
        reached = position
        try:
            for row in connection.execute(_ROWS, (position, until)):
                reached = max(reached, row[0] if isinstance(row[0], int) else reached)
                try:
                    head = read_head(row)
                except Damaged:
                    continue
                yield head, row
                reached = max(reached, head.end)
            return
        except apsw.Error as error:
            if isinstance(error, PASSING) and not final:
                raise
            position = _behind(connection, reached, until, borders)


def _behind(connection: apsw.Connection, position: int, until: int, borders: Sequence[int]) -> int | None:
    """Where reading may go on after an error at `position`; None if nowhere."""
    broken = _first(connection, position, until)
    if broken is not None and (further := _first(connection, broken + 1, until)) is not None:
        return further
    for border in borders:
        if border > position and (further := _first(connection, border, until)) is not None:
            return further
    return passed(lambda after: _following(connection, after + 1, until), position)


def _first(connection: apsw.Connection, position: int, until: int) -> int | None:
    """Where the first row at or behind a position begins, if it can be told without its data."""
    try:
        return _following(connection, position, until)
    except apsw.Error:
        return None


def _following(connection: apsw.Connection, position: int, until: int) -> int | None:
    sql = "SELECT first FROM batches WHERE first >= ? AND first < ? ORDER BY first LIMIT 1"
    found = connection.execute(sql, (position, until)).fetchone()
    return found[0] if found else None


def passed(following: Callable[[int], int | None], reached: int) -> int | None:
    """The first number behind a stretch whose page cannot be read; None where nothing comes behind it.

    `following` gives the number that comes behind another one, and raises an error of SQLite within the stretch. It is
    asked some dozens of times at most: a bad sector takes its time.
    """
    bad, good = reached, reached + 1
    found = None
    while True:
        try:
            found = following(good)
            break
        except apsw.Error:
            bad, good = good, good + 2 * (good - reached)
            if good > _MOST:
                return None
    while good - bad > 1:
        middle = (bad + good) // 2
        try:
            found, good = following(middle), middle
        except apsw.Error:
            bad = middle
    return found


def read_heads(connection: apsw.Connection, start: int, until: int, final: bool = True) -> tuple[list[Head], bool]:
    """The heads of all rows that can be read, and whether all could be.

    An error of the disk is raised unless this is the `final` attempt; then it costs what it hides.
    """
    heads: list[Head] = []
    whole = True
    position: int | None = start
    while position is not None:
        reached = position
        try:
            for row in connection.execute(_HEADS, (position, until)):
                reached = max(reached, row[0])
                try:
                    head = read_head(row)
                except Damaged:
                    whole = False
                    continue
                if not heads or head.first >= heads[-1].end:
                    heads.append(head)
            break
        except apsw.Error as error:
            if isinstance(error, PASSING) and not final:
                raise
            whole = False
            position = _behind(connection, reached, until, ())
    return heads, whole
