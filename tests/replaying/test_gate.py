"""Whose turn it is: a handler's live calls and those of its replay, one at a time, what is new first."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.replaying import ReplayError
from tests.replaying.history import Keeper, World


class Slow(Keeper):
    """Each call waits until the test ends it: `calls` has the texts of those that run, and what ends them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[list[str], Deferred[None]]] = []

    def handle(self, pile: list[Any]) -> Any:
        super().handle(pile)
        waits: Deferred[None] = Deferred()
        self.calls.append((self.texts(pile), waits))
        return waits

    def end(self) -> None:
        """The newest call comes to its end."""
        self.calls.pop()[1].callback(None)


def test_live_events_go_first_and_no_two_calls_overlap(world: World) -> None:
    """While a replay's call waits, a live pile waits for its end, and comes before the replay's next one."""
    handler = Slow()
    world.add(handler, max_events=1)
    for text in "ab":
        world.put(text)
        handler.end()
    world.begin()
    assert [texts for texts, _ in handler.calls] == [["a"]]
    world.put("new")
    world.run(1)
    assert [texts for texts, _ in handler.calls] == [["a"]], "a live pile waits for the call that runs"
    handler.end()
    assert [texts for texts, _ in handler.calls] == [["new"]]
    world.run(1)
    assert [texts for texts, _ in handler.calls] == [["new"]]
    handler.end()
    world.run(1)
    assert [texts for texts, _ in handler.calls] == [["b"]]
    handler.end()
    world.run(2)
    assert world.replays.get("1").state == "done"


def test_a_busy_handler_does_not_starve_a_replay(world: World) -> None:
    handler = Slow()
    world.add(handler, max_events=1)
    world.put("old")
    handler.end()
    world.put(*["new"] * 100)
    world.begin(to=1)
    seen = []
    for _ in range(40):
        world.clock.advance(0.02)
        [(texts, waits)] = handler.calls
        handler.calls.clear()
        seen += texts
        waits.callback(None)
    assert "old" in seen[:10]
    assert seen.count("old") == 1


def test_a_quick_handler_is_done_with_what_is_new_before_the_replay_goes_on(world: World) -> None:
    """Calls that return at once take turns of the reactor: the live loop's come first."""

    class Busy(Keeper):
        def handle(self, pile: list[Any]) -> Any:
            # It takes its time; so every call is one turn.
            world.clock.rightNow += 0.02
            return super().handle(pile)

    handler = Busy()
    world.add(handler, max_events=1)
    world.put("old 1", "old 2", "old 3")
    world.run(1)
    handler.done.clear()
    world.journal.hold = True
    for n in range(4):
        world.put(f"new {n}")
    world.begin(to=3)
    assert handler.done == ["old 1"]
    world.journal.commit()
    world.run(1)
    assert handler.done == ["old 1", "new 0", "new 1", "new 2", "new 3", "old 2", "old 3"]


def test_while_the_destination_is_unwell_only_the_live_loop_tries_it(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("old")
    handler.plan = [ConnectionError("gone")] * 3
    world.put("new")
    world.begin(to=1)
    world.run(0.9)
    assert handler.piles == [["old"], ["new"]]
    world.run(30)
    assert handler.done == ["old", "new", "old"]


def test_a_call_that_was_under_way_before_the_replay_is_waited_for(world: World) -> None:
    waits: Deferred[None] = Deferred()
    handler = Keeper(None, waits)
    world.add(handler)
    world.put("a")
    world.put("b")
    world.begin(to=1)
    world.run(2)
    assert handler.piles == [["a"], ["b"]]
    waits.callback(None)
    world.run(2)
    assert handler.piles == [["a"], ["b"], ["a"]]


def test_lanes_of_one_pile_do_overlap_with_each_other(world: World) -> None:
    handler = Slow()
    world.add(handler, concurrency=4)
    world.put("a", "b")
    while handler.calls:
        handler.end()
    world.begin()
    world.run(1)
    while handler.calls:
        handler.end()
    world.run(2)
    assert handler.done == ["a", "b", "a", "b"]


def test_a_cancelled_call_that_does_not_end_keeps_the_live_loop_out(world: World) -> None:
    stuck: Deferred[None] = Deferred(canceller=lambda _: None)
    stuck.cancel = lambda: None  # type: ignore[method-assign]
    handler = Keeper(None, stuck)
    world.add(handler)
    world.put("a")
    record = world.begin()
    world.replays.cancel(record.id)
    world.put("new")
    world.run(1)
    assert handler.piles == [["a"], ["a"]]
    with pytest.raises(ReplayError, match="is running"):
        world.begin()
    stuck.callback(None)
    assert handler.piles == [["a"], ["a"], ["new"]]
    world.begin()
