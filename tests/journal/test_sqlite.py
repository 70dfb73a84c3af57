"""The journal on disk: what survives, what is read back, what is freed."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import apsw
import pytest

from eventserver.durable import DecoderSettings
from eventserver.journal._segment import APPLICATION, FORMAT
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .world import World, frames_of, read_all, result_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


def segments(world: World) -> list[str]:
    return sorted(path.name for path in (world.folder / "0").glob("seg-*.db"))


def fill(world: World, journal: Any, megabytes: int, **keys: Any) -> int:
    """Append so many batches of about a megabyte."""
    end = 0
    for _ in range(megabytes):
        end = world.append(journal, *[b"%06d" % world.number + b"x" * 1000 for _ in range(1000)], **keys)
    return end


def test_what_was_committed_survives_a_crash(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    world.append(journal, b"a", b"b")
    world.append(journal, b"c")
    world.crash(journal)
    again = world.open()
    assert (again.head, again.committed, again.first) == (3, 3, 0)
    # The cursor was never written: it is new, and a server commits new cursors before it listens.
    reader = again.reader("h", again.first)
    assert frames_of(read_all(reader)) == [b"a", b"b", b"c"]
    again.close()


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


def test_events_that_failed_survive_with_the_cursor(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    end = world.append(journal, b"a", b"b")
    journal.commit_cursor("h", end, [parked("B-0", RECEIVED), parked("B-1")])
    journal.close()
    again = world.open()
    assert [one.event.id for one in again.parked("h")] == ["B-0"]
    assert again.parked("h") == [parked("B-0", RECEIVED)]
    [(number, dead)] = again.dead()
    assert dead == parked("B-1")
    assert again.dead("other") == again.dead(after=number) == again.dead(limit=0) == []
    assert again.dead_bytes() > 0
    assert [(c.name, c.parked, c.dead, c.active) for c in again.cursors()] == [("h", 1, 1, False)]
    told: list[int] = []
    again.on_dead_changed(lambda: told.append(again.dead_bytes()))
    now = RECEIVED + dt.timedelta(hours=1)
    [retried] = again.retry_dead([number], now)
    assert (retried.next_attempt, retried.attempts) == (now, 0)
    assert (again.dead_bytes(), told) == (0, [0])
    assert [one.event.id for one in again.parked("h")] == ["B-0", "B-1"]
    again.close()


def test_dead_letters_are_dropped_by_number(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    journal.commit_cursor("h", 0, [parked("B-0"), parked("B-1"), parked("B-2")])
    first, second, _ = [number for number, _ in journal.dead()]
    assert journal.drop_dead([first, second, 99]) == 2
    journal.close()
    again = world.open()
    assert [one.event.id for _, one in again.dead()] == ["B-2"]
    again.drop_reader("h")
    assert [one.event.id for _, one in again.dead()] == ["B-2"], "what has died is kept, though its cursor is gone"
    again.close()


def test_an_event_that_msgpack_has_no_word_for_is_kept_as_text(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    odd = parked("B-0")
    odd.event.fields.update({"large": 1 << 70, "set": {1}, "deep": {"list": [1 << 65, object()]}})
    journal.commit_cursor("h", 0, [odd])
    journal.close()
    again = world.open()
    [(_, dead)] = again.dead()
    assert dead.event.fields["large"] == str(1 << 70)
    assert dead.frame == b"failed"
    again.close()


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


def test_a_closed_journal_leaves_no_logs(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000)
    journal = world.open()
    fill(world, journal, 3)
    assert [path.name for path in (tmp_path / "0").glob("seg-*-wal")] == [f"seg-{2000:020}.db-wal"]
    journal.close()
    assert list((tmp_path / "0").glob("*-wal")) == []


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


def test_keys_come_back_with_their_frames_or_not_at_all(tmp_path: Path) -> None:
    world = World(tmp_path, key_window=60.0)
    journal = world.open()
    world.append(journal, b"x")
    world.executors["journal-writer"].held = True
    journal.remember("http", [("one", 2), ("two", 2)])
    world.append(journal, b"a")
    assert journal.recall("http", "one") == 2
    world.crash(journal)
    journal = world.open()
    assert journal.recall("http", "one") is None
    journal.remember("http", [("one", 2), ("two", 2)])
    world.append(journal, b"a")
    world.crash(journal)
    journal = world.open()
    assert [journal.recall("http", key) for key in ("one", "two", "three")] == [2, 2, None]
    assert journal.recall("other", "one") is None
    world.clock.advance(1)
    world.crash(journal)
    journal = world.open()
    assert journal.recall("http", "one") == 2
    world.clock.advance(61)
    assert journal.recall("http", "one") is None
    journal.close()


def test_keys_are_bounded_in_number(tmp_path: Path) -> None:
    world = World(tmp_path, max_keys=3)
    journal = world.open()
    journal.remember("s", [(str(number), 0) for number in range(5)])
    assert [journal.recall("s", str(number)) for number in range(5)] == [None, None, 0, 0, 0]
    assert journal.info()["keys_forgotten"] == 2
    journal.close()
    journal = world.open()
    assert journal.info()["keys"] == 3
    journal.close()


def test_settings_of_decoders_are_remembered(world: World) -> None:
    settings = [DecoderSettings(listener="l", decoder="d", options=b"{}")]
    journal = world.open()
    journal.keep_decoders([*settings, DecoderSettings(listener="x", decoder="y", options=b"{}")])
    journal.keep_decoders(settings)
    journal.close()
    again = world.open()
    assert again.kept_decoders() == settings
    again.close()


def test_connections_are_void_after_a_restart(world: World) -> None:
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, b"a", connection=7)
    assert read_all(journal.reader("h"))[0].batch.connection == 7
    world.crash(journal)
    again = world.open()
    reader = again.reader("h", 0)
    world.append(again, b"b", connection=8)
    assert [entry.batch.connection for entry in read_all(reader)] == [0, 8]
    again.close()


def test_a_group_is_committed_at_once_when_idle_and_else_with_others(world: World) -> None:
    journal = world.open()
    writer = world.executors["journal-writer"]
    writer.held = True
    commits: list[int] = []
    journal.on_commit(lambda: commits.append(journal.committed))
    batch = world.batch(b"a")
    journal.append(batch, 500)
    world.clock.advance(0)
    assert len(writer) == 1, "at once, at the end of this turn"
    journal.append(batch, 500)
    journal.append(batch, 500)
    writer.run(1)
    assert (commits, len(writer)) == ([1], 0)
    world.clock.advance(0.004)
    assert len(writer) == 0
    world.clock.advance(0.001)
    writer.run(1)
    assert commits == [1, 3], "two in one commit, 5 ms after the first of them"
    journal.append(batch, 500)
    world.clock.advance(0)
    journal.append(batch, 500)
    journal.append(world.batch(*[b"x"] * 1000), 50_000)
    writer.run(1)
    assert len(writer) == 1, "a thousand frames do not wait"
    writer.held = False
    writer.run()
    journal.close()


def test_the_folder_is_locked(world: World) -> None:
    journal = world.open()
    with pytest.raises(ValueError, match="another server"):
        world.open()
    journal.close()
    world.open().close()


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be used"):
        World(tmp_path / "file").open()


@pytest.mark.parametrize("name", ["meta.db", "seg-00000000000000000000.db"])
def test_a_newer_format_is_refused(world: World, name: str) -> None:
    journal = world.open()
    world.append(journal, b"a")
    journal.close()
    world.tamper(name, f"PRAGMA user_version={FORMAT + 1}; PRAGMA application_id={APPLICATION + FORMAT + 1}")
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}"):
        world.open()


def test_all_the_points_of_a_crash_are_there(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=1_000_000, retention=0.0)
    journal = world.open()
    journal.reader("h")
    journal.commit_cursor("h", fill(world, journal, 3))
    world.clock.advance(2)
    journal.close()
    assert {
        "batch-framed",
        "before-commit",
        "after-commit-before-ack",
        "segment-create",
        "seal",
        "cursor-commit",
        "unlink",
    } <= set(world.points)


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


def test_what_does_not_fit_into_msgpack_is_committed_all_the_same(world: World) -> None:
    journal = world.open()
    reader = journal.reader("h")
    world.append(journal, b"a", context={"n": 1 << 70, "o": object(), "s": "\ud800"}, peers=["\udcff"])
    assert journal.committed == 1
    world.crash(journal)
    again = world.open()
    reader = again.reader("h", 0)
    assert frames_of(read_all(reader)) == [b"a"]
    again.close()


def test_whoever_fails_when_told_of_a_commit_keeps_nobody_else_from_it(world: World, logged_failures: Any) -> None:
    journal = world.open()
    told: list[str] = []

    def fails() -> None:
        raise RuntimeError("no")

    journal.on_commit(fails)
    journal.on_commit(lambda: told.append("commit"))
    journal.reader("bad", 0).ready = fails
    journal.reader("good", 0).ready = lambda: told.append("good")
    world.append(journal, b"a")
    assert told == ["commit", "good"]
    assert len(logged_failures(RuntimeError)) == 2
    journal.close()


def test_keys_of_frames_that_are_on_disk_wait_for_no_commit(world: World) -> None:
    journal = world.open()
    end = world.append(journal, b"a")
    journal.remember("requests", [(f"key-{number}", end) for number in range(100)])
    assert not journal._committer._keys
    world.clock.advance(1)
    world.crash(journal)
    again = world.open()
    assert again.recall("requests", "key-99") == end
    again.close()


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


def test_how_long_commits_take_is_counted(world: World) -> None:
    journal = world.open()
    world.append(journal, b"quick")
    world.executors["journal-writer"].held = True
    world.append(journal, b"slow")
    world.clock.advance(0.2)
    world.executors["journal-writer"].held = False
    world.executors["journal-writer"].run()
    buckets = dict(journal.commit_times.buckets())
    assert (buckets["0.001"], buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (1, 1, 2, 2)
    assert 0.2 <= journal.commit_times.sum < 0.25
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
    meta = world.folder / "0" / "meta.db"
    if how == "gone":
        meta.unlink()
    else:
        connection = apsw.Connection(str(meta))
        connection.execute("UPDATE records SET crc = 0 WHERE kind = 'cursor'")
        connection.close()
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
