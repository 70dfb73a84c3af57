"""Bugs to plant, and ends at named crash points: what proves that the fault tests can fail.

`python -m tests.faults.planted ARGUMENTS` is `twistd ARGUMENTS` with something planted. The environment says what:
`EVENTSERVER_PLANTED` is the name of a bug (see `BUGS`), `EVENTSERVER_CRASH_AT` a point of the journal and how often
it is passed before the process kills itself (`seal:2`); `EVENTSERVER_JOURNAL_TEST` is JSON with arguments of the
journal that have no setting, such as the size of a segment. With `EVENTSERVER_COUNT_LINES` the lines that have been
read from sockets are counted in `lines.txt`. Within a test, `planted(name)` does the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from eventserver.delivery.loop import Delivery
from eventserver.intake import Intake
from eventserver.journal import _disk, _reading, _rows
from eventserver.journal._meta import Meta
from eventserver.journal._rows import Head
from eventserver.journal._segment import SegmentFile
from eventserver.journal._store import Store


@contextlib.contextmanager
def synchronous_normal() -> Iterator[None]:
    """SQLite does not sync its log at a commit."""
    pragmas = _disk._PRAGMAS
    assert "synchronous=FULL" in pragmas
    with mock.patch.object(_disk, "_PRAGMAS", pragmas.replace("synchronous=FULL", "synchronous=NORMAL")):
        yield


@contextlib.contextmanager
def ack_before_commit() -> Iterator[None]:
    """`durable` is promised when the batch has been appended, not when it has been committed."""
    watch = Intake.watch

    def at_once(self: Intake, level: Any, *arguments: Any, **options: Any) -> None:
        watch(self, "memory" if level == "durable" else level, *arguments, **options)

    with mock.patch.object(Intake, "watch", at_once):
        yield


@contextlib.contextmanager
def cursor_before_handler() -> Iterator[None]:
    """The cursor moves when the handler is called, not when it is done."""
    call = Delivery._call

    def moved_first(self: Delivery, items: list[Any], count: int) -> bool:
        if self._pile is not None:
            self._journal.commit_cursor(self.name, self._pile.end)
        return call(self, items, count)

    with mock.patch.object(Delivery, "_call", moved_first):
        yield


@contextlib.contextmanager
def expiry_not_counted() -> Iterator[None]:
    """What `drop_oldest` gives up is not counted, but once in a while."""
    expire = Delivery.expire_oldest

    def uncounted(self: Delivery) -> None:
        before = self._counters.expired
        expire(self)
        if before:
            self._counters.expired = before

    with mock.patch.object(Delivery, "expire_oldest", uncounted):
        yield


@contextlib.contextmanager
def commit_late() -> Iterator[None]:
    """The journal says that rows are committed when the next ones come, and only then commits them."""
    write = SegmentFile.write
    held: dict[int, Any] = {}

    def late(self: SegmentFile, rows: Any, point: Any) -> None:
        before = held.pop(id(self), ())
        held[id(self)] = rows
        if before:
            write(self, before, point)

    with mock.patch.object(SegmentFile, "write", late):
        yield


@contextlib.contextmanager
def failed_commit_acknowledged() -> Iterator[None]:
    """A commit that failed counts as one that did not."""
    write = SegmentFile.write

    def carefree(self: SegmentFile, rows: Any, point: Any) -> None:
        with contextlib.suppress(*_disk.DISK_ERRORS):
            write(self, rows, point)

    with mock.patch.object(SegmentFile, "write", carefree):
        yield


@contextlib.contextmanager
def no_checksums() -> Iterator[None]:
    """What is read is believed."""
    with (
        mock.patch.object(_reading, "read_batches", lambda row, frames: _rows._batches.decode(row[9])),
        mock.patch.object(_reading, "read_head", lambda row: Head(*row[:4], {}, [])),
    ):
        yield


@contextlib.contextmanager
def unlink_before_cursor_commit() -> Iterator[None]:
    """Segments are gone before the cursors that passed them are durable."""

    free, flush = Store.free, Store.flush

    def free_first(self: Store, firsts: Any, damaged: Any, changes: Any, marks: Any) -> None:
        with mock.patch.object(Store, "flush"):
            free(self, firsts, damaged, changes, marks)
        self.disk.sync_folder(self.folder)
        flush(self, marks)

    with mock.patch.object(Store, "free", free_first):
        yield


@contextlib.contextmanager
def no_folder_sync() -> Iterator[None]:
    """New folders and segments are never made durable."""
    with mock.patch.object(_disk.Disk, "sync_folder", return_value=None):
        yield


@contextlib.contextmanager
def former_records_removed_first() -> Iterator[None]:
    """`meta.db` is unlinked before the new one has its name, and a further attempt writes over what is left."""
    made = Meta.__init__

    def one_name(self: Meta, *arguments: Any) -> None:
        made(self, *arguments)
        self._writing = self._new

    def removed_first(self: Meta) -> None:
        self._disk.remove(self.path)
        self._disk.replace(self._new, self.path)

    with mock.patch.object(Meta, "__init__", one_name), mock.patch.object(Meta, "_take_over", removed_first):
        yield


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "synchronous=NORMAL": synchronous_normal,
    "ack before commit": ack_before_commit,
    "cursor before handler": cursor_before_handler,
    "former records removed first": former_records_removed_first,
    "no folder sync": no_folder_sync,
    "expiry not counted": expiry_not_counted,
    "commit late": commit_late,
    "failed commit acknowledged": failed_commit_acknowledged,
    "no checksums": no_checksums,
    "unlink before cursor commit": unlink_before_cursor_commit,
}


def planted(name: str | None) -> contextlib.AbstractContextManager[None]:
    """Plants a bug for the length of a `with` block; None plants nothing."""
    return BUGS[name]() if name is not None else contextlib.nullcontext()


def crash_at(where: str) -> Callable[[str], None]:
    """For the journal's `point`: kills the process when it passes a point for the so-manieth time.

    `slow` is no end, but a disk that takes 50 ms for each commit.
    """
    wanted, _, times = where.partition(":")
    left = int(times or 1)

    def point(name: str) -> None:
        nonlocal left
        if wanted == "slow" and name == "before-commit":
            time.sleep(0.05)
        if name == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return point


def count_lines() -> None:
    """From now on `lines.txt` holds the number of line ends that were read, whatever becomes of the process."""
    from twisted.internet import tcp

    received = tcp.Connection._dataReceived
    file = os.open("lines.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    lines = 0

    def counted(self: tcp.Connection, data: bytes) -> Any:
        nonlocal lines
        lines += data.count(b"\n")
        os.pwrite(file, b"%d" % lines, 0)
        return received(self, data)

    tcp.Connection._dataReceived = counted
    os.pwrite(file, b"0", 0)


def main() -> None:
    """twistd, with what the environment says."""
    from eventserver.journal.sqlite import SqliteJournal

    more: dict[str, Any] = json.loads(os.environ.get("EVENTSERVER_JOURNAL_TEST", "{}"))
    if where := os.environ.get("EVENTSERVER_CRASH_AT"):
        more["point"] = crash_at(where)
    make = SqliteJournal.__init__

    def made(self: SqliteJournal, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **(options | more))

    SqliteJournal.__init__ = made  # type: ignore[method-assign]
    if os.environ.get("EVENTSERVER_COUNT_LINES"):
        count_lines()
    from twisted.scripts.twistd import run

    sys.argv[0] = "twistd"
    with planted(os.environ.get("EVENTSERVER_PLANTED") or None):
        run()


if __name__ == "__main__":
    main()
