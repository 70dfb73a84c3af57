"""Replay: history again, through today's decoders, behind what is new, until it is done or somebody ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from eventserver.errors import PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.replaying import ReplayError, ReplayRequest
from eventserver.steps import Pipeline
from tests.replaying.history import Keeper, World, ask


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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


def test_a_replay_survives_a_restart_and_goes_on_where_it_was(world: World) -> None:
    handler = Keeper()
    world.add(handler)
    world.put(*map(str, range(50)))
    world.begin(rate=10, match="message != '49'")
    world.run(2)
    done = len(handler.done) - 50
    assert 10 < done < 30
    world = world.restart()
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(10)
    assert handler.done == [str(n) for n in range(done, 49)]
    [record] = world.replays.all()
    assert (record.state, record.match, record.rate) == ("done", "message != '49'", 10)
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]


def test_a_stop_keeps_what_was_counted(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(2)
    world.replays.stop()
    counted = world.replays.get("1").delivered
    assert counted
    world = world.restart()
    world.add(Keeper())
    world.replays.start()
    world.run(10)
    assert world.replays.get("1").delivered == 50


def test_a_cursor_that_was_left_behind_does_not_begin_anew(world: World) -> None:
    """Killed between the record and the cursor."""
    world.add(Keeper())
    world.put("a")
    world.begin()
    world.run(2)
    world.journal.kept.cursors["h@replay-1"] = 0
    world = world.restart()
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(2)
    assert handler.done == []
    assert [cursor.name for cursor in world.journal.cursors()] == ["h"]


def test_one_whose_cursor_was_dropped_meanwhile_does_not_begin_anew(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(1)
    world = world.restart()
    world.journal.drop_cursor("h@replay-1")
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(2)
    assert handler.done == []
    assert world.replays.get("1").state == "cancelled"


def test_one_whose_cursor_never_reached_the_disk_begins_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(Keeper())
    world.put("a", "b")
    monkeypatch.setattr(world.journal, "flush", Deferred)
    world.begin(rate=1)
    world = world.restart()
    world.journal.drop_cursor("h@replay-1")
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(5)
    assert handler.done == ["a", "b"]


def test_one_whose_handler_is_gone_waits_for_it_and_can_be_cancelled(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    world.begin(rate=10)
    world.run(1)
    world = world.restart()
    world.replays.start()
    world.run(1)
    assert world.replays.get("1").state == "running"
    assert "h@replay-1" in [cursor.name for cursor in world.journal.cursors()]
    world.replays.cancel("1")
    assert "h@replay-1" not in [cursor.name for cursor in world.journal.cursors()]


def test_a_file_that_cannot_be_read_holds_up_nothing(world: World) -> None:
    (world.folder / "replays.json").write_text("{")
    world.add(Keeper())
    world.replays.start()
    assert world.replays.all() == []
    assert (world.folder / "replays.unreadable").read_text() == "{"


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


# Failures


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
    world = world.restart()
    handler = Keeper()
    world.add(handler)
    world.replays.start()
    world.run(20)
    record = world.replays.get("1")
    assert handler.done == ["bad"]
    assert (record.state, record.start, record.end, world.replays.position(record)) == ("done", 1, 3, 3)


def test_a_cancelled_replay_shows_how_far_it_came(world: World) -> None:
    world.add(Keeper())
    world.put(*map(str, range(50)))
    record = world.begin(rate=10)
    world.run(2)
    reached = world.replays.position(record)
    assert 10 < reached < 40
    world.replays.cancel("1")
    assert world.replays.position(record) == reached
    world = world.restart()
    assert world.replays.start() is None
    assert world.replays.position(world.replays.get("1")) == reached


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
    world = world.restart()
    handler = Keeper()
    world.add(handler)
    world.replays.start()
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


# Dry run


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


def test_the_file_is_small_plain_json(world: World) -> None:
    world.add(Keeper())
    world.put("a")
    for _ in range(30):
        world.begin()
        world.run(2)
    kept = json.loads((world.folder / "replays.json").read_text())
    assert kept["next"] == 31
    assert [one["id"] for one in kept["replays"]] == [str(n) for n in range(11, 31)]


# Turns


def test_live_events_go_first_and_no_two_calls_overlap(world: World) -> None:
    """While a replay's call waits, a live pile waits for its end, and comes before the replay's next one."""
    calls: list[tuple[list[str], Deferred[None]]] = []

    class Slow(Keeper):
        def handle(self, pile: list[Any]) -> Any:
            waits: Deferred[None] = Deferred()
            calls.append((self.texts(pile), waits))
            return waits

    world.add(Slow(), max_events=1)
    for text in "ab":
        world.put(text)
        calls.pop()[1].callback(None)
    world.begin()
    assert [texts for texts, _ in calls] == [["a"]]
    world.put("new")
    world.run(1)
    assert [texts for texts, _ in calls] == [["a"]], "a live pile waits for the call that runs"
    calls.pop()[1].callback(None)
    assert [texts for texts, _ in calls] == [["new"]]
    world.run(1)
    assert [texts for texts, _ in calls] == [["new"]]
    calls.pop()[1].callback(None)
    world.run(1)
    assert [texts for texts, _ in calls] == [["b"]]
    calls.pop()[1].callback(None)
    world.run(2)
    assert world.replays.get("1").state == "done"


def test_a_busy_handler_does_not_starve_a_replay(world: World) -> None:
    calls: list[tuple[list[str], Deferred[None]]] = []

    class Slow(Keeper):
        def handle(self, pile: list[Any]) -> Any:
            waits: Deferred[None] = Deferred()
            calls.append((self.texts(pile), waits))
            return waits

    world.add(Slow(), max_events=1)
    world.put("old")
    calls.pop()[1].callback(None)
    world.put(*["new"] * 100)
    world.begin(to=1)
    seen = []
    for _ in range(40):
        world.clock.advance(0.02)
        [(texts, waits)] = calls
        calls.clear()
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
    running: list[Deferred[None]] = []

    class Slow(Keeper):
        def handle(self, pile: list[Any]) -> Any:
            super().handle(pile)
            running.append(Deferred())
            return running[-1]

    handler = Slow()
    world.add(handler, concurrency=4)
    world.put("a", "b")
    while running:
        running.pop().callback(None)
    world.begin()
    world.run(1)
    while running:
        running.pop().callback(None)
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
