"""The disk fails while a journal is opened: for a moment, which costs nothing, or for good: the rest is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from eventserver.journal._opening import WAITS
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .faulty import Faults, faulty_disk
from .world import World, frames_of, read_all, read_patiently

BATCHES = 40
LETTERS = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed server left: frames that `meta.db` knows nothing of, a cursor, failed events."""
    folder = tmp_path_factory.mktemp("store")
    world = World(folder, ballast=0)
    journal = world.open()
    journal.reader("h", 0)
    for number in range(BATCHES // 2):
        world.append(journal, b"%d" % number + b"x" * 3000)
    journal.commit_cursor("h", 5, [parked(f"B-{number}") for number in range(LETTERS)])
    journal.commit_cursor("h", 5, [parked(f"P-{number}", RECEIVED) for number in range(LETTERS)])
    world.clock.advance(0.3)
    for number in range(BATCHES // 2, BATCHES):
        world.append(journal, b"%d" % number + b"x" * 3000)
        # Into the databases, but for the last of them.
        if number == BATCHES - 5:
            journal._store.maintain()
            journal._store.meta._connection.wal_checkpoint(  # type: ignore[union-attr]
                mode=apsw.SQLITE_CHECKPOINT_TRUNCATE
            )
    world.crash(journal)
    return folder


def begin(store: Path, folder: Path, disk: Any) -> World:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store, folder)
    return World(folder, ballast=0, disk=disk)


def check_all(journal: Any) -> None:
    assert frames_of(read_all(journal.reader("all", 0))) == [b"%d" % n + b"x" * 3000 for n in range(BATCHES)]
    assert journal.reader("h").position == 5
    assert len(journal.parked("h")) == LETTERS
    assert len(journal.dead()) == LETTERS
    info = journal.info()
    assert (info["lost"], info["dead_lost"], info["meta_apart"], info["damaged"]) == (0, 0, 0, [])


def test_an_error_that_passes_costs_nothing_wherever_it_comes(store: Path, tmp_path: Path) -> None:
    """Each read of each file fails once: the server waits, and tries again."""
    with faulty_disk() as (disk, faults):
        waited = 0
        for where in ("meta.db", "seg-"):
            for skip in range(10_000):
                world = begin(store, tmp_path / "copy", disk)
                faults.where, faults.skip, faults.fail_reads = where, skip, 1
                journal = world.open()
                if faults.fail_reads:
                    faults.fail_reads = 0
                    world.crash(journal)
                    break
                check_all(journal)
                assert not (tmp_path / "copy" / "0" / "quarantine").exists()
                waited += len(world.waited)
                world.crash(journal)
            assert skip > 3
        assert waited > 20


def test_an_error_that_passes_late_costs_nothing(store: Path, tmp_path: Path) -> None:
    """All of the disk is away, until just before the last attempt."""
    with faulty_disk() as (disk, faults):
        world = begin(store, tmp_path / "copy", disk)
        faults.fail_reads = -1
        waited: list[float] = []

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == len(WAITS):
                faults.fail_reads = 0

        journal = world.open(wait=wait)
        assert tuple(waited) == WAITS
        check_all(journal)
        journal.close()


def test_a_disk_that_stays_away_is_said_and_nothing_is_touched(store: Path, tmp_path: Path) -> None:
    with faulty_disk() as (disk, faults):
        world = begin(store, tmp_path / "copy", disk)
        faults.fail_reads = -1
        with pytest.raises(ValueError, match="cannot be used"):
            world.open()
        assert len(world.waited) == len(WAITS)
        faults.fail_reads = 0
        journal = world.open()
        check_all(journal)
        journal.close()


def test_what_is_damaged_is_mended_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what the ballast is for."""
    with faulty_disk() as (disk, _):
        world = World(tmp_path, disk=disk, ballast=1 << 20)
        journal = world.open()
        journal.reader("h", 0)
        world.append(journal, b"a", b"b")
        journal.commit_cursor("h", 1, [parked("B-0")])
        world.clock.advance(0.3)
        world.crash(journal)
        world.tamper("meta.db", "UPDATE records SET crc = 0 WHERE kind = 'cursor'")
        ballast = tmp_path / "0" / "ballast"
        assert ballast.exists()
        monkeypatch.setattr(Faults, "full", property(lambda self: ballast.exists()), raising=False)
        journal = world.open()
        assert journal.reader("h").position == 0, "a cursor that is lost begins with the oldest frame"
        assert len(journal.dead()) == 1
        journal.close()


@pytest.mark.parametrize("kind", ["cursor", "ctrsor", "cursor\0", "?"])
def test_a_cursor_whose_very_kind_is_damaged_begins_with_the_oldest_frame(world: World, kind: str) -> None:
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, b"a", b"b")
    journal.commit_cursor("h", 2)
    journal.close()
    world.tamper("meta.db", "UPDATE records SET crc = 0, kind = ? WHERE kind = 'cursor'", kind)
    journal = world.open()
    assert journal.reader("h").position == 0
    journal.close()


def test_a_cursor_that_is_gone_without_a_trace_begins_with_the_oldest_frame(tmp_path: Path) -> None:
    """Damage in a page may hide a record, and leave all others sound."""
    world = World(tmp_path / "whole")
    journal = world.open()
    journal.reader("h", 0)
    for text in (b"a", b"b", b"c", b"d"):
        world.append(journal, text)
    journal.commit_cursor("h", 2)
    journal.close()
    path = tmp_path / "whole" / "0" / "meta.db"
    (leaf,) = [page for page, what in pages_of(path).items() if what == "records leaf"]
    content = path.read_bytes()
    # https://www.sqlite.org/fileformat.html, 1.6: the header of a leaf has 8 bytes, the number of cells at 3; then
    # there are their offsets, 2 bytes each.
    header = (leaf - 1) * int.from_bytes(content[16:18], "big")
    cells = int.from_bytes(content[header + 3 : header + 5], "big")
    found = []
    for cell in range(cells):
        shutil.rmtree(tmp_path / "hidden", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "hidden")
        damaged = bytearray(content)
        pointers = header + 8
        rest = damaged[pointers + 2 * cell + 2 : pointers + 2 * cells]
        damaged[pointers + 2 * cell : pointers + 2 * cells - 2] = rest
        damaged[header + 3 : header + 5] = (cells - 1).to_bytes(2, "big")
        (tmp_path / "hidden" / "0" / "meta.db").write_bytes(damaged)
        world = World(tmp_path / "hidden")
        journal = world.open()
        found.append(journal.reader("h").position)
        journal.close()
    assert cells > 2
    assert sorted(set(found)) == [0, 2]


def pages_of(path: Path) -> dict[int, str]:
    """The leaves and other pages of a database, by number, with the table that they are of."""
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT pageno, name || ' ' || pagetype FROM dbstat").fetchall()
    connection.close()
    return dict(found)


def test_a_page_of_records_that_is_gone_for_good_costs_what_is_in_it(store: Path, tmp_path: Path) -> None:
    """The rest is there, and the file is put apart for whoever can read it."""
    with faulty_disk() as (disk, faults):
        world = begin(store, tmp_path / "copy", disk)
        path = tmp_path / "copy" / "0" / "meta.db"
        shutil.copy(path, tmp_path / "meta.db")
        leaves = [page for page, what in pages_of(tmp_path / "meta.db").items() if what == "records leaf"]
        assert len(leaves) > 5
        first = (leaves[len(leaves) // 2] - 1) * 8192
        faults.where, faults.bad = "/meta.db", range(first, first + 8192)
        journal = world.open()
        assert len(world.waited) == len(WAITS)
        faults.bad = range(0)
        known = journal.info()["parked"] + journal.info()["dead"]
        assert 2 * LETTERS * 0.75 < known < 2 * LETTERS
        assert journal.info()["meta_apart"] == 1
        assert (path.parent / "quarantine" / "meta-1.db").exists()
        assert frames_of(read_all(journal.reader("all", 0)))[-1][:2] == b"39"
        journal.close()


def test_rows_of_the_last_segment_that_are_gone_for_good_are_counted(store: Path, tmp_path: Path) -> None:
    """What comes behind them is there, and nothing new takes its place."""
    with faulty_disk() as (disk, faults):
        world = begin(store, tmp_path / "copy", disk)
        [path] = (tmp_path / "copy" / "0").glob("seg-*.db")
        shutil.copy(path, tmp_path / "seg.db")
        leaves = [page for page, what in pages_of(tmp_path / "seg.db").items() if what == "batches leaf"]
        first = (leaves[1] - 1) * 8192
        faults.where, faults.bad = "seg-", range(first, first + 8192)
        journal = world.open()
        found = frames_of(read_patiently(world, journal.reader("all", 0)))
        lost = journal.info()["lost"]
        assert 0 < lost < 5
        assert len(found) == BATCHES - lost
        assert found[-1][:2] == b"39"
        assert world.append(journal, b"new") == BATCHES + 1
        journal.close()
