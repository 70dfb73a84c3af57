"""One file of the journal: made, written, checkpointed and sealed, all in the writer's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec

from eventserver.journal._disk import DISK_ERRORS, Disk
from eventserver.journal._rows import Row

#: The version of what is in a file; a newer one is refused. It is kept twice, in `PRAGMA user_version` and as part of
#: `PRAGMA application_id`, since a damaged number must not keep a server from starting.
FORMAT = 1
APPLICATION = 0x45760000
#: Bytes of a row besides its data, about: its head and its share of a page.
ROW_OVERHEAD = 120

#: SQL that says so.
SIGNED = f"PRAGMA user_version={FORMAT}; PRAGMA application_id={APPLICATION + FORMAT};"

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS batches(
    first INTEGER PRIMARY KEY, frames INTEGER NOT NULL, size INTEGER NOT NULL, received INTEGER NOT NULL,
    listeners BLOB NOT NULL, keys BLOB, head_crc INTEGER NOT NULL, codec INTEGER NOT NULL, crc INTEGER NOT NULL,
    data BLOB NOT NULL);
{SIGNED}
"""
_INSERT = "INSERT INTO batches VALUES(?,?,?,?,?,?,?,?,?,?)"


class Segment(msgspec.Struct):
    """What is known of a file: positions, bytes on disk, the latest and the earliest time of a row (microseconds).

    `sealed`: checkpointed, and never to be changed again; it is opened without its log. `damaged`: something in it
    could not be read.
    """

    first: int
    end: int
    disk: int = 0
    received: int = 0
    since: int = 0
    sealed: bool = False
    damaged: bool = False


def name_of(first: int) -> str:
    """The name of the segment whose first frame is behind position `first`."""
    return f"seg-{first:020}.db"


def first_of(name: str) -> int | None:
    """The position in the name of a segment; None for other files."""
    if name.startswith("seg-") and name.endswith(".db") and name[4:-3].isdigit():
        return int(name[4:-3])
    return None


def check_format(connection: apsw.Connection, path: Path) -> None:
    """Raises `ValueError` where a newer version of eventserver has written the file."""
    version, application = connection.pragma("user_version"), connection.pragma("application_id")
    if version > FORMAT and application == APPLICATION + version:
        raise ValueError(f"{path} has format {version}; this version of eventserver knows formats up to {FORMAT}")


def has_table(connection: apsw.Connection, name: str) -> bool:
    """Whether there is a table: one that is there must not be written to, since the disk may be full."""
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?", (name,))
    return bool(found.fetchall()[0][0])


class SegmentFile:
    """A segment that is open for writing."""

    def __init__(self, disk: Disk, path: Path, first: int, connection: apsw.Connection) -> None:
        self.path = path
        self.first = first
        self.connection = connection
        self.bytes = 0
        """Bytes of all rows, about."""
        self.unwritten = 0
        """Bytes that are in the log and not yet in the database, about."""
        self._disk = disk

    @classmethod
    def create(cls, disk: Disk, folder: Path, first: int, point: Callable[[str], None]) -> SegmentFile:
        """A new segment; it and its name are durable when this returns. What an earlier attempt left goes first."""
        path = folder / name_of(first)
        disk.remove(path)
        connection = disk.open(path)
        try:
            cls.prepare(connection)
            point("segment-create")
            disk.sync_folder(folder)
        except BaseException:
            connection.close(True)
            raise
        return cls(disk, path, first, connection)

    @staticmethod
    def prepare(connection: apsw.Connection) -> None:
        """Make the table in a new file."""
        connection.execute(_SCHEMA)

    @classmethod
    def reopen(cls, disk: Disk, folder: Path, first: int) -> SegmentFile:
        """A segment that is there, with what its log holds. Raises `ValueError` for a newer format."""
        path = folder / name_of(first)
        connection = disk.open(path, make=False)
        try:
            check_format(connection, path)
            if not has_table(connection, "batches"):
                cls.prepare(connection)
        except BaseException:
            connection.close(True)
            raise
        opened = cls(disk, path, first, connection)
        opened.bytes = opened.unwritten = disk.size(path)
        return opened

    def write(self, rows: Sequence[Row], point: Callable[[str], None]) -> None:
        """Commit rows. When this returns they survive a power cut; when it raises, none of them is promised."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                connection.execute(_INSERT, row)
            point("before-commit")
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself where the disk is full.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        size = sum(len(row[9]) for row in rows) + ROW_OVERHEAD * len(rows)
        self.bytes += size
        self.unwritten += size

    def checkpoint(self) -> None:
        """Bring the log into the database, so that it is written from its beginning again."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self.unwritten = 0

    def seal(self, point: Callable[[str], None]) -> int:
        """Bring all of the log into the database, and close it for good. Returns its bytes on disk."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        point("seal")
        # Nothing is in the log any more: SQLite may unlink it.
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self.connection.close(True)
        return self._disk.size(self.path)

    def abandon(self) -> None:
        """Close it as it is; its log stays beside it. Never raises."""
        with contextlib.suppress(*DISK_ERRORS):
            self.connection.close(True)
