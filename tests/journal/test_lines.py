"""Lines that nobody has cut yet, in the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventserver.blocks import Lines

from .world import World, read_all, result_of

FRAMES = [b"one", b"", b"three \xff\r", b"four"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


def lines() -> Lines:
    return Lines(b"".join([frame + b"\n" for frame in FRAMES]))


def test_they_are_written_as_the_frames_that_they_are(world: World) -> None:
    journal = world.open()
    world.append(journal, frames=lines())
    world.crash(journal)
    [entry] = read_all(world.open().reader("h", 0))
    assert entry.batch.frames == FRAMES
    assert entry.end == len(FRAMES)


def test_odd_values_beside_them_do_no_harm(world: World) -> None:
    """What msgpack cannot write is written in another way, and the frames all the same."""
    journal = world.open()
    world.append(journal, frames=lines(), context={"\ud800": 2**70})
    world.crash(journal)
    [entry] = read_all(world.open().reader("h", 0))
    assert entry.batch.frames == FRAMES


def test_what_waits_in_memory_is_not_held_twice(world: World) -> None:
    """It is counted for its block alone."""
    journal = world.open()
    reader = journal.reader("h", 0)
    world.append(journal, frames=lines())
    [entry] = result_of(reader.read(1 << 20))
    assert isinstance(entry.batch.frames, Lines)
    assert entry.batch.frames._lines is None
