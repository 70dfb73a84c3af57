"""One handler's loop on bad days: retries, culprits, parking, dead letters, time limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred

from eventserver.delivery import RetryOptions
from eventserver.errors import NotAttempted, PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.interfaces import Parked
from eventserver.options import Duration

from .world import Recorder, World


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.check()


def dead(world: World, name: str = "h") -> list[Parked]:
    return [one for one in world.journal.parked(name) if one.next_attempt is None]


@pytest.mark.parametrize(
    "failure", [TemporaryFailure("busy"), ConnectionRefusedError(), error.ConnectionLost(), error.DNSLookupError()]
)
def test_a_destination_that_is_unwell_gets_the_same_pile_again(world: World, failure: Exception) -> None:
    recorder = Recorder(failure, failure)
    delivery = world.add(recorder)
    world.put("a", "b")
    assert delivery.unwell is not None
    assert delivery.position == 0
    world.clock.advance(1)
    assert recorder.piles == [["a", "b"], ["a", "b"]]
    world.clock.advance(1.9)
    assert len(recorder.piles) == 2
    world.clock.advance(0.1)
    assert recorder.done == ["a", "b"]
    assert delivery.unwell is None
    assert delivery.counters.redelivered == 4
    assert delivery.counters.dead_lettered == 0


def test_waits_grow_to_the_longest_and_start_anew_after_a_success(world: World) -> None:
    recorder = Recorder(*[TemporaryFailure()] * 8)
    world.add(recorder, retry=RetryOptions(initial_interval=Duration(1), max_interval=Duration(4)))
    world.put("a")
    for wait in (1, 2, 4, 4, 4, 4, 4, 4):
        assert not recorder.done
        world.clock.advance(wait)
    assert recorder.done == ["a"]
    recorder.plan = [TemporaryFailure()]
    world.put("b")
    world.clock.advance(1)
    assert recorder.done == ["a", "b"]


def test_the_destination_says_when_to_come_again(world: World) -> None:
    recorder = Recorder(TemporaryFailure("full", retry_after=30))
    world.add(recorder)
    world.put("a")
    world.clock.advance(29)
    assert not recorder.done
    world.clock.advance(1)
    assert recorder.done == ["a"]


def test_a_permanent_failure_is_a_dead_letter_at_once(world: World) -> None:
    delivery = world.add(Recorder(PermanentFailure("never")))
    world.put("a", "b")
    assert [letter.event.message for letter in dead(world)] == ["a", "b"]
    assert delivery.counters.dead_lettered == 2
    assert delivery.position == 2


def test_the_culprit_is_found_and_parked_and_the_rest_goes_on(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("bad b")})
    delivery = world.add(recorder)
    world.put("a", "b", "c")
    assert recorder.piles == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert recorder.done == ["a", "c"]
    assert delivery.position == 3
    assert delivery.counters.parked == 1
    world.put("d")
    assert recorder.done == ["a", "c", "d"]


def test_a_parked_event_is_tried_apart_and_delivered_when_it_can_be(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("not yet")})
    delivery = world.add(recorder)
    world.put("a", "b")
    recorder.bad.clear()
    world.clock.advance(1)
    assert recorder.done == ["a", "b"]
    assert delivery.counters.parked == 0
    assert world.journal.parked("h") == []


def test_a_parked_event_is_dead_after_max_attempts_with_its_whole_story(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("bad b")})
    delivery = world.add(recorder, retry=RetryOptions(max_attempts=3, initial_interval=Duration(1)))
    start = world.now()
    world.put("b")
    world.clock.advance(1)
    world.clock.advance(2)
    (letter,) = dead(world)
    assert letter.attempts == 3
    assert letter.error == "ValueError: bad b"
    assert "in handle" in letter.traceback
    assert letter.frame == b"b"
    assert (letter.first_attempt, letter.last_attempt) == (start, world.now())
    assert delivery.counters.dead_lettered == 1
    assert delivery.counters.parked == 0
    world.clock.advance(1000)
    assert len(recorder.piles) == 3


def test_a_partial_failure_names_events_and_the_others_are_done(world: World) -> None:
    class Partial(Recorder):
        def handle(self, pile: list[Any]) -> None:
            texts = {event.message: event.id for event in pile}
            self.piles.append(list(texts))
            errors: dict[str, BaseException] = {
                "dead": PermanentFailure("no"),
                "later": TemporaryFailure("soon"),
                "odd": ValueError("odd"),
            }
            raise PartialFailure({texts[text]: errors[text] for text in texts if text in errors})

    recorder = Partial()
    delivery = world.add(recorder)
    world.put("fine", "dead", "later", "odd")
    counters = delivery.counters
    assert (counters.delivered, counters.dead_lettered, counters.parked) == (1, 1, 1)
    assert delivery.position == 0
    recorder.handle = lambda pile: recorder.piles.append(recorder.texts(pile))  # type: ignore[method-assign]  # now well
    world.clock.advance(1)
    assert recorder.piles[1:] == [["later"], ["odd"]]
    assert delivery.position == 4


def test_a_partial_failure_of_a_handler_of_frames_names_frames(world: World) -> None:
    class Partial(Recorder):
        def handle(self, pile: list[Any]) -> None:
            raise PartialFailure({pile[0].id_of(1): PermanentFailure("too large")})

    delivery = world.add(Partial(wants="frames"), max_events=3)
    world.put("a", "b", "c")
    (letter,) = dead(world)
    assert (letter.event.message, letter.frame) == ("b", b"b")
    assert delivery.counters.delivered == 2


def test_names_of_events_that_were_not_given_mean_that_any_may_have_failed(world: World) -> None:
    recorder = Recorder(PartialFailure({"nobody-0": ValueError()}), bad={"b": ValueError()})
    delivery = world.add(recorder)
    world.put("a", "b")
    assert recorder.piles == [["a", "b"], ["a"], ["b"]]
    assert (delivery.counters.delivered, delivery.counters.parked) == (1, 1)


def test_a_hundred_parked_in_a_row_mean_that_the_destination_is_unwell(world: World) -> None:
    """Nothing more is parked, nothing is dead-lettered, and a few events at a time show when all is well again."""
    recorder = Recorder()
    recorder.bad = {str(number): ValueError("down") for number in range(300)}
    delivery = world.add(recorder, retry=RetryOptions(max_attempts=2, initial_interval=Duration(1)))
    world.put(*map(str, range(300)))
    settle(world)
    assert delivery.counters.parked == 100
    assert delivery.unwell is not None
    for _ in range(50):
        calls = len(recorder.piles)
        world.clock.advance(60)
        settle(world)
        assert len(recorder.piles) <= calls + 100
    assert delivery.counters.dead_lettered == 0
    recorder.bad.clear()
    for _ in range(50):
        world.clock.advance(60)
        settle(world)
    assert sorted(map(int, recorder.done)) == list(range(300))
    assert delivery.counters.parked == 0
    assert delivery.unwell is None


def settle(world: World) -> None:
    """Let every turn of the reactor that is due have its time."""
    while any(call.getTime() <= world.clock.seconds() for call in world.clock.getDelayedCalls()):
        world.clock.advance(0)


@pytest.mark.parametrize("together", [True, False])
def test_many_bad_events_in_a_row_stop_the_good_ones_behind_them_only_for_a_while(world: World, together: bool) -> None:
    recorder = Recorder(bad={f"bad{number}": ValueError("poison") for number in range(400)})
    delivery = world.add(recorder)
    lines = [f"bad{number}" for number in range(400)]
    if together:
        world.put(*lines)
    else:
        for line in lines:
            world.put(line)
    for number in range(300):
        world.clock.advance(10)
        world.put(f"good{number}")
        world.clock.advance(1)
        settle(world)
        assert recorder.done[-1:] == [f"good{number}"]
    assert recorder.done == [f"good{number}" for number in range(300)]
    for _ in range(10):
        world.clock.advance(300)
    settle(world)
    assert delivery.counters.dead_lettered == 400
    assert delivery.unwell is None
    assert delivery.position == 700


def test_what_waits_is_not_lost_when_nothing_newer_can_be_made_to_try(world: World) -> None:
    """The newest events are tried first: a step that raises for one of them must not cost those that wait."""
    ill = [True]

    def step(events: Any) -> Any:
        if ill and any(event.message == "poison" for event in events):
            raise RuntimeError("no such field")
        return list(events)

    recorder = Recorder(bad={f"bad{number}": ValueError("down") for number in range(120)})
    delivery = world.add(recorder, select=step)
    world.put(*recorder.bad)
    settle(world)
    world.put("good", "poison")
    for _ in range(10):
        world.clock.advance(1)
        settle(world)
    assert delivery.position < 120
    assert recorder.done == []
    ill.clear()
    recorder.bad.clear()
    for _ in range(10):
        world.clock.advance(60)
        settle(world)
    assert sorted(recorder.done) == sorted([*(f"bad{number}" for number in range(120)), "good", "poison"])
    assert delivery.position == 122


def test_bad_events_between_good_ones_do_not_make_the_destination_unwell(world: World) -> None:
    class Partial(Recorder):
        def handle(self, pile: list[Any]) -> None:
            bad = {event.id: ValueError() for event in pile if event.message.startswith("bad")}
            self.done += [event.message for event in pile if event.id not in bad]
            if bad:
                raise PartialFailure(bad)

    recorder = Partial()
    delivery = world.add(recorder)
    for number in range(300):
        world.put(f"bad{number}", f"ok{number}")
    assert delivery.unwell is None
    assert recorder.done == [f"ok{number}" for number in range(300)]
    assert delivery.counters.parked == 300
    delivery.stop()


def test_a_full_lot_of_parked_events_empties_itself(world: World) -> None:
    recorder = Recorder(bad={f"bad{number}": ValueError() for number in range(5)})
    delivery = world.add(recorder, retry=RetryOptions(max_parked=2, initial_interval=Duration(1)))
    for number in range(5):
        world.put(f"bad{number}")
        world.put(f"ok{number}")
    assert delivery.counters.parked == 2
    assert delivery.unwell is None
    for _ in range(1000):
        world.clock.advance(10)
    assert recorder.done == [f"ok{number}" for number in range(5)]
    assert delivery.counters.dead_lettered == 5


def test_a_destination_is_well_again_when_nothing_waits_for_it_any_more(world: World) -> None:
    """Not only a success shows it: so does an event that fails for its own sake."""
    recorder = Recorder(ValueError("a"), TemporaryFailure("down"), PermanentFailure("b"))
    delivery = world.add(recorder)
    world.put("a")
    world.put("b")
    assert delivery.unwell is not None
    for _ in range(5):
        world.clock.advance(60)
    assert delivery.unwell is None
    assert recorder.done == ["a"]


def test_an_exception_that_cannot_be_shown_loses_nothing(world: World) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise AttributeError("no text")

    recorder = Recorder(Broken(), Broken(), Broken())
    delivery = world.add(recorder)
    world.put("a", "b")
    assert [one.error for one in world.journal.parked("h")] == ["Broken", "Broken"]
    world.clock.advance(10)
    world.clock.advance(10)
    assert sorted(recorder.done) == ["a", "b"]
    assert delivery.counters.delivered == 2


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()])
def test_an_exception_that_is_meant_for_someone_else_is_a_failure_like_any_other(
    world: World, error: BaseException
) -> None:
    class Leaving(Recorder):
        def handle(self, pile: list[Any]) -> None:
            if self.texts(pile) == ["x"]:
                raise error
            super().handle(pile)

    recorder = Leaving()
    delivery = world.add(recorder)
    world.put("x")
    world.put("y")
    assert recorder.done == ["y"]
    assert delivery.counters.parked == 1
    delivery.stop()


def test_what_was_not_attempted_is_called_next_and_fails_nobody(world: World) -> None:
    class Walking(Recorder):
        def handle(self, pile: list[Any]) -> None:
            self.piles.append(self.texts(pile))
            if len(pile) > 2:
                rest = {event.id: NotAttempted("later") for event in pile[2:]}
                raise PartialFailure({pile[1].id: ValueError("bad"), **rest})

    recorder = Walking()
    delivery = world.add(recorder)
    world.put("a", "b", "c", "d")
    assert recorder.piles == [["a", "b", "c", "d"], ["c", "d"]]
    counters = delivery.counters
    assert (counters.delivered, counters.parked, counters.redelivered) == (3, 1, 0)
    assert delivery.unwell is None
    delivery.stop()


def test_ordered_keeps_what_was_not_attempted_behind_the_event_that_failed(world: World) -> None:
    class Walking(Recorder):
        def handle(self, pile: list[Any]) -> None:
            self.piles.append(self.texts(pile))
            if len(self.piles) == 1:
                rest = {event.id: NotAttempted("later") for event in pile[2:]}
                raise PartialFailure({pile[1].id: ValueError("bad"), **rest})

    recorder = Walking()
    world.add(recorder, ordered=True)
    world.put("a", "b", "c")
    assert recorder.piles == [["a", "b", "c"]]
    world.clock.advance(1)
    assert recorder.piles == [["a", "b", "c"], ["b"], ["c"]]


def test_a_drain_tries_once_more_what_waits_in_place(world: World) -> None:
    recorder = Recorder(TemporaryFailure("later", retry_after=3600))
    delivery = world.add(recorder)
    world.put("a")
    drained: list[None] = []
    delivery.drain().addCallback(drained.append)
    assert recorder.done == ["a"]
    assert drained == [None]


def test_a_failure_of_the_destination_after_the_time_limit_is_the_destinations(world: World) -> None:
    """A handler that is cancelled may know that it was the destination that kept it waiting."""
    stuck: Deferred[None] = Deferred(lambda deferred: deferred.errback(TemporaryFailure("nobody reads")))
    delivery = world.add(Recorder(stuck), timeout=Duration(5))
    world.put("a", "b")
    world.clock.advance(5)
    assert delivery.unwell is not None
    assert delivery.counters.parked == 0
    world.clock.advance(1)
    assert delivery.counters.delivered == 2


def test_a_call_that_does_not_end_when_it_is_cancelled_is_named(world: World) -> None:
    stuck: Deferred[None] = Deferred(lambda deferred: deferred.callback(later))
    later: Deferred[None] = Deferred()
    delivery = world.add(Recorder(stuck), timeout=Duration(5))
    stuck.addCallback(lambda result: result)
    world.put("a")
    world.clock.advance(5)
    world.clock.advance(1)
    assert delivery.unwell is not None
    assert "does not end" in delivery.unwell
    later.callback(None)
    assert delivery.unwell is None
    assert delivery.counters.delivered == 1


def test_ordered_waits_in_place_and_gives_up_after_max_attempts(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError("bad b")})
    delivery = world.add(recorder, ordered=True, retry=RetryOptions(max_attempts=3, initial_interval=Duration(1)))
    world.put("a", "b", "c")
    world.put("d")
    assert recorder.done == ["a"]
    world.clock.advance(1)
    world.clock.advance(2)
    assert recorder.done == ["a", "c", "d"]
    assert [letter.event.message for letter in dead(world)] == ["b"]
    assert delivery.counters.parked == 0


def test_a_call_over_its_time_is_cancelled_and_concerns_its_events(world: World) -> None:
    stuck: Deferred[None] = Deferred()
    recorder = Recorder(stuck)
    delivery = world.add(recorder, timeout=Duration(5))
    world.put("a", "b")
    world.clock.advance(5)
    assert stuck.called
    assert recorder.done == ["a", "b"]
    assert delivery.counters.failures == {"timeout": 1}


def test_a_single_event_that_takes_too_long_is_parked(world: World) -> None:
    delivery = world.add(Recorder(Deferred(), Deferred()), timeout=Duration(5))
    world.put("a")
    world.clock.advance(5)
    assert delivery.counters.parked == 1
    assert "took longer than 5 s" in world.journal.parked("h")[0].error
    world.clock.advance(1)
    world.clock.advance(5)
    world.clock.advance(2)
    assert delivery.counters.delivered == 1


def test_no_second_thread_is_started_while_one_runs_past_its_time(world: World) -> None:
    recorder = Recorder(Deferred())
    world.add(recorder, timeout=Duration(5))
    world.put("a", "b")
    recorder.busy = True  # type: ignore[attr-defined]  # as a handler with `thread = true` has it
    world.clock.advance(5)
    world.clock.advance(5)
    assert len(recorder.piles) == 1
    assert "does not end" in (world.deliveries[0].unwell or "")
    recorder.busy = False  # type: ignore[attr-defined]
    world.clock.advance(0.25)
    assert recorder.done == ["a", "b"]
    assert world.deliveries[0].unwell is None


def test_a_handler_that_times_itself_and_is_stuck_is_named(world: World) -> None:
    call: Deferred[None] = Deferred()
    delivery = world.add(Recorder(call))
    world.put("a")
    assert delivery.unwell is None
    delivery.counters.overdue += 1
    assert "does not end" in (delivery.unwell or "")
    delivery.counters.overdue -= 1
    call.callback(None)
    assert delivery.unwell is None


def test_one_lane_that_fails_costs_the_others_nothing(world: World) -> None:
    recorder = Recorder(None, TemporaryFailure())
    delivery = world.add(recorder, concurrency=2)
    world.put("a", "b", peers=["a", "b"])
    assert recorder.done == ["a"]
    assert delivery.position == 0
    world.clock.advance(1)
    assert recorder.done == ["a", "b"]
    assert delivery.position == 2


def test_a_drain_gives_parked_events_one_more_attempt(world: World) -> None:
    recorder = Recorder(bad={"b": ValueError()})
    delivery = world.add(recorder)
    world.put("b")
    drained: list[None] = []
    delivery.drain().addCallback(drained.append)
    world.clock.advance(0)
    assert drained == [None]
    assert len(recorder.piles) == 2
    assert delivery.lost() == 1
    delivery.stop()


def test_parked_events_survive_their_loop(world: World) -> None:
    """What the journal kept is tried again by the next loop with the same name."""
    first = world.add(Recorder(bad={"b": ValueError()}))
    world.put("b")
    first.stop()
    world.deliveries.remove(first)
    recorder = Recorder()
    second = world.add(recorder)
    assert second.counters.parked_at_start == 1
    world.clock.advance(1)
    assert recorder.done == ["b"]


def test_dead_letters_in_memory_are_bounded_and_the_oldest_go_first(world: World) -> None:
    forgotten: list[str] = []
    world.journal._log_forgotten = lambda parked: forgotten.append(parked.event.message)
    world.add(Recorder(bad={text: PermanentFailure() for text in "abc"}))
    world.put("a")
    # How long a traceback is depends on the version of Python.
    world.journal.max_parked_bytes = world.journal.info()["parked_bytes"] * 5 // 2
    world.put("b")
    world.put("c")
    assert [letter.event.message for letter in dead(world)] == ["b", "c"]
    assert forgotten == ["a"]
    assert world.journal.forgotten == 1


def test_what_waits_for_room_keeps_one_timer_and_its_backoff(world: World) -> None:
    calls: list[float] = []

    class Bad(Recorder):
        def handle(self, pile: list[Any]) -> None:
            if self.texts(pile) == ["b"]:
                calls.append(world.clock.seconds())
            raise ValueError("bad")

    retry = RetryOptions(max_parked=1, initial_interval=Duration(1), max_interval=Duration(64), max_attempts=50)
    delivery = world.add(Bad(), retry=retry)
    world.put("a")
    world.put("b")
    for _ in range(40):
        world.clock.advance(0.25)
    assert calls == [0, 1, 3, 7]
    delivery.stop()
    assert not world.clock.getDelayedCalls()
    delivery.counters.decoded -= 1  # "b" is in flight at the stop, which is in no sum


def test_a_parked_event_whose_call_ends_late_is_tried_again_without_news(world: World) -> None:
    late: Deferred[None] = Deferred()
    stuck: Deferred[None] = Deferred()
    stuck.addErrback(lambda failure: late.addCallback(lambda _: failure))
    recorder = Recorder(ValueError("first"), stuck)
    delivery = world.add(recorder, timeout=Duration(5))
    world.put("a")
    for _ in range(8):
        world.clock.advance(1)
    assert delivery.unwell is not None
    late.callback(None)
    assert delivery.unwell is None
    world.clock.advance(60)
    assert recorder.done == ["a"]


def test_a_probe_that_was_not_attempted_is_not_lost(world: World) -> None:
    class Down(Recorder):
        down = True
        skips = False

        def handle(self, pile: list[Any]) -> None:
            if self.down and self.skips and len(pile) == 1 and pile[0].id not in self.skipped:
                self.skipped.add(pile[0].id)
                raise PartialFailure({pile[0].id: NotAttempted("later")})
            if self.down:
                raise ValueError("down")
            self.done += self.texts(pile)

        def __init__(self) -> None:
            super().__init__()
            self.skipped: set[str] = set()

    recorder = Down()
    world.add(recorder)
    lines = [f"m{number}" for number in range(105)]
    world.put(*lines[:60])
    world.put(*lines[60:])
    settle(world)
    recorder.skips = True
    for _ in range(60):
        world.clock.advance(1)
    recorder.down = False
    for _ in range(600):
        world.clock.advance(1)
    assert sorted(set(recorder.done)) == sorted(lines)


def test_what_expires_while_newer_events_are_tried_is_counted_once(world: World) -> None:
    recorder = Recorder()
    recorder.bad = {f"m{number}": ValueError("down") for number in range(101)}
    retry = RetryOptions(initial_interval=Duration(60), max_interval=Duration(60))
    delivery = world.add(recorder, when_full="drop_oldest", max_events=1, retry=retry)
    for number in range(101):
        world.put(f"m{number}")
    for number in range(5):
        world.put(f"n{number}")
    for _ in range(3):
        delivery.expire_oldest()
    recorder.bad.clear()
    for _ in range(400):
        world.clock.advance(1)
    assert delivery.position == 106
    assert delivery.counters.expired == 2
    assert recorder.done[-3:] != []


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_a_lane_that_succeeds_does_not_hide_that_the_destination_is_unwell(world: World, order: list[str]) -> None:
    gate: Deferred[None] = Deferred()
    recorder = Recorder(gate, bad={"a": TemporaryFailure("down")})
    delivery = world.add(recorder, concurrency=2)
    world.put("first")
    for peer in order:
        world.put(peer, peers=[peer])
    gate.callback(None)
    assert delivery.unwell is not None
    recorder.bad.clear()
    world.clock.advance(60)
    assert sorted(recorder.done) == ["a", "b"]
