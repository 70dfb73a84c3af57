"""Cursors on disk: when they are written, what they hold, and what becomes of those without a handler."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .world import World, fill, frames_of, read_all, result_of


def test_cursors_are_written_within_200_ms_and_survive(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    world.append(journal, b"a", b"b", b"c")
    journal.commit_cursor("h", 2)
    world.clock.advance(0.2)
    world.crash(journal)
    again = world.open()
    reader = again.reader("h")
    assert reader.position == 2
    assert reader.lag_bytes() > 0
    assert frames_of(read_all(reader)) == [b"a", b"b", b"c"]
    again.commit_cursor("h", 3)
    assert (reader.lag_bytes(), again.size) == (0, 0)
    again.close()


def test_a_passing_cursor_leaves_nothing_behind(world: World) -> None:
    journal = world.open()
    journal.reader("subscription", passing=True)
    world.append(journal, b"a")
    journal.close()
    again = world.open()
    assert [cursor.name for cursor in again.cursors()] == []
    assert again.size == 0
    again.close()


def test_a_dropped_cursor_is_gone_after_a_restart_too(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    result_of(journal.flush())
    journal.drop_reader("h")
    journal.close()
    again = world.open()
    assert again.cursors() == []
    again.close()


def test_a_cursor_without_a_handler_holds_for_a_while(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, retention=600.0)
    journal = world.open()
    journal.reader("gone")
    journal.reader("here")
    fill(world, journal, 4)
    journal.close()
    again = world.open()
    again.reader("here")
    again.commit_cursor("here", 4000)
    assert again.size == pytest.approx(4 * 1047_400, rel=0.01), "the cursor without a handler holds all"
    assert again.oldest() == []
    changed: list[int] = []
    again.on_change(lambda: changed.append(again.size))
    for _ in range(11):
        world.clock.advance(60)
    world.clock.advance(2)
    assert changed[-1] == again.size == 0
    assert again.first == 3000
    gone = again.reader("gone")
    assert gone.position == 0
    assert [entry.end for entry in read_all(gone)] == [4000]
    again.close()


def test_the_time_in_which_no_server_ran_takes_nothing_from_a_cursor(tmp_path: Path) -> None:
    """After a long weekend a handler that is misspelt today has its whole `retention` to come back."""
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, retention=600.0)
    journal = world.open()
    journal.reader("gone")
    fill(world, journal, 4)
    journal.close()
    world.clock.advance(6000)
    again = world.open()
    for _ in range(9):
        world.clock.advance(60)
    again.close()
    third = world.open()
    assert third.reader("gone").position == 0
    assert third.first == 0
    world.clock.advance(1)
    third.close()
    fourth = world.open()
    for _ in range(10):
        world.clock.advance(60)
    assert fourth.size, "while it was there nothing was counted against it"
    for _ in range(2):
        world.clock.advance(60)
    assert not fourth.size
    fourth.close()


def test_cursors_are_renamed_and_dropped_unless_a_handler_has_them(world: World) -> None:
    journal = world.open()
    journal.reader("old")
    end = world.append(journal, b"a")
    journal.commit_cursor("old", end, [parked("B-0")])
    with pytest.raises(ValueError, match="a handler has"):
        journal.rename_cursor("old", "new")
    journal.close()
    journal = world.open()
    with pytest.raises(ValueError, match="no cursor"):
        journal.drop_cursor("nobody")
    journal.reader("other")
    with pytest.raises(ValueError, match="already"):
        journal.rename_cursor("old", "other")
    journal.rename_cursor("old", "new")
    journal.close()
    journal = world.open()
    assert [(c.name, c.position, c.dead) for c in journal.cursors()] == [("new", 1, 1), ("other", 1, 0)]
    journal.drop_cursor("new")
    journal.close()
    journal = world.open()
    assert [c.name for c in journal.cursors()] == ["other"]
    assert journal.dead() == []
    journal.close()


def test_a_new_cursor_begins_where_it_is_told(world: World) -> None:
    journal = world.open()
    for number in range(3):
        world.append(journal, b"%d" % number)
    assert journal.reader("end").position == 3
    assert frames_of(read_all(journal.reader("beginning", journal.first))) == [b"0", b"1", b"2"]
    assert frames_of(read_all(journal.reader("one", 1))) == [b"1", b"2"]
    assert journal.reader("far", 99).position == 3
    journal.close()


def test_what_was_appended_before_a_cursor_was_made_is_not_for_it(world: World) -> None:
    journal = world.open()
    world.executors["journal-writer"].held = True
    world.append(journal, b"early")
    reader = journal.reader("h")
    assert reader.position == 1
    world.executors["journal-writer"].held = False
    world.executors["journal-writer"].run()
    world.append(journal, b"late")
    assert frames_of(read_all(reader)) == [b"late"]
    assert journal.size > 0
    journal.commit_cursor("h", 2)
    assert journal.size == 0
    journal.close()


def test_cursors_that_pass_many_frames_are_written_sooner(world: World) -> None:
    """After a kill a handler gets again what was not written: 200 ms of a backlog would be tens of thousands."""
    journal = world.open()
    journal.reader("h")
    for _ in range(40):
        world.append(journal, *[b"x"] * 100)
    world.clock.advance(1)
    world.points.clear()
    journal.commit_cursor("h", 900)
    assert world.points == [], "a few wait for others"
    journal.commit_cursor("h", 1000)
    assert world.points == ["cursor-commit"]
    journal.commit_cursor("h", 2000)
    assert world.points == ["cursor-commit"], "not one right after the other"
    world.clock.advance(0.02)
    journal.commit_cursor("h", 2600)
    assert world.points == ["cursor-commit"] * 2
    journal.commit_cursor("h", 2700)
    world.clock.advance(0.19)
    assert world.points == ["cursor-commit"] * 2
    world.clock.advance(0.01)
    assert world.points == ["cursor-commit"] * 3
    world.crash(journal)
    again = world.open()
    assert again.reader("h").position == 2700
    again.close()


def test_a_slow_disk_is_not_asked_to_write_cursors_all_the_time(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    for _ in range(40):
        world.append(journal, *[b"x"] * 70)
    world.clock.advance(1)
    world.executors["journal-writer"].held = True
    world.points.clear()
    journal.commit_cursor("h", 1000)
    world.clock.advance(0.05)
    world.executors["journal-writer"].run()
    journal.commit_cursor("h", 2000)
    world.clock.advance(0.09)
    journal.commit_cursor("h", 2001)
    assert len(world.executors["journal-writer"]) == 0
    world.clock.advance(0.02)
    journal.commit_cursor("h", 2002)
    assert len(world.executors["journal-writer"]) == 1
    world.executors["journal-writer"].held = False
    journal.close()


def test_a_cursor_that_is_renamed_is_never_on_the_disk_under_neither_name(world: World) -> None:
    """What is to be written is written at once while other cursors move fast."""
    journal = world.open()
    journal.reader("old", 0)
    world.append(journal, b"a", b"b")
    journal.commit_cursor("old", 1, [parked("B-0", RECEIVED, handler="old")])
    journal.close()
    journal = world.open()
    fast = journal.reader("fast", 0)
    world.clock.advance(1)
    world.append(journal, *[b"x"] * 2000)
    read_all(fast)
    journal.commit_cursor("fast", 1500)
    journal.commit_cursor("fast", journal.committed)
    world.clock.advance(0.021)
    journal.rename_cursor("old", "new")
    world.crash(journal)
    again = world.open()
    kept = [(cursor.name, cursor.position, cursor.parked) for cursor in again.cursors() if cursor.name != "fast"]
    assert kept in ([("new", 1, 1)], [("old", 1, 1)])
    again.close()


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_lost_cursors_are_remembered_until_there_are_new_ones(world: World, how: str) -> None:
    """The first start after that ends early: an address is in use, say."""
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, b"a", b"b")
    journal.close()
    if how == "gone":
        (world.folder / "0" / "meta.db").unlink()
    else:
        world.tamper("meta.db", "UPDATE records SET crc = 0 WHERE kind = 'cursor'")
    first = world.open()
    world.clock.advance(1)
    world.crash(first)
    again = world.open()
    assert frames_of(read_all(again.reader("h"))) == [b"a", b"b"]
    world.append(again, b"c")
    world.clock.advance(1)
    again.close()
    last = world.open()
    assert frames_of(read_all(last.reader("another"))) == [], "a handler that is new begins at the head again"
    last.close()
