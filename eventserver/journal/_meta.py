"""`meta.db`: all that is not frames. Small records, each with a checksum, changed together in one transaction.

A record is `(kind, key) -> bytes`; what the bytes mean is up to whoever keeps them. All are in memory as well, so that
the file can be written anew when the disk has failed under it. Only the payloads of dead letters (`PAYLOAD`) are on
disk alone: there may be a lot of them, and hardly anybody asks.

A file that is written anew has three names, one after the other, and each change of name is atomic:

1. `meta-writing.db`: nobody trusts it.
2. `meta-new.db`: whole, and the one that counts, whatever there is besides. It has no log.
3. `meta.db`, once the log of the former one is gone for good: SQLite would take it for the new one's.

A former file that could not be read whole keeps another name, in `quarantine`, before it is replaced: what is in it a
person may still rescue.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import apsw

from eventserver.journal._disk import DISK_ERRORS, Disk
from eventserver.journal._meta_reading import checksum, read_payloads, read_records
from eventserver.journal._reading import PASSING
from eventserver.journal._segment import SIGNED, check_format, has_table

Name = tuple[str, str]
Records = dict[Name, bytes]
#: What is to be written: a record, or None for one that is to be forgotten.
Changes = dict[Name, bytes | None]

#: The kinds of a dead letter's record and of its payload; both have its number as their key.
DEAD, PAYLOAD = "dead", "payload"
#: What a damaged record of any kind but these was nobody knows, for the damage may be in that very word: a cursor,
#: perhaps.
NO_CURSORS = {DEAD, "failed", "key", "segment", "decoder", "info"}

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_name ON records(kind, key);
CREATE TABLE IF NOT EXISTS payloads(number INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
{SIGNED}
"""
_SET = (
    "INSERT INTO records(kind, key, crc, data) VALUES(?1,?2,?3,?4) ON CONFLICT(kind, key) DO UPDATE SET crc=?3, data=?4"
)
_FORGET = "DELETE FROM records WHERE kind=? AND key=?"
_SET_PAYLOAD = "INSERT OR REPLACE INTO payloads VALUES(?,?,?)"
_FORGET_PAYLOAD = "DELETE FROM payloads WHERE number=?"
_COMPLETE = ("info", "complete")
#: Cursors have been lost, and whoever would have had one may not have got another yet.
FORGETFUL = ("info", "forgetful")
#: Bytes of its log after which it is brought into the database.
LOG_BYTES = 1 << 20
#: Attempts to read payloads for a new file, and the seconds since the first that failed, before it goes without what it
#: cannot read: cursors must not wait for ever, and a disk that is back soon has lost nothing.
ATTEMPTS, PATIENCE = 5, 10.0
#: Files that could not be read whole and are kept apart.
APART = 4
#: Bytes of the file up to which all of it is checked at the start; of a larger one only the records are.
CHECKED = 32 << 20


class _Unreadable(Exception):
    """The file that has the payloads cannot be opened; why is its cause."""


class Meta:
    """The file, open. `damaged` counts the records that could not be read, by kind; `?` where nobody knows the kind.

    `seconds` is a clock that nobody sets. `apart` has the files that were put apart, until somebody takes them out to
    say so: from any thread.
    """

    def __init__(self, disk: Disk, folder: Path, seconds: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / "meta.db"
        self.records: Records = {}
        self.damaged: Counter[str] = Counter()
        self.apart: deque[Path] = deque()
        self._disk = disk
        self._seconds = seconds
        self._folder = folder
        self._writing = folder / "meta-writing.db"
        self._new = folder / "meta-new.db"
        self._connection: apsw.Connection | None = None
        self._unwritten = 0
        self._attempts = 0
        self._failing_since = 0.0

    def open(self, final: bool = False) -> bool:
        """Read it, or make it; returns whether it was there. It may be asked for again where it fails.

        What is damaged is put apart, and what could be read of it is written anew. Raises `ValueError` for a newer
        format, and `OSError` or `apsw.Error` where the file cannot be used now. With `final` what the disk does not
        give counts as damaged.
        """
        self._disconnect()
        self.records.clear()
        self.damaged.clear()
        self._disk.remove(self._writing)
        if self._is_there(self._new):
            if self._is_complete(final):
                self._take_over()
            else:
                # So it never is, but for a disk that has lost what it had.
                self.damaged["?"] += 1
                self._link_apart(self._new)
                self._disk.remove(self._new)
        if not self._is_there(self.path):
            self._connect()
            self._disk.sync_folder(self._folder)
            return bool(self.damaged)
        whole = False
        try:
            self._connect()
            whole = self._read(final)
        except PASSING as error:
            # Not damage: another program looks at the file, or the disk is away, or has no room for a new table.
            # Nothing may be put apart for that, unless it lasts.
            self._disconnect()
            if not (final and isinstance(error, apsw.IOError)):
                raise
            self.damaged["?"] += 1
        except apsw.Error:
            self.damaged["?"] += 1
        if not whole:
            forgetful = {FORGETFUL: b"1"} if self.damaged.keys() - NO_CURSORS else None
            self.rewrite(forgetful, keep=True, final=final)
        return True

    def _is_there(self, path: Path) -> bool:
        return path.name in self._disk.names(self._folder)

    def _connect(self) -> None:
        self._connection = connection = self._disk.open(self.path)
        check_format(connection, self.path)
        if not (has_table(connection, "records") and has_table(connection, "payloads")):
            connection.execute(_SCHEMA)

    def _is_complete(self, final: bool) -> bool:
        """Whether a file that is to replace the former one is whole. It is where the disk does not say, for good."""
        try:
            connection = self._disk.open_immutable(self._new)
            try:
                return bool(connection.execute("SELECT 1 FROM records WHERE kind=? AND key=?", _COMPLETE).fetchone())
            finally:
                connection.close(True)
        except PASSING as error:
            if final and isinstance(error, apsw.IOError):
                return True
            raise
        except apsw.Error:
            return False

    def _take_over(self) -> None:
        """The file that is written anew replaces the former one. Where that fails it still counts: see above."""
        self._disk.remove_logs(self.path)
        self._disk.sync_folder(self._folder)
        self._disk.replace(self._new, self.path)

    def _link_apart(self, path: Path) -> None:
        """Give a file another name, where people find it; of those the newest few are kept.

        It keeps its own as well: a crash at any moment finds it where it was.
        """
        quarantine = self._folder / "quarantine"
        self._disk.make_folder(quarantine)
        numbers = sorted(number for name in self._disk.names(quarantine) if (number := _apart_number(name)))
        if numbers and self._disk.same(path, quarantine / f"meta-{numbers[-1]}.db"):
            # By an earlier attempt.
            return
        target = quarantine / f"meta-{numbers[-1] + 1 if numbers else 1}.db"
        self._disk.link(path, target)
        self.apart.append(target)
        for number in numbers[: 1 - APART]:
            self._disk.remove(quarantine / f"meta-{number}.db")

    def _read(self, final: bool) -> bool:
        """Read all records that are sound; returns whether all were."""
        assert self._connection is not None
        # Not the quick one: a record that the index does not have could be there twice later on. Payloads have their
        # checksums: where there are many, nobody reads them all at each start.
        checked = "" if self._disk.size(self.path) <= CHECKED else "('records')"
        try:
            whole = self._connection.execute(f"PRAGMA integrity_check{checked}").fetchall() == [("ok",)]
        except apsw.Error as error:
            if isinstance(error, PASSING) and not (final and isinstance(error, apsw.IOError)):
                raise
            whole = False
        self.records, self.damaged = read_records(self._connection, final)
        self.records.pop(_COMPLETE, None)
        if not whole and not self.damaged:
            # A record may be gone without a trace, and be a cursor.
            self.damaged["?"] += 1
        return not self.damaged

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
                # What was to be written is durable, in the log: where the file cannot be written anew now, it is with
                # the next changes.
                with contextlib.suppress(*DISK_ERRORS):
                    self.rewrite()

    def _apply(self, changes: Mapping[Name, bytes | None]) -> None:
        for name, data in changes.items():
            if data is None:
                self.records.pop(name, None)
            elif name[0] != PAYLOAD:
                self.records[name] = data

    def rewrite(
        self, changes: Mapping[Name, bytes | None] | None = None, keep: bool = False, final: bool = False
    ) -> None:
        """Write everything into a new file, which then takes the place of the former one.

        Until it has, the former one is left as it is; after that, it counts for nothing. That one is put apart if
        `keep`, or if not all of it can be read: for good if `final`, or else after some time.
        """
        self._disconnect()
        changes = changes or {}
        records: Changes = {**self.records, **changes}
        self._disk.remove(self._writing)
        try:
            whole = self._write_anew(records, changes, final)
        except BaseException:
            # It may be large, and frames need the room.
            with contextlib.suppress(*DISK_ERRORS):
                self._disk.remove(self._writing)
            raise
        if keep or not whole:
            self._link_apart(self._new if self._is_there(self._new) else self.path)
        self._disk.replace(self._writing, self._new)
        self._take_over()
        self._connect()
        self._attempts = 0
        self._apply(changes)

    def _write_anew(self, records: Changes, changes: Mapping[Name, bytes | None], final: bool) -> bool:
        """Whether all could be read that the former file has."""
        connection = self._disk.open(self._writing)
        try:
            connection.execute(_SCHEMA)
            kept = [key for (kind, key), data in records.items() if kind == DEAD and data is not None]
            whole = self._copy_payloads(connection, [key for key in kept if (PAYLOAD, key) not in changes], final)
            _write(connection, {**records, _COMPLETE: b"1"})
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            # Nothing is in the log any more: SQLite may unlink it.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            return whole
        finally:
            connection.close(True)

    # Payloads of dead letters

    def payloads(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The payloads of dead letters, by number; those that are not there, or damaged, are left out.

        Raises `OSError` or `apsw.Error` where the disk does not give them now.
        """
        try:
            with self._readable() as connection:
                return read_payloads(connection, keys)[0]
        except _Unreadable as error:
            # It is about to be written anew, and may be read by then.
            raise error.__cause__ or error from None

    @contextlib.contextmanager
    def _readable(self) -> Iterator[apsw.Connection]:
        """The file that counts; what the disk has failed with is closed, and is opened again here."""
        if self._connection is not None:
            yield self._connection
            return
        new = self._is_there(self._new)
        try:
            connection = self._disk.open_immutable(self._new) if new else self._disk.open(self.path, make=False)
        except apsw.Error as error:
            raise _Unreadable from error
        try:
            yield connection
        finally:
            connection.close(True)

    def _copy_payloads(self, target: apsw.Connection, keys: Sequence[str], final: bool) -> bool:
        """Copy the payloads that are wanted and can be read; whoever asks for one of the others is told.

        Returns whether all could be that are there. Errors of the disk are raised unless they have lasted.
        """
        if not keys or not (self._is_there(self._new) or self._is_there(self.path)):
            return True
        lasting = self._attempts >= ATTEMPTS - 1 and self._seconds() - self._failing_since >= PATIENCE
        final = final or lasting
        whole = True
        try:
            with self._readable() as source:
                size = 0
                for index in range(0, len(keys), 100):
                    try:
                        found, unreadable = read_payloads(source, keys[index : index + 100], final)
                    except PASSING as error:
                        # Only these count: that the new file cannot be written says nothing of the payloads.
                        self._note_failure()
                        raise error from None
                    whole = whole and not unreadable
                    _write(target, {(PAYLOAD, key): data for key, data in found.items()})
                    size += sum(map(len, found.values()))
                    if size > 8 * LOG_BYTES:
                        target.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                        size = 0
        except _Unreadable as error:
            cause = error.__cause__
            if isinstance(cause, apsw.FullError):
                # There is an end to that.
                raise cause from None
            if not final and isinstance(cause, PASSING):
                self._note_failure()
                raise cause from None
            return False
        self._attempts = 0
        return whole

    def _note_failure(self) -> None:
        if not self._attempts:
            self._failing_since = self._seconds()
        self._attempts += 1

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
            if kind == PAYLOAD:
                if data is None:
                    connection.execute(_FORGET_PAYLOAD, (int(key),))
                else:
                    connection.execute(_SET_PAYLOAD, (int(key), checksum(kind, key, data), data))
            elif data is None:
                connection.execute(_FORGET, (kind, key))
            else:
                connection.execute(_SET, (kind, key, checksum(kind, key, data), data))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apart_number(name: str) -> int:
    """The number of a file that was put apart; 0 for others."""
    number = name.removeprefix("meta-").removesuffix(".db")
    return int(number) if name == f"meta-{number}.db" and number.isdigit() else 0
