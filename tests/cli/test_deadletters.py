"""`eventserver deadletters`: what people see of events that were given up, and what they can do about them."""

from __future__ import annotations

import json

import pytest

from eventserver.errors import PermanentFailure
from tests.cli.controlled import Commands
from tests.replaying.history import Keeper


@pytest.fixture
def handler(commands: Commands) -> Keeper:
    """Has failed with `bad 1` to `bad 3`."""
    handler = Keeper(bad={f"bad {n}": PermanentFailure(f"no {n}") for n in (1, 2, 3)})
    commands.world.add(handler)
    for n in (1, 2, 3):
        commands.world.put(f"bad {n}")
        commands.world.clock.advance(1)
    return handler


def test_list_is_a_table(commands: Commands, handler: Keeper) -> None:
    lines = commands.prints("deadletters", "list").splitlines()
    assert lines[0].split() == ["NUMBER", "HANDLER", "LAST", "ATTEMPT", "ATTEMPTS", "LISTENER", "MESSAGE", "ERROR"]
    assert lines[2].split() == ["2", "h", "2026-01-01T00:00:01Z", "1", "l", "bad", "2", "PermanentFailure:", "no", "2"]
    assert len({line.index("PermanentFailure") for line in lines[1:]}) == 1
    assert len(lines) == 4


def test_that_there_are_more_is_said(commands: Commands, handler: Keeper) -> None:
    assert "there are more" in commands.prints("deadletters", "list", "--limit", "2").splitlines()[-1]
    assert "there are more" not in commands.prints("deadletters", "list", "--limit", "3")


def test_nothing_is_said_in_words(commands: Commands) -> None:
    assert commands.prints("deadletters", "list") == "there are no dead letters\n"
    assert commands.prints("deadletters", "list", "--json") == ""


def test_list_as_json_is_one_object_a_line(commands: Commands, handler: Keeper) -> None:
    found = [json.loads(line) for line in commands.prints("deadletters", "list", "--json").splitlines()]
    assert [(one["number"], one["message"]) for one in found] == [(1, "bad 1"), (2, "bad 2"), (3, "bad 3")]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--match", 'message == "bad 2"'], [2]),
        (["--handler", "nobody"], []),
        (["--since", "2026-01-01T00:00:02Z"], [3]),
        (["--limit", "2"], [1, 2]),
        (["--limit", "0"], [1, 2, 3]),
    ],
)
def test_list_takes_filters(commands: Commands, handler: Keeper, words: list[str], numbers: list[int]) -> None:
    out = commands.prints("deadletters", "list", "--json", *words)
    assert [json.loads(line)["number"] for line in out.splitlines()] == numbers


def test_show_has_all_of_it_one_line_each(commands: Commands) -> None:
    bad = "bad\x1b[2J\nsecond line"
    commands.world.add(Keeper(bad={bad: PermanentFailure("no\x07")}))
    commands.world.put(bad)
    out = commands.prints("deadletters", "show", "1")
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "  message   bad\\x1b[2J\\x0asecond line\n" in out
    assert "\n  eventserver.errors.PermanentFailure: no\\x07\n" in out
    listed = commands.prints("deadletters", "list")
    assert len(listed.splitlines()) == 2
    assert "\x1b" not in listed
    whole = json.loads(commands.prints("deadletters", "show", "1", "--json"))
    assert whole["frame"] == bad


def test_one_that_is_not_there_is_an_error(commands: Commands, handler: Keeper) -> None:
    code, out, err = commands.run("deadletters", "show", "9")
    assert (code, out, err) == (1, "", "eventserver deadletters: there is no dead letter 9\n")


def test_retry_by_number(commands: Commands, handler: Keeper) -> None:
    handler.bad = {}
    out = commands.prints("deadletters", "retry", "2", "3", "2")
    assert out == "2 dead letters handed to their handlers again\n"
    assert handler.done == ["bad 2", "bad 3"]
    code, out, err = commands.run("deadletters", "retry", "3", "1")
    assert (code, out) == (1, "1 dead letter handed to their handlers again\n")
    assert err == "eventserver deadletters: 1 of those that were named are not there, and were not retried\n"


def test_retry_where_no_server_runs_says_when_it_will_be(commands: Commands, handler: Keeper) -> None:
    commands.live = False
    out = commands.prints("deadletters", "retry", "--all")
    assert out == "3 dead letters will be tried when the server starts\n"


def test_retry_names_handlers_that_are_not_there(commands: Commands, handler: Keeper) -> None:
    commands.world = commands.world.restart()
    out = commands.prints("deadletters", "retry", "--handler", "h")
    assert out.splitlines()[1] == "handler h is not there: its events wait for it"


def test_drop_by_filter(commands: Commands, handler: Keeper) -> None:
    assert commands.prints("deadletters", "drop", "--match", 'message != "bad 2"') == "2 dead letters dropped\n"
    assert commands.prints("deadletters", "drop", "--all", "--json") == '{"dropped":1}\n'
    assert commands.prints("deadletters", "drop", "--all") == "0 dead letters dropped\n"


@pytest.mark.parametrize(
    "words", [[], ["1", "--all"], ["1", "--handler", "h"], ["x"], ["-1"], ["--match", "==", "--all"]]
)
@pytest.mark.parametrize("action", ["retry", "drop"])
def test_nothing_is_changed_where_it_is_not_clear_what(
    commands: Commands, handler: Keeper, action: str, words: list[str]
) -> None:
    code, out, err = commands.run("deadletters", action, *words)
    assert code in (1, 2)
    assert out == ""
    assert err
    assert len(commands.world.journal.dead()) == 3


def test_thousands_are_handled_in_parts(commands: Commands) -> None:
    count = 2500
    handler = Keeper(bad={"bad": PermanentFailure("no")})
    commands.world.add(handler)
    commands.world.put(*["bad"] * count)
    commands.world.run(1)
    assert len(commands.prints("deadletters", "list", "--limit", "0", "--json").splitlines()) == count
    handler.bad = {}
    assert commands.prints("deadletters", "retry", "--all").startswith("2500 dead letters")
    commands.world.run(2)
    assert handler.done == ["bad"] * count
