"""One handler's loop on good days: piles, lanes, slices, matching, cursors."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.steps import Pipeline

from .world import Recorder, World


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.check()


def test_a_quick_handler_is_called_before_put_returns(world: World) -> None:
    """No turn of the reactor lies between the read and a sync handler."""
    recorder = Recorder()
    world.add(recorder)
    assert world.put("a", "b") == 2
    assert recorder.piles == [["a", "b"]]
    assert world.journal.size == 0


def test_batches_pile_up_while_the_handler_is_busy(world: World) -> None:
    busy: Deferred[None] = Deferred()
    recorder = Recorder(busy)
    delivery = world.add(recorder)
    world.put("a")
    world.put("b")
    world.put("c", "d")
    assert recorder.piles == [["a"]]
    assert delivery.lag_frames() == 4
    busy.callback(None)
    assert recorder.piles == [["a"], ["b", "c", "d"]]
    assert delivery.position == 4


def test_a_pile_is_cut_at_max_events_and_the_cursor_rests_inside_the_batch(world: World) -> None:
    waiting: list[Deferred[None]] = [Deferred(), Deferred()]
    recorder = Recorder(*waiting)
    delivery = world.add(recorder, max_events=2)
    world.put("a", "b", "c")
    waiting[0].callback(None)
    assert delivery.position == 2
    assert recorder.piles == [["a", "b"], ["c"]]
    waiting[1].callback(None)


def test_a_pile_is_cut_at_max_bytes(world: World) -> None:
    recorder = Recorder()
    world.add(recorder, max_bytes=10)
    world.put("aaaa", "bbbb", "cccc")
    assert recorder.piles == [["aaaa", "bbbb"], ["cccc"]]


def test_a_frame_over_max_bytes_goes_alone(world: World) -> None:
    recorder = Recorder()
    world.add(recorder, max_bytes=3)
    world.put("aaaa", "bbbb")
    assert recorder.piles == [["aaaa"], ["bbbb"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_every_frame_comes_once_and_in_order_whatever_the_limit(world: World, limit: int) -> None:
    recorder = Recorder()
    world.add(recorder, max_events=limit)
    for number in range(1, 7):
        world.put(*(f"{number}-{line}" for line in range(number)))
    assert recorder.done == [f"{number}-{line}" for number in range(1, 7) for line in range(number)]
    assert all(len(pile) <= limit for pile in recorder.piles)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_handler_of_frames_gets_parts_of_batches(world: World, limit: int) -> None:
    recorder = Recorder(wants="frames")
    world.add(recorder, max_events=limit)
    world.put("a", "b", "c", "d")
    world.put("e")
    assert recorder.done == ["a", "b", "c", "d", "e"]
    assert all(len(pile) <= limit for pile in recorder.piles)


def test_other_listeners_frames_only_move_the_cursor(world: World) -> None:
    recorder = Recorder()
    delivery = world.add(recorder, listeners=["wanted"])
    world.put("a", listener="other")
    world.put("b", listener="wanted")
    world.put("c", listener="other")
    assert recorder.piles == [["b"]]
    assert delivery.counters.passed == 3
    assert delivery.counters.decoded == 1


def test_what_match_keeps_away_is_counted_as_filtered(world: World) -> None:
    recorder = Recorder()
    delivery = world.add(recorder, select=Pipeline('message != "b"', []))
    world.put("a", "b", "c")
    world.put("b")
    assert recorder.piles == [["a", "c"]]
    assert delivery.counters.filtered == 2
    assert delivery.position == 4


def test_lanes_keep_the_order_of_one_sender_and_the_next_pile_waits_for_all(world: World) -> None:
    first, second = Deferred[None](), Deferred[None]()
    recorder = Recorder(first, second)
    world.add(recorder, concurrency=2)
    world.put("a1", "b1", "a2", peers=["a", "b", "a"])
    assert recorder.piles == [["a1", "a2"], ["b1"]]
    world.put("c")
    first.callback(None)
    assert len(recorder.piles) == 2
    second.callback(None)
    assert recorder.piles[2] == ["c"]


def test_events_are_decoded_once_for_all_handlers(world: World) -> None:
    decoded: list[int] = []
    inner = world.decoder.decode

    class Counting:
        def decode(self, batch: Any) -> Any:
            decoded.append(len(batch.frames))
            return inner(batch)

    world.decoder = Counting()  # type: ignore[assignment]  # a stand-in with the one method that counts
    for name in ("one", "two", "three"):
        world.add(Recorder(), name=name)
    world.put("a", "b")
    assert decoded == [2]


def test_a_slow_handler_delays_no_other(world: World) -> None:
    stuck: Deferred[None] = Deferred()
    quick = Recorder()
    slow = world.add(Recorder(stuck), name="slow")
    world.add(quick, name="quick")
    for number in range(10):
        world.put(str(number))
    assert quick.done == [str(number) for number in range(10)]
    stuck.callback(None)
    assert slow.position == 10


def test_a_sync_handler_that_takes_its_time_lets_others_in_between(world: World) -> None:
    """After its slice of 10 ms a handler waits for a turn of the reactor."""

    class Slow(Recorder):
        def handle(self, pile: list[Any]) -> None:
            super().handle(pile)
            world.clock.rightNow += 0.02

    recorder = Slow()
    world.add(recorder, max_events=1)
    world.put("a", "b", "c")
    assert recorder.done == ["a"]
    assert [call.getTime() for call in world.clock.getDelayedCalls()] == [world.clock.seconds()]
    world.clock.advance(0)
    assert recorder.done == ["a", "b", "c"]


def test_piles_are_sized_so_that_a_call_takes_about_ten_milliseconds(world: World) -> None:
    class PerEvent(Recorder):
        def handle(self, pile: list[Any]) -> None:
            super().handle(pile)
            world.clock.rightNow += 0.001 * len(pile)

    recorder = PerEvent()
    world.add(recorder)
    world.put(*map(str, range(500)))
    for _ in range(100):
        world.clock.advance(0)
    assert len(recorder.done) == 500
    assert len(recorder.piles[0]) == 64
    assert all(5 <= len(pile) <= 20 for pile in recorder.piles[1:-1])


def test_after_a_call_that_took_very_long_piles_grow_again(world: World) -> None:
    """A machine that stood still for a moment: piles of one must not stay."""

    class Once(Recorder):
        def handle(self, pile: list[Any]) -> None:
            super().handle(pile)
            world.clock.rightNow += 0.0 if len(self.piles) > 1 else 5.0

    recorder = Once()
    world.add(recorder)
    world.put(*map(str, range(1000)))
    for _ in range(20):
        world.clock.advance(0)
    assert len(recorder.done) == 1000
    assert len(recorder.piles[1]) == 1
    assert max(map(len, recorder.piles)) >= 128


def test_a_decoder_that_raises_loses_nothing(world: World, logged_failures: Any) -> None:
    class Broken:
        def decode(self, batch: Any) -> Any:
            raise RuntimeError("oops")

    world.decoder = Broken()  # type: ignore[assignment]  # the bug that is planted
    recorder = Recorder()
    world.add(recorder)
    world.put("a", "b")
    assert recorder.done == ["a", "b"]
    assert logged_failures(RuntimeError)


def test_drain_fires_when_nothing_is_left(world: World) -> None:
    busy: Deferred[None] = Deferred()
    delivery = world.add(Recorder(busy))
    world.put("a")
    fired: list[None] = []
    delivery.drain().addCallback(fired.append)
    assert not fired
    assert delivery.lost() == 1
    busy.callback(None)
    assert fired == [None]
    assert delivery.lost() == 0


def test_stop_cancels_the_running_call_and_loses_its_frames(world: World) -> None:
    cancelled: list[Deferred[None]] = []
    busy: Deferred[None] = Deferred(cancelled.append)
    delivery = world.add(Recorder(busy))
    world.put("a")
    delivery.stop()
    assert cancelled == [busy]
    assert delivery.lost() == 1
    assert not world.clock.getDelayedCalls()
    delivery.counters.decoded = 0  # what is in flight at a stop is in no sum


def test_a_batch_without_frames_changes_nothing(world: World) -> None:
    world.add(Recorder())
    world.put("a")
    assert world.put() == 1


def test_batches_of_several_senders_share_one_lane(world: World) -> None:
    waits: list[Deferred[None]] = [Deferred(), Deferred()]
    recorder = Recorder(*waits, wants="frames")
    world.add(recorder, concurrency=4)
    world.put("first")
    world.put("A1", "B1", peers=["a", "b"])
    world.put("B2", peers=["b"])
    waits[0].callback(None)
    assert recorder.piles == [["first"], ["A1", "B1", "B2"]]
    waits[1].callback(None)


def test_no_lane_is_called_after_a_stop(world: World) -> None:
    class Stopping(Recorder):
        def handle(self, pile: list[Any]) -> None:
            super().handle(pile)
            delivery.stop()

    recorder = Stopping()
    delivery = world.add(recorder, concurrency=4)
    world.put("a", "b", peers=["a", "b"])
    assert recorder.piles == [["a"]]
    assert not world.clock.getDelayedCalls()
    delivery.counters.decoded = delivery.counters.delivered = 0  # what is in flight at a stop is in no sum


def test_frames_of_other_listeners_between_two_in_flight_are_counted_once(world: World) -> None:
    """Also where the first of the two expires meanwhile."""
    first, second = Deferred[None](), Deferred[None]()
    recorder = Recorder(first, second)
    delivery = world.add(recorder, listeners=["a"], when_full="drop_oldest")
    for listener in "ababa":
        world.put(f"{listener}1", f"{listener}2", listener=listener)
    first.callback(None)
    assert [len(pile) for pile in recorder.piles] == [2, 4]
    delivery.expire_oldest()
    second.callback(None)
    assert (delivery.counters.passed, delivery.passed_since_start()) == (10, 10)
    world.check()


def test_a_step_that_raises_stalls_its_own_handler_only_and_loses_nothing() -> None:
    world = World()
    ill = [True]

    def step(events: Any) -> Any:
        if ill and any(event.message == "poison" for event in events):
            raise RuntimeError("no such field")
        return list(events)

    stalled, other = Recorder(), Recorder()
    delivery = world.add(stalled, name="stalled", select=step, start=False)
    world.add(other, name="other")
    for line in ("good", "poison", "later"):
        world.put(line)
    delivery.start()
    assert other.done == ["good", "poison", "later"]
    assert stalled.done == []
    assert delivery.unwell == "its events cannot be made: no such field"
    ill.clear()
    world.clock.advance(1)
    assert stalled.done == ["good", "poison", "later"]
    assert delivery.unwell is None
    world.check()
