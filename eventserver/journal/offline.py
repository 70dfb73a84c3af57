"""The journal of a server that does not run: looked at, mended.

`with open_offline(folder) as journal:` gives the `IDurableJournal` itself, without threads and without a reactor: what
returns a Deferred is done when it returns, nothing is freed and nothing expires. So cursors and dead letters are dealt
with by its own methods. Everything else is here. The folder is locked meanwhile.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.interfaces import Entry
from eventserver.journal._disk import DISK_ERRORS
from eventserver.journal._executor import InlineExecutor
from eventserver.journal._salvage import salvage
from eventserver.journal._segment import Segment, name_of
from eventserver.journal.sqlite import SqliteJournal

#: Bytes that are read in one go.
PIECE = 1 << 20
_FOREVER = 1 << 60


class _NoTimer:
    def active(self) -> bool:
        return False

    def cancel(self) -> None:
        pass


class _NoReactor:
    """Time passes, but nothing happens later."""

    def seconds(self) -> float:
        return time.monotonic()

    def callLater(self, seconds: float, call: Callable[..., Any], *args: Any) -> _NoTimer:
        return _NoTimer()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class _Offline(SqliteJournal):
    """How much a server would keep is in its settings."""

    def info(self) -> dict[str, Any]:
        return {**super().info(), "max_bytes": None}


@contextmanager
def open_offline(folder: Path, worker: str = "0", log: Logger | None = None) -> Iterator[SqliteJournal]:
    """The journal in a folder, which must be there. Raises `ValueError` with a sentence for people.

    What was changed is written at the end; a failure of that is raised as `ValueError` too.
    """
    if not (folder / worker).is_dir():
        raise ValueError(f"{folder} is not the folder of a journal")
    journal = _Offline(
        folder,
        reactor=_NoReactor(),
        now=_now,
        max_bytes=_FOREVER,
        retention=float(_FOREVER),
        ballast=0,
        worker=worker,
        log=log,
        executor=lambda name: InlineExecutor(),
    )
    journal.open()
    try:
        yield journal
        failed: list[Any] = []
        journal.flush().addErrback(failed.append)
        if failed:
            raise ValueError(f"{folder} cannot be written: {failed[0].getErrorMessage()}")
    finally:
        journal.close()


def done(result: Deferred[Any]) -> Any:
    """What a method of a journal that was opened offline gives. Raises `ValueError` where it would try again later."""
    found: list[Any] = []
    result.addBoth(found.append)
    if not found:
        raise ValueError("the disk fails: some of the journal cannot be read now")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def info(journal: SqliteJournal) -> dict[str, Any]:
    """What there is: as of a server that runs, and each segment."""
    segments = [_described(journal, segment) for segment in journal.segments()]
    return {**journal.info(), "segment": segments}


def _described(journal: SqliteJournal, segment: Segment) -> dict[str, Any]:
    return {
        "path": str(journal.files / name_of(segment.first)),
        "first": segment.first,
        "end": segment.end,
        "bytes": segment.disk,
        "sealed": segment.sealed,
        "damaged": segment.damaged,
    }


def entries(journal: SqliteJournal, start: int = 0, end: int | None = None) -> Iterator[Entry]:
    """All batches with frames from position `start` up to `end`, oldest first."""
    position = max(start, journal.first)
    until = journal.committed if end is None else min(end, journal.committed)
    while position < until:
        found, reached = done(journal.fetch(position, until, PIECE, None))
        yield from found
        position = reached


def verify(journal: SqliteJournal) -> Iterator[dict[str, Any]]:
    """Read every batch of every segment, and SQLite's own check of each file: one report a segment.

    `lost` is the number of its frames that cannot be read; `ok` whether there are none and the file is sound.
    """
    for segment in journal.segments():
        frames = sum(
            min(entry.end, segment.end) - max(entry.first, segment.first)
            for entry in entries(journal, segment.first, segment.end)
        )
        problem = _check(journal, segment)
        lost = segment.end - segment.first - frames
        yield {
            **_described(journal, segment),
            "frames": frames,
            "lost": lost,
            "problem": problem,
            "ok": not lost and problem is None,
        }


def _check(journal: SqliteJournal, segment: Segment) -> str | None:
    if not segment.sealed:
        return None
    try:
        connection = apsw.Connection(
            f"file:{journal.files / name_of(segment.first)}?mode=ro&immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            found = str(connection.pragma("quick_check"))
        finally:
            connection.close(True)
    except DISK_ERRORS as error:
        return str(error)
    return None if found == "ok" else found


def repair(folder: Path, worker: str = "0", log: Logger | None = None) -> list[dict[str, Any]]:
    """Write damaged segments anew with what can be read of them; the originals go to `quarantine`.

    Returns the reports of `verify` for these, each with the `saved` frames. Raises `ValueError`.
    """
    with open_offline(folder, worker, log) as journal:
        # A journal that is open has its last segment open: it was mended when it was opened, if need be.
        broken = [report for report in verify(journal) if not report["ok"] and report["sealed"]]
        files = journal.files
        borders = {report["first"]: journal.borders(report["first"]) for report in broken}
    for report in broken:
        first = report["first"]
        report["saved"] = salvage(journal.disk, files, first, report["end"], borders[first]) or 0
    if broken:
        with open_offline(folder, worker, log) as journal:
            for report in broken:
                if report["saved"]:
                    # Counted again below: what could be saved is not lost.
                    journal.lost.remove(report["first"], report["end"])
            journal.note_lost()
            for _ in verify(journal):
                pass
    return broken
