"""What waits is tried at once when somebody says that its destination is mended (SIGHUP)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.delivery import RetryOptions
from eventserver.errors import TemporaryFailure
from eventserver.options import Duration

from .test_failing import dead, settle
from .world import Recorder, World


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.check()


def test_what_waits_for_the_destination_is_tried_when_somebody_says_so(world: World) -> None:
    recorder = Recorder(TemporaryFailure("down", retry_after=3600), TemporaryFailure("still down"))
    delivery = world.add(recorder)
    world.put("a")
    delivery.hurry()
    assert recorder.piles == [["a"], ["a"]]
    assert delivery.unwell == "TemporaryFailure: still down"
    world.clock.advance(1.9)
    assert recorder.done == []
    world.clock.advance(0.1)
    assert recorder.done == ["a"]
    assert delivery.unwell is None
    delivery.hurry()
    assert len(recorder.piles) == 3


def test_parked_events_are_tried_when_somebody_says_so(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("no such table")})
    delivery = world.add(recorder, retry=RetryOptions(max_attempts=9, initial_interval=Duration(3600)))
    world.put("a", "b", "c")
    assert delivery.counters.parked == 1
    recorder.bad.clear()
    delivery.hurry()
    assert recorder.done == ["a", "c", "b"]
    assert delivery.counters.parked == 0


def test_what_is_tried_because_somebody_said_so_counts_as_an_attempt(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("bad")})
    delivery = world.add(recorder, retry=RetryOptions(max_attempts=3, initial_interval=Duration(3600)))
    world.put("b")
    for _ in range(3):
        delivery.hurry()
    assert delivery.counters.dead_lettered == 1
    assert dead(world)[0].attempts == 3


def test_all_that_waits_because_so_many_failed_is_tried_when_somebody_says_so(world: World) -> None:
    recorder = Recorder(bad={str(number): ValueError("down") for number in range(300)})
    delivery = world.add(recorder, retry=RetryOptions(max_attempts=9, initial_interval=Duration(3600)))
    world.put(*map(str, range(300)))
    settle(world)
    assert delivery.unwell is not None
    recorder.bad.clear()
    delivery.hurry()
    settle(world)
    assert sorted(map(int, recorder.done)) == list(range(300))
    assert delivery.unwell is None
    assert world.clock.seconds() == 0


def test_while_a_call_runs_nothing_else_is_called_whoever_says_so(world: World) -> None:
    stuck: Deferred[None] = Deferred()
    recorder = Recorder(TemporaryFailure("down"), stuck)
    delivery = world.add(recorder)
    world.put("a")
    world.clock.advance(1)
    world.put("b")
    delivery.hurry()
    assert recorder.piles == [["a"], ["a"]]
    stuck.callback(None)
    assert recorder.piles == [["a"], ["a"], ["b"]]


def test_a_loop_that_is_stopped_or_ends_is_not_hurried(world: World) -> None:
    stuck: Deferred[None] = Deferred()
    recorder = Recorder(stuck)
    delivery = world.add(recorder)
    world.put("a")
    ended: list[None] = []
    delivery.finish().addCallback(ended.append)
    stuck.errback(TemporaryFailure("down"))
    assert ended == [None]
    delivery.hurry()
    delivery.stop()
    delivery.hurry()
    assert recorder.piles == [["a"]]
    assert not world.clock.getDelayedCalls()
    world.deliveries.clear()
