"""Replay: history again, through today's decoders, in order and throttled, until it is done or somebody ends it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail

from eventserver.errors import PartialFailure, PermanentFailure
from eventserver.replaying import ReplayError, ReplayRequest
from eventserver.steps import Pipeline
from tests.replaying.history import Keeper, World, ask


def test_history_comes_again_in_order_with_the_same_ids_and_is_named(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("a", "b")
    world.put("c")
    before = list(handler.items)
    record = world.begin()
    world.run(2)
    again = handler.items[3:]
    assert [event.message for event in again] == ["a", "b", "c"]
    assert [event.id for event in again] == [event.id for event in before]
    assert [event.context for event in before] == [{}] * 3
    assert [event.context for event in again] == [{"replay": record.id}] * 3
    assert (record.state, record.delivered) == ("done", 3)


def test_when_it_is_done_its_cursor_is_gone_and_the_live_cursor_has_not_moved(world: World) -> None:
    live = world.add(Keeper())
    world.put("a", "b")
    record = world.begin()
    assert [cursor.name for cursor in world.journal.cursors()] == ["h", record.cursor] == ["h", "h@replay-1"]
    world.run(2)
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]
    assert live.position == 2
    assert live.counters.delivered == 2, "replays count apart"
    assert live.counters.balanced()
    assert +world.replays.totals()["h"] == {"delivered": 2}
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("since", "to", "expected"),
    [
        ("beginning", "end", "abcdef"),
        (1, 4, "bcd"),
        ("3", "end", "def"),
        (0, 99, "abcdef"),
        (2, 2, ""),
        ("end", "end", ""),
        ("2026-01-01T00:00:10Z", "end", "cdef"),
        ("2026-01-01T01:00:10+01:00", "2026-01-01T00:00:20Z", "cd"),
    ],
)
def test_a_range_is_positions_or_times(world: World, since: Any, to: Any, expected: str) -> None:
    handler = Keeper()
    world.add(handler)
    for pair in ("ab", "cd", "ef"):
        world.put(*pair)
        world.clock.advance(10)
    handler.items.clear()
    record = world.begin(since=since, to=to)
    world.run(2)
    assert "".join(event.message for event in handler.items) == expected
    assert record.state == "done"


def test_what_comes_while_it_runs_is_not_replayed(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put("a")
    world.begin(rate=0.5)
    world.put("new")
    world.run(5)
    assert handler.done == ["a", "a", "new"]


def test_a_mended_decoder_changes_history(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.decoder.broken = True
    world.put("hello")
    assert handler.done == ["HELLO"]
    world.decoder.broken = False
    world.begin()
    world.run(2)
    assert handler.done == ["HELLO", "hello"]


def test_the_handlers_own_match_and_the_replays_both_hold(world: World) -> None:
    handler = Keeper()
    world.add(handler, select=Pipeline('message != "b"'))
    world.put("a", "b", "c", "d")
    handler.done.clear()
    record = world.begin(match='message >= "b"')
    world.run(2)
    assert handler.done == ["c", "d"]
    assert (record.delivered, record.filtered) == (2, 2)


def test_a_handler_of_frames_gets_only_the_frames_that_match(world: World) -> None:
    handler = Keeper(wants="frames")
    world.add(handler)
    world.put("a", "b", "c", "d", "e")
    handler.items.clear()
    record = world.begin(match='message in ["b", "c", "e"]')
    world.run(2)
    assert [(batch.offset, batch.frames) for batch in handler.items] == [(1, [b"b", b"c"]), (4, [b"e"])]
    assert handler.items[0].context == {"replay": "1"}
    assert (record.delivered, record.filtered) == (3, 2)


@pytest.mark.parametrize("wait", [False, True])
def test_what_is_kept_from_a_handler_of_frames_is_counted_once(world: World, wait: bool) -> None:
    """Also where a call failed, and was made again frame by frame; or where one of its frames did."""
    handler = Keeper(wants="frames")
    world.add(handler)
    batch = "a", "bad", "no", "c", "no"
    world.put(*batch)
    handler.items.clear()
    ids = [event.id for event in world.decoder.decode(world.journal.entries[0].batch)]
    failures = [
        ValueError("somebody is to blame"), None, ValueError("it was me"), None,
        PartialFailure({ids[1]: PermanentFailure("never")}),
    ]  # fmt: skip
    handler.plan = [fail(error) if wait and error is not None else error for error in failures]
    record = world.begin(match='message != "no"')
    world.run(20)
    assert record.state == "done"
    assert (record.delivered, record.filtered, record.dead_lettered) == (2, 2, 1)


def test_other_listeners_are_left_out_and_it_ends_all_the_same(world: World) -> None:
    handler = Keeper()
    world.add(handler, listeners=("l",))
    world.put("a")
    world.put("x", listener="other")
    world.put("b")
    world.put("y", listener="other")
    handler.done.clear()
    record = world.begin()
    world.put("later")
    world.run(3)
    assert record.state == "done"
    assert handler.done == ["a", "b", "later"] or handler.done == ["later", "a", "b"]


def test_the_rate_bounds_the_events_a_second(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put(*map(str, range(100)))
    handler.done.clear()
    record = world.begin(rate=20)
    world.run(1)
    assert 15 <= len(handler.done) <= 25
    world.run(2)
    assert 50 <= len(handler.done) <= 65
    world.run(4)
    assert handler.done == list(map(str, range(100)))
    assert record.state == "done"


def test_a_full_journal_moves_a_replay_on_and_counts_it(world: World) -> None:
    world.add(Keeper())
    for text in "abc":
        world.put(text)
    record = world.begin(rate=0.1)
    size = world.journal.size
    assert size, "the cursor of the replay holds what it has not passed"
    # What is in the loop's hands is not lost by that; the batch behind it is.
    assert world.intake._expire_oldest()
    assert world.intake._expire_oldest()
    assert world.journal.size < size
    world.run(30)
    assert (record.state, record.expired) == ("done", 1)


def test_it_can_be_cancelled_and_its_cursor_goes(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put(*map(str, range(100)))
    record = world.begin(rate=10)
    world.run(1)
    world.replays.cancel(record.id)
    assert record.state == "cancelled"
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]
    count = len(handler.done)
    assert count < 120
    world.run(5)
    assert len(handler.done) == count
    world.put("new")
    assert handler.done[-1] == "new"
    with pytest.raises(ReplayError, match="has ended"):
        world.replays.cancel(record.id)
    assert world.clock.getDelayedCalls() == []


def test_only_one_replay_a_handler_at_a_time(world: World) -> None:
    world.add(Keeper())
    world.add(Keeper(), "other")
    world.put(*map(str, range(50)))
    world.begin(rate=1)
    with pytest.raises(ReplayError, match="is running"):
        world.begin()
    world.begin(handler="other")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ask(handler="nobody"), "there is no handler 'nobody'; there are: h"),
        (ask(since="yesterday"), "`from` is a position, a time"),
        (ask(since="2026-01-01T00:00:00"), "has no time zone"),
        (ask(since=-1), "no less than 0"),
        (ask(since=2, to=1), "behind"),
        (ask(match="=="), "`match`: "),
        (ask(rate=0), "`rate`"),
        (ask(rate=float("nan")), "`rate`"),
        (ask(since="0001-01-01T00:00:00+14:00"), "no such time"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(world: World, request_: ReplayRequest, text: str) -> None:
    world.add(Keeper())
    world.put("a", "b", "c")
    with pytest.raises(ReplayError, match=text):
        world.result(world.replays.begin(request_))
    assert world.replays.all() == []


def counted(world: World, **named: Any) -> dict[str, Any]:
    result = world.result(world.replays.count(ask(**named)))
    return {key: getattr(result, key) for key in ("frames", "delivered", "filtered", "complete", "next")}


@pytest.mark.parametrize("wants", ["events", "frames"])
def test_a_dry_run_counts_and_calls_nobody(world: World, wants: Any) -> None:
    handler = Keeper(wants=wants)
    world.add(handler, listeners=("l",))
    world.put("a", "b", "c")
    world.put("x", listener="other")
    world.put("d", "e")
    handler.items.clear()
    found = counted(world, since=1, to=5, match='message != "c"', dry_run=True)
    assert found == {"frames": 3, "delivered": 2, "filtered": 1, "complete": True, "next": 5}
    assert handler.items == []
    assert world.replays.all() == []
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]
