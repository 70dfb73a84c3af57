"""What fails in a replay, and dead letters, of replays and of handlers, that are tried again."""

from __future__ import annotations

from eventserver.errors import PermanentFailure, TemporaryFailure
from tests.replaying.history import Keeper, World


def test_what_fails_is_retried_and_becomes_a_dead_letter_of_the_replay(world: World) -> None:
    handler = Keeper()
    live = world.add(handler)
    world.put("a", "bad", "c")
    handler.bad = {"bad": ValueError("it is bad")}
    record = world.begin()
    world.run(20)
    assert (record.state, record.delivered, record.dead_lettered) == ("done", 2, 1)
    [(_, dead)] = world.journal.dead()
    assert (dead.handler, dead.event.message, dead.attempts) == ("h@replay-1", "bad", 2)
    assert live.counters.dead_lettered == 0


def test_a_dead_letter_of_a_replay_that_has_ended_can_be_tried_again(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("bad")
    handler.bad = {"bad": PermanentFailure("no")}
    world.begin()
    world.run(2)
    [(number, _)] = world.journal.dead()
    handler.bad = {}
    handler.done.clear()
    assert world.replays.take_back(world.journal.retry_dead([number], world.now())) == []
    world.run(3)
    assert handler.done == ["bad"]
    assert world.journal.dead() == []
    assert world.replays.get("1").state == "done"
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]


def test_a_replay_that_is_opened_again_shows_what_it_was_about(world: World) -> None:
    """Its range and its place are those of the time when it ran, before, while and after its dead letters are tried."""
    handler = Keeper()
    world.add(handler)
    world.put("a", "bad", "c", "d")
    handler.bad = {"bad": PermanentFailure("no")}
    record = world.begin(since=1, to=3)
    world.run(2)
    assert (record.start, record.end, world.replays.position(record)) == (1, 3, 3)
    world.put("new")
    handler.bad = {"bad": TemporaryFailure("not yet")}
    assert world.replays.take_back(world.journal.retry_dead([1], world.now())) == []
    world.run(0.1)
    assert (record.state, record.start, record.end, world.replays.position(record)) == ("running", 1, 3, 3)
    handler = Keeper()
    world = world.restart_with(handler)
    world.run(20)
    record = world.replays.get("1")
    assert handler.done == ["bad"]
    assert (record.state, record.start, record.end, world.replays.position(record)) == ("done", 1, 3, 3)


def test_a_dead_letter_of_the_handler_itself_is_tried_at_once_and_the_sums_hold(world: World) -> None:
    handler = Keeper(bad={"bad": PermanentFailure("no")})
    live = world.add(handler)
    world.put("a")
    world.put("bad")
    [(number, _)] = world.journal.dead()
    handler.bad = {}
    assert world.replays.take_back(world.journal.retry_dead([number], world.now())) == []
    assert handler.done == ["a", "bad"]
    assert live.counters.balanced()
    assert live.counters.parked == 0
    assert world.journal.parked("h") == []


def test_dead_letters_of_a_replay_wait_for_the_one_that_runs(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("bad", *map(str, range(20)))
    handler.bad = {"bad": PermanentFailure("no")}
    world.begin(to=1)
    world.run(2)
    handler.bad = {}
    handler.done.clear()
    world.begin(since=1, rate=10)
    assert world.replays.take_back(world.journal.retry_dead([1], world.now())) == []
    world.run(1)
    assert "bad" not in handler.done
    world.run(5)
    assert handler.done[-1] == "bad"
    assert [record.state for record in world.replays.all()] == ["done", "done"]


def test_they_wait_over_a_restart_too(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("bad", *map(str, range(20)))
    handler.bad = {"bad": PermanentFailure("no")}
    world.begin(to=1)
    world.run(2)
    world.begin(since=1, rate=10)
    world.replays.take_back(world.journal.retry_dead([1], world.now()))
    handler = Keeper()
    world = world.restart_with(handler)
    world.run(10)
    # The first one was handed over before.
    assert handler.done == ["bad", *map(str, range(1, 20))]
    assert world.journal.parked("h@replay-1") == []
    assert [record.state for record in world.replays.all()] == ["done", "done"]


def test_who_is_not_there_to_try_a_dead_letter_is_named(world: World) -> None:
    handler = Keeper(bad={"bad": PermanentFailure("no")})
    world.add(handler)
    world.put("bad")
    world = world.restart()
    assert world.replays.take_back(world.journal.retry_dead([1], world.now())) == ["h"]
