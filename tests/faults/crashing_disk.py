"""A disk for SQLite that can lose power: an apsw VFS that records what is written, and what has been synced.

The files are real ones below `root`. Beside them the disk keeps a log of everything that was done to them: writes,
truncates, syncs, creations, unlinks, renames, folders, and marks that the test sets (`mark`). From the log
`tests.faults.disk_images` builds what a disk could hold after a power cut at any moment.

SQLite's own calls come through the VFS; Python's (`os.unlink`, `os.mkdir`, `os.replace`, `os.fsync` of a folder, ...)
through `patched`. What SQLite's own VFS does besides is repeated here: the first sync of a new WAL or rollback
journal syncs the folder, too.

Faults: `fail_sync`, `fail_write` and `capacity`; see `Faults`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import apsw

_names = itertools.count(1)
#: New files of these kinds have their folder synced with their first sync (SQLite's os_unix.c).
_DIRSYNC = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class Op(NamedTuple):
    """One line of the log. `file` is the number of a file; `path` is relative to the root."""

    kind: str  # create open write truncate sync lost unlink rename mkdir rmdir syncdir mark
    path: str = ""
    file: int = 0
    offset: int = 0
    data: Any = None


class Faults:
    """What the disk will do wrong. Counts are of calls from now on; None is never.

    - `fail_sync`: numbers of syncs that fail with EIO (1 is the next). What was to be synced is then lost or kept,
      sector by sector, and no later sync brings it back, as Linux does.
    - `fail_write`: numbers of writes that fail: `short` writes half, then reports an error.
    - `capacity`: the bytes that all files may have together; beyond it a write reports that the disk is full.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.fail_sync: set[int] = set()
        self.fail_write: set[int] = set()
        self.capacity: int | None = None
        self.syncs = 0
        self.writes = 0
        self.failed = 0

    def sync_fails(self) -> bool:
        self.syncs += 1
        return self.syncs in self.fail_sync

    def write_fails(self) -> bool:
        self.writes += 1
        return self.writes in self.fail_write

    def reset(self) -> None:
        """A sound disk again, with the counts at 0."""
        self.__init__()  # type: ignore[misc]


class CrashingDisk(apsw.VFS):
    """The VFS. `name` is its name for `apsw.Connection(vfs=)`; `patched` makes it the default one."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.name = f"crashing-{next(_names)}"
        self.log: list[Op] = []
        self.faults = Faults()
        self.lock = threading.RLock()
        self._files: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._numbers = itertools.count(1)
        super().__init__(self.name, "unix")
        for path in sorted(self.root.rglob("*")):
            self._found(path)

    # What tests call

    def mark(self, value: Any) -> None:
        """Note in the log that something happened by now, such as an acknowledgement."""
        self.log.append(Op("mark", data=value))

    @contextlib.contextmanager
    def patched(self) -> Iterator[CrashingDisk]:
        """Within it this is SQLite's default VFS, and what Python's `os` does below the root is recorded."""
        former = apsw.vfs_names()[0]
        default = apsw.VFS(f"default-{next(_names)}", self.name, makedefault=True)
        with contextlib.ExitStack() as stack:
            for name, record in self._python_calls().items():
                stack.enter_context(mock.patch.object(os, name, record))
            try:
                yield self
            finally:
                # The first of the rest becomes the default.
                default.unregister()
                assert apsw.vfs_names()[0] == former

    def used(self) -> int:
        """Bytes of all files."""
        return sum(self._sizes.values())

    # What SQLite calls

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = self.inside(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path is None:
            return apsw.VFSFile("unix", name, flags)
        with self.lock:
            new = not (self.root / path).exists()
            file = _File(self, name, flags, path, new)
            if new:
                self._files.pop(path, None)
            file.number = self.number(path)
            return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = self.inside(filename)
        super().xDelete(filename, syncdir)
        if path is not None:
            self.unlinked(path)
            if syncdir:
                self.log.append(Op("syncdir", os.path.dirname(path)))

    # What the files call

    def inside(self, path: str | None) -> str | None:
        """The path below the root, `""` for the root itself; None if it is not below."""
        if path is None:
            return None
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        relative = os.path.relpath(real, self.root)
        if relative == ".":
            return ""
        return None if relative.startswith("..") else relative

    def number(self, path: str) -> int:
        """The number of the file that is at a path now."""
        if path not in self._files:
            self._files[path] = number = next(self._numbers)
            self._sizes[number] = 0
            self.log.append(Op("create", path, number))
        return self._files[path]

    def wrote(self, file: int, offset: int, data: bytes) -> None:
        self._sizes[file] = max(self._sizes.get(file, 0), offset + len(data))
        self.log.append(Op("write", "", file, offset, data))

    def truncated(self, file: int, size: int) -> None:
        self._sizes[file] = min(self._sizes.get(file, 0), size)
        self.log.append(Op("truncate", "", file, size))

    def unlinked(self, path: str) -> None:
        with self.lock:
            self._sizes.pop(self._files.pop(path, -1), None)
            self.log.append(Op("unlink", path))

    def no_room(self, file: int, offset: int, length: int) -> bool:
        """Whether a write would make the files larger than the disk."""
        capacity = self.faults.capacity
        more = max(0, offset + length - self._sizes.get(file, 0))
        return capacity is not None and more > 0 and self.used() + more > capacity

    # What Python calls

    def _found(self, path: Path) -> None:
        relative = str(path.relative_to(self.root))
        if path.is_dir():
            self.log += [Op("mkdir", relative), Op("syncdir", os.path.dirname(relative))]
        elif path.is_file():
            self._whole(relative)
            self.log.append(Op("syncdir", os.path.dirname(relative)))

    def _whole(self, path: str) -> None:
        """A file that Python wrote has been synced: its content now is what counts."""
        content = (self.root / path).read_bytes()
        with self.lock:
            file = self.number(path)
            self.truncated(file, 0)
            self.wrote(file, 0, content)
            self.log.append(Op("sync", "", file))

    def _python_calls(self) -> dict[str, Callable[..., Any]]:
        """Replacements for functions of `os`: each does what the real one does, then records it."""
        real = {name: getattr(os, name) for name in ("unlink", "remove", "mkdir", "rename", "replace", "rmdir")}
        fsync, fdatasync = os.fsync, os.fdatasync

        def one(name: str, kind: str) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **named: Any) -> None:
                inside = None if named.get("dir_fd") is not None else self.inside(os.fspath(path))
                real[name](path, *args, **named)
                if inside is not None:
                    self.unlinked(inside) if kind == "unlink" else self.log.append(Op(kind, inside))

            return call

        def two(name: str) -> Callable[..., Any]:
            def call(old: Any, new: Any, **named: Any) -> None:
                before, after = self.inside(os.fspath(old)), self.inside(os.fspath(new))
                real[name](old, new, **named)
                if before is not None and after is not None:
                    self._renamed(before, after)

            return call

        def synced(sync: Callable[[int], None]) -> Callable[[Any], None]:
            def call(fd: Any) -> None:
                number = fd if isinstance(fd, int) else fd.fileno()
                path = self.inside(os.readlink(f"/proc/self/fd/{number}"))
                if path is not None and self.faults.sync_fails():
                    self.faults.failed += 1
                    raise OSError(5, "Input/output error")
                sync(number)
                if path is not None:
                    folder = stat.S_ISDIR(os.fstat(number).st_mode)
                    self.log.append(Op("syncdir", path)) if folder else self._whole(path)

            return call

        return {
            "unlink": one("unlink", "unlink"),
            "remove": one("remove", "unlink"),
            "mkdir": one("mkdir", "mkdir"),
            "rmdir": one("rmdir", "rmdir"),
            "rename": two("rename"),
            "replace": two("replace"),
            "fsync": synced(fsync),
            "fdatasync": synced(fdatasync),
        }

    def _renamed(self, old: str, new: str) -> None:
        with self.lock:
            if old in self._files:
                self._files[new] = self._files.pop(old)
            self.log.append(Op("rename", old, data=new))


class _File(apsw.VFSFile):
    """A file of the disk."""

    number = 0

    def __init__(self, disk: CrashingDisk, name: Any, flags: list[int], path: str, new: bool) -> None:
        kind = flags[0]
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path
        self._sync_folder = new and bool(kind & _DIRSYNC)
        self._delete = bool(kind & apsw.SQLITE_OPEN_DELETEONCLOSE)

    def xWrite(self, data: bytes, offset: int) -> None:
        disk, faults = self._disk, self._disk.faults
        with disk.lock:
            if disk.no_room(self.number, offset, len(data)):
                faults.failed += 1
                raise apsw.exception_for(apsw.SQLITE_FULL)
            if faults.write_fails():
                faults.failed += 1
                data = data[: len(data) // 2]
                super().xWrite(data, offset)
                disk.wrote(self.number, offset, bytes(data))
                raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
            super().xWrite(data, offset)
            disk.wrote(self.number, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        with self._disk.lock:
            super().xTruncate(newsize)
            self._disk.truncated(self.number, newsize)

    def xSync(self, flags: int) -> None:
        disk = self._disk
        # What is written while the disk syncs is not synced: the log's order must be the order of effects.
        with disk.lock:
            if disk.faults.sync_fails():
                disk.faults.failed += 1
                disk.log.append(Op("lost", "", self.number, data=disk.faults.random.getrandbits(32)))
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
            # The kernel is not asked: nothing here survives the test's machine anyhow.
            disk.log.append(Op("sync", "", self.number))
            if self._sync_folder:
                self._sync_folder = False
                disk.log.append(Op("syncdir", os.path.dirname(self._path)))
