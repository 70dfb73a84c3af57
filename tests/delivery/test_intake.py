"""The gate before the journal: bounds, pauses, acknowledgements."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from eventserver.errors import Expired, Stopped
from eventserver.event import size_of
from eventserver.intake import MOST_GONE
from tests.conftest import LoggedFailures

from .world import Recorder, World


class Listener:
    """Notes what the intake tells listeners."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


@pytest.fixture
def world() -> Any:
    world = World(max_bytes=10_000)
    yield world
    world.check()


def stuck() -> tuple[Recorder, Deferred[None]]:
    waits: Deferred[None] = Deferred()
    return Recorder(waits), waits


def fill(world: World, until: float) -> None:
    while world.journal.size < until:
        assert world.put("x" * 500) is not None


def test_listeners_pause_near_the_bound_and_resume_when_it_has_been_emptied(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]  # only what the intake calls
    recorder, waits = stuck()
    world.add(recorder, max_lag=1_000_000)
    fill(world, 7_000)
    assert listener.told == []
    fill(world, 8_000)
    assert listener.told == ["pause"]
    assert world.put("x" * 500) is not None
    waits.callback(None)
    assert listener.told == ["pause", "resume"]


def test_a_batch_that_does_not_fit_is_refused_and_nothing_is_lost(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder, max_lag=1_000_000)
    taken = 0
    while world.put("x" * 500) is not None:
        taken += 1
    assert world.intake.paused
    assert world.journal.size <= 10_000
    waits.callback(None)
    assert len(recorder.done) + 1 == taken
    assert not world.intake.paused


def test_a_batch_larger_than_the_journal_is_taken_by_an_empty_one(world: World) -> None:
    recorder = Recorder()
    world.add(recorder)
    assert world.put("x" * 20_000) == 1
    assert len(recorder.done) == 1


def test_a_handler_that_is_max_lag_behind_pauses_listeners(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]
    recorder, waits = stuck()
    world.add(recorder, max_lag=2_000)
    fill(world, 1_900)
    assert listener.told == ["pause"]
    waits.callback(None)
    assert listener.told == ["pause", "resume"]


def test_drop_oldest_moves_only_this_handlers_cursor(world: World) -> None:
    recorder, waits = stuck()
    lossy = world.add(recorder, name="lossy", when_full="drop_oldest", max_lag=2_000)
    other = Recorder()
    whole = world.add(other, name="whole")
    for number in range(20):
        world.put(f"{number:0500}")
    assert not world.intake.paused
    assert len(other.done) == 20
    assert whole.counters.expired == 0
    waits.callback(None)
    assert lossy.counters.expired > 0
    assert lossy.counters.passed + lossy.counters.expired == 20
    assert recorder.done == [f"{number:0500}" for number in range(1 + lossy.counters.expired, 20)]


def test_a_full_journal_asks_first_whoever_holds_its_oldest_batch(world: World) -> None:
    """The lossy handler gives up its oldest; the blocking one, which is at the head, is not asked."""
    recorder, waits = stuck()
    lossy = world.add(recorder, name="lossy", when_full="drop_oldest", max_lag=1_000_000)
    world.add(Recorder(), name="whole")
    for _ in range(40):
        assert world.put("x" * 500) is not None
    assert not world.intake.paused
    assert lossy.counters.expired > 0
    waits.callback(None)


class Acks:
    """Collects acknowledgements in the order in which they come."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []

    def expect(self, world: World, position: int | None, level: Any = "delivered", **options: Any) -> None:
        assert position is not None

        def done(failure: Failure | None) -> None:
            self.seen.append((position, failure and failure.type))

        world.intake.watch(level, position, done, **options)


def test_memory_is_acknowledged_at_once(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder)
    acks = Acks()
    acks.expect(world, world.put("a"), "memory")
    assert acks.seen == [(1, None)]
    waits.callback(None)


def test_durable_is_refused_by_a_journal_in_memory(world: World) -> None:
    with pytest.raises(ValueError, match="never durable"):
        Acks().expect(world, 1, "durable")


def test_delivered_waits_for_every_handler_in_the_order_of_positions(world: World) -> None:
    one, waits_one = stuck()
    two, waits_two = stuck()
    world.add(one, name="one")
    world.add(two, name="two")
    acks = Acks()
    positions = [world.put("a"), world.put("b"), world.put("c")]
    for position in (positions[2], positions[0], positions[1]):
        acks.expect(world, position)
    waits_two.callback(None)
    assert acks.seen == []
    waits_one.callback(None)
    assert acks.seen == [(1, None), (2, None), (3, None)]


def test_what_is_settled_already_is_acknowledged_before_watch_returns(world: World) -> None:
    world.add(Recorder())
    acks = Acks()
    acks.expect(world, world.put("a"))
    assert acks.seen == [(1, None)]


def test_handlers_that_are_not_required_are_not_waited_for(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder, required_for_ack=False)
    acks = Acks()
    acks.expect(world, world.put("a"))
    assert acks.seen == [(1, None)]
    waits.callback(None)


def test_what_one_listener_raises_costs_no_other_its_promise(world: World, logged_failures: LoggedFailures) -> None:
    told: list[Any] = []

    def bad(failure: Failure | None) -> None:
        raise ValueError("a mistake in a listener")

    stays, call = stuck()
    world.add(stays)
    position = world.put("a")
    assert position is not None
    for done in (bad, told.append, bad, told.append):
        world.intake.watch("delivered", position, done)
    call.callback(None)
    assert told == [None, None]
    for done in (bad, told.append):
        world.intake.watch("delivered", position + 9, done)
    world.intake.stop()
    assert [type(one) for one in told] == [type(None), type(None), Failure]
    assert len(logged_failures(ValueError)) == 3


def test_a_watch_may_be_narrowed_to_some_handlers(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder, name="slow")
    world.add(Recorder(), name="quick")
    acks = Acks()
    acks.expect(world, world.put("a"), handlers=["quick"])
    assert acks.seen == [(1, None)]
    waits.callback(None)


def test_filtered_parked_and_dead_events_count_as_settled(world: World) -> None:
    world.add(Recorder(bad={"b": ValueError()}), select=lambda events: [e for e in events if e.message != "a"])
    acks = Acks()
    acks.expect(world, world.put("a", "b"))
    assert acks.seen == [(2, None)]
    world.deliveries[0].stop()


def test_what_was_given_up_is_not_acknowledged(world: World) -> None:
    """Not even what is in flight at that moment: nobody can promise it any more."""
    recorder, waits = stuck()
    world.add(recorder, when_full="drop_oldest", max_lag=2_000)
    acks = Acks()
    first = world.put("first")
    acks.expect(world, first)
    fill(world, 1_300)
    assert acks.seen == []
    world.put("y" * 500)
    assert acks.seen == [(first, Expired)]
    waits.callback(None)


def test_a_stop_breaks_what_is_left_of_the_promises(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder)
    acks = Acks()
    acks.expect(world, world.put("a"))
    world.intake.stop()
    assert acks.seen == [(1, Stopped)]
    assert world.put("b") is None
    waits.callback(None)


def test_a_handler_that_is_removed_is_waited_for_no_more(world: World) -> None:
    recorder, _ = stuck()
    delivery = world.add(recorder, name="gone")
    world.add(Recorder(), name="stays")
    acks = Acks()
    acks.expect(world, world.put("a"))
    assert acks.seen == []
    delivery.stop()
    world.deliveries.remove(delivery)
    world.journal.drop_reader("gone")
    world.intake.remove_consumer("gone")
    assert acks.seen == [(1, None)]
    assert world.journal.size == 0


@pytest.mark.parametrize("handlers", [["gone"], ["gone", "quick"], []])
def test_a_handler_that_is_not_there_counts_as_settled(world: World, handlers: list[str]) -> None:
    """A listener may have kept the name of one that has been removed since; nobody else is waited for instead."""
    recorder, waits = stuck()
    world.add(recorder, name="slow")
    world.add(Recorder(), name="quick")
    delivery = world.add(Recorder(), name="gone")
    acks = Acks()
    first, second = world.put("a"), world.put("b")
    acks.expect(world, first, handlers=handlers)
    delivery.stop()
    world.deliveries.remove(delivery)
    world.journal.drop_reader("gone")
    world.intake.remove_consumer("gone")
    acks.expect(world, second, handlers=handlers)
    assert acks.seen == [(1, None), (2, None)]
    acks.expect(world, second, handlers=["gone", "slow"])
    assert len(acks.seen) == 2
    waits.callback(None)
    assert acks.seen[2:] == [(2, None)]


def test_a_listener_that_acknowledges_inside_done_may_put_again(world: World) -> None:
    """Acknowledging lets a client send more: `done` puts, and its own watch is settled in turn."""
    recorder, waits = stuck()
    world.add(recorder)
    seen: list[int] = []

    def done(failure: Failure | None) -> None:
        seen.append(len(seen))
        if len(seen) < 3:
            position = world.put("more")
            assert position is not None
            world.intake.watch("delivered", position, done)

    position = world.put("a")
    assert position is not None
    world.intake.watch("delivered", position, done)
    waits.callback(None)
    assert seen == [0, 1, 2]


def test_the_bound_counts_what_python_needs_for_each_frame(world: World) -> None:
    assert size_of(world.batch("abc", "de")) == 5 + 2 * 41 + 400


def test_what_only_lossy_handlers_hold_does_not_keep_listeners_paused(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]
    hung, waits_hung = stuck()
    slow, waits_slow = stuck()
    world.add(hung, name="lossy", when_full="drop_oldest", max_lag=9_000)
    world.add(slow, name="whole", max_lag=1_000_000)
    fill(world, 8_000)
    assert listener.told == ["pause"]
    waits_slow.callback(None)
    assert listener.told == ["pause", "resume"]
    waits_hung.callback(None)


def test_listeners_resume_when_the_handler_that_filled_the_journal_is_removed(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]
    recorder, _ = stuck()
    delivery = world.add(recorder, max_lag=1_000_000)
    fill(world, 8_000)
    delivery.stop()
    world.deliveries.remove(delivery)
    world.journal.drop_reader("h")
    world.intake.remove_consumer("h")
    assert listener.told == ["pause", "resume"]


def test_the_next_listener_stays_paused_when_the_first_one_fills_the_journal_again(world: World) -> None:
    class Eager(Listener):
        def resume(self) -> None:
            super().resume()
            if self.told.count("resume") == 1:
                fill(world, 8_000)

    eager, other = Eager(), Listener()
    world.intake.add_listener(eager)  # type: ignore[arg-type]
    world.intake.add_listener(other)  # type: ignore[arg-type]
    waits: list[Deferred[None]] = [Deferred(), Deferred()]
    world.add(Recorder(*waits), max_lag=1_000_000)
    fill(world, 8_000)
    # The first call held one batch; with the second one all the others are done.
    waits[0].callback(None)
    assert other.told == ["pause"]
    world.deliveries[0].handler.plan.append(Deferred())  # type: ignore[attr-defined]  # the recorder's
    waits[1].callback(None)
    assert eager.told == ["pause", "resume", "pause"]
    assert "resume" not in other.told
    assert world.intake.paused
    world.deliveries[0].stop()
    world.deliveries.clear()


def test_nobody_is_told_delivered_by_what_another_one_does_when_it_is_told_expired(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder, name="h", when_full="drop_oldest", max_lag=1_000_000)
    world.add(Recorder(), name="g")
    position = world.put("a")
    world.put("b")
    assert position is not None
    seen: list[Any] = []

    def first(failure: Failure | None) -> None:
        seen.append(("h alone", failure and failure.type))
        world.put("more")

    world.intake.watch("delivered", position, first, ["h"])
    world.intake.watch("delivered", position, lambda failure: seen.append(("all", failure and failure.type)))
    world.deliveries[0].expire_oldest()
    world.deliveries[0].expire_oldest()
    assert seen == [("h alone", Expired), ("all", Expired)]
    waits.callback(None)


def test_what_was_given_up_long_ago_is_never_acknowledged(world: World) -> None:
    """Also after much else was given up; what lies between too many such stretches is sent again rather than lost."""
    world.add(Recorder(), name="h")
    position = 0
    for _ in range(MOST_GONE):
        position = world.put("a") or 0
        world.put("b")
        world.intake.expired("h", position - 1, position)
    acks = Acks()
    for asked in (1, 2, 3, position):
        acks.expect(world, asked)
    assert acks.seen == [(1, Expired), (2, None), (3, Expired), (position, Expired)]
    for _ in range(3 * MOST_GONE):
        position = world.put("a") or 0
        world.put("b")
        world.intake.expired("h", position - 1, position)
    acks = Acks()
    for asked in (1, position - 2, position - 1, position):
        acks.expect(world, asked)
    assert acks.seen == [(1, Expired), (position - 2, Expired), (position - 1, None), (position, Expired)]
    world.intake.expired("h", position, position + 5)
    assert len(world.intake._gone["h"]) == MOST_GONE


def test_a_batch_that_its_own_put_gave_up_is_not_acknowledged(world: World) -> None:
    recorder, waits = stuck()
    world.add(recorder, when_full="drop_oldest", max_lag=1_000)
    acks = Acks()
    for text in "xy":
        acks.expect(world, world.put(text * 1200))
    assert acks.seen == [(1, Expired), (2, Expired)]
    waits.callback(None)
