"""A frame that is damaged on disk before a handler got it: `delivered` is never said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import apsw
import pytest

from eventserver.errors import Expired
from eventserver.intake import MOST_GONE, Intake

from .world import World, read_all


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


def damage(world: World, first: int) -> None:
    connection = apsw.Connection(str(world.folder / "0" / f"seg-{first:020}.db"))
    connection.execute("UPDATE batches SET data = zeroblob(length(data))")
    connection.close()


def outcomes(intake: Intake, positions: list[int], handlers: list[str] | None = None) -> dict[int, str]:
    """What is said, by position, as it is said."""
    said: dict[int, str] = {}

    def note(position: int) -> Any:
        return lambda failure: said.update({position: "delivered" if failure is None else failure.type.__name__})

    for position in positions:
        intake.watch("delivered", position, note(position), handlers)
    return said


def test_delivered_is_not_said_of_a_damaged_frame(world: World) -> None:
    journal = world.open()
    intake = Intake(journal)
    late = Handler("late", journal, intake)
    put(world, intake, 4)
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
    journal = world.open()
    intake = Intake(journal)
    Handler("late", journal, intake)
    put(world, intake, 4)
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


def test_the_failure_says_which_frames(world: World) -> None:
    journal = world.open()
    intake = Intake(journal)
    late = Handler("late", journal, intake)
    put(world, intake, 2)
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
