"""`eventserver journal`: info, verify, export, cursors, asked of a server."""

from __future__ import annotations

import json

import pytest

from tests.cli.controlled import Commands
from tests.replaying.history import Keeper


@pytest.fixture(autouse=True)
def filled(commands: Commands) -> None:
    commands.world.add(Keeper())
    commands.world.put("a", "b")
    commands.world.put("c\x1b")
    commands.world.journal.kept.cursors["old"] = 1


def test_info(commands: Commands) -> None:
    assert "committed   3\n" in commands.prints("journal", "info")
    assert json.loads(commands.prints("journal", "info", "--json"))["head"] == 3


def test_cursors_are_listed_renamed_and_dropped(commands: Commands) -> None:
    assert commands.prints("journal", "cursors").splitlines() == [
        "NAME  POSITION  BEHIND  ACTIVE  PARKED  DEAD  SEEN",
        "h            3       0  yes          0     0  2026-01-01T00:00:00Z",
        "old          1       2  no           0     0  2026-01-01T00:00:00Z",
    ]
    assert commands.prints("journal", "cursors", "rename", "old", "new") == "cursor old is new now\n"
    assert commands.prints("journal", "cursors", "drop", "new") == "cursor new is dropped\n"
    assert [json.loads(line)["name"] for line in commands.prints("journal", "cursors", "--json").splitlines()] == ["h"]
    code, _, err = commands.run("journal", "cursors", "drop", "h")
    assert (code, err) == (1, "eventserver journal: it is active\n")


@pytest.mark.parametrize("words", [["rename", "a"], ["drop"], ["drop", "a", "b"], ["remove", "a"], ["rename"]])
def test_wrong_words_end_with_2(commands: Commands, words: list[str]) -> None:
    assert commands.run("journal", "cursors", *words)[0] == 2


def test_verify_ends_with_1_where_something_is_missing(commands: Commands) -> None:
    assert commands.prints("journal", "verify") == "3 frames in 2 batches can be read, positions 0 to 3\n"
    del commands.world.journal.entries[0]
    code, out, _ = commands.run("journal", "verify")
    assert code == 1
    assert out.splitlines()[1:] == ["missing: positions 0 to 2", "2 frames cannot be read"]
    code, out, _ = commands.run("journal", "verify", "--json")
    assert (code, json.loads(out)["lost"]) == (1, 2)


def test_export_is_a_frame_a_line(commands: Commands) -> None:
    found = [json.loads(line) for line in commands.prints("journal", "export").splitlines()]
    assert [(one["position"], one["frame"]) for one in found] == [(0, "a"), (1, "b"), (2, "c\x1b")]
    assert "\x1b" not in commands.prints("journal", "export")
    assert commands.prints("journal", "export", "--from", "3") == ""
    assert json.loads(commands.prints("journal", "export", "--from", "1", "--to", "2"))["position"] == 1


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_position_beyond_all_is_refused_with_the_range(commands: Commands, option: str) -> None:
    code, out, err = commands.run("journal", "export", option, "9999999999999999999")
    said = f"`{option[2:]}`: a position is a number from 0 to 9223372036854775807"
    assert (code, out, err) == (1, "", f"eventserver journal: {said}\n")


def test_export_as_it_came(commands: Commands) -> None:
    assert commands.prints("journal", "export", "--raw", "--to", "2") == "a\nb\n"
