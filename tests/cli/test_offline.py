"""The commands on the journal of a server that does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventserver.cli.main import main
from eventserver.errors import PermanentFailure
from tests.journal.world import World as Disk
from tests.replaying.test_on_disk import Life


class Shell:
    """`run(*words)` runs a command on the journal."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def run(self, *words: str, code: int = 0) -> str:
        assert main([*words, "--journal", str(self.folder)]) == code
        found = self._capsys.readouterr()
        return found.err if code else found.out

    def json(self, *words: str, code: int = 0) -> list[dict[str, object]]:
        assert main([*words, "--journal", str(self.folder), "--json"]) == code
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path / "journal")
    monkeypatch.setattr("eventserver.cli._offline._now", disk.now)
    return disk


@pytest.fixture
def shell(disk: Disk, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(disk.folder, capsys)


def test_a_dead_letter_of_a_replay_is_tried_when_the_server_starts(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.put("bad")
    life.handler.bad = {"bad": PermanentFailure("no")}
    life.begin()
    life.run(2)
    life.close()
    [dead] = shell.json("deadletters", "list")
    assert (dead["handler"], dead["message"]) == ("h@replay-1", "bad")
    assert shell.run("deadletters", "retry", "--all") == "1 dead letter will be tried when the server starts\n"
    life = Life(disk)
    life.run(2)
    assert life.handler.done == ["bad"]
    assert [record.state for record in life.replays.all()] == ["done"]
    life.close()
    assert shell.run("deadletters", "list") == "there are no dead letters\n"
    assert [cursor["name"] for cursor in shell.json("journal", "cursors")] == ["h"]


def test_a_dead_letter_of_the_handler_is_tried_when_the_server_starts(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.handler.bad = {"bad": PermanentFailure("no")}
    life.put("bad")
    life.close()
    shell.run("deadletters", "retry", "--handler", "h")
    life = Life(disk)
    life.run(2)
    assert life.handler.done == ["bad"]
    assert life.live.counters.balanced()
    life.close()


def test_a_replay_that_runs_is_listed_and_cancelled(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.put("a", "b")
    life.begin(rate=0.01)
    life.run(1)
    life.close()
    [found] = shell.json("replay", "list")
    assert (found["id"], found["state"], found["to"]) == ("1", "running", 2)
    assert "has not ended" in shell.run("replay", "--handler", "h", "--from", "0", code=1)
    assert shell.run("replay", "cancel", "1").startswith("replay 1 cancelled: ")
    assert "replay '1' has ended (cancelled)" in shell.run("replay", "cancel", "1", code=1)
    assert "there is no replay '7'" in shell.run("replay", "cancel", "7", code=1)
    assert [cursor["name"] for cursor in shell.json("journal", "cursors")] == ["h"]
    life = Life(disk)
    life.run(200)
    assert [record.state for record in life.replays.all()] == ["cancelled"]
    life.close()


def test_a_replay_that_is_asked_for_begins_with_the_server(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.put("a", "b", "c")
    life.run(1)
    life.close()
    for odd, said in (
        (["--handler", "x", "--from", "0"], "the journal knows no handler 'x'; it knows: h"),
        (["--handler", "h", "--from", "0", "--match", "a ="], "`match`"),
        (["--handler", "h", "--from", "0", "--dry-run"], "start it, and count then"),
        (["--handler", "h", "--from", "0", "--wait"], "leave --wait out"),
    ):
        assert said in shell.run("replay", *odd, code=1)
    started = shell.run("replay", "--handler", "h", "--from", "beginning", "--to", "2")
    assert started == "replay 1 begins with the server: handler h, positions 0 to 2\n"
    life = Life(disk)
    life.run(2)
    assert life.handler.done == ["a", "b"]
    assert [record.state for record in life.replays.all()] == ["done"]
    life.close()


def test_cursors_are_renamed_and_dropped(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.put("a", "b")
    life.close()
    shell.run("journal", "cursors", "rename", "h", "archive")
    [cursor] = shell.json("journal", "cursors")
    assert (cursor["name"], cursor["position"], cursor["active"], cursor["lag"]) == ("archive", 2, False, 0)
    assert "there is no cursor 'h'; there are: archive" in shell.run("journal", "cursors", "drop", "h", code=1)
    shell.run("journal", "cursors", "drop", "archive")
    assert shell.run("journal", "cursors") == "there are no cursors\n"


def test_a_journal_that_a_server_has_is_locked(disk: Disk, shell: Shell) -> None:
    """Also where nobody answers on a socket."""
    life = Life(disk)
    for words in (["journal", "info"], ["deadletters", "drop", "--all"], ["journal", "repair"]):
        assert "is the journal of another server that runs" in shell.run(*words, code=1)
    life.close()


def test_damage_is_found_and_mended(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.fill(60)
    life.run(2)
    sealed = [segment for segment in life.journal.segments() if segment.sealed]
    assert sealed
    life.close()
    assert all(report["ok"] for report in shell.json("journal", "verify"))
    exported = len(shell.json("journal", "export"))
    assert exported == 600
    path = Path(str(shell.json("journal", "verify")[0]["path"]))
    data = bytearray(path.read_bytes())
    at = data.index(b"5.5 xxxx")
    data[at : at + 3] = b"???"
    path.write_bytes(data)
    reports = shell.json("journal", "verify", code=1)
    assert [report["ok"] for report in reports].count(False) == 1
    assert 0 < int(str(reports[0]["lost"])) <= 100
    assert "frames saved" in shell.run("journal", "repair")
    assert len(shell.json("journal", "export")) == exported - int(str(reports[0]["lost"]))


def test_a_replay_that_is_cancelled_without_a_server_shows_how_far_it_came(disk: Disk, shell: Shell) -> None:
    life = Life(disk)
    life.put(*map(str, range(50)))
    life.begin(rate=10)
    life.run(2)
    life.close()
    [running] = shell.json("replay", "list")
    assert 10 < int(str(running["position"])) < 40
    shell.run("replay", "cancel", "1")
    [cancelled] = shell.json("replay", "list")
    assert (cancelled["state"], cancelled["position"]) == ("cancelled", running["position"])


def test_an_export_has_the_marks_of_a_frame(disk: Disk, shell: Shell) -> None:
    journal = disk.open()
    disk.append(journal, b"whole", b"cut", marks={1: ("truncated",)})
    journal.close()
    whole, cut = shell.json("journal", "export")
    assert "context" not in whole
    assert cut["context"] == {"truncated": True}
