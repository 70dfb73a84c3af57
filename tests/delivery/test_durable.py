"""Delivery from a journal on disk: reads that wait, restarts, and dead letters that there is no room for."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.delivery import RetryOptions
from eventserver.delivery.parking import MAX_ERROR, MAX_TRACEBACK
from eventserver.errors import PermanentFailure, TemporaryFailure
from eventserver.event import Batch
from eventserver.options import Duration

from .fakejournal import FakeJournal
from .world import Recorder, World


@pytest.fixture
def world() -> World:
    return World(journal=FakeJournal())


def restarted(world: World) -> World:
    """What another process finds after this one was killed."""
    for delivery in world.deliveries:
        delivery.stop()
    return World(journal=FakeJournal(world.journal.crash()))


# Reads that wait


def test_entries_that_have_to_be_fetched_are_delivered_when_they_come(world: World) -> None:
    world.put("a")
    world.journal.later = True
    recorder = Recorder()
    world.journal.reader("h", 0)
    world.add(recorder)
    assert recorder.piles == []
    world.put("b")
    world.journal.fetch()
    while world.journal.reads:
        world.journal.fetch()
    assert recorder.done == ["a", "b"]
    world.check()


def test_what_is_committed_while_a_read_that_finds_nothing_is_on_its_way_is_not_forgotten(world: World) -> None:
    world.journal.later = True
    world.journal.hold = True
    recorder = Recorder()
    world.add(recorder)
    world.put("a")
    # Something wakes the loop before the commit: the read that begins now is too early.
    world.deliveries[0].wake()
    ((_, _, early),) = world.journal.reads
    world.journal.reads = []
    world.journal.commit()
    early.callback([])
    world.journal.fetch()
    assert recorder.done == ["a"]
    world.check()


def test_a_read_that_failed_is_tried_again(world: World) -> None:
    world.journal.later = True
    recorder = Recorder()
    delivery = world.add(recorder)
    world.put("a")
    world.journal.fail(OSError("disk on fire"))
    assert "disk on fire" in (delivery.unwell or "")
    world.clock.advance(1)
    world.journal.fail(OSError("still"))
    world.clock.advance(1)
    world.journal.fetch()
    assert recorder.done == ["a"]
    assert delivery.unwell is None
    world.check()
    delivery.stop()
    assert not world.clock.getDelayedCalls()


def test_what_comes_after_the_stop_is_not_delivered(world: World) -> None:
    world.journal.later = True
    recorder = Recorder()
    delivery = world.add(recorder)
    world.put("a")
    delivery.stop()
    world.journal.fetch()
    assert recorder.piles == []
    world.put("b")
    assert not world.clock.getDelayedCalls()


def test_a_read_that_fails_after_the_stop_is_not_tried_again(world: World) -> None:
    world.journal.later = True
    delivery = world.add(Recorder())
    world.put("a")
    delivery.stop()
    world.journal.fail(OSError("late"))
    assert not world.clock.getDelayedCalls()


def test_what_expires_while_it_is_fetched_is_not_delivered(world: World) -> None:
    world.journal.later = True
    recorder = Recorder()
    delivery = world.add(recorder, when_full="drop_oldest")
    world.put("a")
    world.put("b")
    delivery.expire_oldest()
    while world.journal.reads:
        world.journal.fetch()
    assert recorder.done == ["b"]
    assert delivery.counters.expired == 1
    world.check()


def test_a_drain_waits_for_what_is_fetched(world: World) -> None:
    world.journal.later = True
    recorder = Recorder()
    delivery = world.add(recorder)
    world.put("a")
    drained: list[Any] = []
    delivery.drain().addCallback(drained.append)
    assert not drained
    world.journal.fetch()
    assert (recorder.done, drained) == (["a"], [None])


# The end


def test_finishing_waits_for_the_call_that_runs_and_begins_no_other(world: World) -> None:
    call: Deferred[None] = Deferred()
    recorder = Recorder(call)
    delivery = world.add(recorder)
    world.put("a")
    world.put("b")
    over: list[Any] = []
    delivery.finish().addCallback(over.append)
    assert not over
    call.callback(None)
    assert over == [None]
    assert recorder.piles == [["a"]]
    assert delivery.position == 1
    world.put("c")
    delivery.stop()
    world.check()


@pytest.mark.parametrize("wants", ["events", "frames"])
def test_finishing_is_at_once_where_nothing_runs_and_nothing_begins_afterwards(world: World, wants: Any) -> None:
    recorder = Recorder(wants=wants)
    delivery = world.add(recorder)
    over: list[Any] = []
    delivery.finish().addCallback(over.append)
    assert over == [None]
    world.put("a")
    assert recorder.piles == []
    assert delivery.lag_frames() == 1


def test_finishing_leaves_what_failed_to_a_later_process(world: World) -> None:
    call: Deferred[None] = Deferred()
    recorder = Recorder(call)
    delivery = world.add(recorder)
    world.put("a", "b")
    over: list[Any] = []
    delivery.finish().addCallback(over.append)
    call.errback(ValueError("which one?"))
    assert over == [None]
    assert len(recorder.piles) == 1
    assert delivery.position == 0
    delivery.stop()


# Restarts


def test_a_handler_goes_on_where_it_was_and_redeliveries_have_the_same_ids(world: World) -> None:
    ids: list[list[str]] = []

    class Noting(Recorder):
        def handle(self, pile: list[Any]) -> Any:
            ids.append([event.id for event in pile])
            return super().handle(pile)

    first = Noting()
    world.add(first)
    world.put("a")
    world.journal.flush()
    world.put("b")
    # Its cursor behind "b" is not on the disk yet.
    after = restarted(world)
    second = Noting()
    after.add(second)
    assert second.done == ["b"]
    assert ids == [["B0000000000000000000000001-0"], ["B0000000000000000000000002-0"], ["B0000000000000000000000002-0"]]
    after.check()
    world.check()


def test_a_parked_event_waits_on_after_a_restart_and_the_sums_hold(world: World) -> None:
    recorder = Recorder(bad={"bad": ValueError("no")})
    world.add(recorder)
    world.put("good", "bad")
    assert world.deliveries[0].counters.parked == 1
    world.journal.flush()
    after = restarted(world)
    well = Recorder()
    delivery = after.add(well)
    assert (delivery.counters.parked, delivery.counters.parked_at_start) == (1, 1)
    assert well.done == []
    after.clock.advance(1)
    assert well.done == ["bad"]
    assert after.journal.parked("h") == []
    after.check()
    world.check()


def test_attempts_are_counted_on_after_a_restart(world: World) -> None:
    retry = RetryOptions(max_attempts=2, initial_interval=Duration(1))
    world.add(Recorder(bad={"bad": ValueError("no")}), retry=retry)
    world.put("bad")
    world.journal.flush()
    after = restarted(world)
    delivery = after.add(Recorder(bad={"bad": ValueError("again")}), retry=retry)
    after.clock.advance(1)
    assert delivery.counters.dead_lettered == 1
    ((_, dead),) = after.journal.dead("h")
    assert (dead.attempts, dead.frame, dead.decoder, dead.error) == (2, b"bad", "text", "ValueError: again")
    assert "ValueError: again" in dead.traceback
    assert dead.first_attempt <= dead.last_attempt
    after.check()


def test_a_handler_of_frames_gets_a_parked_frame_as_it_was(world: World) -> None:
    """Its decoder, listener and context too: whatever it decodes to is the same event."""
    failing = Recorder(ValueError("no"), wants="frames")
    world.add(failing)
    batch = world.batch("bad", listener="l")
    batch = Batch(
        id=batch.id,
        listener="l",
        decoder="other",
        received=batch.received,
        peers=["192.0.2.9:9"],
        frames=[b"x", b"bad"],
        marks={1: ("truncated",)},
        context={"labels": {"site": "hq"}},
    )
    failing.plan.append(None)  # the first frame, called alone
    failing.plan.append(ValueError("no"))  # the second
    world.intake.put(batch)
    world.journal.flush()
    after = restarted(world)
    got: list[Batch] = []

    class Keeping(Recorder):
        def handle(self, pile: list[Any]) -> Any:
            got.extend(pile)

    after.add(Keeping(wants="frames"))
    after.clock.advance(60)
    (part,) = got
    assert (part.frames, part.decoder, part.listener, part.peers) == ([b"bad"], "other", "l", ["192.0.2.9:9"])
    assert part.id_of(0) == batch.id_of(1)
    assert after.decoder.decode(part) == after.decoder.decode(batch)[1:]
    after.check()


# Dead letters


def full_at(world: World, count: int) -> Any:
    """There is room for so many dead letters."""
    return lambda size: world.journal.dead_bytes() + size >= 1000 * count


def test_without_room_for_a_dead_letter_the_handler_waits_in_place(world: World) -> None:
    recorder = Recorder(bad={"bad": PermanentFailure("never"), "worse": PermanentFailure("never")})
    delivery = world.add(recorder, dead_full=full_at(world, 1))
    other = Recorder()
    world.add(other, name="other")
    world.put("bad")
    world.put("worse")
    world.put("good")
    assert "no room for its dead letters" in (delivery.unwell or "")
    assert (recorder.done, other.done) == ([], ["bad", "worse", "good"])
    assert delivery.position == 1
    world.clock.advance(100)
    assert recorder.done == []
    world.journal.drop_dead([1])
    delivery.room_for_dead()
    assert recorder.done == ["good"]
    assert delivery.unwell is None
    assert delivery.counters.dead_lettered == 2
    world.check()


def test_without_room_what_waits_apart_goes_on_waiting_and_so_does_the_handler(world: World) -> None:
    recorder = Recorder(bad={"bad": ValueError("no"), "worse": ValueError("no")})
    retry = RetryOptions(max_attempts=2, initial_interval=Duration(1), max_interval=Duration(10))
    delivery = world.add(recorder, dead_full=full_at(world, 1), retry=retry)
    world.put("bad")
    world.put("worse")
    world.clock.advance(1)
    assert "no room" in (delivery.unwell or "")
    assert (delivery.counters.dead_lettered, delivery.counters.parked) == (1, 1)
    world.put("good")
    assert recorder.done == []
    world.check()
    world.journal.drop_dead([1])
    delivery.room_for_dead()
    world.clock.advance(0)
    assert recorder.done == ["good"]
    assert (delivery.unwell, delivery.counters.dead_lettered, delivery.counters.parked) == (None, 2, 0)
    world.check()
    delivery.stop()
    assert not world.clock.getDelayedCalls()


def test_an_event_that_succeeds_at_last_needs_no_room(world: World) -> None:
    recorder = Recorder(bad={"bad": ValueError("no")})
    retry = RetryOptions(max_attempts=2, initial_interval=Duration(1), max_interval=Duration(10))
    delivery = world.add(recorder, dead_full=full_at(world, 0), retry=retry)
    world.put("bad")
    world.clock.advance(1)
    assert delivery.unwell is not None
    recorder.bad = {}
    world.put("good")
    world.clock.advance(10)
    assert recorder.done == ["bad", "good"]
    assert delivery.unwell is None
    world.check()


def test_room_is_counted_within_one_pile_too(world: World) -> None:
    """Dead letters that the journal has yet to get count as well: a pile cannot overrun the bound."""
    recorder = Recorder(*[PermanentFailure("all")] * 50)
    delivery = world.add(recorder, dead_full=full_at(world, 5), start=False)
    world.put(*map(str, range(40)))
    delivery.start()
    assert 0 < delivery.counters.dead_lettered <= 5
    world.journal.drop_dead(range(100))
    delivery.stop()


def test_the_texts_of_a_dead_letter_are_bounded(world: World) -> None:
    def deep(levels: int) -> None:
        if not levels:
            raise PermanentFailure("x" * 100_000)
        deep(levels - 1)

    class Deep(Recorder):
        def handle(self, pile: list[Any]) -> Any:
            deep(500)

    world.add(Deep())
    world.put("bad")
    ((_, dead),) = world.journal.dead()
    assert len(dead.error) <= MAX_ERROR + 50
    assert len(dead.traceback) <= MAX_TRACEBACK + 50
    assert "characters" in dead.error


def test_times_of_a_dead_letter_are_those_of_its_attempts(world: World) -> None:
    retry = RetryOptions(max_attempts=2, initial_interval=Duration(1))
    world.add(Recorder(bad={"bad": ValueError("no")}), retry=retry)
    world.put("bad")
    world.clock.advance(1)
    ((_, dead),) = world.journal.dead()
    assert dead.last_attempt - dead.first_attempt == dt.timedelta(seconds=1)


# The gate


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def test_nothing_is_taken_while_the_journal_can_store_nothing(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]  # only what the intake calls
    recorder = Recorder()
    world.add(recorder)
    assert world.put("a") == 1
    world.journal.change(unwell="no space left")
    assert listener.told == []
    assert world.put("b") == 2
    world.journal.change(unwell="no space left", accepting=False)
    assert listener.told == ["pause"]
    assert (world.put("c"), world.intake.refusal) == (None, "journal")
    world.intake.moved()
    assert listener.told == ["pause"]
    world.journal.change()
    assert listener.told == ["pause", "resume"]
    assert world.put("c") == 3
    assert recorder.done == ["a", "b", "c"]
    world.check()


def test_the_words_for_a_refusal(world: World) -> None:
    assert world.intake.refusal == "full"
    world.journal.change(accepting=False)
    assert world.intake.refusal == "journal"
    world.intake.stop()
    assert world.intake.refusal == "stopped"


def test_durable_is_promised_when_the_group_commit_is_done(world: World) -> None:
    world.journal.hold = True
    world.add(Recorder(TemporaryFailure("down")))
    position = world.put("a")
    assert position == 1
    told: list[Any] = []
    world.intake.watch("durable", 1, told.append)
    assert told == []
    world.journal.commit()
    assert told == [None]
    world.deliveries[0].stop()


def test_delivered_is_never_promised_before_durable(world: World) -> None:
    """Also where there is nobody to be waited for."""
    world.journal.hold = True
    world.add(Recorder(), required_for_ack=False)
    world.put("a")
    told: list[Any] = []
    world.intake.watch("delivered", 1, told.append)
    assert told == []
    world.journal.commit()
    assert told == [None]


def test_the_last_of_what_was_read_is_taken_beyond_the_bound() -> None:
    world = World(journal=FakeJournal(max_bytes=5_000))
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]  # only what the intake calls
    delivery = world.add(Recorder(TemporaryFailure("down")), max_lag=1_000_000)
    while world.put("x" * 500) is not None:
        pass
    assert listener.told == ["pause"]
    world.intake.take_the_last()
    assert listener.told == ["pause", "resume"]
    assert world.put("held") is not None
    assert listener.told == ["pause", "resume"]
    delivery.stop()


def test_the_last_is_not_taken_while_the_journal_cannot_but_as_soon_as_it_can(world: World) -> None:
    listener = Listener()
    world.intake.add_listener(listener)  # type: ignore[arg-type]  # only what the intake calls
    world.journal.change(unwell="full", accepting=False)
    world.intake.take_the_last()
    assert world.put("a") is None
    assert listener.told == ["pause"]
    world.journal.change()
    assert listener.told == ["pause", "resume"]
    assert world.put("a") == 1


def test_a_cursor_that_no_handler_has_is_nobody_to_move(world: World) -> None:
    world = World(journal=FakeJournal(max_bytes=5_000))
    world.journal.reader("gone", 0)
    world.add(Recorder(), when_full="drop_oldest")
    while world.put("x" * 500) is not None:
        pass
    assert world.intake.paused
