"""Replays and restarts: what goes on where it was, what does not begin anew, and the file that says so."""

from __future__ import annotations

import json

import pytest
from twisted.internet.defer import Deferred

from tests.replaying.history import Keeper, World


def test_a_replay_survives_a_restart_and_goes_on_where_it_was(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put(*map(str, range(50)))
    world.begin(rate=10, match="message != '49'")
    world.run(2)
    done = len(handler.done) - 50
    assert 10 < done < 30
    handler = Keeper()
    world = world.restart_with(handler)
    world.run(10)
    assert handler.done == [str(n) for n in range(done, 49)]
    [record] = world.replays.all()
    assert (record.state, record.match, record.rate) == ("done", "message != '49'", 10)
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]


def test_a_stop_keeps_what_was_counted(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(2)
    world.replays.stop()
    counted = world.replays.get("1").delivered
    assert counted
    world = world.restart_with(Keeper())
    world.run(10)
    assert world.replays.get("1").delivered == 50


def test_a_cursor_that_was_left_behind_does_not_begin_anew(world: World) -> None:
    """Killed between the record and the cursor."""
    world.add(Keeper())
    world.put("a")
    world.begin()
    world.run(2)
    world.journal.kept.cursors["h@replay-1"] = 0
    handler = Keeper()
    world = world.restart_with(handler)
    world.run(2)
    assert handler.done == []
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]


def test_one_whose_cursor_was_dropped_meanwhile_does_not_begin_anew(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(1)
    world = world.restart()
    world.journal.drop_cursor("h@replay-1")
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(2)
    assert handler.done == []
    assert world.replays.get("1").state == "cancelled"


def test_one_whose_cursor_never_reached_the_disk_begins_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(Keeper())
    world.put("a", "b")
    monkeypatch.setattr(world.journal, "flush", Deferred)
    world.begin(rate=1)
    world = world.restart()
    world.journal.drop_cursor("h@replay-1")
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(5)
    assert handler.done == ["a", "b"]


def test_one_whose_handler_is_gone_waits_for_it_and_can_be_cancelled(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(1)
    world = world.restart()
    world.replays.start()
    world.run(1)
    assert world.replays.get("1").state == "running"
    assert "h@replay-1" in [cursor.name for cursor in world.journal.cursors()]
    world.replays.cancel("1")
    assert "h@replay-1" not in [cursor.name for cursor in world.journal.cursors()]


def test_a_file_that_cannot_be_read_holds_up_nothing(world: World) -> None:
    (world.folder / "replays.json").write_text("{")
    world.add(Keeper())
    world.replays.start()
    assert world.replays.all() == []
    assert (world.folder / "replays.unreadable").read_text() == "{"


def test_the_file_is_small_plain_json(world: World) -> None:
    world.add(Keeper())
    world.put("a")
    for _ in range(30):
        world.begin()
        world.run(2)
    kept = json.loads((world.folder / "replays.json").read_text())
    assert kept["next"] == 31
    assert [one["id"] for one in kept["replays"]] == [str(n) for n in range(11, 31)]


def test_a_cancelled_replay_shows_how_far_it_came(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    record = world.begin(rate=10)
    world.run(2)
    reached = world.replays.position(record)
    assert 10 < reached < 40
    world.replays.cancel("1")
    assert world.replays.position(record) == reached
    world = world.restart()
    assert world.replays.start() is None
    assert world.replays.position(world.replays.get("1")) == reached
