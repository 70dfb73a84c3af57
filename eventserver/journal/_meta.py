"""`meta.db`: all that is not frames. Small records, each with a checksum, changed together in one transaction.

A record is `(kind, key) -> bytes`; what the bytes mean is up to whoever keeps them. All are in memory as well, so that
the file can be written anew when the disk has failed under it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import apsw

from eventserver.journal._disk import DISK_ERRORS, Disk
from eventserver.journal._reading import PASSING
from eventserver.journal._segment import SIGNED, check_format, has_table

Name = tuple[str, str]
Records = dict[Name, bytes]
#: What is to be written: a record, or None for one that is to be forgotten.
Changes = dict[Name, bytes | None]

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_name ON records(kind, key);
{SIGNED}
"""
_SET = (
    "INSERT INTO records(kind, key, crc, data) VALUES(?1,?2,?3,?4) ON CONFLICT(kind, key) DO UPDATE SET crc=?3, data=?4"
)
_FORGET = "DELETE FROM records WHERE kind=? AND key=?"
_COMPLETE = ("info", "complete")
#: Bytes of its log after which it is brought into the database.
LOG_BYTES = 1 << 20


class Meta:
    """The file, open. `damaged` counts the records that could not be read, by kind; `?` where nobody knows the kind."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.path = folder / "meta.db"
        self.records: Records = {}
        self.damaged: Counter[str] = Counter()
        self._disk = disk
        self._folder = folder
        self._new = folder / "meta-new.db"
        self._connection: apsw.Connection | None = None
        self._unwritten = 0

    def open(self) -> bool:
        """Read it, or make it; returns whether it was there.

        What is damaged is put apart, and what could be read of it is written anew. Raises `ValueError` for a newer
        format, and `OSError` or `apsw.Error` where the file cannot be used now.
        """
        names = set(self._disk.names(self._folder))
        if self._new.name in names:
            self._take_over()
            names = set(self._disk.names(self._folder))
        if self.path.name not in names:
            self._connect()
            self._disk.sync_folder(self._folder)
            return False
        whole = False
        try:
            self._connect()
            whole = self._read()
        except PASSING:
            # Not damage: another program looks at the file, or the disk is away. Nothing may be put apart for that.
            self._disconnect()
            raise
        except apsw.Error:
            self.damaged["?"] += 1
        if not whole:
            self.rewrite(keep=True)
        return True

    def _connect(self) -> None:
        self._connection = connection = self._disk.open(self.path)
        check_format(connection, self.path)
        if not has_table(connection, "records"):
            connection.execute(_SCHEMA)

    def _take_over(self) -> None:
        """A file that was being written anew: it replaces the old one if it was finished."""
        try:
            connection = self._disk.open(self._new)
            try:
                found = connection.execute("SELECT 1 FROM records WHERE kind=? AND key=?", _COMPLETE).fetchone()
                if found:
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                connection.close(True)
        except PASSING:
            raise
        except apsw.Error:
            found = None
        if found:
            self._disk.remove(self.path)
            self._disk.move(self._new, self.path)
        self._disk.remove(self._new)

    def _read(self) -> bool:
        """Read all records that are sound; returns whether all were."""
        assert self._connection is not None
        # Not the quick one: a record that the index does not have could be there twice later on.
        whole = self._connection.pragma("integrity_check") == "ok"
        reached = -1
        while True:
            try:
                for number, kind, key, crc, data in self._connection.execute(
                    "SELECT id, kind, key, crc, data FROM records WHERE id > ? ORDER BY id", (reached,)
                ):
                    reached = number
                    if isinstance(data, bytes) and _crc(kind, key, data) == crc:
                        self.records[kind, key] = data
                    else:
                        self.damaged[str(kind)] += 1
                        whole = False
                break
            except (apsw.Error, TypeError, AttributeError, UnicodeDecodeError):
                self.damaged["?"] += 1
                whole = False
                reached = self._behind(reached)
                if reached < 0:
                    break
        self.records.pop(_COMPLETE, None)
        return bool(whole)

    def _behind(self, reached: int) -> int:
        """The number of the record that cannot be read; -1 if there is no going on."""
        assert self._connection is not None
        try:
            sql = "SELECT id FROM records WHERE id > ? ORDER BY id LIMIT 1"
            found = self._connection.execute(sql, (reached,)).fetchone()
        except apsw.Error:
            return -1
        return found[0] if found else -1

    def write(self, changes: Mapping[Name, bytes | None]) -> None:
        """Commit changes, all or none. Where the disk fails (other than being full) the file is written anew."""
        connection = self._connection
        if connection is None:
            self.rewrite(changes)
            return
        try:
            _write(connection, changes)
        except apsw.FullError:
            raise
        except DISK_ERRORS:
            self.rewrite(changes)
            return
        self._apply(changes)
        self._unwritten += sum(len(data or b"") + 200 for data in changes.values())
        if self._unwritten > LOG_BYTES:
            self._unwritten = 0
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.FullError:
                # The log has it all; another time, then.
                pass
            except DISK_ERRORS:
                self.rewrite()

    def _apply(self, changes: Mapping[Name, bytes | None]) -> None:
        for name, data in changes.items():
            if data is None:
                self.records.pop(name, None)
            else:
                self.records[name] = data

    def rewrite(self, changes: Mapping[Name, bytes | None] | None = None, keep: bool = False) -> None:
        """Write everything into a new file, which then takes the place of the old one; `keep` puts that one apart."""
        self._disconnect()
        records: Changes = {**self.records, **(changes or {})}
        self._disk.remove(self._new)
        connection = self._disk.open(self._new)
        try:
            connection.execute(_SCHEMA)
            _write(connection, {**records, _COMPLETE: b"1"})
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close(True)
        self._disk.sync_folder(self._folder)
        if keep:
            quarantine = self._folder / "quarantine"
            self._disk.make_folder(quarantine)
            self._disk.move(self.path, quarantine / self.path.name)
        self._take_over()
        self._connect()
        self._apply(changes or {})

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*DISK_ERRORS):
                connection.close(True)

    def close(self) -> None:
        """Bring its log into the database, and close it. Never raises."""
        with contextlib.suppress(*DISK_ERRORS):
            if self._connection is not None:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self._disconnect()


def _write(connection: apsw.Connection, changes: Mapping[Name, bytes | None]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for (kind, key), data in changes.items():
            if data is None:
                connection.execute(_FORGET, (kind, key))
            else:
                connection.execute(_SET, (kind, key, _crc(kind, key, data), data))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _crc(kind: str, key: str, data: bytes) -> int:
    return crc32(data, crc32(f"{kind}\0{key}".encode()))
