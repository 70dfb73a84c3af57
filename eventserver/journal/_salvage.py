"""A damaged segment written anew, with all the rows of it that can still be read.

Until the new one is whole it is in the folder `mending`, where nobody looks for it. Then it is `mended-seg-....db` in
the journal's folder: from that moment on it counts, and whoever finds it there puts the original apart and gives it its
name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apsw

from eventserver.journal._apart import put_apart
from eventserver.journal._disk import DISK_ERRORS, Disk, is_full
from eventserver.journal._reading import PASSING, rows
from eventserver.journal._rows import Damaged, Row, read_batches
from eventserver.journal._segment import SegmentFile, first_of, name_of

PAGE = 8192
#: Rows that are written in one transaction.
TOGETHER = 16
_WORK, _MENDED = "mending", "mended-"


def salvage(
    disk: Disk, folder: Path, first: int, until: int, borders: Sequence[int] = (), final: bool = True
) -> int | None:
    """Replace a damaged segment by what can be read of it, and put the original apart.

    Returns the number of frames that were saved; None where nothing could be, and then the file is only put apart. It
    must not be open. Needs as much room as the segment takes. Raises `OSError` or `apsw.Error` where the disk fails,
    and the segment is as it was; in the `final` attempt what the disk does not give costs what it hides.
    """
    work = folder / _WORK
    work.mkdir(mode=0o700, exist_ok=True)
    path = folder / name_of(first)
    saved = 0
    try:
        for opened in (_as_it_is, _with_another_first_page):
            disk.remove(work / name_of(first))
            mended = SegmentFile.create(disk, work, first, lambda name: None)
            try:
                with opened(disk, path, work) as connection:
                    saved = _copy(connection, mended, first, until, borders, final)
            except DISK_ERRORS as error:
                if is_full(error) or isinstance(error, apsw.IOError) or not (final or _is_damage(error)):
                    raise
                saved = 0
            finally:
                mended.seal(lambda name: None)
            if saved:
                break
        if saved:
            disk.move(work / name_of(first), folder / f"{_MENDED}{name_of(first)}")
        _take_over(disk, folder, first)
    finally:
        _clear(disk, work)
    return saved or None


def finish(disk: Disk, folder: Path) -> None:
    """Go on where a crash has ended the mending of a segment."""
    if (folder / _WORK).is_dir():
        _clear(disk, folder / _WORK)
    for name in disk.names(folder):
        if name.startswith(_MENDED) and (first := first_of(name.removeprefix(_MENDED))) is not None:
            _take_over(disk, folder, first)


def _take_over(disk: Disk, folder: Path, first: int) -> None:
    """Put the original apart, if it still is there; what is mended takes its name, if there is something."""
    put_apart(disk, folder, first)
    disk.move(folder / f"{_MENDED}{name_of(first)}", folder / name_of(first))


def _clear(disk: Disk, work: Path) -> None:
    for name in disk.names(work):
        disk.unlink(work / name)
    work.rmdir()


def _is_damage(error: Exception) -> bool:
    return isinstance(error, apsw.Error) and not isinstance(error, PASSING)


def _copy(
    connection: apsw.Connection, mended: SegmentFile, first: int, until: int, borders: Sequence[int], final: bool
) -> int:
    found: list[Row] = []
    saved, reached = 0, first
    for head, row in rows(connection, first, until, borders, final):
        if head.first < reached:
            continue
        try:
            read_batches(row, head.frames)
        except Damaged:
            continue
        reached = head.end
        saved += head.frames
        found.append(row)  # type: ignore[arg-type]  # its columns are in that order
        if len(found) >= TOGETHER:
            mended.write(found, lambda name: None)
            found = []
    if found:
        mended.write(found, lambda name: None)
    return saved


Opened = Callable[[Disk, Path, Path], contextlib.AbstractContextManager[apsw.Connection]]


@contextlib.contextmanager
def _as_it_is(disk: Disk, path: Path, work: Path) -> Iterator[apsw.Connection]:
    try:
        connection = disk.open(path, make=False)
    except DISK_ERRORS:
        # A header that says that nobody may write is no reason not to read.
        connection = disk.open_immutable(path)
    try:
        yield connection
    finally:
        connection.close(True)


@contextlib.contextmanager
def _with_another_first_page(disk: Disk, path: Path, work: Path) -> Iterator[apsw.Connection]:
    """All segments have the same first page, but for a few numbers: that of a new one will do."""
    copy, model = work / "copy.db", work / "model.db"
    connection = disk.open(model)
    try:
        SegmentFile.prepare(connection)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close(True)
    data = path.read_bytes()
    page = bytearray(model.read_bytes()[:PAGE])
    # Offset 28 is the number of pages; it counts where 24 and 92 are alike, as they are in the model.
    page[28:32] = (len(data) // PAGE).to_bytes(4, "big")
    copy.write_bytes(bytes(page) + data[PAGE:])
    connection = disk.open_immutable(copy)
    try:
        yield connection
    finally:
        connection.close(True)
