"""Segments that are damaged more than once: none is put apart in the place of another."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest

from eventserver.journal._apart import FILES, SEGMENTS, keep_the_newest, put_apart
from eventserver.journal._disk import Disk
from eventserver.journal._segment import name_of

from .numbered import Killed, numbered_disk
from .world import World, frames_of, read_all

NAME = "seg-00000000000000000000"


def damage(path: Path) -> bytes:
    """Make a segment one that has to be mended before it can be used; returns what it is then."""
    data = bytearray(path.read_bytes())
    data[10] ^= 0x44
    path.write_bytes(bytes(data))
    return bytes(data)


def grown(world: World, frame: bytes) -> Path:
    """A journal whose one segment has got another frame, closed."""
    journal = world.open()
    journal.reader("h", 0)
    world.append(journal, frame)
    journal.close()
    return world.folder / "0" / f"{NAME}.db"


def apart(world: World) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (world.folder / "0" / "quarantine").iterdir()}


def test_a_segment_that_is_mended_twice_is_put_apart_twice(tmp_path: Path) -> None:
    """It went on meanwhile, so the second file has what the first one cannot have, and the other way round."""
    world = World(tmp_path)
    first = damage(grown(world, b"a"))
    second = damage(grown(world, b"b"))
    journal = world.open()
    assert frames_of(read_all(journal.reader("h"))) == [b"a", b"b"]
    journal.close()
    assert apart(world) == {f"{NAME}.db": first, f"{NAME}-2.db": second}


def test_one_that_went_on_is_put_apart_beside_its_original_when_its_time_is_over(tmp_path: Path) -> None:
    world = World(tmp_path, segment_bytes=100_000, retention=10.0)
    first = damage(grown(world, b"x" * 50_000))
    second = grown(world, b"y" * 50_000)
    data = bytearray(second.read_bytes())
    data[-20_000] ^= 1
    second.write_bytes(bytes(data))
    journal = world.open(window=0)
    reader = journal.reader("h", 0)
    for _ in range(3):
        world.append(journal, b"z" * 100_000)
    read_all_slowly(world, reader)
    assert journal.info()["lost"] == 1
    journal.commit_cursor("h", journal.committed)
    for _ in range(120):
        world.clock.advance(0.1)
    assert journal.first > 1
    assert apart(world) == {f"{NAME}.db": first, f"{NAME}-2.db": bytes(data)}
    journal.close()


def read_all_slowly(world: World, reader: Any) -> None:
    """What the disk does not give at once is tried again."""
    while True:
        found: list[Any] = []
        waiting = reader.read(100_000)
        if isinstance(waiting, list):
            found = waiting
        else:
            waiting.addCallback(found.extend)
            for _ in range(400):
                world.clock.advance(0.1)
        if not found:
            return


def test_of_one_segment_the_first_file_and_the_newest_are_kept(tmp_path: Path) -> None:
    for number in range(1, FILES + 8):
        (tmp_path / name_of(7)).write_bytes(b"%d" % number)
        (tmp_path / f"{name_of(7)}-wal").write_bytes(b"log of %d" % number)
        put_apart(Disk(), tmp_path, 7)
    stem = name_of(7).removesuffix(".db")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "quarantine").iterdir()}
    expected = {f"{stem}.db": b"1", f"{stem}.db-wal": b"log of 1"}
    for number in range(FILES + 8 - (FILES - 1), FILES + 8):
        expected |= {f"{stem}-{number}.db": b"%d" % number, f"{stem}-{number}.db-wal": b"log of %d" % number}
    assert kept == expected


def test_of_many_segments_the_newest_are_kept_with_all_their_files(tmp_path: Path) -> None:
    for first in range(SEGMENTS + 2):
        for _ in range(2):
            (tmp_path / name_of(first)).write_bytes(b"x")
            put_apart(Disk(), tmp_path, first)
    (tmp_path / "quarantine" / "meta-1.db").write_bytes(b"records")
    keep_the_newest(Disk(), tmp_path)
    kept = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    segments = [name_of(first).removesuffix(".db") for first in range(2, SEGMENTS + 2)]
    assert kept == sorted(["meta-1.db", *(f"{stem}{end}.db" for stem in segments for end in ("", "-2"))])


@pytest.mark.parametrize("how", ["kill", "eio"])
def test_whatever_happens_meanwhile_both_are_kept_once(tmp_path: Path, how: str) -> None:
    """Each call in turn is the last one, or fails; the next start finds the rest."""
    model = World(tmp_path / "model")
    first = damage(grown(model, b"a"))
    second = damage(grown(model, b"b"))
    kept = apart(model)
    assert kept == {f"{NAME}.db": first}
    with numbered_disk() as (disk, calls):
        for at in range(10_000):
            folder = tmp_path / str(at) / "0"
            (folder / "quarantine").mkdir(parents=True)
            (folder / f"{NAME}.db").write_bytes(second)
            (folder / "quarantine" / f"{NAME}.db").write_bytes(first)
            (folder / "meta.db").write_bytes((tmp_path / "model" / "0" / "meta.db").read_bytes())
            calls.fail(at, how)
            world = World(tmp_path / str(at))
            with contextlib.suppress(Killed, ValueError):
                world.open(disk=disk).close()
            done = not calls.failed
            calls.clear()
            disk.let_go()
            gc.collect()
            journal = world.open()
            assert frames_of(read_all(journal.reader("h", 0))) == [b"a", b"b"], at
            journal.close()
            found = {name: data for name, data in apart(world).items() if name.startswith("seg-")}
            assert found == {f"{NAME}.db": first, f"{NAME}-2.db": second}, (at, calls.log)
            if done:
                break
        assert any(call.startswith("move") for call in calls.log)
