"""What senders name their frames by: remembered with the frames, for a while and up to a number."""

from __future__ import annotations

from pathlib import Path

from .world import World


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
