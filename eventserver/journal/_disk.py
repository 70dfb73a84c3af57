"""The file system and SQLite as the journal uses them; tests put others in their place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import apsw

#: Raised where SQLite, or the system, finds no room.
FULL = (apsw.FullError,)
#: Everything that a disk may do to us.
DISK_ERRORS = (apsw.Error, OSError)

#: In this order, on each connection that writes. EXCLUSIVE comes before WAL: then SQLite needs no shared memory, and
#: nobody else can open the file, let alone checkpoint it.
_PRAGMAS = """
PRAGMA page_size=8192;
PRAGMA locking_mode=EXCLUSIVE;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=0;
PRAGMA mmap_size=0;
PRAGMA cell_size_check=ON;
PRAGMA trusted_schema=OFF;
PRAGMA temp_store=MEMORY;
PRAGMA busy_timeout=1000;
"""


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, FULL) or (isinstance(error, OSError) and error.errno in full)


class Disk:
    """Opens databases and changes folders. `vfs` names a VFS that is registered with apsw; empty is the system's."""

    def __init__(self, vfs: str = "") -> None:
        self.vfs = vfs

    def open(self, path: Path, make: bool = True) -> apsw.Connection:
        """A connection that reads and writes; only if `make`, the file is made. It checkpoints when it is told to."""
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if make else 0)
        connection = apsw.Connection(str(path), flags=flags, vfs=self.vfs or None)
        try:
            # A failed fsync must not be tried again behind our back.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            # All of them: apsw runs statements only as far as rows are asked for.
            connection.execute(_PRAGMAS).fetchall()
        except BaseException:
            connection.close(True)
            raise
        return connection

    def open_immutable(self, path: Path) -> apsw.Connection:
        """A connection that reads a file that nobody changes any more; it needs no locks and no other file."""
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        name = f"file:{quote(str(path))}?mode=ro&immutable=1"
        connection = apsw.Connection(name, flags=flags, vfs=self.vfs or None)
        try:
            connection.execute("PRAGMA mmap_size=0; PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF").fetchall()
        except BaseException:
            connection.close(True)
            raise
        return connection

    def names(self, folder: Path) -> list[str]:
        """The names in a folder, sorted."""
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted

    def size(self, path: Path) -> int:
        """The bytes of a file; 0 if there is none."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self, path: Path) -> None:
        """Unlink a database and what belongs to it; what is not there is no error."""
        self.remove_logs(path)
        self.unlink(path)

    def remove_logs(self, path: Path) -> None:
        """Unlink what belongs to a database; what is not there is no error."""
        for suffix in ("-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}{suffix}")  # noqa: PTH108 - one of three names

    def move(self, path: Path, target: Path) -> None:
        """Rename a database with its log into an existing folder, and make that durable."""
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{target}{suffix}")  # noqa: PTH105 - one of two names
        self.sync_folder(target.parent)
        self.sync_folder(path.parent)

    def link(self, path: Path, target: Path) -> None:
        """Give a database with its log another name besides its own, in an existing folder, and make that durable.

        On a file system that knows no links it has only the new name then.
        """
        for suffix in ("-wal", ""):
            self.unlink(Path(f"{target}{suffix}"))
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.link(f"{path}{suffix}", f"{target}{suffix}")
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                        raise
                    os.replace(f"{path}{suffix}", f"{target}{suffix}")  # noqa: PTH105 - tests watch these calls
        self.sync_folder(target.parent)

    def same(self, path: Path, other: Path) -> bool:
        """Whether two names are those of one file."""
        try:
            return path.samefile(other)
        except FileNotFoundError:
            return False

    def replace(self, path: Path, target: Path) -> None:
        """Rename a database that has no log over another in the same folder, at once and durably."""
        os.replace(path, target)  # noqa: PTH105 - tests watch these calls
        self.sync_folder(target.parent)

    def sync_folder(self, folder: Path) -> None:
        """Make durable which files are in the folder."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, for the owner only, durably."""
        missing = [folder]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for one in reversed(missing):
            if not one.is_dir():
                one.mkdir(mode=0o700)
                self.sync_folder(one.parent)

    def free(self, folder: Path) -> int:
        """Bytes that may still be written."""
        return shutil.disk_usage(folder).free

    def fill(self, path: Path, size: int) -> None:
        """Make a file that takes so many bytes; raises `OSError` without leaving any of it where there is no room."""
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self.unlink(path)
            raise

    def unlink(self, path: Path) -> None:
        """Remove a plain file, if it is there."""
        path.unlink(missing_ok=True)

    def lock(self, path: Path) -> int:
        """Lock a file against other processes; returns its descriptor. Raises `BlockingIOError` if somebody has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def unlock(self, descriptor: int) -> None:
        """Let go of a lock."""
        os.close(descriptor)
