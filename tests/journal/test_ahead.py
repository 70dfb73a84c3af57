"""A cursor that is far behind, and quicker than the disk: its handler waits until the disk has followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.journal._cursors import AGAIN, AHEAD
from tests.delivery.world import Recorder
from tests.delivery.world import World as DeliveryWorld

from .faulty import faulty_disk
from .world import World


def backlog(world: World, frames: int, **settings: Any) -> Any:
    """A journal with so many frames before its one cursor, which is on the disk."""
    journal = world.open(**settings)
    journal.reader("h", 0)
    for first in range(0, frames, 500):
        world.append(journal, *[b"%d" % number for number in range(first, first + 500)])
    world.clock.advance(1)
    return journal


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


def test_a_cursor_that_is_ahead_of_the_disk_waits_for_it(world: World) -> None:
    journal = backlog(world, 10_000)
    writer = world.executors["journal-writer"]
    writer.held = True
    assert journal.commit_cursor("h", AHEAD) is None, "as far as it may be"
    waits = journal.commit_cursor("h", AHEAD + 1)
    assert isinstance(waits, Deferred)
    fired: list[Any] = []
    waits.addBoth(fired.append)
    writer.run(1)
    assert fired == [None]
    writer.held = False
    writer.run()
    world.crash(journal)
    again = world.open()
    assert again.reader("h").position >= AHEAD
    again.close()


def test_a_write_that_began_too_early_is_followed_by_another(world: World) -> None:
    journal = backlog(world, 10_000)
    writer = world.executors["journal-writer"]
    writer.held = True
    journal.flush()
    assert len(writer) == 1
    waits = journal.commit_cursor("h", 3000)
    fired: list[Any] = []
    waits.addBoth(fired.append)
    writer.run(1)
    assert (fired, len(writer)) == ([], 1), "what was written is where it was before"
    writer.run(1)
    assert fired == [None]
    writer.held = False
    journal.close()


def test_nobody_waits_where_little_is_left_or_for_a_cursor_that_is_never_written(world: World) -> None:
    journal = backlog(world, 10_000)
    journal.reader("passing", 0, passing=True)
    journal.commit_cursor("h", 10_000 - AGAIN)
    world.clock.advance(1)
    world.executors["journal-writer"].held = True
    assert journal.commit_cursor("h", 9999) is None
    assert journal.commit_cursor("passing", 3000) is None
    world.executors["journal-writer"].held = False
    journal.close()


def test_nobody_waits_for_a_disk_that_fails(tmp_path: Path) -> None:
    with faulty_disk() as (disk, faults):
        world = World(tmp_path, disk=disk)
        journal = backlog(world, 10_000)
        faults.where, faults.fail_syncs = "meta", -1
        waits = journal.commit_cursor("h", 3000)
        assert waits is None or waits.called
        assert journal.unwell
        assert journal.commit_cursor("h", 6000) is None
        faults.fail_syncs = 0
        world.clock.advance(3)
        assert journal.unwell is None
        journal.close()


def test_a_reader_that_is_dropped_leaves_nobody_waiting(world: World) -> None:
    journal = backlog(world, 10_000)
    writer = world.executors["journal-writer"]
    writer.held = True
    waits = journal.commit_cursor("h", 3000)
    journal.drop_reader("h")
    writer.run(1)
    assert waits.called
    writer.held = False
    journal.close()


@pytest.mark.parametrize("wants", ["events", "frames"])
@pytest.mark.parametrize("piled", [500, 1000])
def test_a_kill_brings_back_two_thousand_frames_at_most(world: World, wants: Any, piled: int) -> None:
    """Whatever the handler's speed: here it takes no time at all, and the disk any time it likes."""
    assert AGAIN == 2000
    journal = backlog(world, 20_000)
    writer = world.executors["journal-writer"]
    writer.held = True
    delivering = DeliveryWorld(journal=journal)
    delivering.clock = world.clock
    recorder = Recorder(wants=wants)
    delivering.add(recorder, max_events=piled)
    furthest = on_disk = 0
    for _ in range(200):
        furthest = max(furthest, len(recorder.done) - on_disk)
        writer.run(1)
        on_disk = journal._keeper.durable["h"]
        world.clock.advance(0.001)
    assert recorder.done == [str(number) for number in range(20_000)]
    assert AHEAD < furthest <= AGAIN
    writer.held = False
    journal.close()
