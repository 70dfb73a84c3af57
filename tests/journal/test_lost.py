"""A frame that is damaged on disk before a handler got it: `delivered` is never said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from eventserver.errors import Expired
from eventserver.intake import MOST_GONE, Intake

from .world import World, read_all

#: What names the frames: that of each, and the position behind it.
KEYS = [(f"key-{position}", position) for position in (1, 2, 3, 4)]


class Handler:
    """A cursor as the intake knows it; `work` passes all that it gets."""

    when_full: Literal["block"] = "block"
    max_lag = 1 << 30
    required_for_ack = True

    def __init__(self, name: str, journal: Any, intake: Intake) -> None:
        self.name = name
        self.journal = journal
        self.intake = intake
        self.reader = journal.reader(name, 0)
        intake.add_consumer(self)

    @property
    def position(self) -> int:
        return int(self.reader.position)

    def lag_bytes(self) -> int:
        return int(self.reader.lag_bytes())

    def expire_oldest(self) -> None:
        raise AssertionError("it is not full")

    def work(self, until: int | None = None) -> list[bytes]:
        found = [frame for entry in read_all(self.reader) for frame in entry.batch.frames]
        self.journal.commit_cursor(self.name, self.journal.committed if until is None else until)
        self.intake.moved()
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, window=0, segment_bytes=1000, max_bytes=64 << 20)


def put(world: World, intake: Intake, count: int) -> None:
    """Each in a segment of its own, sealed but for the last."""
    for number in range(count):
        assert intake.put(world.batch(b"%d" % number + b"x" * 2000)) is not None
        world.clock.advance(0.01)


def begin(world: World, count: int) -> tuple[Any, Intake, Handler]:
    """A journal with so many frames, and a handler that has got none of them."""
    journal = world.open()
    intake = Intake(journal)
    late = Handler("late", journal, intake)
    put(world, intake, count)
    return journal, intake, late


def damage(world: World, first: int) -> None:
    """All frames of the segment that begins there."""
    world.tamper(f"seg-{first:020}.db", "UPDATE batches SET data = zeroblob(length(data))")


def recalled(journal: Any) -> list[int | None]:
    """What the journal knows of `KEYS`."""
    return [journal.recall("http", key) for key, _ in KEYS]


def outcomes(intake: Intake, positions: list[int], handlers: list[str] | None = None) -> dict[int, str]:
    """What is said, by position, as it is said."""
    said: dict[int, str] = {}

    def note(position: int) -> Any:
        return lambda failure: said.update({position: "delivered" if failure is None else failure.type.__name__})

    for position in positions:
        intake.watch("delivered", position, note(position), handlers)
    return said


def test_delivered_is_not_said_of_a_damaged_frame(world: World) -> None:
    journal, intake, late = begin(world, 4)
    said = outcomes(intake, [1, 2, 3, 4])
    damage(world, 1)
    assert [frame[:1] for frame in late.work()] == [b"0", b"2", b"3"]
    assert said == {1: "delivered", 2: "Expired", 3: "delivered", 4: "delivered"}
    journal.close()


def test_nor_to_those_that_ask_later(world: World) -> None:
    """A sender repeats what it has got no answer for; a handler that had it does not count."""
    journal = world.open()
    intake = Intake(journal)
    quick, late = Handler("quick", journal, intake), Handler("late", journal, intake)
    put(world, intake, 4)
    quick.work()
    damage(world, 1)
    late.work()
    assert outcomes(intake, [1, 2, 3]) == {1: "delivered", 2: "Expired", 3: "delivered"}
    assert outcomes(intake, [2], ["quick"]) == {2: "delivered"}
    journal.close()


def test_nor_after_a_restart(world: World) -> None:
    journal, *_ = begin(world, 4)
    damage(world, 1)
    assert len(read_all(journal.reader("looks", 0))) == 3
    journal.close()
    journal = world.open()
    intake = Intake(journal)
    late = Handler("late", journal, intake)
    said = outcomes(intake, [1, 2, 3])
    assert said == {2: "Expired"}
    late.work()
    assert said == {1: "delivered", 2: "Expired", 3: "delivered"}
    journal.close()


def test_what_names_a_lost_frame_is_forgotten(world: World) -> None:
    """Its sender repeats it, and is not told that it is known: it is stored again. What was handled before is known."""
    journal, _, late = begin(world, 4)
    journal.remember("http", KEYS)
    late.work(1)
    world.clock.advance(1)
    damage(world, 0)
    damage(world, 1)
    assert len(read_all(journal.reader("looks", 0))) == 2
    assert recalled(journal) == [None, None, 3, 4]
    journal.drop_reader("looks")
    world.clock.advance(1)
    world.crash(journal)
    again = world.open()
    assert recalled(again) == [None, None, 3, 4]
    again.close()


def test_what_was_handled_before_it_was_lost_stays_known(world: World) -> None:
    journal, _, late = begin(world, 4)
    journal.remember("http", [("key-1", 1), ("key-3", 3)])
    late.work(2)
    damage(world, 0)
    damage(world, 2)
    found: list[Any] = []
    for start in (0, 2):
        journal.read_between(start, start + 2, 1 << 20).addCallback(found.extend)
    assert len(found) == 2
    assert (journal.recall("http", "key-1"), journal.recall("http", "key-3")) == (1, None)
    journal.close()


@pytest.mark.parametrize("with_meta", [True, False])
def test_so_it_is_where_the_frame_is_found_lost_at_the_start(world: World, with_meta: bool) -> None:
    """Its segment is gone; or that, and the cursors: handlers begin with the oldest frame then."""
    journal, _, late = begin(world, 4)
    journal.remember("http", KEYS)
    late.work(1)
    journal.close()
    if not with_meta:
        world.tamper("meta.db", "UPDATE records SET crc = 0 WHERE kind = 'cursor'")
    (world.folder / "0" / f"seg-{1:020}.db").unlink()
    again = world.open()
    assert again.info()["lost"] == 1
    assert recalled(again) == [1, None, 3, 4]
    again.close()


def test_the_failure_says_which_frames(world: World) -> None:
    journal, intake, late = begin(world, 2)
    failures: list[Any] = []
    intake.watch("delivered", 1, failures.append)
    damage(world, 0)
    late.work()
    [failure] = failures
    assert failure.check(Expired)
    assert "late never gets frames 0 to 1" in failure.getErrorMessage()
    journal.close()


def test_what_is_told_out_of_turn_is_not_forgotten_when_there_is_much(world: World) -> None:
    """Damage is found far ahead; then the cursor gives up stretch after stretch before that."""
    intake = Intake(world.open())
    intake.expired("h", 10_000, 10_010)
    for number in range(2 * MOST_GONE):
        intake.expired("h", 10 * number, 10 * number + 5)
    Handler("h", intake.journal, intake)
    assert outcomes(intake, [5, 995, 1995, 10_005], ["h"]) == dict.fromkeys([5, 995, 1995, 10_005], "Expired")
    intake.journal.close()
