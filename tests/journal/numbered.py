"""A disk whose calls are numbered: one of them fails, or several from there on, or the process dies before it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from eventserver.journal._disk import Disk

#: What is called besides SQLite's files.
CALLS = ("remove", "remove_logs", "move", "link", "replace", "sync_folder", "make_folder", "fill", "unlink", "names")
#: Calls that need room.
GROWING = ("write", "open", "link", "make_folder", "fill", "truncate")


class Killed(BaseException):
    """The process is dead: nothing it calls does anything."""


class Calls:
    """Counts them. `count` of them, from number `at` on, fail: `eio`, `enospc` (where they need room), or `kill`."""

    def __init__(self) -> None:
        self.made = 0
        self.log: list[str] = []
        self.clear()

    def clear(self) -> None:
        """All calls work from now on."""
        self.at, self.count, self.how = -1, 0, ""
        self.failed = 0

    def fail(self, at: int, how: str, count: int = 1) -> None:
        """Fail those from the one with that number, counted from here."""
        self.made, self.failed = 0, 0
        self.log.clear()
        self.at, self.how, self.count = at, how, count

    def check(self, what: str, name: str, of_sqlite: bool = True) -> None:
        """Raises what that call fails with."""
        if self.failed and self.how == "kill":
            raise Killed
        number = self.made
        self.made += 1
        self.log.append(f"{what} {Path(name).name}")
        if not self.at <= number < self.at + self.count or self.at < 0:
            return
        if self.how == "kill":
            self.failed += 1
            raise Killed
        if self.how == "enospc":
            if what not in GROWING:
                return
            self.failed += 1
            raise apsw.FullError("no room") if of_sqlite else OSError(errno.ENOSPC, "No space left on device")
        self.failed += 1
        if not of_sqlite:
            raise OSError(errno.EIO, "Input/output error")
        error = apsw.CantOpenError("cannot open") if what == "open" else apsw.IOError(f"{what} failed")
        if what != "open":
            error.extendedresult = apsw.SQLITE_IOERR
        raise error


class NumberedFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, calls: Calls, name: Any, flags: list[int]) -> None:
        self.name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.calls = calls
        calls.check("open", self.name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.calls.check("write", self.name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.calls.check("sync", self.name)
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self.calls.check("read", self.name)
        return super().xRead(amount, offset)

    def xTruncate(self, size: int) -> None:
        self.calls.check("truncate", self.name)
        super().xTruncate(size)


class NumberedVfs(apsw.VFS):
    """Registered as `name` while it lives."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.calls = calls
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> NumberedFile:
        return NumberedFile(self.calls, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self.calls.check("delete", name)
        super().xDelete(name, sync)


class NumberedDisk(Disk):
    """The calls that do not go through SQLite are numbered too."""

    def __init__(self, vfs: str, calls: Calls) -> None:
        super().__init__(vfs)
        self.locks: set[int] = set()
        for name in CALLS:
            setattr(self, name, numbered(calls, name, getattr(self, name)))

    def lock(self, path: Path) -> int:
        self.locks.add(descriptor := super().lock(path))
        return descriptor

    def unlock(self, descriptor: int) -> None:
        self.locks.discard(descriptor)
        super().unlock(descriptor)

    def let_go(self) -> None:
        """As the system does when a process has died."""
        for descriptor in [*self.locks]:
            self.unlock(descriptor)


def numbered(calls: Calls, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, with a number."""

    def checked(path: Path, *rest: Any) -> Any:
        calls.check(what, str(path), of_sqlite=False)
        return call(path, *rest)

    return checked


@contextmanager
def numbered_disk() -> Iterator[tuple[NumberedDisk, Calls]]:
    """A disk, and its calls."""
    calls = Calls()
    name = f"numbered-{id(calls)}"
    vfs = NumberedVfs(name, calls)
    try:
        yield NumberedDisk(name, calls), calls
    finally:
        vfs.unregister()
