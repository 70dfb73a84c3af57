"""The files of one journal, as its writer's thread sees them: the segment that grows, those to be sealed, `meta.db`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from eventserver.event import Batch
from eventserver.journal._apart import keep_the_newest, put_apart
from eventserver.journal._disk import DISK_ERRORS, Disk, is_full
from eventserver.journal._meta import Changes, Meta, Name
from eventserver.journal._reading import Piece
from eventserver.journal._rows import Head, Key, Row, pack
from eventserver.journal._segment import SegmentFile, name_of

#: Reads what is wanted of a segment that is open.
Read = Callable[[apsw.Connection], Piece]


@dataclass(slots=True)
class Written:
    """What a group commit did."""

    heads: list[Head]
    segment: int
    """The first position of the segment that holds them."""
    to_seal: list[int]
    """Segments that are full, by first position."""
    unwritten: int
    """Bytes in the log of the active segment."""
    disk: int
    """Bytes of the active segment, about."""
    errors: int
    """How often the disk has failed so far."""


class NoRoom(OSError):
    """The disk is full, and there is not yet room enough to go on."""


class Store:
    """Everything here runs in one thread; before it has begun, `opening` prepares it.

    `ballast` bytes lie in a file that is removed when the disk is full, so that cursors can be written and segments be
    sealed all the same; nothing is appended before it has been made again.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        *,
        segment_bytes: int,
        ballast: int,
        point: Callable[[str], None],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.disk = disk
        self.folder = folder
        self.meta = Meta(disk, folder, seconds)
        self.active: SegmentFile | None = None
        self.errors = 0
        self.full = False
        self._segment_bytes = segment_bytes
        self._ballast = ballast
        self._ballast_file = folder / "ballast"
        self._point = point
        self._full_segments: dict[int, SegmentFile] = {}
        self._to_seal: list[int] = []
        self._owed: Changes = {}
        self._leftover: list[int] = []  # segments that count as gone, and could not be unlinked

    # Appending

    def commit(self, first: int, group: Sequence[tuple[Batch, int]], keys: Sequence[Key], roll: bool) -> Written:
        """Write batches behind position `first`, into a new segment if `roll`. When it returns they are durable.

        Raises an `OSError` or `apsw.Error` when they are not: nothing is promised then, and the same may be asked
        again.
        """
        packed = pack(first, group, keys)
        self._point("batch-framed")
        if self.full and not self._room():
            raise NoRoom("the disk is full")
        try:
            self._write(first, [row for _, row in packed], roll)
        except DISK_ERRORS as error:
            if is_full(error):
                self._filled()
            raise
        active = self.active
        assert active is not None
        self._point("after-commit-before-ack")
        to_seal, self._to_seal = self._to_seal, []
        heads = [head for head, _ in packed]
        return Written(heads, active.first, to_seal, active.unwritten, active.bytes, self.errors)

    def _write(self, first: int, rows: Sequence[Row], roll: bool) -> None:
        active = self.active
        if active is None:
            active = self.active = self._create(first)
        elif active.first < first and (roll or active.bytes >= self._segment_bytes):
            self.active = self._create(first)
            self._full_segments[active.first] = active
            self._to_seal.append(active.first)
            active = self.active
        try:
            active.write(rows, self._point)
        except DISK_ERRORS as error:
            if is_full(error):
                raise
            # What has become of its pages nobody knows: it is not touched again, and another file takes the frames.
            self.errors += 1
            self._abandon()
            self.active = active = self._create(first)
            try:
                active.write(rows, self._point)
            except DISK_ERRORS:
                self._abandon()
                raise

    def _create(self, first: int) -> SegmentFile:
        return SegmentFile.create(self.disk, self.folder, first, self._point)

    def _abandon(self) -> None:
        active, self.active = self.active, None
        if active is not None:
            active.abandon()

    # Room

    def begin(self) -> None:
        """Make the ballast: at most an eighth of what is free, so that a small disk has one too."""
        free = self.disk.free(self.folder) + self.disk.size(self._ballast_file)
        self._ballast = min(self._ballast, free // 8)
        self.make_ballast()

    def make_ballast(self) -> None:
        """Make the ballast, if there is room for it."""
        if self._ballast and self.disk.size(self._ballast_file) != self._ballast:
            try:
                self.disk.fill(self._ballast_file, self._ballast)
            except OSError:
                self.disk.unlink(self._ballast_file)

    def give_up_ballast(self) -> bool:
        """Whether there was a ballast that could be removed."""
        there = self.disk.size(self._ballast_file) > 0
        self.disk.unlink(self._ballast_file)
        return there

    def _filled(self) -> None:
        if not self.full:
            self.full = True
            self.disk.unlink(self._ballast_file)

    def _room(self) -> bool:
        """Whether there is room again for the ballast and a little more; then the ballast is made."""
        if self.disk.free(self.folder) < self._ballast + max(1 << 20, self._ballast // 8):
            return False
        self.make_ballast()
        self.full = False
        return True

    # Looking after files

    def maintain(self) -> int:
        """Bring the log of the active segment into its database; returns what is left in it."""
        if self.active is None:
            return 0
        try:
            self.active.checkpoint()
        except DISK_ERRORS as error:
            if is_full(error):
                self._filled()
            else:
                self.errors += 1
                self._abandon()
            return 0
        return self.active.unwritten

    def seal(self, first: int) -> int | None:
        """Seal a full segment; returns its bytes on disk, or None where that could not be done: its log stays."""
        file = self._full_segments.pop(first)
        try:
            return file.seal(self._point)
        except DISK_ERRORS as error:
            if is_full(error):
                # There is an end to that, and it is tried again then.
                self._filled()
                self._full_segments[first] = file
                raise
            self.errors += 1
            file.abandon()
            return None

    def flush(self, changes: Mapping[Name, bytes | None]) -> None:
        """Write records of `meta.db`, together with those that could not be written before.

        More may have been asked for by then: a cursor must not be on disk without what it left behind as parked.
        """
        self._point("cursor-commit")
        self._owed.update(changes)
        try:
            self.meta.write(self._owed)
        except DISK_ERRORS as error:
            if is_full(error):
                self._filled()
            raise
        self._owed = {}

    def free(
        self,
        firsts: Collection[int],
        damaged: Collection[int],
        changes: Mapping[Name, bytes | None],
        marks: Mapping[Name, bytes | None],
    ) -> None:
        """Unlink segments, after the cursors that passed them are durable; damaged ones are put apart.

        `marks` say that they are gone: where those cannot be written nothing is gone, and nothing may say so later.
        From then on they count as gone, though one that cannot be unlinked now is tried again only with the next.
        """
        self._owed.update(changes)
        before = {name: self._owed[name] for name in marks if name in self._owed}
        try:
            self.flush(marks)
        except DISK_ERRORS:
            for name in marks:
                self._owed.pop(name, None)
            self._owed.update(before)
            raise
        self._point("unlink")
        self._leftover += firsts
        left, self._leftover = self._leftover, []
        for first in left:
            if (file := self._full_segments.pop(first, None)) is not None:
                file.abandon()
            try:
                if first in damaged and not self.full:
                    self.quarantine(first)
                else:
                    self.disk.remove(self.folder / name_of(first))
            except DISK_ERRORS:
                self.errors += 1
                self._leftover.append(first)

    def quarantine(self, first: int) -> None:
        """Put a damaged segment apart, where the newest few of them are kept for people to look at."""
        put_apart(self.disk, self.folder, first)
        keep_the_newest(self.disk, self.folder)

    def read(self, segment: int, read: Read) -> Piece:
        """Batches of a segment that is not sealed."""
        file = self._full_segments.get(segment)
        if file is None and self.active is not None and self.active.first == segment:
            file = self.active
        if file is not None:
            return read(file.connection)
        # It must be there: a reader never makes one.
        connection = self.disk.open(self.folder / name_of(segment), make=False)
        try:
            return read(connection)
        finally:
            connection.close(True)

    def close(self, changes: Mapping[Name, bytes | None]) -> None:
        """Write what is left, bring all logs into their databases, and close everything. Never raises."""
        for first in list(self._full_segments):
            with contextlib.suppress(*DISK_ERRORS):
                self.seal(first)
        for file in self._full_segments.values():
            file.abandon()
        self._full_segments.clear()
        try:
            if self.active is not None:
                self.active.seal(lambda name: None)
        except DISK_ERRORS:
            self._abandon()
        self.active = None
        with contextlib.suppress(*DISK_ERRORS):
            self.flush(changes)
        self.meta.close()
        self.disk.unlink(self._ballast_file)


class SealedReader:
    """Reads sealed segments, in a thread of its own; the file that was read last stays open."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self._first = -1
        self._connection: apsw.Connection | None = None

    def read(self, segment: int, read: Read) -> Piece:
        """Batches of a sealed segment."""
        connection = self._connection
        if connection is None or self._first != segment:
            self.close()
            connection = self._connection = self._disk.open_immutable(self._folder / name_of(segment))
            self._first = segment
        try:
            return read(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)
