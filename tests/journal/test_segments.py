"""The files of a journal: what is read from them, and when they are freed."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from eventserver.testing.data import RECEIVED

from .world import World, fill, frames_of, read_all, result_of, segments


def test_a_cursor_behind_the_window_reads_from_disk(tmp_path: Path) -> None:
    world = World(tmp_path, window=2 << 20, max_bytes=64 << 20, segment_bytes=3 << 20)
    journal = world.open()
    slow, quick = journal.reader("slow"), journal.reader("quick")
    for _ in range(10):
        fill(world, journal, 1)
        for entry in read_all(quick):
            journal.commit_cursor("quick", entry.end)
    assert journal.size == pytest.approx(10 * (1000 * 1047 + 400), rel=0.01)
    assert slow.lag_bytes() == journal.size
    assert quick.lag_bytes() == 0
    assert len(segments(world)) > 2
    found = read_all(slow)
    assert [entry.end for entry in found] == list(range(1000, 10001, 1000))
    assert frames_of(found)[::1000] == [b"%06d" % number + b"x" * 1000 for number in range(10)]
    journal.commit_cursor("slow", 4000)
    journal.commit_cursor("slow", 10_000)
    assert (slow.lag_bytes(), journal.size, slow.position) == (0, 0, 10_000)
    journal.close()


def test_a_restart_with_a_backlog_reads_no_sealed_segment(tmp_path: Path) -> None:
    """What is in them is known from `meta.db`, so start-up time does not grow with them."""
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000)
    journal = world.open()
    journal.reader("h")
    fill(world, journal, 6)
    size = journal.size
    journal.close()
    for name in segments(world)[:-1]:
        (world.folder / "0" / name).chmod(0)
        (world.folder / "0" / name).rename(world.folder / "0" / (name + ".away"))
        (world.folder / "0" / name).write_bytes(b"not a database")
    again = world.open()
    reader = again.reader("h")
    assert (reader.position, again.head) == (0, 6000)
    assert reader.lag_bytes() == pytest.approx(size, rel=0.01)
    assert again.info()["lost"] == 0
    again.close()


def test_a_segment_that_was_read_and_is_freed_takes_no_room_any_more(tmp_path: Path) -> None:
    """A file that is unlinked and still open would: on a full disk, room that everybody waits for."""
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, window=0, retention=60.0)
    journal = world.open()
    reader = journal.reader("h")
    end = fill(world, journal, 3)
    assert len(frames_of(result_of(reader.read(1)))) == 1000
    assert open_files(tmp_path / "0" / segments(world)[0])
    journal.commit_cursor("h", end)
    world.clock.advance(70)
    assert len(segments(world)) == 1
    assert open_files(tmp_path / "0" / "seg-00000000000000000000.db") == []
    journal.close()


def open_files(path: Path) -> list[str]:
    """What this process has open of a file, which may have been unlinked."""
    found = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [name for name in found if name.removesuffix(" (deleted)") == str(path)]


def test_handled_segments_are_freed_when_they_are_old(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, retention=60.0)
    journal = world.open()
    journal.reader("h")
    end = fill(world, journal, 5)
    journal.commit_cursor("h", end)
    world.clock.advance(59)
    assert (len(segments(world)), journal.first) == (5, 0)
    world.points.clear()
    world.clock.advance(2)
    assert (len(segments(world)), journal.first) == (1, 4000)
    assert world.points.index("cursor-commit") < world.points.index("unlink"), "cursors first"
    assert journal.info()["segments_freed"] == 4
    journal.close()
    again = world.open()
    assert (again.first, again.reader("h").position, again.info()["lost"]) == (4000, 5000, 0)
    again.close()


def test_what_was_not_handled_is_kept_whatever_its_age(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, retention=60.0)
    journal = world.open()
    journal.reader("h")
    fill(world, journal, 5)
    journal.commit_cursor("h", 2500)
    world.clock.advance(3600)
    world.clock.advance(1)
    assert journal.first == 2000
    journal.close()


def test_slow_traffic_is_freed_in_time_as_well(tmp_path: Path) -> None:
    """A segment that never gets full is left for a new one when it is old."""
    world = World(tmp_path, retention=600.0)
    journal = world.open()
    journal.reader("h")
    for _ in range(20):
        journal.commit_cursor("h", world.append(journal, b"a"))
        world.clock.advance(60)
        world.clock.advance(1)
    assert journal.first > 5
    journal.close()


def test_max_bytes_frees_handled_segments_before_their_time(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=4 << 20, segment_bytes=1_000_000)
    journal = world.open()
    journal.reader("h")
    for _ in range(12):
        journal.commit_cursor("h", fill(world, journal, 1))
    world.clock.advance(1)
    assert journal.info()["disk_bytes"] <= 4 << 20
    assert journal.first > 0
    journal.close()


def test_a_closed_journal_leaves_no_logs(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000)
    journal = world.open()
    fill(world, journal, 3)
    assert [path.name for path in (tmp_path / "0").glob("seg-*-wal")] == [f"seg-{2000:020}.db-wal"]
    journal.close()
    assert list((tmp_path / "0").glob("*-wal")) == []


def test_time_is_found_to_a_chunk(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20)
    journal = world.open()
    for _ in range(5):
        fill(world, journal, 1)
        world.clock.advance(60)
    assert journal.position_at(RECEIVED - dt.timedelta(days=1)) == 0
    found = journal.position_at(RECEIVED + dt.timedelta(seconds=125))
    assert 2000 <= found <= 3000
    assert journal.position_at(RECEIVED + dt.timedelta(days=1)) == journal.head
    journal.close()


def test_history_is_read_without_a_cursor(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000)
    journal = world.open()
    fill(world, journal, 4)
    entries = result_of(journal.read_between(1500, 2500, 1 << 30))
    assert [entry.end for entry in entries] == [2000]
    assert [entry.end for entry in result_of(journal.read_between(2000, 2500, 1))] == [3000]
    assert result_of(journal.read_between(4000, 5000, 1)) == []
    journal.close()
