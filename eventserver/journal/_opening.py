"""What is in the folder of a journal: read when it is opened, mended where it is damaged."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import apsw
from twisted.logger import Logger

from eventserver.journal._disk import DISK_ERRORS, is_full
from eventserver.journal._index import ByteIndex
from eventserver.journal._meta import FORGETFUL, NO_CURSORS, Changes
from eventserver.journal._reading import PASSING, read_heads
from eventserver.journal._records import (
    CURSOR,
    INFO,
    SEGMENT,
    CursorRecord,
    SegmentRecord,
    decode_all,
    encode,
    number,
)
from eventserver.journal._rows import Head, Key
from eventserver.journal._salvage import finish, salvage
from eventserver.journal._segment import Segment, SegmentFile, first_of, name_of
from eventserver.journal._store import Store

#: A position that no journal reaches.
END = 1 << 62
#: Seconds between attempts to read what the disk does not give, until that counts as damaged.
WAITS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(slots=True)
class Opened:
    """What was found."""

    node: str = ""
    head: int = 0
    segments: list[Segment] = field(default_factory=list)
    index: ByteIndex = field(default_factory=ByteIndex)
    cursors: dict[str, CursorRecord] = field(default_factory=dict)
    keys: list[tuple[Key, float]] = field(default_factory=list)
    """Keys in rows that were written after `meta.db`, with their time."""
    lost: list[tuple[int, int]] = field(default_factory=list)
    forgetful: bool = False
    """Whether cursors have been lost: those that are asked for begin with the oldest frame then."""
    changes: Changes = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    """Records of `meta.db` that could not be read, by kind."""


def open_store(store: Store, log: Logger, wait: Callable[[float], None]) -> Opened:
    """Get a store ready. Damage is reported, never raised.

    Where the disk fails it waits, and tries again. What it does not give after some seconds counts as damaged, where it
    gives the rest. Where it is full the ballast goes. Raises `ValueError` where a newer version wrote it, and `OSError`
    or `apsw.Error` where it cannot be used.
    """
    for seconds in WAITS:
        try:
            return _open(store, log, final=False)
        except DISK_ERRORS as error:
            if is_full(error) and store.give_up_ballast():
                continue
            if not (isinstance(error, apsw.IOError) or (isinstance(error, OSError) and error.errno == errno.EIO)):
                raise
            log.warn("journal: the disk fails, and is tried again: {error}", error=str(error))
            wait(seconds)
    return _open(store, log, final=True)


def _open(store: Store, log: Logger, final: bool) -> Opened:
    found = Opened()
    meta = store.meta
    was_there = meta.open(final)
    finish(store.disk, store.folder)
    firsts = sorted(first for name in store.disk.names(store.folder) if (first := first_of(name)) is not None)
    freed = number(meta.records, "freed")
    while firsts and firsts[0] < freed:
        # It was let go of, and a power cut has brought its name back.
        store.disk.remove(store.folder / name_of(firsts.pop(0)))
    found.damaged = dict(meta.damaged)
    found.cursors = decode_all(meta.records, CURSOR, CursorRecord)
    unreadable = sum(kind == CURSOR for kind, _ in meta.records) - len(found.cursors)
    if unreadable:
        found.damaged[CURSOR] = found.damaged.get(CURSOR, 0) + unreadable
    # An earlier start may have found them lost, and have ended before new ones were on the disk.
    lost = FORGETFUL in meta.records or (INFO, "committed") not in meta.records
    found.forgetful = bool(firsts) and (not was_there or lost or bool(found.damaged.keys() - NO_CURSORS))
    if found.forgetful:
        found.changes[FORGETFUL] = b"1"
    if found.damaged or (firsts and not was_there):
        log.error("journal: meta.db was damaged: {damaged} records lost", damaged=found.damaged or "all")
    found.node = meta.records.get((INFO, "node"), b"").decode(errors="replace")
    if not found.node:
        found.node = secrets.token_hex(8)
        found.changes[INFO, "node"] = found.node.encode()
    _Segments(store, found, log, final).open(firsts)
    known = [number(meta.records, "committed"), *(cursor.position for cursor in found.cursors.values())]
    end = found.segments[-1].end if found.segments else 0
    found.head = max(end, *known)
    if found.head > end and firsts:
        found.lost.append((end, found.head))
    return found


class _Segments:
    """The segments, oldest first; the last one goes on if it is sound."""

    def __init__(self, store: Store, found: Opened, log: Logger, final: bool) -> None:
        self._store = store
        self._found = found
        self._log = log
        self._final = final
        self._records = decode_all(store.meta.records, SEGMENT, SegmentRecord)
        self._keys_from = number(store.meta.records, "committed")

    def open(self, firsts: list[int]) -> None:
        """Take them all in."""
        found = self._found
        for index, first in enumerate(firsts):
            following = firsts[index + 1] if index + 1 < len(firsts) else None
            record = self._records.pop(str(first), None)
            if found.segments and found.segments[-1].end < first:
                found.lost.append((found.segments[-1].end, first))
            if record is not None and record.segment.first == first and following is not None:
                self._known(record)
            else:
                self._look_into(first, following)
        for key in self._records:
            found.changes[SEGMENT, key] = None

    def _known(self, record: SegmentRecord) -> None:
        self._found.segments.append(record.segment)
        self._found.index.begin(record.segment.first)
        for chunk in record.chunks:
            self._found.index.add(chunk.first, chunk.end, chunk.size, chunk.received, chunk.listeners)

    def _look_into(self, first: int, following: int | None) -> None:
        """A segment that nobody sealed: the last one, or one that was left in the middle of something."""
        store, found = self._store, self._found
        until = END if following is None else following
        try:
            file = SegmentFile.reopen(store.disk, store.folder, first)
        except PASSING:
            raise
        except apsw.Error as error:
            if self._mended(first, until, error):
                self._look_into(first, following)
            else:
                self._unreadable(first, following)
            return
        try:
            heads, whole = read_heads(file.connection, first, until, self._final)
            whole = whole and self._is_sound(file)
        except BaseException:
            file.abandon()
            raise
        if not heads and not whole:
            file.abandon()
            if self._mended(first, until, ValueError("none of its rows can be read")):
                self._look_into(first, following)
            else:
                self._unreadable(first, following)
            return
        segment = Segment(first, heads[-1].end if heads else first, store.disk.size(file.path))
        segment.damaged = not whole
        self._take_in(segment, heads)
        found.segments.append(segment)
        if not whole:
            self._log.error("journal: {path} is damaged", path=str(file.path))
        if whole and following is None:
            store.active = file
            return
        segment.sealed = self._seal(file, whole)
        if segment.sealed:
            record = SegmentRecord(segment, found.index.chunks_between(segment.first, segment.end))
            found.changes[SEGMENT, str(first)] = encode(record)

    def _is_sound(self, file: SegmentFile) -> bool:
        try:
            return bool(file.connection.pragma("quick_check") == "ok")
        except apsw.Error as error:
            if isinstance(error, PASSING) and not self._final:
                raise
            return False

    def _take_in(self, segment: Segment, heads: list[Head]) -> None:
        found = self._found
        found.index.begin(segment.first)
        segment.since = heads[0].received if heads else 0
        for head in heads:
            found.index.add(head.first, head.end, head.size, head.received, head.listeners)
            segment.received = max(segment.received, head.received)
            if head.keys and head.end > self._keys_from:
                found.keys += [(key, head.received / 1e6) for key in head.keys]

    def _seal(self, file: SegmentFile, whole: bool) -> bool:
        try:
            if whole:
                file.seal(lambda name: None)
                return True
        except (apsw.Error, OSError):
            pass
        file.abandon()
        return False

    def _mended(self, first: int, until: int, error: Exception) -> bool:
        """Whether what can be read of a segment has been written anew; the original is put apart."""
        self._log.error("journal: segment {first} is damaged: {error}", first=first, error=str(error))
        return salvage(self._store.disk, self._store.folder, first, until, (), self._final) is not None

    def _unreadable(self, first: int, following: int | None) -> None:
        """Nothing is left of it: another segment tells where it ended, or the cursors do."""
        if following is not None:
            self._found.lost.append((first, following))
