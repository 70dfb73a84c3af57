"""What the commands do with the folder of a server that does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from eventserver.journal import offline
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .world import World, frames_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "journal", max_bytes=64 << 20, segment_bytes=100_000)
    journal = world.open()
    journal.reader("h")
    for number in range(4):
        world.append(journal, *[b"%d-%d" % (number, index) + b"x" * 1500 for index in range(100)])
    world.append(journal, b"text", b"\xff", marks={0: ("truncated",)}, context={"k": 1})
    journal.commit_cursor("h", 150, [parked("B-0"), parked("B-1", RECEIVED)])
    journal.close()
    return world


def test_info_names_what_is_there(world: World) -> None:
    with offline.open_offline(world.folder) as journal:
        found = offline.info(journal)
    assert (found["first"], found["head"], found["lost"], found["dead"], found["parked"]) == (0, 402, 0, 1, 1)
    assert found["cursors"] == {"h": 150}
    assert found["max_bytes"] is None
    assert [(one["first"], one["end"]) for one in found["segment"]] == [
        (0, 100),
        (100, 200),
        (200, 300),
        (300, 400),
        (400, 402),
    ]
    assert all(Path(one["path"]).exists() for one in found["segment"])
    json.dumps(found)


def test_a_folder_that_is_in_use_or_no_journal_is_refused(world: World, tmp_path: Path) -> None:
    journal = world.open()
    with pytest.raises(ValueError, match="another server"), offline.open_offline(world.folder):
        pass
    journal.close()
    with pytest.raises(ValueError, match="not the folder of a journal"), offline.open_offline(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()


def test_all_batches_are_read_from_any_position(world: World) -> None:
    with offline.open_offline(world.folder) as journal:
        assert len(frames_of(list(offline.entries(journal)))) == 402
        [last] = offline.entries(journal, 401)
        [cut] = offline.entries(journal, 0, 1)
    assert (last.first, last.end, last.batch.frames) == (400, 402, [b"text", b"\xff"])
    assert (last.batch.context_of(0), last.batch.peer_of(1)) == ({"k": 1, "truncated": True}, "192.0.2.1:50000")
    assert (cut.first, cut.end) == (0, 100)


def test_cursors_and_dead_letters_are_changed(world: World) -> None:
    with offline.open_offline(world.folder) as journal:
        journal.rename_cursor("h", "new")
        [(number, _)] = journal.dead("new")
        journal.retry_dead([number], RECEIVED)
    with offline.open_offline(world.folder) as journal:
        assert [(c.name, c.parked, c.dead) for c in journal.cursors()] == [("new", 2, 0)]
        journal.drop_cursor("new")
    with offline.open_offline(world.folder) as journal:
        assert journal.cursors() == []
        assert offline.info(journal)["first"] == 0, "nothing is freed"


def damage(world: World, first: int) -> None:
    path = world.folder / "0" / f"seg-{first:020}.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_verify_finds_what_cannot_be_read(world: World) -> None:
    with offline.open_offline(world.folder) as journal:
        assert all(report["ok"] for report in offline.verify(journal))
    damage(world, 100)
    with offline.open_offline(world.folder) as journal:
        reports = list(offline.verify(journal))
        assert [(one["ok"], one["lost"], one["frames"]) for one in reports[:3]] == [
            (True, 0, 100),
            (False, 100, 0),
            (True, 0, 100),
        ]
        assert journal.info()["lost"] == 100
    with offline.open_offline(world.folder) as journal:
        assert journal.info()["lost"] == 100
        assert len(frames_of(list(offline.entries(journal)))) == 302


def test_repair_writes_damaged_segments_anew(world: World) -> None:
    path = world.folder / "0" / f"seg-{200:020}.db"
    data = bytearray(path.read_bytes())
    data[100:8000] = bytes(7900)
    path.write_bytes(bytes(data))
    damage(world, 100)
    reports = offline.repair(world.folder)
    assert [(one["first"], one["saved"]) for one in reports] == [(100, 0), (200, 100)]
    assert sorted(path.name for path in (world.folder / "0" / "quarantine").glob("*.db")) == [
        f"seg-{100:020}.db",
        f"seg-{200:020}.db",
    ]
    with offline.open_offline(world.folder) as journal:
        assert [report["ok"] for report in offline.verify(journal)] == [True] * 4
        assert journal.info()["lost"] == 100
    assert offline.repair(world.folder) == []


def test_what_would_be_tried_again_later_is_said_to_fail() -> None:
    with pytest.raises(ValueError, match="the disk fails"):
        offline.done(Deferred())
    with pytest.raises(KeyError):
        offline.done(fail(KeyError("k")))
    assert offline.done(succeed(7)) == 7
