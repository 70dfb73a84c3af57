"""The journal on disk: commits, what survives them, and folders that cannot be used."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from eventserver.durable import DecoderSettings
from eventserver.journal._segment import APPLICATION, FORMAT
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .world import World, fill, frames_of, read_all


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
