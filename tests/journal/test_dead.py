"""Dead letters on disk: their payloads are not in memory, and are there when somebody asks."""

from __future__ import annotations

import contextlib
import errno
import gc
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import apsw
import msgspec
import pytest

from eventserver.interfaces import Parked
from eventserver.journal import _meta
from eventserver.journal._disk import Disk
from eventserver.journal._failed import KIND, OVERHEAD, PIECE, Record, _encode
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .faulty import Faults
from .numbered import numbered_disk
from .world import World


def bury(world: World, journal: Any, count: int, handler: str = "h", first: int = 0) -> None:
    """Dead letters on the disk."""
    journal.reader(handler)
    journal.commit_cursor(handler, 0, [parked(f"B-{first + number}", handler=handler) for number in range(count)])
    world.wait(0.3)


def large(event_id: str, size: int) -> Parked:
    return msgspec.structs.replace(parked(event_id), frame=b"x" * size)


def payloads(journal: Any) -> list[bytes | None]:
    """What of them is in memory."""
    return [kept.data for kept in journal._failed._dead.values()]


def test_payloads_are_on_disk_only(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    journal.commit_cursor("h", 0, [parked("B-0")])
    assert None not in payloads(journal), "it is not written yet"
    assert [one.event.id for _, one in journal.dead()] == ["B-0"]
    world.wait(0.3)
    assert payloads(journal) == [None]
    assert not any(kind == "payload" for kind, _ in journal._store.meta.records)
    [(number, dead)] = journal.dead()
    assert (number, dead.event.id, dead.handler) == (1, "B-0", "h")
    world.crash(journal)
    again = world.open()
    assert payloads(again) == [None]
    assert again.dead() == [(number, dead)]
    assert again.dead_bytes() > 100
    again.close()


def test_what_could_not_be_written_stays_in_memory(world: World, faults: Faults) -> None:
    journal = world.open()
    journal.reader("h")
    world.wait(0.3)
    faults.where, faults.full = "meta", True
    journal.commit_cursor("h", 0, [large(f"B-{number}", 5000) for number in range(20)])
    world.wait(2)
    assert None not in payloads(journal)
    assert len(journal.dead()) == 20
    faults.full = False
    world.wait(3)
    assert payloads(journal) == [None] * 20
    assert len(journal.dead()) == 20
    journal.close()


def test_payloads_survive_that_the_records_are_written_anew(world: World, faults: Faults) -> None:
    """The disk fails under `meta.db`: what is in memory is written into another file, and the rest is copied."""
    journal = world.open()
    bury(world, journal, 250)
    faults.where, faults.fail_syncs = "meta.db", 1
    bury(world, journal, 1, first=250)
    assert faults.fail_syncs == 0
    expected = [f"B-{number}" for number in range(251)]
    assert [one.event.id for _, one in journal.dead()] == expected
    world.crash(journal)
    again = world.open()
    assert [one.event.id for _, one in again.dead()] == expected
    again.close()


def test_a_payload_that_cannot_be_read_does_not_hold_up_the_cursors(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sector under the dead letters is gone, and `meta.db` has to be written anew: after some seconds it is.

    What could not be read then is put apart: a person may have more luck.
    """
    journal = world.open()
    bury(world, journal, 3)
    end = world.append(journal, b"a")
    journal.commit_cursor("h", end)
    failing = Mock(side_effect=apsw.IOError("read failed"))
    monkeypatch.setattr(_meta, "read_payloads", lambda source, keys, final=False: ({}, [*keys]) if final else failing())
    faults.where, faults.fail_syncs = "meta.db", 1
    world.wait(0.3)
    assert journal.unwell
    world.wait(_meta.PATIENCE - 1)
    assert journal.unwell
    assert failing.call_count >= _meta.ATTEMPTS
    world.wait(3)
    assert journal.unwell is None
    assert journal.info()["meta_apart"] == 1
    monkeypatch.undo()
    assert len(rescued(world.folder / "0" / "quarantine" / "meta-1.db")) == 3
    world.crash(journal)
    again = world.open()
    assert again.reader("h").position == end
    assert again.dead() == []
    assert again.info()["dead"] == 0, "what cannot be read any more is forgotten, and said"
    assert again.info()["dead_lost"] == 3
    again.close()


def rescued(path: Path) -> list[str]:
    """The ids of the dead letters in a file that was put apart."""
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT data FROM payloads ORDER BY number").fetchall()
    connection.close()
    return [msgspec.msgpack.decode(data, type=Record).parked.event.id for (data,) in found]


def unopenable(faults: Faults, disk: Any, path: Path) -> None:
    """The disk fails once while it writes the file; from then on the file cannot be opened, until `openable`."""
    faults.where, faults.fail_syncs = path.name, 1
    before = disk.open, disk.open_immutable

    def refused(how: int, opened: Path, *args: Any, **named: Any) -> Any:
        if opened == path:
            raise apsw.CantOpenError("unable to open database file")
        return before[how](opened, *args, **named)

    disk.open = partial(refused, 0)
    disk.open_immutable = partial(refused, 1)


def openable(disk: Any) -> None:
    del disk.open, disk.open_immutable


def test_a_file_that_cannot_be_opened_at_all_is_put_apart(world: World, faults: Faults) -> None:
    journal = world.open()
    bury(world, journal, 3)
    unopenable(faults, journal.disk, world.folder / "0" / "meta.db")
    journal.commit_cursor("h", 0, [parked("B-9")])
    world.wait(_meta.PATIENCE - 1)
    with pytest.raises(OSError, match="unable to open"):
        journal.dead()
    assert journal.info()["dead"] == 4, "nothing is given up for that"
    world.wait(2)
    openable(journal.disk)
    world.wait(2)
    assert journal.unwell is None
    assert [one.event.id for _, one in journal.dead()] == ["B-9"]
    assert (journal.info()["meta_apart"], journal.info()["dead_lost"]) == (1, 3)
    assert rescued(world.folder / "0" / "quarantine" / "meta-1.db")[:3] == ["B-0", "B-1", "B-2"]
    journal.close()


def test_a_disk_that_is_back_after_some_seconds_has_lost_nothing(world: World, faults: Faults) -> None:
    """However often there was something to be written meanwhile."""
    journal = world.open()
    bury(world, journal, 3)
    unopenable(faults, journal.disk, world.folder / "0" / "meta.db")
    for number in range(40):
        journal.commit_cursor("h", 0, [parked(f"B-{3 + number}")])
        journal.flush().addErrback(lambda failure: None)
        world.wait(0.2)
    assert journal.unwell
    openable(journal.disk)
    world.wait(2)
    assert journal.unwell is None
    assert [one.event.id for _, one in journal.dead()] == [f"B-{number}" for number in range(43)]
    assert journal.info()["meta_apart"] == 0
    journal.close()


def test_a_full_disk_is_no_reason_to_give_up_payloads(tmp_path: Path) -> None:
    """The former file cannot be opened for want of room; it can be a moment later."""
    with numbered_disk() as (disk, calls):
        world = World(tmp_path, disk=disk)
        journal = world.open()
        bury(world, journal, 3)
        calls.fail(-1, "")
        journal._store.meta.rewrite()
        calls.fail(calls.log.index("open meta.db"), "enospc")
        with pytest.raises(apsw.FullError):
            journal._store.meta.rewrite()
        calls.clear()
        bury(world, journal, 1, first=3)
        assert [one.event.id for _, one in journal.dead()] == ["B-0", "B-1", "B-2", "B-3"]
        assert journal.info()["meta_apart"] == 0
        journal.close()


def test_only_the_newest_few_are_kept_apart(tmp_path: Path) -> None:
    meta = _meta.Meta(Disk(), tmp_path)
    for number in range(1, 7):
        (tmp_path / "meta.db").write_bytes(b"%d" % number * 5000)
        assert meta.open()
        meta.close()
    apart = sorted((tmp_path / "quarantine").iterdir())
    assert [path.name for path in apart] == [f"meta-{number}.db" for number in (3, 4, 5, 6)]
    assert [path.read_bytes()[:1] for path in apart] == [b"3", b"4", b"5", b"6"]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*paths: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    (tmp_path / "meta.db").write_bytes(b"rubbish" * 1000)
    meta = _meta.Meta(Disk(), tmp_path)
    assert meta.open()
    meta.write({("kind", "key"): b"data"})
    meta.close()
    assert (tmp_path / "quarantine" / "meta-1.db").read_bytes() == b"rubbish" * 1000
    assert meta.open()
    assert meta.records["kind", "key"] == b"data"
    meta.close()


@pytest.mark.parametrize("where", ["link", "replace"])
def test_a_crash_while_it_is_put_apart_loses_no_name(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either the former file is there, or the new one and the former one in `quarantine`."""
    disk = Disk()
    (tmp_path / "meta.db").write_bytes(b"rubbish" * 1000)
    original = getattr(disk, where)
    for count in range(3):
        calls = iter(range(10))

        def crash(*args: Any, calls: Any = calls, count: int = count) -> None:
            if next(calls) == count:
                raise KeyboardInterrupt
            original(*args)

        monkeypatch.setattr(disk, where, crash)
        with contextlib.suppress(KeyboardInterrupt):
            _meta.Meta(disk, tmp_path).open()
        there = [path.read_bytes()[:7] for path in tmp_path.rglob("meta*.db")]
        assert b"rubbish" in there
    monkeypatch.undo()
    meta = _meta.Meta(Disk(), tmp_path)
    meta.open()
    meta.close()
    assert b"rubbish" in [path.read_bytes()[:7] for path in (tmp_path / "quarantine").iterdir()]


def test_a_damaged_payload_costs_one_dead_letter(world: World) -> None:
    journal = world.open()
    bury(world, journal, 3)
    journal.close()
    world.tamper("meta.db", "UPDATE payloads SET data = zeroblob(10) WHERE number = 2")
    journal = world.open()
    assert journal.info()["dead"] == 3
    assert [number for number, _ in journal.dead()] == [1, 3]
    assert journal.info()["dead"] == 2
    assert [one.event.id for one in journal.retry_dead([1, 2, 3], RECEIVED)] == ["B-0", "B-2"]
    journal.close()


def test_many_small_ones_count_for_the_memory_that_they_take(world: World) -> None:
    """Their payloads are on disk, and all the rest is not."""
    journal = world.open()
    bury(world, journal, 10)
    world.wait(0.5)
    journal.close()
    tracemalloc.start()
    try:
        journal = world.open()
        bury(world, journal, 500, first=10)
        journal.close()
        del journal
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        journal = world.open()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert journal.info()["dead"] == 510
    assert journal.dead_bytes() > 510 * OVERHEAD
    assert after - before < 1.1 * journal.dead_bytes()
    journal.drop_dead(range(1, 511))
    assert journal.dead_bytes() == 0
    journal.close()


def test_counts_follow_every_change(world: World) -> None:
    journal = world.open()
    bury(world, journal, 3)
    bury(world, journal, 2, "other")
    journal.commit_cursor("h", 0, [parked("B-9", RECEIVED)])
    assert journal._failed.counts() == {"h": [1, 3], "other": [0, 2]}
    journal.retry_dead([1], RECEIVED)
    journal.drop_dead([2, 4])
    journal.commit_cursor("h", 0, [], ["B-9"])
    assert journal._failed.counts() == {"h": [1, 1], "other": [0, 1]}
    assert (journal.info()["parked"], journal.info()["dead"]) == (1, 2)
    journal.drop_reader("other")
    world.wait(0.3)
    journal.close()
    again = world.open()
    assert again._failed.counts() == {"h": [1, 1], "other": [0, 1]}
    again.drop_cursor("h")
    assert again._failed.counts() == {"other": [0, 1]}
    again.close()


def test_renamed_ones_keep_their_numbers(world: World) -> None:
    journal = world.open()
    bury(world, journal, 2)
    journal.close()
    journal = world.open()
    journal.rename_cursor("h", "new")
    journal.close()
    again = world.open()
    assert [(number, one.handler) for number, one in again.dead("new")] == [(1, "new"), (2, "new")]
    assert again.dead("h") == []
    [retried] = again.retry_dead([2], RECEIVED)
    assert retried.handler == "new"
    again.close()


def test_pages_of_many(world: World) -> None:
    journal = world.open()
    bury(world, journal, 700)
    bury(world, journal, 1, "other")
    bury(world, journal, 700, first=700)
    assert [number for number, _ in journal.dead("h", 10, 3)] == [11, 12, 13]
    assert [number for number, _ in journal.dead("h", 698, 4)] == [699, 700, 702, 703]
    assert [number for number, _ in journal.dead("other")] == [701]
    assert len(journal.dead(limit=2000)) == 1401
    journal.close()


def test_what_an_older_version_kept_among_the_parked_ones_is_taken_over(world: World) -> None:
    journal = world.open()
    journal.reader("h")
    world.wait(0.3)
    journal._store.meta.write({(KIND, "7"): _encode(Record(7, parked("B-7")))})
    world.crash(journal)
    again = world.open()
    world.wait(0.3)
    again.close()
    again = world.open()
    assert payloads(again) == [None]
    assert [(number, one.event.id) for number, one in again.dead()] == [(7, "B-7")]
    again.close()


def test_a_large_file_is_not_read_at_the_start(world: World, faults: Faults) -> None:
    """What is read of `meta.db` at the start does not grow with the payloads."""
    journal = world.open()
    journal.reader("h")
    for round_ in range(10):
        some = [large(f"B-{round_}-{number}", 60_000) for number in range(60)]
        journal.commit_cursor("h", 0, some)
        world.wait(0.3)
    journal.close()
    size = (world.folder / "0" / "meta.db").stat().st_size
    assert size > _meta.CHECKED
    faults.where, faults.read = "meta.db", 0
    again = world.open()
    assert again.info()["dead"] == 600
    assert faults.read < size / 20
    again.close()


def test_nothing_is_retried_where_not_all_can_be_read(world: World) -> None:
    """What had been made a parked event by then nobody would try again before the next start."""
    journal = world.open()
    bury(world, journal, PIECE + 100)
    read, pieces = journal._payloads._read, iter([True, False])

    def failing(numbers: Any) -> Any:
        if next(pieces, True):
            return read(numbers)
        raise apsw.IOError("read failed")

    journal._payloads._read = failing
    with pytest.raises(OSError, match="read failed"):
        journal.retry_dead(range(1, PIECE + 101), RECEIVED)
    assert (journal.info()["parked"], journal.info()["dead"]) == (0, PIECE + 100)
    assert len(journal.retry_dead(range(1, PIECE + 101), RECEIVED)) == PIECE + 100
    journal.close()


def test_they_are_read_without_waiting(world: World) -> None:
    """What happens until the disk has answered counts: one is dropped, another is given to another handler."""
    journal = world.open()
    bury(world, journal, 3)
    bury(world, journal, 1, "other", first=3)
    writer = world.executors["journal-writer"]
    writer.held = True
    found: list[Any] = []
    journal.read_dead().addCallback(found.append)
    journal.revive_dead([1, 2, 4], RECEIVED).addCallback(found.append)
    assert not found
    journal.drop_dead([1])
    journal.drop_reader("other")
    journal._failed.rename("other", "renamed")
    writer.run()
    assert [(number, one.handler) for number, one in found[0]] == [(2, "h"), (3, "h"), (4, "renamed")]
    assert [(one.handler, one.event.id, one.next_attempt) for one in found[1]] == [
        ("h", "B-1", RECEIVED), ("renamed", "B-3", RECEIVED),
    ]  # fmt: skip
    assert journal._failed.counts() == {"h": [1, 1], "renamed": [1, 0]}
    writer.held = False
    journal.close()


def test_both_fail_where_the_disk_does(world: World, faults: Faults) -> None:
    journal = world.open()
    bury(world, journal, 3)
    read = journal._payloads._read
    journal._payloads._read = Mock(side_effect=apsw.IOError("read failed"))
    failures: list[Any] = []
    journal.read_dead().addErrback(failures.append)
    journal.revive_dead([1], RECEIVED).addErrback(failures.append)
    assert [str(failure.check(OSError) and failure.value) for failure in failures] == ["[Errno 5] read failed"] * 2
    assert journal._failed.counts() == {"h": [0, 3]}
    journal._payloads._read = read
    journal.close()
    journal.read_dead().addErrback(failures.append)
    assert "closed" in failures[2].getErrorMessage()


def test_a_renamed_one_replaces_what_the_same_event_left_under_that_name(world: World) -> None:
    journal = world.open()
    bury(world, journal, 2, "new")
    journal.drop_reader("new")
    bury(world, journal, 2, "old")
    journal.close()
    journal = world.open()
    journal.rename_cursor("old", "new")
    numbers = [number for number, _ in journal.dead("new")]
    assert numbers == [3, 4]
    assert journal.info()["dead"] == 2
    assert journal.drop_dead(numbers) == 2
    assert (journal.info()["dead"], journal.dead_bytes(), journal.dead()) == (0, 0, [])
    journal.close()


def test_a_file_that_could_not_be_written_anew_takes_no_room(world: World, faults: Faults) -> None:
    """Frames are written all the same, as long as there is some."""
    journal = world.open()
    bury(world, journal, 3)
    faults.where, faults.fail_syncs = "meta", -1
    bury(world, journal, 1, first=3)
    assert journal.unwell
    assert not list((world.folder / "0").glob("meta-writing*"))
    faults.fail_syncs = 0
    world.wait(3)
    assert len(journal.dead()) == 4
    journal.close()


def test_what_is_retried_is_not_written_before_its_replay_is(world: World) -> None:
    """A crash between the two would leave parked events that nobody has: the record of the replay comes first."""
    journal = world.open()
    bury(world, journal, 1, "h@replay-1")
    journal.drop_reader("h@replay-1")
    journal.reader("fast", 0)
    world.append(journal, *[b"x"] * 3000)
    world.wait(0.5)
    journal.commit_cursor("fast", 1500)
    journal.commit_cursor("fast", journal.committed)
    world.clock.advance(0.021)
    [(number, _)] = journal.dead()
    assert len(journal.retry_dead([number], RECEIVED)) == 1
    world.crash(journal)
    again = world.open()
    assert (again.info()["parked"], again.info()["dead"]) == (0, 1)
    again.close()


def test_a_file_that_could_not_be_written_says_nothing_of_the_payloads(world: World, faults: Faults) -> None:
    """Many attempts fail for want of a place to write to; then a read fails once: nothing is given up for that."""
    journal = world.open()
    bury(world, journal, 3)
    faults.where, faults.fail_syncs = "meta", -1
    bury(world, journal, 1, first=3)
    world.wait(10)
    faults.where, faults.fail_syncs, faults.fail_reads = "meta.db", 0, 1
    world.wait(5)
    assert journal.unwell is None
    assert [one.event.id for _, one in journal.dead()] == ["B-0", "B-1", "B-2", "B-3"]
    journal.close()
