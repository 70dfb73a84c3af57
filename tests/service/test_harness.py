"""The harness that people test their handlers with, and the whole path without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.errors import SettingsError, TemporaryFailure
from eventserver.event import Event
from eventserver.testing import Harness


def shout(event: Event) -> str:
    return event.message.upper()


def test_bytes_in_answers_out() -> None:
    with Harness(shout) as harness:
        harness.send(b"one\ntw")
        harness.send(b"o\nthree")
        assert harness.replies() == [b"ONE", b"TWO"]
        harness.close()
        assert harness.replies() == [b"ONE", b"TWO", b"THREE"]


def test_peers_are_answered_each_for_itself() -> None:
    with Harness(shout) as harness:
        harness.send(b"a\n", peer="192.0.2.1:1")
        harness.send(b"b\n", peer="192.0.2.2:1")
        assert harness.replies("192.0.2.1:1") == [b"A"]
        assert harness.replies("192.0.2.2:1") == [b"B"]


def test_match_and_steps_stand_before_the_handler() -> None:
    seen: list[Event] = []
    with Harness(
        lambda event: seen.append(event),
        decoder="syslog",
        match="severity_code <= 3",
        steps=[{"drop": 'message == "noise"'}, {"set": {"team": "ops", "short": {"expr": "lower(app_name)"}}}],
    ) as harness:
        harness.send(b"<11>1 2026-01-01T00:00:00Z host App 1 - - disk full\n")
        harness.send(b"<11>1 2026-01-01T00:00:00Z host App 1 - - noise\n")
        harness.send(b"<14>1 2026-01-01T00:00:00Z host App 1 - - all is well\n")
        assert [(e.message, e.fields["team"], e.fields["short"]) for e in seen] == [("disk full", "ops", "app")]
        assert harness.counters().filtered == 2


def test_a_handler_that_changes_fields_is_caught() -> None:
    def careless(event: Event) -> None:
        event.fields["mine"] = 1

    harness = Harness(careless)
    harness.send(b"a\n")
    with pytest.raises(AssertionError, match="changed event"):
        harness.check()


def test_failures_are_parked_then_dead() -> None:
    def picky(event: Event) -> None:
        if event.message == "bad":
            raise ValueError("cannot")

    with Harness(picky, retry={"max_attempts": 2}) as harness:
        harness.send(b"good\nbad\nfine\n")
        assert [one.event.message for one in harness.parked] == ["bad"]
        harness.advance(1)
        assert harness.parked == []
        assert [one.error for one in harness.dead_letters] == ["ValueError: cannot"]


def test_a_destination_that_is_down_keeps_later_events_in_order() -> None:
    seen: list[str] = []
    down = [True]

    def store(event: Event) -> None:
        if down[0]:
            raise TemporaryFailure("down")
        seen.append(event.message)

    with Harness(store) as harness:
        harness.send(b"a\nb\n")
        harness.send(b"c\n")
        down[0] = False
        harness.advance(1)
        assert seen == ["a", "b", "c"]


def test_coroutines_are_answered_in_order_when_they_are_done() -> None:
    waiting: list[Deferred[str]] = []

    async def slow(event: Event) -> str:
        answer: Deferred[str] = Deferred()
        waiting.append(answer)
        return await answer

    with Harness(slow) as harness:
        harness.send(b"a\nb\n")
        assert harness.replies() == []
        waiting[0].callback("first")
        assert harness.replies() == [b"first"]
        waiting[1].callback("second")
        assert harness.replies() == [b"first", b"second"]


def test_a_whole_settings_table_can_be_run() -> None:
    with Harness(
        {
            "listener": {"l": {"endpoints": ["tcp:0"], "labels": {"site": "hq"}}},
            "handler": {"a": {"call": shout, "match": "context['labels']['site'] == 'hq'"}, "b": {"type": "null"}},
        }
    ) as harness:
        harness.send(b"x\n")
        assert harness.replies() == [b"X"]
        assert harness.events[0].context == {"labels": {"site": "hq"}}
        assert harness.counters("b").delivered == 1


def test_wrong_keys_are_named() -> None:
    with pytest.raises(SettingsError, match="decodr"):
        Harness(shout, decodr="json")


def test_an_error_reply_keeps_the_place_of_the_answer() -> None:
    def picky(event: Event) -> str:
        if event.message == "bad":
            raise ValueError("cannot")
        return event.message.upper()

    with Harness(picky, on_error_reply="ERROR") as harness:
        harness.send(b"a\nbad\nb\n")
        assert harness.replies() == [b"A", b"ERROR", b"B"]
        harness.advance(1)
        assert harness.replies() == [b"A", b"ERROR", b"B"]


def test_a_truncated_frame_says_so_in_its_context() -> None:
    seen: list[Any] = []
    with Harness(lambda event: seen.append(event), max_frame="4 B") as harness:
        harness.send(b"toolong\nok\n")
        assert [(event.message, event.context) for event in seen] == [("tool", {"truncated": True}), ("ok", {})]
        assert harness.listener_counters.truncated == 1


@pytest.mark.parametrize("others", [False, True])
def test_a_parked_event_is_answered_when_it_succeeds_whatever_other_peers_send(others: bool) -> None:
    failed: list[str] = []

    def once(event: Event) -> str:
        if event.message == "x" and not failed:
            failed.append("x")
            raise ValueError("not yet")
        return f"re:{event.message}"

    with Harness(once) as harness:
        harness.send(b"x\n")
        if others:
            harness.send(b"y\n", peer="192.0.2.9:1")
        harness.advance(1)
        assert harness.replies() == [b"re:x"]
