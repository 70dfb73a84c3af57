"""Handlers that say odd things, change what they are given, or cannot be cancelled: nothing is lost by that."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.delivery import RetryOptions
from eventserver.delivery.failing import LONGEST_WAIT
from eventserver.errors import PartialFailure, TemporaryFailure
from eventserver.event import Batch
from eventserver.interfaces import Wants
from eventserver.options import Duration

from .world import Recorder, World

RETRY = RetryOptions(max_attempts=3, initial_interval=Duration(1), max_interval=Duration(2))


@pytest.fixture
def world() -> World:
    return World()


def ids_of(pile: list[Any]) -> list[str]:
    if isinstance(pile[0], Batch):
        return [batch.id_of(number) for batch in pile for number in range(len(batch.frames))]
    return [event.id for event in pile]


class Naming(Recorder):
    """Takes all but `bad`, of which it says something."""

    def __init__(self, says: Any, wants: Wants) -> None:
        super().__init__(wants=wants)
        self.says = says

    def handle(self, pile: list[Any]) -> None:
        given = dict(zip(ids_of(pile), self.texts(pile), strict=True))
        self.done += [text for text in given.values() if text != "bad"]
        if bad := {event_id: self.says for event_id, text in given.items() if text == "bad"}:
            raise PartialFailure(bad)


@pytest.mark.parametrize("wants", ["events", "frames"])
@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("it is full", "TypeError: PartialFailure has 'it is full' for it, which is no exception"),
        (ValueError, "TypeError: PartialFailure has 'type' for it, which is no exception"),
        (None, "TypeError: PartialFailure has 'NoneType' for it, which is no exception"),
        (5, "TypeError: PartialFailure has 'int' for it, which is no exception"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_an_event_may_be_named_with_what_is_no_exception(world: World, says: Any, error: str, wants: Wants) -> None:
    handler = Naming(says, wants)
    delivery = world.add(handler, retry=RETRY, start=False)
    world.put("a", "bad", "b")
    delivery.start()
    for _ in range(10):
        world.clock.advance(1)
    assert handler.done == ["a", "b"]
    (dead,) = world.journal.parked("h")
    assert (dead.error, dead.attempts, dead.next_attempt) == (error, 3, None)
    world.check()


@pytest.mark.parametrize(
    ("after", "wait"),
    [
        (3, 3.0),
        (0.5, 0.5),
        # Its own waits are better than none, which would be a loop.
        (0, 1.0),
        (-1, 1.0),
        (float("nan"), 1.0),
        (float("-inf"), 1.0),
        ("5", 1.0),
        ([5], 1.0),
        (None, 1.0),
        (float("inf"), LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        (10**400, LONGEST_WAIT),
    ],
)
def test_whatever_a_destination_says_it_is_tried_again(world: World, after: Any, wait: float) -> None:
    recorder = Recorder(TemporaryFailure("full", retry_after=after))
    delivery = world.add(recorder, retry=RETRY)
    world.put("a")
    assert delivery.unwell is not None
    world.clock.advance(wait - 0.01)
    assert recorder.done == []
    world.clock.advance(0.01)
    assert recorder.done == ["a"]
    world.check()


class Emptying(Recorder):
    """Empties the list that it is given; the first call fails, or waits."""

    def handle(self, pile: list[Any]) -> Any:
        texts, first = self.texts(pile), not self.piles
        self.piles.append(texts)
        failure = self.plan[0]
        if first and isinstance(failure, str):
            failure = PartialFailure({ids_of(pile)[1]: ValueError(failure)})
        pile.clear()
        if first and isinstance(failure, Exception):
            raise failure
        self.done += texts
        return failure if isinstance(failure, Deferred) else None


@pytest.mark.parametrize("wants", ["events", "frames"])
@pytest.mark.parametrize("how", ["waits", TemporaryFailure("down"), ValueError("no"), "of one"])
def test_a_handler_may_change_its_list(world: World, how: Any, wants: Wants) -> None:
    waits: Deferred[None] = Deferred()
    handler = Emptying(waits if how == "waits" else how, wants=wants)
    delivery = world.add(handler, retry=RETRY, start=False)
    world.put("a", "b", "c")
    delivery.start()
    if how == "waits":
        waits.callback(None)
    world.clock.advance(1)
    assert sorted(handler.done) == (["b"] if how == "of one" else ["a", "b", "c"])
    assert (delivery.counters.delivered, delivery.position) == (3, 3)
    world.check()


def test_a_call_whose_canceller_raises_is_one_that_does_not_end(world: World, noticed: Any) -> None:
    def cancel(_: object) -> None:
        raise RuntimeError("no")

    stuck: Deferred[None] = Deferred(cancel)
    delivery = world.add(Recorder(stuck), retry=RETRY, timeout=Duration(2))
    world.put("a")
    world.clock.advance(2)
    world.clock.advance(1)
    assert "does not end" in (delivery.unwell or "")
    delivery.stop()
    assert not world.clock.getDelayedCalls()
    assert len(noticed.take()) == 2
