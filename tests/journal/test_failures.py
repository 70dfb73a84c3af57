"""The disk is full, or fails: nothing committed is lost, nothing unwritten is committed, and it goes on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import apsw
import pytest

from eventserver.testing.journals import parked

from .faulty import Faults
from .world import World, frames_of, read_all, result_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal", max_bytes=64 << 20)


def recovered(world: World, journal: Any) -> list[bytes]:
    """What a server finds after a crash."""
    world.crash(journal)
    again = world.open()
    frames = frames_of(read_all(again.reader("all", 0)))
    again.close()
    return frames


def test_a_full_disk_acknowledges_nothing_and_resumes_by_itself(world: World, faults: Faults) -> None:
    journal = world.open()
    reader = journal.reader("h")
    changed: list[Any] = []
    journal.on_change(lambda: changed.append((journal.unwell, journal.accepting)))
    world.append(journal, b"before")
    faults.full = True
    world.append(journal, b"x" * 100_000)
    world.append(journal, b"y")
    world.wait(10)
    assert (journal.head, journal.committed) == (3, 1)
    assert journal.unwell is not None
    assert journal.accepting
    assert changed[0][0] is not None
    assert frames_of(read_all(reader)) == [b"before"]
    faults.full = False
    world.wait(5)
    assert (journal.committed, journal.unwell) == (3, None)
    assert changed[-1] == (None, True)
    assert frames_of(read_all(reader)) == [b"x" * 100_000, b"y"]
    assert recovered(world, journal) == [b"before", b"x" * 100_000, b"y"]


def test_while_it_is_full_only_so_much_is_held(world: World, faults: Faults) -> None:
    world.settings.update(max_bytes=4 << 20)
    journal = world.open()
    faults.full = True
    number = 0
    while journal.accepting:
        world.append(journal, b"x" * 100_000)
        number += 1
        assert number < 100
    assert journal.size <= 2 << 20 + 200_000
    faults.full = False
    world.wait(5)
    assert (journal.accepting, journal.committed) == (True, number)
    journal.close()


def test_the_ballast_goes_when_the_disk_is_full_and_comes_back(world: World, faults: Faults) -> None:
    journal = world.open()
    ballast = world.folder / "0" / "ballast"
    assert ballast.stat().st_size == 4 << 20
    faults.full = True
    world.append(journal, b"x" * 100_000)
    assert not ballast.exists()
    faults.full = False
    world.wait(5)
    assert ballast.stat().st_size == 4 << 20
    journal.close()
    assert not ballast.exists()


def test_a_full_disk_frees_what_has_been_handled(world: World, faults: Faults) -> None:
    world.settings.update(segment_bytes=100_000)
    journal = world.open()
    journal.reader("h")
    for _ in range(5):
        journal.commit_cursor("h", world.append(journal, b"x" * 200_000))
    world.wait(1)
    assert journal.first == 0
    faults.where, faults.full = "seg-", True
    world.append(journal, b"y" * 200_000)
    faults.full = False
    world.wait(0.1)
    assert journal.first > 0
    world.wait(5)
    journal.close()


@pytest.mark.parametrize("kind", ["fail_syncs", "fail_writes"])
def test_after_an_error_a_new_segment_takes_the_batch(world: World, faults: Faults, kind: str) -> None:
    journal = world.open()
    reader = journal.reader("h")
    world.append(journal, b"before")
    faults.where = "seg-"
    setattr(faults, kind, 1)
    faults.calls.clear()
    world.append(journal, b"failed once")
    assert (journal.committed, journal.unwell) == (2, None)
    assert journal.info()["disk_errors"] == 1
    assert not any("seg-00000000000000000000" in call for call in faults.calls[1:]), "that file is not synced again"
    world.append(journal, b"after")
    assert frames_of(read_all(reader)) == [b"before", b"failed once", b"after"]
    assert frames_of(read_all(journal.reader("late", 0))) == [b"before", b"failed once", b"after"]
    assert len(list((world.folder / "0").glob("seg-*.db"))) == 2
    assert recovered(world, journal) == [b"before", b"failed once", b"after"]


def test_a_disk_that_goes_on_failing_is_tried_again_with_patience(world: World, faults: Faults) -> None:
    journal = world.open()
    world.append(journal, b"before")
    faults.where, faults.fail_syncs = "seg-", -1
    world.append(journal, b"failed")
    world.append(journal, b"more")
    world.wait(20)
    assert (journal.committed, journal.head) == (1, 3)
    assert "fsync" in str(journal.unwell) or "I/O" in str(journal.unwell)
    assert journal.info()["disk_errors"] > 5 or len(faults.calls) < 60
    faults.fail_syncs = 0
    world.wait(5)
    assert (journal.committed, journal.unwell) == (3, None)
    assert recovered(world, journal) == [b"before", b"failed", b"more"]


def test_cursors_survive_a_failing_meta_db(world: World, faults: Faults) -> None:
    """It is written anew: nothing that was written before may hang on a sync that failed."""
    journal = world.open()
    journal.reader("h")
    end = world.append(journal, b"a", b"b")
    world.wait(0.3)
    faults.where, faults.fail_syncs = "meta.db", 1
    journal.commit_cursor("h", end, [parked("B-0")])
    world.wait(0.3)
    assert faults.fail_syncs == 0
    world.crash(journal)
    again = world.open()
    assert again.reader("h").position == end
    assert [one.event.id for _, one in again.dead()] == ["B-0"]
    again.close()


def test_meta_db_that_cannot_be_written_is_said_and_tried_again(world: World, faults: Faults) -> None:
    journal = world.open()
    journal.reader("h")
    end = world.append(journal, b"a")
    world.wait(0.3)
    faults.where, faults.fail_syncs = "meta", -1
    journal.commit_cursor("h", end)
    failed: list[Any] = []
    journal.flush().addErrback(failed.append)
    world.wait(3)
    assert failed
    assert journal.unwell
    faults.fail_syncs = 0
    world.wait(3)
    assert journal.unwell is None
    world.crash(journal)
    again = world.open()
    assert again.reader("h").position == end
    again.close()


def test_a_read_that_fails_is_tried_again(world: World, faults: Faults) -> None:
    world.settings.update(segment_bytes=100_000)
    journal = world.open()
    for _ in range(3):
        world.append(journal, b"x" * 200_000)
    reader = journal.reader("h", 0)
    faults.where, faults.fail_reads = "seg-", 1
    waiting = reader.read(1 << 20)
    found: list[Any] = []
    if not isinstance(waiting, list):
        waiting.addCallback(found.extend)
        world.wait(2)
        waiting = found
    assert frames_of(waiting) == [b"x" * 200_000]
    assert len(read_all(reader)) == 2
    assert journal.info()["lost"] == 0
    journal.close()


def test_a_disk_that_is_away_for_half_a_minute_has_lost_nothing(world: World, faults: Faults) -> None:
    world.settings.update(segment_bytes=100_000, window=0)
    journal = world.open()
    reader = journal.reader("h")
    for _ in range(3):
        world.append(journal, b"x" * 200_000)
    faults.where, faults.fail_reads = "seg-", -1
    found: list[Any] = []
    reader.read(1 << 20).addCallback(found.extend)
    world.wait(30)
    assert not found
    faults.fail_reads = 0
    world.wait(5)
    assert frames_of(found) == [b"x" * 200_000]
    assert journal.info()["lost"] == 0
    journal.close()


def test_a_checkpoint_that_fails_costs_nothing(world: World, faults: Faults) -> None:
    journal = world.open()
    world.append(journal, b"a")
    journal._unwritten = 2 << 20
    faults.where, faults.fail_syncs = "seg-00000000000000000000.db", 2
    world.append(journal, b"b")
    journal._maintain()
    faults.fail_syncs = 0
    world.append(journal, b"c")
    assert journal.committed == 3
    assert recovered(world, journal) == [b"a", b"b", b"c"]


def test_closing_on_a_full_disk_ends(world: World, faults: Faults) -> None:
    journal = world.open()
    world.append(journal, b"a")
    faults.full = True
    world.append(journal, b"x" * 100_000)
    result_of(journal.close())
    faults.full = False
    again = world.open()
    assert frames_of(read_all(again.reader("h", 0))) == [b"a"]
    again.close()


def test_it_opens_on_a_full_disk(world: World, faults: Faults) -> None:
    journal = world.open()
    journal.reader("h")
    world.append(journal, b"a")
    world.wait(0.3)
    world.crash(journal)
    faults.full = True
    again = world.open()
    assert frames_of(read_all(again.reader("h"))) == [b"a"]
    world.append(again, b"x" * 100_000)
    assert again.unwell
    faults.full = False
    world.wait(5)
    assert (again.committed, again.unwell) == (2, None)
    again.close()


def test_nothing_is_freed_while_the_cursor_that_allows_it_is_not_written(world: World, faults: Faults) -> None:
    """What was parked with the cursor would be lost with its frames."""
    world.settings.update(segment_bytes=100_000, retention=0.0)
    journal = world.open()
    journal.reader("h")
    for _ in range(3):
        end = world.append(journal, b"x" * 200_000)
    world.wait(0.5)
    faults.where, faults.fail_writes = "meta", -1
    journal.commit_cursor("h", end, [parked("B-0")])
    world.wait(3)
    assert len(list((world.folder / "0").glob("seg-*.db"))) == 3
    faults.fail_writes = 0
    world.wait(3)
    assert len(list((world.folder / "0").glob("seg-*.db"))) == 1
    world.crash(journal)
    again = world.open()
    assert (again.reader("h").position, len(again.dead())) == (end, 1)
    again.close()


def test_a_cursor_at_the_head_of_what_is_not_committed_loses_nothing(world: World) -> None:
    journal = world.open()
    world.append(journal, b"a")
    writer = world.executors["journal-writer"]
    faults_end = journal.head
    writer.held = True
    world.append(journal, b"b")
    journal.reader("h")
    changes = journal._keeper.collect()
    journal._store.flush(changes)
    world.crash(journal)
    again = world.open()
    assert (again.head, again.info()["lost"]) == (faults_end, 0)
    again.close()


def test_meta_that_another_program_looks_at_is_not_damage(world: World) -> None:
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, b"a", b"b")
    journal.commit_cursor("h", 1)
    world.clock.advance(1)
    world.crash(journal)
    other = apsw.Connection(str(world.folder / "0" / "meta.db"))
    other.execute("BEGIN; SELECT count(*) FROM records").fetchall()
    with pytest.raises(ValueError, match=r"cannot be used: .*(busy|locked|lock)"):
        world.open()
    other.close(True)
    again = world.open()
    assert again.reader("h").position == 1
    assert not (world.folder / "0" / "quarantine").exists()


def test_a_cursor_is_never_written_without_the_failed_event_that_it_passed(world: World, faults: Faults) -> None:
    """The disk is full for the first of two writes under way; the ballast makes room for the second."""
    journal = world.open(segment_bytes=2000, retention=0.0)
    journal.reader("h", 0)
    for _ in range(8):
        world.append(journal, b"x" * 900)
    world.clock.advance(1)
    writer = world.executors["journal-writer"]
    writer.held = True
    journal.commit_cursor("h", 1, [parked("B1-0")])
    world.clock.advance(0.2)
    journal.commit_cursor("h", 8)
    journal._keeper.free(pressed=True)
    assert len(writer) == 2
    faults.full = True
    writer.run(1)
    faults.full = False
    writer.run()
    world.crash(journal)
    again = world.open()
    assert (again.reader("h").position, len(again.dead())) == (8, 1)
    again.close()


def test_a_journal_that_is_closed_while_the_disk_is_full_lets_go_of_all_its_files(world: World, faults: Faults) -> None:
    journal = world.open(segment_bytes=2000, ballast=4096)
    journal.reader("h")
    writer = world.executors["journal-writer"]
    writer.held = True
    for _ in range(6):
        world.append(journal, b"x" * 900)
        writer.run(1)
    while not journal._store._full_segments:
        world.append(journal, b"x" * 900)
        writer.run(1)
    faults.full = True
    closed: list[Any] = []
    journal.close().addBoth(closed.append)
    writer.held = False
    writer.run()
    world.wait(5)
    assert closed == [None]
    faults.full = False
    again = world.open()
    assert again.info()["lost"] == 0
    again.close()


def test_reading_a_file_that_is_gone_makes_none(world: World, faults: Faults) -> None:
    """What was in it is lost, and said to be; a file without a table would only hide that."""
    world.settings.update(window=0)
    journal = world.open()
    world.append(journal, b"a")
    faults.where, faults.fail_syncs = "seg-", 1
    # The disk fails: another segment goes on, and the first is closed without being sealed.
    world.append(journal, b"b")
    gone = world.folder / "0" / "seg-00000000000000000000.db"
    journal.disk.remove(gone)
    found = journal.read_between(0, 2, 1 << 20)
    world.wait(40)
    assert frames_of(result_of(found)) == [b"b"]
    assert journal.info()["lost"] == 1
    assert not gone.exists()
    journal.close()


def handled(world: World, **settings: Any) -> Any:
    """A journal with sealed segments that all cursors have passed, kept for an hour."""
    journal = world.open(segment_bytes=100_000, retention=3600.0, **settings)
    journal.reader("h")
    for _ in range(4):
        journal.commit_cursor("h", world.append(journal, b"x" * 200_000))
    world.wait(1)
    assert (journal.first, len(journal.segments())) == (0, 4)
    return journal


def test_segments_that_could_not_be_freed_do_not_count_as_freed(world: World, faults: Faults) -> None:
    """Somebody may have begun to read them again by the time that `meta.db` can be written."""
    journal = handled(world)
    journal._keeper.retention = 0.0
    faults.where, faults.fail_syncs = "meta", -1
    world.wait(1.5)
    assert journal.unwell
    assert journal.first == 0
    journal._keeper.retention = 3600.0
    journal.reader("again", 0)
    faults.fail_syncs = 0
    world.wait(3)
    assert journal.unwell is None
    world.crash(journal)
    again = world.open(segment_bytes=100_000, retention=3600.0)
    assert len(frames_of(read_all(again.reader("again")))) == 4
    again.close()


def test_a_segment_that_cannot_be_unlinked_is_tried_again(world: World) -> None:
    """It counts as gone: nobody reads it any more. With the next that go, or at the next start, it does."""
    journal = handled(world)
    remove, path = journal.disk.remove, world.folder / "0" / "seg-00000000000000000000.db"
    journal.disk.remove = Mock(side_effect=OSError(5, "Input/output error"))
    journal._keeper.retention = 0.0
    world.wait(1.5)
    assert (journal.first, journal.unwell) == (3, None)
    assert path.exists()
    journal.disk.remove = remove
    journal.commit_cursor("h", world.append(journal, b"x" * 200_000))
    world.wait(2.5)
    assert journal.first == 4
    assert not path.exists()
    journal.close()


def test_what_a_failed_checkpoint_left_in_the_log_is_written(world: World, faults: Faults) -> None:
    """It says that segments are gone, and it counts: so they are, and whoever reads on from there knows."""
    journal = handled(world)
    journal._store.meta._unwritten = 2 << 20
    faults.where = "meta"
    written = journal._store.meta._apply

    def fail_from_here(changes: Any) -> None:
        written(changes)
        faults.fail_syncs = -1

    journal._store.meta._apply = fail_from_here
    journal._keeper.retention = 0.0
    world.wait(1)
    journal._store.meta._apply, journal._keeper.retention = written, 3600.0
    journal.reader("again", 0)
    kept = journal.head - journal.first
    faults.fail_syncs = 0
    world.wait(3)
    world.crash(journal)
    again = world.open(segment_bytes=100_000, retention=3600.0)
    assert len(frames_of(read_all(again.reader("again")))) == kept
    again.close()


def test_a_meta_db_of_a_former_version_is_not_put_apart_where_there_is_no_room(world: World, faults: Faults) -> None:
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, b"a", b"b")
    journal.commit_cursor("h", 1)
    journal.close()
    world.tamper("meta.db", "DROP TABLE payloads; VACUUM")
    faults.where, faults.full = "meta.db", True
    with pytest.raises(ValueError, match="cannot be used"):
        world.open()
    faults.full = False
    again = world.open()
    assert again.reader("h").position == 1
    again.close()


def test_a_flush_after_the_end_fails(world: World) -> None:
    """Nothing may be written then: the folder may be another journal's."""
    journal = world.open()
    journal.close()
    failed: list[Any] = []
    journal.flush().addErrback(failed.append)
    assert failed
    world.open().close()
