"""Appending to many files under one folder: all of it, or none of it. Blocking; the caller chooses the thread."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from eventserver.errors import TemporaryFailure

#: Where events go whose own file cannot be: too many new ones, or something else is in its place.
OVERFLOW = "overflow"

#: In place of where a file ended before a round: no file has a size that fits to it.
_UNKNOWN = -(1 << 62)

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_MODE = 0o750
#: What a symbolic link, a folder, a file or a device in the place of the file gives: the path's fault, not the disk's.
_IN_THE_WAY = {errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK}


class _File:
    """An open file. `torn`: it ends in the middle of a line, as a crash leaves it."""

    __slots__ = ("before", "fd", "torn", "written")

    def __init__(self, fd: int, torn: bool) -> None:
        self.fd = fd
        self.torn = torn
        self.before = self.written = 0

    def append(self, data: bytes) -> None:
        """Write all of it, however many calls that takes."""
        if self.torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            count = os.write(self.fd, view)
            self.written += count
            view = view[count:]
        self.torn = False

    def append_alone(self, data: bytes) -> None:
        """As `append`, for all that a round writes: where the file ended is asked only if it has to be known."""
        self.written = 0
        count = os.write(self.fd, data)
        if count < len(data):
            self.before, self.written = _UNKNOWN, count
            before = os.fstat(self.fd).st_size - count
            if os.pread(self.fd, count, before) == data[:count]:
                self.before = before
            self.append(data[count:])

    def undo(self) -> None:
        """Cut what was written in this round, unless someone else has written behind it."""
        try:
            if self.written and os.fstat(self.fd).st_size == self.before + self.written:
                os.ftruncate(self.fd, self.before)
        except OSError:
            # The disk is unwell, which is being reported already.
            pass


class Files:
    """The open files below `base`: at most `max_open` between calls, the least recently used are closed.

    A symbolic link is never followed below `base`. At most `max_new` files are created a minute (None: no limit, and no
    overflow); what has no file goes to the file `overflow`. `counts` has `created`, `overflow` (appends that went
    there) and `undone` (rounds that were taken back).
    """

    def __init__(
        self,
        base: str,
        *,
        mode: int,
        sync: bool,
        max_open: int,
        max_new: int | None,
        seconds: Callable[[], float],
    ) -> None:
        self._base = base
        self._mode = mode
        self._sync = sync
        self._max_open = max_open
        self._max_new = max_new
        self._seconds = seconds
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._base_fd = -1
        self._minute = -60.0
        self._new = 0
        self.counts: Counter[str] = Counter()

    def open_base(self) -> None:
        """Make and open the folder. Raises `OSError`."""
        if self._base_fd < 0:
            new = _missing(self._base) if self._sync else []
            os.makedirs(self._base, _FOLDER_MODE, exist_ok=True)  # noqa: PTH103 - pathlib's takes no mode for parents
            for folder in new:
                _sync_folder(os.path.dirname(folder) or ".")  # noqa: PTH120 - these are texts all along
            self._base_fd = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_now(self, path: str) -> None:
        """Open (and create) a file ahead of time. Raises `OSError`."""
        self.open_base()
        self._files[path] = self._open(path, create=True)

    def has_open(self, paths: Mapping[str, bytes]) -> bool:
        """Whether nothing would have to be opened for these paths."""
        files = self._files
        for path in paths:  # noqa: SIM110 - half the cost for one path, and it is one for nearly every pile
            if path not in files:
                return False
        return True

    def append_now(self, path: str, data: bytes) -> bool:
        """Append to the only file, if it is open and nothing else is to be thought of; else False.

        All that most handlers ever do. Raises as `append`.
        """
        file = self._files.get(path)
        if file is None or file.torn or len(self._files) > 1 or self._sync:
            return False
        try:
            file.append_alone(data)
        except OSError as error:
            raise self._undo(path, [file], error) from error
        return True

    def append(self, parts: Mapping[str, bytes]) -> None:
        """Append to each file its part; with `sync`, onto the disk.

        Raises `TemporaryFailure` if that fails; what was written is taken back then, so that the next attempt leaves
        no half line and no copies. (Of more than `max_open` files only those of the last round are.)
        """
        paths = iter(parts)
        while chunk := list(islice(paths, self._max_open)):
            self._append({path: parts[path] for path in chunk})

    def close(self) -> None:
        """Close everything; the next call opens it again."""
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()
        if self._base_fd >= 0:
            os.close(self._base_fd)
            self._base_fd = -1

    def _append(self, parts: Mapping[str, bytes]) -> None:
        touched: dict[int, _File] = {}
        path = self._base
        try:
            self.open_base()
            for path, data in parts.items():
                file = self._file(path)
                if file.fd not in touched:
                    status = os.fstat(file.fd)
                    if not status.st_nlink:
                        # Somebody has deleted it: what is written there is gone, however often it is synced.
                        file = self._renewed(path, file)
                        status = os.fstat(file.fd)
                    file.before, file.written = status.st_size, 0
                    touched[file.fd] = file
                file.append(data)
            if self._sync:
                for file in touched.values():
                    os.fdatasync(file.fd)
        except OSError as error:
            raise self._undo(path, touched.values(), error) from error
        while len(self._files) > self._max_open:
            os.close(self._files.popitem(last=False)[1].fd)

    def _undo(self, path: str, touched: Iterable[_File], error: OSError) -> TemporaryFailure:
        """Take a round back; what to raise."""
        self.counts["undone"] += 1
        for file in touched:
            file.undo()
        # After a failed write nothing is known about the descriptors; what is opened again is looked at again.
        self.close()
        return TemporaryFailure(f"{self._base}/{path}: {error.strerror}")

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            path, file = self._open_or_overflow(path)
            self._files[path] = file
        self._files.move_to_end(path)
        return file

    def _renewed(self, path: str, file: _File) -> _File:
        """What is at the path now, in place of what was opened there."""
        for name in [name for name, one in self._files.items() if one is file]:
            del self._files[name]
        os.close(file.fd)
        return self._file(path)

    def _open_or_overflow(self, path: str) -> tuple[str, _File]:
        try:
            return path, self._open(path, create=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _IN_THE_WAY or self._max_new is None:
                raise
            return self._overflow()
        # A folder of that name would take the place of the file for everybody.
        if path != OVERFLOW and (path.startswith(f"{OVERFLOW}/") or not self._may_create()):
            return self._overflow()
        try:
            return path, self._open(path, create=True)
        except OSError as error:
            if error.errno not in _IN_THE_WAY or self._max_new is None or path == OVERFLOW:
                raise
            return self._overflow()

    def _overflow(self) -> tuple[str, _File]:
        self.counts["overflow"] += 1
        file = self._files.get(OVERFLOW)
        return OVERFLOW, self._open(OVERFLOW, create=True) if file is None else file

    def _may_create(self) -> bool:
        if self._max_new is None:
            return True
        now = self._seconds()
        if now - self._minute >= 60:
            self._minute, self._new = now, 0
        self._new += 1
        return self._new <= self._max_new

    def _open(self, path: str, *, create: bool) -> _File:
        *folders, name = path.split("/")
        folder = os.dup(self._base_fd)
        try:
            for component in folders:
                folder = self._enter(folder, component, create)
            return self._open_in(folder, name, create)
        finally:
            os.close(folder)

    def _enter(self, folder: int, name: str, create: bool) -> int:
        """The descriptor of a folder in a folder, whose own is closed unless this raises."""
        try:
            entered = os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
            entered = os.open(name, _FOLDER, dir_fd=folder)
        self._sync_name(folder, entered)
        os.close(folder)
        return entered

    def _sync_name(self, folder: int, fd: int) -> None:
        """Have the name of what was opened in a folder on the disk, or close it.

        One that was there before may be left by a process that was killed before it saw to that.
        """
        try:
            if self._sync:
                os.fsync(folder)
        except OSError:
            os.close(fd)
            raise

    def _open_in(self, folder: int, name: str, create: bool) -> _File:
        try:
            fd = os.open(name, _FLAGS, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
            fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, self._mode, dir_fd=folder)
            self.counts["created"] += 1
            os.fchmod(fd, self._mode)
        self._sync_name(folder, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise OSError(errno.ENXIO, "is not a regular file")
        return _File(fd, status.st_size > 0 and os.pread(fd, 1, status.st_size - 1) != b"\n")


def _missing(folder: str) -> list[str]:
    """The folder and those above it that are not there yet, the uppermost first."""
    found: list[str] = []
    while folder and not os.path.isdir(folder):  # noqa: PTH112 - these are texts all along
        found.insert(0, folder)
        folder = os.path.dirname(folder)  # noqa: PTH120
    return found


def _sync_folder(path: str) -> None:
    """Have the names in a folder on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
