"""The file handler under log rotation: `mv`, then SIGHUP, as logrotate does it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import run

SETTINGS = """
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.archive]
type = "file"
path = "log/{name}"
"""


def send(server: Server, *lines: str) -> None:
    """Send lines, and wait until they are written."""
    before = server.metrics().total("events_delivered_total", handler="archive")
    with socket.create_connection(server.place("lines", "tcp")) as source:
        source.sendall("".join(f"{line}\n" for line in lines).encode())
    server.metrics_when("events_delivered_total", before + len(lines), handler="archive")


def messages(server: Server, name: str) -> list[str]:
    return [json.loads(line)["message"] for line in (server.folder / "log" / name).read_text().splitlines()]


def test_a_moved_file_is_opened_again_on_sighup(start: StartServer) -> None:
    """Until the signal, lines go on into the file that was moved; after it, into a new one. None is lost."""
    server = start(SETTINGS.replace("{name}", "events.jsonl"))
    log = server.folder / "log"
    send(server, "before")
    (log / "events.jsonl").rename(log / "events.jsonl.1")
    send(server, "between")
    assert not (log / "events.jsonl").exists()
    server.send_signal(signal.SIGHUP)
    server.wait_for("files are opened again")
    send(server, "after")
    assert messages(server, "events.jsonl.1") == ["before", "between"]
    assert messages(server, "events.jsonl") == ["after"]
    assert (log / "events.jsonl").stat().st_mode & 0o777 == 0o640
    server.finish()


@pytest.mark.real
def test_logrotate_moves_files_without_loss(real_program: Callable[[str], str], start: StartServer) -> None:
    """The three lines of configuration that every server's package brings."""
    server = start(SETTINGS.replace("{name}", "events.jsonl"))
    configuration = server.folder / "logrotate.conf"
    configuration.write_text(
        f'"{server.folder}/log/events.jsonl" {{\n  rotate 3\n  nocreate\n  postrotate\n'
        f"    kill -HUP {server.pid}\n  endscript\n}}\n"
    )
    configuration.chmod(0o644)
    send(server, "first")
    logrotate = [real_program("logrotate"), "--force", "--state", str(server.folder / "state"), str(configuration)]
    done = run(logrotate)
    assert (done.returncode, done.stderr) == (0, b"")
    server.wait_for("files are opened again")
    send(server, "second")
    assert messages(server, "events.jsonl.1") == ["first"]
    assert messages(server, "events.jsonl") == ["second"]
    server.finish()


def test_sighup_under_load_loses_nothing(start: StartServer) -> None:
    """Files are moved and the signal sent ten times while lines come in."""
    server = start(SETTINGS.replace("{name}", "events.jsonl"))
    log = server.folder / "log"
    lines = [f"line {number}" for number in range(10_000)]
    with socket.create_connection(server.place("lines", "tcp")) as source:
        for turn in range(10):
            source.sendall("".join(f"{line}\n" for line in lines[turn * 1000 : (turn + 1) * 1000]).encode())
            if (log / "events.jsonl").exists():
                (log / "events.jsonl").rename(log / f"events.jsonl.{turn}")
                server.send_signal(signal.SIGHUP)
    server.metrics_when("events_delivered_total", 10_000, handler="archive")
    server.finish()
    parts = sorted(log.iterdir(), key=lambda path: (path.suffix == ".jsonl", path.suffix))
    assert [message for path in parts for message in messages(server, path.name)] == lines


def test_values_of_a_path_never_leave_its_folder(start: StartServer) -> None:
    """A peer chooses the name of its file, and nothing above it."""
    settings = SETTINGS.replace("{name}", "{host}/{message}.log").replace("[handler", 'decoder = "json"\n[handler', 1)
    server = start(settings.replace("[listener", "[listener", 1))
    hostile = [
        {"message": "../../etc/passwd", "host": ".."},
        {"message": "plain", "host": "web1"},
        {"message": "/abs", "host": "a/../../b"},
        {"message": "\0\n", "host": ""},
    ]
    send(server, *map(json.dumps, hostile))
    root = server.folder
    assert sorted(path.name for path in root.iterdir()) == ["log", "settings.toml"]
    written = [path for path in (root / "log").rglob("*") if path.is_file()]
    assert len(written) == len(hostile)
    assert root / "log" / "web1" / "plain.log" in written
    server.finish()


def test_raw_lines_are_written_as_they_came(start: StartServer) -> None:
    server = start(SETTINGS.replace("{name}", '{listener}.log"\nformat = "raw'))
    send(server, "one", "zwei ü", "")
    assert (server.folder / "log" / "lines.log").read_bytes() == "one\nzwei ü\n\n".encode()
    server.finish()
