"""A damaged store: it opens, gives no wrong frame, and says exactly how many it has lost."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
from pathlib import Path

import pytest

from eventserver.testing.journals import parked

from .numbered import Killed, numbered_disk
from .world import World, read_all, read_patiently

#: EVENTSERVER_DAMAGE=1000 is the long form.
ROUNDS = int(os.environ.get("EVENTSERVER_DAMAGE", "60"))


def frame(position: int) -> bytes:
    """What was stored there; now and then something that takes pages of its own."""
    return b"%08d" % position + b"x" * (position % 7 * 10 if position % 50 else 20_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A closed store of a few segments, and its number of frames; cursor `h` is at 500."""
    folder = tmp_path_factory.mktemp("store")
    world = make_world(folder)
    journal = world.open()
    journal.reader("h")
    position = 0
    for count in range(1, 60):
        world.append(journal, *[frame(position + index) for index in range(count)])
        position += count
    journal.commit_cursor("h", 500, [parked("B-0")])
    journal.close()
    assert len(list((folder / "0").glob("seg-*.db"))) > 3
    return folder, position


def make_world(folder: Path) -> World:
    return World(folder, max_bytes=64 << 20, segment_bytes=150_000)


def flip(path: Path, offset: int, bits: int) -> None:
    """Damage one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def check(folder: Path, total: int) -> tuple[int, int]:
    """Open it and look at everything. Returns how many frames are lost, and from where `h` goes on."""
    world = make_world(folder)
    journal = world.open()
    reader = journal.reader("everything", 0)
    found: set[int] = set()
    for entry in read_patiently(world, reader, 100_000):
        for index, data in enumerate(entry.batch.frames):
            assert data == frame(entry.first + index)
            assert entry.first + index not in found
            found.add(entry.first + index)
        journal.commit_cursor("everything", entry.end)
    assert reader.position == journal.head == total
    lost = total - len(found)
    assert journal.info()["lost"] == lost
    assert sum(end - start for start, end in journal.info()["lost_ranges"]) == lost
    # Life goes on.
    assert world.append(journal, frame(total)) == total + 1 == journal.committed
    assert [entry.batch.frames for entry in read_all(reader)] == [[frame(total)]]
    cursor = journal.reader("h").position
    journal.close()
    again = world.open()
    assert again.info()["lost"] == lost
    again.close()
    return lost, cursor


def test_an_intact_store_has_lost_nothing(store: tuple[Path, int], tmp_path: Path) -> None:
    folder, total = store
    shutil.copytree(folder, tmp_path / "copy")
    assert check(tmp_path / "copy", total) == (0, 500)


@pytest.mark.parametrize("how", ["flip", "truncate"])
def test_damage_anywhere_is_confined_and_counted(store: tuple[Path, int], tmp_path: Path, how: str) -> None:
    folder, total = store
    random_ = random.Random(how)
    losses = []
    for number in range(ROUNDS):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        files = sorted((copy / "0").glob("*.db"))
        path = random_.choices(files, [file.stat().st_size for file in files])[0]
        offset = random_.randrange(path.stat().st_size)
        if how == "flip":
            flip(path, offset, 1 << random_.randrange(8))
        else:
            os.truncate(path, offset)
        try:
            lost, cursor = check(copy, total)
        except BaseException as error:
            error.add_note(f"{how} at {offset} of {path.name}, round {number}")
            raise
        assert cursor <= 500, "a cursor never goes on behind what its handler has seen"
        losses.append(lost)
        shutil.rmtree(copy)
    assert sum(losses) / ROUNDS < total / 4


def test_every_byte_of_a_header_may_be_wrong(store: tuple[Path, int], tmp_path: Path) -> None:
    folder, total = store
    name = sorted((folder / "0").glob("seg-*.db"))[-1].name
    for offset in range(0, 100, 3):
        copy = tmp_path / str(offset)
        shutil.copytree(folder, copy)
        flip(copy / "0" / name, offset, 0x44)
        try:
            lost, _ = check(copy, total)
        except BaseException as error:
            error.add_note(f"byte {offset}")
            raise
        assert lost == 0
        shutil.rmtree(copy)


def test_without_meta_db_handlers_begin_again_with_the_oldest_frame(store: tuple[Path, int], tmp_path: Path) -> None:
    folder, total = store
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "0" / "meta.db").unlink()
    assert check(tmp_path / "copy", total) == (0, 0)


def test_a_segment_that_is_gone_is_counted(store: tuple[Path, int], tmp_path: Path) -> None:
    folder, total = store
    shutil.copytree(folder, tmp_path / "copy")
    _, second, third, *_ = sorted((tmp_path / "copy" / "0").glob("seg-*.db"))
    second.unlink()
    lost, _ = check(tmp_path / "copy", total)
    assert lost == int(third.stem[4:]) - int(second.stem[4:])


def test_damaged_segments_are_put_apart_when_their_time_is_over(tmp_path: Path) -> None:
    """The newest few of them, for people to look at."""
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=50_000, retention=10.0)
    journal = world.open()
    journal.reader("h")
    for _ in range(10):
        world.append(journal, b"x" * 100_000)
    journal.close()
    for path in sorted((tmp_path / "0").glob("seg-*.db"))[:6]:
        flip(path, 50_000, 1)
    journal = world.open()
    reader = journal.reader("h")
    found = read_patiently(world, reader, 100_000)
    assert [entry.end for entry in found] == [7, 8, 9, 10]
    assert journal.info()["lost"] == 6
    journal.commit_cursor("h", 10)
    world.wait(12)
    assert journal.first == 9
    apart = sorted(path.name for path in (tmp_path / "0" / "quarantine").glob("*.db"))
    assert apart == [f"seg-{first:020}.db" for first in (2, 3, 4, 5)]
    journal.close()
    again = world.open()
    assert again.info()["lost"] == 6
    again.close()


@pytest.mark.parametrize("how", ["kill", "eio"])
def test_what_happens_while_a_segment_is_mended_costs_nothing_more(
    store: tuple[Path, int], tmp_path: Path, how: str
) -> None:
    """Whatever has been done by then: what could be read before can be read afterwards."""
    folder, total = store
    name = sorted((folder / "0").glob("seg-*.db"))[-1].name
    with numbered_disk() as (disk, calls):
        for at in range(0, 10_000, 11):
            copy = tmp_path / str(at)
            shutil.copytree(folder, copy)
            flip(copy / "0" / name, 10, 0x44)
            calls.fail(at, how)
            with contextlib.suppress(Killed, ValueError):
                make_world(copy).open(disk=disk).close()
            done = not calls.failed
            calls.clear()
            disk.let_go()
            gc.collect()
            assert check(copy, total) == (0, 500), calls.log[at]
            assert not list((copy / "0").glob("mend*"))
            shutil.rmtree(copy)
            if done:
                break
        assert any("mended-" in call for call in calls.log)


def test_a_damaged_segment_that_cannot_be_read_for_a_moment_is_mended(
    store: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, total = store
    shutil.copytree(folder, tmp_path / "copy")
    path = sorted((tmp_path / "copy" / "0").glob("seg-*.db"))[-1]
    path.write_bytes(b"rubbish " + path.read_bytes()[8:])
    failures = [OSError(5, "Input/output error")] * 2
    read = Path.read_bytes

    def failing(self: Path) -> bytes:
        if failures:
            raise failures.pop()
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)
    assert check(tmp_path / "copy", total) == (0, 500)
    assert not failures


def test_the_original_of_a_mended_segment_stays_apart(tmp_path: Path) -> None:
    """What is mended lacks what could not be read; it does not take the original's place when its time is over."""
    world = World(tmp_path, max_bytes=64 << 20, segment_bytes=500_000, retention=10.0)
    journal = world.open()
    journal.reader("h")
    for _ in range(4):
        world.append(journal, b"x" * 100_000)
    journal.close()
    [path] = (tmp_path / "0").glob("seg-*.db")
    flip(path, 150_000, 1)
    flip(path, 10, 0x44)
    damaged = path.read_bytes()
    journal = world.open()
    reader = journal.reader("h")
    assert len(read_patiently(world, reader, 100_000)) == 3
    assert journal.info()["lost"] == 1
    for _ in range(3):
        world.append(journal, b"y" * 400_000)
    journal.commit_cursor("h", journal.committed)
    world.wait(12)
    assert journal.first > 0
    assert (tmp_path / "0" / "quarantine" / path.name).read_bytes() == damaged
    journal.close()


def test_records_written_anew_that_are_not_whole_are_put_apart(tmp_path: Path) -> None:
    """It never is so, but for a disk that loses what it had synced: the former records count then."""
    world = make_world(tmp_path)
    journal = world.open()
    journal.reader("h")
    end = world.append(journal, b"a")
    journal.commit_cursor("h", end, [parked("B-0")])
    journal.close()
    (tmp_path / "0" / "meta-new.db").write_bytes(b"rubbish" * 1000)
    (tmp_path / "0" / "meta-writing.db").write_bytes(b"rubbish" * 1000)
    again = world.open()
    assert again.reader("h").position == end
    assert [one.event.id for _, one in again.dead()] == ["B-0"]
    assert (tmp_path / "0" / "quarantine" / "meta-1.db").read_bytes() == b"rubbish" * 1000
    assert sorted(path.name for path in (tmp_path / "0").glob("meta-*")) == []
    again.close()
