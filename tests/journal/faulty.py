"""A disk that fails when a test says so: a VFS of SQLite over the system's, and the file calls besides it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from eventserver.journal._disk import Disk


class Faults:
    """What the disk does now.

    `full`: no file may grow. `fail_syncs`, `fail_writes`, `fail_reads`: so many of the next calls raise EIO (-1: all of
    them), but for the `skip` that come first; reads of the bytes `bad` of a database raise it always. All of this only
    for files whose name contains `where`. `calls` lists the syncs, by name of the file.
    """

    def __init__(self) -> None:
        self.full = False
        self.fail_syncs = 0
        self.fail_writes = 0
        self.fail_reads = 0
        self.skip = 0
        self.bad = range(0)
        self.where = ""
        self.calls: list[str] = []
        self.read = 0
        """Bytes read."""

    def fails(self, kind: str, name: str) -> bool:
        """Whether this call fails; that one is used up then."""
        left: int = getattr(self, kind)
        if not left or self.where not in name:
            return False
        if self.skip:
            self.skip -= 1
            return False
        setattr(self, kind, left - 1)
        return True


class FaultyFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, faults: Faults, vfs: str, name: Any, flags: list[int]) -> None:
        super().__init__(vfs, name, flags)
        self.faults = faults
        self.name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self.faults.full and self.faults.where in self.name and offset + len(data) > self.xFileSize():
            raise apsw.FullError("no room")
        if self.faults.fails("fail_writes", self.name):
            raise _io_error("write", apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.faults.calls.append(Path(self.name).name)
        if self.faults.fails("fail_syncs", self.name):
            raise _io_error("fsync", apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        if self.faults.fails("fail_reads", self.name):
            raise _io_error("read", apsw.SQLITE_IOERR_READ)
        if self.faults.where in self.name:
            bad = self.faults.bad
            if not self.name.endswith("-wal") and offset < bad.stop and offset + amount > bad.start:
                raise _io_error("read", apsw.SQLITE_IOERR_READ)
            self.faults.read += amount
        return super().xRead(amount, offset)


def _io_error(what: str, code: int) -> apsw.IOError:
    error = apsw.IOError(f"{what} failed")
    error.extendedresult = code
    return error


class FaultyVfs(apsw.VFS):
    """Registered as `name` while it lives."""

    def __init__(self, name: str, faults: Faults) -> None:
        self.faults = faults
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:
        return FaultyFile(self.faults, "", name, flags)


class FaultyDisk(Disk):
    """The file calls that do not go through SQLite."""

    def __init__(self, vfs: str, faults: Faults) -> None:
        super().__init__(vfs)
        self.faults = faults

    def free(self, folder: Path) -> int:
        return 0 if self.faults.full else super().free(folder)

    def fill(self, path: Path, size: int) -> None:
        if self.faults.full:
            raise OSError(errno.ENOSPC, "no room")
        super().fill(path, size)


@contextmanager
def faulty_disk() -> Iterator[tuple[FaultyDisk, Faults]]:
    """A disk, and what is wrong with it."""
    faults = Faults()
    name = f"faulty-{id(faults)}"
    vfs = FaultyVfs(name, faults)
    try:
        yield FaultyDisk(name, faults), faults
    finally:
        vfs.unregister()
