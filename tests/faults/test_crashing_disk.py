"""The crashing disk against plain SQLite: it finds what `synchronous = NORMAL` loses, and FULL loses nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import apsw
import pytest

from tests.faults.crashing_disk import CrashingDisk
from tests.faults.disk_images import DiskImages
from tests.faults.figures import Figures, scaled


def commit_rows(disk: CrashingDisk, path: Path, synchronous: str, rows: int = 120) -> None:
    """One row a commit, each marked once its commit returned; a checkpoint now and then."""
    connection = apsw.Connection(str(path), vfs=disk.name)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", synchronous)
    connection.pragma("wal_autocheckpoint", 0)
    connection.execute("create table t(n, x)")
    disk.mark(0)
    for number in range(1, rows + 1):
        connection.execute("insert into t values (?, randomblob(900))", (number,))
        disk.mark(number)
        if number % 40 == 0:
            connection.pragma("wal_checkpoint", "passive")
    connection.close()


def lost_rows(path: Path, acked: int) -> int:
    """How many of the acknowledged rows are gone; the database is whole in any case."""
    connection = apsw.Connection(str(path))
    try:
        assert connection.pragma("integrity_check") == "ok"
        there = connection.execute("select count(*) from sqlite_master where name = 't'").get
        return acked - min(acked, connection.execute("select count(*) from t").get if there else 0)
    finally:
        connection.close()


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_power_cuts_find_what_sqlite_has_not_synced(tmp_path: Path, synchronous: str, figures: Figures) -> None:
    """FULL keeps every committed row at every cut; NORMAL loses some at many, and the disk shows it."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = CrashingDisk(root)
    commit_rows(disk, root / "t.db", synchronous)
    images = DiskImages(disk.log)
    chance = random.Random(7)
    first = next(n for n, op in enumerate(disk.log) if op.kind == "mark") + 1
    cuts = losing = 0
    for _ in images.points(scaled(150, 3000), chance, first):
        images.write_image(tmp_path / "image", chance)
        cuts += 1
        losing += lost_rows(tmp_path / "image" / "t.db", images.marks[-1]) > 0
    figures(f"plain SQLite, synchronous={synchronous}: lost rows at {losing} of {cuts} power cuts")
    assert (losing == 0) if synchronous == "full" else (losing > cuts / 4)


def test_a_folder_that_was_not_synced_may_be_gone(tmp_path: Path) -> None:
    """What lies in a new folder is lost where the folder's entry is; after a sync of its parent it is there."""
    disk = CrashingDisk(tmp_path)
    with disk.patched():
        (tmp_path / "new").mkdir()
        with open(tmp_path / "new" / "file", "wb") as file:
            file.write(b"content")
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(tmp_path / "new")
        unsynced = len(disk.log)
        _sync_folder(tmp_path)
    images = DiskImages(disk.log)
    images.go_to(unsynced)
    assert {_content(images, tmp_path, seed) for seed in range(20)} == {None, b"content"}
    images.go_to(len(disk.log))
    assert {_content(images, tmp_path, seed) for seed in range(20)} == {b"content"}


def test_an_unlink_that_was_not_synced_may_be_undone(tmp_path: Path) -> None:
    """The file is there or not until its folder has been synced."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_bytes(b"content")
    disk = CrashingDisk(tmp_path)
    with disk.patched():
        (tmp_path / "new" / "file").unlink()
        unsynced = len(disk.log)
        _sync_folder(tmp_path / "new")
    images = DiskImages(disk.log)
    images.go_to(unsynced)
    assert {_content(images, tmp_path, seed) for seed in range(20)} == {None, b"content"}
    images.go_to(len(disk.log))
    assert {_content(images, tmp_path, seed) for seed in range(20)} == {None}


def test_a_failed_sync_loses_for_good(tmp_path: Path) -> None:
    """After EIO a later sync that succeeds does not bring back what the failed one should have written."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = CrashingDisk(root)
    connection = apsw.Connection(str(root / "t.db"), vfs=disk.name)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("create table t(n, x)")
    disk.faults.fail_sync = {disk.faults.syncs + 1}
    with pytest.raises(apsw.IOError):
        connection.execute("insert into t values (1, randomblob(20000))")
    assert disk.faults.failed == 1
    connection.close()
    assert any(op.kind == "lost" for op in disk.log)


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """Beyond the capacity SQLite reports that the disk is full, and what was committed stays."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = CrashingDisk(root)
    connection = apsw.Connection(str(root / "t.db"), vfs=disk.name)
    connection.pragma("journal_mode", "wal")
    connection.execute("create table t(n, x); insert into t values (1, 'kept')")
    disk.faults.capacity = disk.used() + 10_000
    with pytest.raises(apsw.FullError):
        connection.execute("insert into t values (2, randomblob(50000))")
    disk.faults.capacity = None
    assert connection.execute("select count(*) from t").get == 1
    connection.close()


def _content(images: DiskImages, tmp_path: Path, seed: int) -> bytes | None:
    folder = tmp_path.parent / f"{tmp_path.name}-image"
    images.write_image(folder, random.Random(seed))
    file = folder / "new" / "file"
    return file.read_bytes() if file.exists() else None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
