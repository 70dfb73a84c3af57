"""Damaged segments, put apart in the folder `quarantine`, where people can look at them."""

from __future__ import annotations

import re
from pathlib import Path

from eventserver.journal._disk import Disk
from eventserver.journal._segment import name_of

#: Segments that are kept apart when their time is over, the newest; and files of one segment, at any time.
SEGMENTS, FILES = 4, 4
#: `seg-00000000000000000100.db`, and the second and further ones of that segment: `seg-00000000000000000100-2.db`.
_NAME = re.compile(r"seg-([0-9]{20})(?:-([0-9]{1,9}))?\.db")


def put_apart(disk: Disk, folder: Path, first: int) -> None:
    """Move a segment with its log into `quarantine`; one that is not there is no error.

    What is mended goes on under its name, and may be damaged again: so there may be a file of that name already, and
    neither has all that the other one has. The second gets a number behind its name, and so on. Of one segment the
    first is kept, which nobody had mended yet, and the newest of the others.
    """
    apart = _folder_in(disk, folder)
    # After a crash in the middle of a move, it is the same number again: the log goes before the database.
    number = max(_numbers(disk, apart, first), default=0) + 1
    disk.move(folder / name_of(first), apart / _name_of(first, number))
    for old in _numbers(disk, apart, first)[1 : 1 - FILES]:
        disk.remove(apart / _name_of(first, old))


def keep_the_newest(disk: Disk, folder: Path) -> None:
    """Remove the files of all but the newest segments that were put apart."""
    apart = _folder_in(disk, folder)
    found = _files(disk, apart)
    newest = sorted({first for first, _ in found})[-SEGMENTS:]
    for first, number in found:
        if first not in newest:
            disk.remove(apart / _name_of(first, number))


def _folder_in(disk: Disk, folder: Path) -> Path:
    apart = folder / "quarantine"
    disk.make_folder(apart)
    return apart


def _files(disk: Disk, apart: Path) -> list[tuple[int, int]]:
    """The segments that are there, by first position and number; in order."""
    return sorted((int(found[1]), int(found[2] or 1)) for name in disk.names(apart) if (found := _NAME.fullmatch(name)))


def _numbers(disk: Disk, apart: Path, first: int) -> list[int]:
    return [number for other, number in _files(disk, apart) if other == first]


def _name_of(first: int, number: int) -> str:
    name = name_of(first)
    return name if number == 1 else f"{name.removesuffix('.db')}-{number}.db"
