"""A real server with a journal, and the commands that look after it: dead letters, replay, the journal."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real.server import Server
from tests.realprograms import DEADLINE, TERMINATED, beside_python

HANDLERS = '''
from pathlib import Path


def on_event(event):
    """Fails with every event that is bad, as long as there is no file that says otherwise."""
    if event.message.startswith("bad") and not Path("mended").exists():
        raise ValueError(f"cannot take {event.message!r}")
    with open("taken", "a") as file:
        file.write(f"{event.message}|{event.id}|{event.context.get('replay', '')}\\n")
'''
SETTINGS = """
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]

[handler.h]
call = "handlers:on_event"
replies = false
retry = {max_attempts = 2, initial_interval = "10 ms", max_interval = "10 ms"}

[journal]
path = "journal"
"""


class Site:
    """A folder with settings and a handler, a server in it, and the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "handlers.py").write_text(HANDLERS)

    def server(self) -> Server:
        return Server(self.folder, SETTINGS, env={**os.environ, "PYTHONPATH": str(self.folder)})

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [beside_python("eventserver"), *words], cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def json(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self.run(*words, "--journal", "journal", "--json").splitlines()]

    def taken(self) -> list[list[str]]:
        return [line.split("|") for line in (self.folder / "taken").read_text().splitlines()]


def send(server: Server, *lines: str) -> None:
    with socket.create_connection(server.place("lines", "tcp"), timeout=DEADLINE) as peer:
        peer.sendall("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_dead_letter_is_found_mended_and_tried_again_and_history_replayed(site: Site) -> None:
    with site.server() as server:
        mode = (site.folder / "journal" / "control.sock").stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
        send(server, "good 1", "bad", "good 2")
        server.metrics_when("events_dead_lettered_total", 1)
        [dead] = site.json("deadletters", "list")
        assert (dead["message"], dead["handler"], dead["attempts"]) == ("bad", "h", 2)
        assert "ValueError: cannot take 'bad'" in site.run(
            "deadletters", "show", str(dead["number"]), "-c", "settings.toml"
        )

        (site.folder / "mended").touch()
        assert site.run("deadletters", "retry", "--all", "--journal", "journal").startswith("1 dead letter ")
        server.metrics_when("events_delivered_total", 3)
        assert site.run("deadletters", "list", "--journal", "journal") == "there are no dead letters\n"
        assert [message for message, _, _ in site.taken()] == ["good 1", "good 2", "bad"]

        [counted] = site.json("replay", "--handler", "h", "--from", "beginning", "--dry-run")
        assert (counted["frames"], counted["delivered"]) == (3, 3)
        out = site.run("replay", "--handler", "h", "--from", "1 h", "--match", 'startswith(message, "good")', "--wait",
                       "--journal", "journal")  # fmt: skip
        assert "replay 1 done: 2 delivered, 1 filtered, 0 dead-lettered" in out
        first, again = site.taken()[:2], site.taken()[3:]
        assert [(message, id) for message, id, _ in again] == [(message, id) for message, id, _ in first]
        assert {replay for _, _, replay in again} == {"1"}
        assert server.metrics().total("events_replayed_total", handler="h", outcome="delivered") == 2

        port = server.wait_for(r"admin: (http://127\.0\.0\.1:\d+)")[1]
        [cursor] = [json.loads(line) for line in site.run("journal", "cursors", "--admin", port, "--json").splitlines()]
        assert (cursor["name"], cursor["position"], cursor["lag"]) == ("h", 3, 0)
        assert "3 frames in" in site.run("journal", "verify", "--journal", "journal")
        assert "stop it first" in site.run("journal", "repair", "--journal", "journal", code=1)
        assert len(site.json("journal", "export")) == 3
        server.finish(allowed="handler h")
    assert not (site.folder / "journal" / "control.sock").exists()


def test_without_a_server_the_journal_itself_is_asked(site: Site) -> None:
    with site.server() as server:
        send(server, "bad 1", "bad 2", "good")
        server.metrics_when("events_dead_lettered_total", 2)
        server.finish(allowed="handler h")
    numbers = {one["message"]: str(one["number"]) for one in site.json("deadletters", "list")}
    assert sorted(numbers) == ["bad 1", "bad 2"]
    [info] = site.json("journal", "info")
    assert (info["committed"], info["dead"], len(info["segment"])) == (3, 2, 1)
    assert [report["ok"] for report in site.json("journal", "verify")] == [True]
    assert site.run("journal", "export", "--raw", "--journal", "journal") == "bad 1\nbad 2\ngood\n"
    assert "nothing had to be mended" in site.run("journal", "repair", "--journal", "journal")
    asked = site.run("replay", "--handler", "h", "--from", "0", "--dry-run", "--journal", "journal", code=1)
    assert "no server runs with this journal" in asked
    assert site.run("deadletters", "drop", numbers["bad 1"], "--journal", "journal") == "1 dead letter dropped\n"
    out = site.run("deadletters", "retry", "--all", "--journal", "journal")
    assert out == "1 dead letter will be tried when the server starts\n"
    (site.folder / "mended").touch()
    with site.server() as server:
        server.metrics_when("events_delivered_total", 1)
        assert [message for message, _, _ in site.taken()] == ["good", "bad 2"]
        assert site.run("deadletters", "list", "--journal", "journal") == "there are no dead letters\n"
        assert server.stop() == TERMINATED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_replay_goes_on_after_the_server_was_ended(site: Site, number: int) -> None:
    (site.folder / "mended").touch()
    lines = [f"line {n}" for n in range(300)]
    with site.server() as server:
        send(server, *lines)
        server.metrics_when("events_delivered_total", 300)
        site.run("replay", "--handler", "h", "--from", "0", "--rate", "100", "--journal", "journal")
        server.metrics_when("events_replayed_total", 50, outcome="delivered")
        server.send_signal(number)
        server.wait()
        assert server.trouble() == []
    assert (site.folder / "journal" / "control.sock").exists() == (number == signal.SIGKILL)
    with site.server() as server:
        while True:
            [replay] = site.json("replay", "list")
            if replay["state"] != "running":
                break
        assert replay["state"] == "done"
        again = [message for message, _, mark in site.taken() if mark]
        assert set(again) == set(lines)
        assert len(again) < 500, "it did not begin anew"
        assert server.stop() == TERMINATED


def test_a_server_without_a_journal_says_so(site: Site) -> None:
    with Server(site.folder, '[listener.x]\nendpoints = ["tcp:0:interface=127.0.0.1"]\n') as server:
        url = server.wait_for(r"admin: (http://127\.0\.0\.1:\d+)")[1]
        assert "there is no journal on disk" in site.run("deadletters", "list", "--admin", url, code=1)
        assert server.stop() == TERMINATED
