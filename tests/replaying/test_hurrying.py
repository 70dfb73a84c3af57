"""A replay that waits for its destination, when somebody says that it is mended."""

from __future__ import annotations

from pathlib import Path

from eventserver.errors import TemporaryFailure

from .history import Keeper, World


def test_a_replay_that_waits_tries_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    handler = Keeper()
    world.add(handler)
    world.put("a", "b")
    handler.done.clear()
    handler.plan = [TemporaryFailure("down", retry_after=3600)]
    record = world.begin()
    world.run(1)
    assert handler.done == []
    world.run(60)
    assert handler.done == []
    world.replays.hurry()
    world.run(1)
    assert handler.done == ["a", "b"]
    assert world.replays.get(record.id).state == "done"
