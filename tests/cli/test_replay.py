"""`eventserver replay`: start, list, cancel, count."""

from __future__ import annotations

import json

import pytest

from tests.cli.controlled import Commands
from tests.replaying.history import Keeper


@pytest.fixture
def handler(commands: Commands) -> Keeper:
    """Has got 50 events."""
    handler = Keeper()
    commands.world.add(handler)
    commands.world.put(*map(str, range(50)))
    handler.done.clear()
    return handler


def test_a_replay_is_started_listed_and_cancelled(commands: Commands, handler: Keeper) -> None:
    out = commands.prints("replay", "--handler", "h", "--from", "beginning", "--rate", "10")
    assert out == "replay 1 started: handler h, positions 0 to 50\n"
    commands.world.run(1)
    head, row = commands.prints("replay", "list").splitlines()
    assert head.split()[:3] == ["ID", "HANDLER", "STATE"]
    assert row.split()[:3] == ["1", "h", "running"]
    assert commands.prints("replay", "cancel", "1").startswith("replay 1 cancelled: ")
    code, _, err = commands.run("replay", "cancel", "1")
    assert (code, err) == (1, "eventserver replay: replay '1' has ended (cancelled)\n")


def test_it_can_be_waited_for(commands: Commands, handler: Keeper) -> None:
    out = commands.prints(
        "replay", "--handler", "h", "--from", "10", "--to", "20", "--match", 'message != "15"', "--wait"
    )
    assert out.splitlines()[1] == "replay 1 done: 9 delivered, 1 filtered, 0 dead-lettered"
    assert handler.done == [str(n) for n in range(10, 20) if n != 15]


def test_as_json(commands: Commands, handler: Keeper) -> None:
    started = json.loads(commands.prints("replay", "--handler", "h", "--from", "0", "--json"))
    assert (started["id"], started["state"]) == ("1", "running")
    commands.world.run(2)
    assert json.loads(commands.prints("replay", "list", "--json"))["state"] == "done"


def test_a_dry_run_counts_in_parts_and_changes_nothing(
    commands: Commands, handler: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.world.put(*map(str, range(10)))
    commands.world.put(*map(str, range(10)))
    handler.done.clear()
    calls = iter([0.0, 0.0, 10.0] * 10)
    monkeypatch.setattr("eventserver.replaying.counting.BUDGET", 1.0)
    monkeypatch.setattr(commands.world.clock, "seconds", lambda: next(calls, 0.0))
    out = commands.prints("replay", "--handler", "h", "--from", "0", "--match", 'message == "3"', "--dry-run")
    assert out == "positions 0 to 70: 70 frames; handler h would get 3, 67 would be filtered\n"
    assert handler.done == []
    assert commands.prints("replay", "list") == "there are no replays\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--handler", "h"],
        ["--from", "0"],
        ["--handler", "h", "--from", "0", "--rate", "0"],
        ["--handler", "h", "--from", "0", "--rate", "x"],
        ["cancel"],
        ["list", "--from", "0"],
        ["list", "1"],
        ["begin"],
    ],
)
def test_a_wrong_command_line_ends_with_2(commands: Commands, handler: Keeper, words: list[str]) -> None:
    code, out, err = commands.run("replay", *words)
    assert (code, out) == (2, "")
    assert err
    assert commands.world.replays.all() == []


def test_what_the_server_refuses_ends_with_1(commands: Commands, handler: Keeper) -> None:
    code, _, err = commands.run("replay", "--handler", "x", "--from", "0")
    assert (code, err) == (1, "eventserver replay: there is no handler 'x'; there are: h\n")


def test_a_dry_run_and_waiting_need_a_server(commands: Commands, handler: Keeper) -> None:
    commands.live = False
    for more, said in (("--dry-run", "start it, and count then"), ("--wait", "or leave --wait out, and the replay")):
        code, _, err = commands.run("replay", "--handler", "h", "--from", "0", more)
        assert code == 1
        assert err.startswith("eventserver replay: no server runs with this journal")
        assert said in err
