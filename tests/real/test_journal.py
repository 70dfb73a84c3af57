"""`[journal]` with the real server, killed and stopped while senders of plain TCP go on."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import DEADLINE, TERMINATED, beside_python, run

SETTINGS = """
[journal]
path = "journal"
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.archive]
type = "file"
path = "events.jsonl"
read_from = "beginning"
"""


class Sender:
    """Sends numbered lines on one connection, until the server closes it."""

    def __init__(self, server: Server) -> None:
        self.sent = 0
        self._socket = socket.create_connection(server.place("lines", "tcp"))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                lines = "".join(f"{number}\n" for number in range(self.sent, self.sent + 100))
                self._socket.sendall(lines.encode())
                self.sent += 100
        except OSError:
            pass

    def ended(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self._socket.close()


def messages(folder: Path) -> list[str]:
    """What was written; every line is whole."""
    return [json.loads(line)["message"] for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_committed_is_written_after_the_end_and_nothing_is_missing_between(
    start: StartServer, how: signal.Signals
) -> None:
    """Plain TCP acknowledges nothing, so the end is missing; what is there has no gaps, and no half lines."""
    server = start(SETTINGS)
    sender = Sender(server)
    server.metrics_when("journal_committed", 2000)
    assert server.stop(how) == -how
    sender.ended()
    again = start(SETTINGS)
    head = again.metrics().total("journal_head")
    assert head >= 2000
    again.metrics_when("journal_cursor", head, handler="archive")
    again.balanced()
    assert again.stop() == TERMINATED
    found = messages(again.folder)
    numbers = sorted({int(message) for message in found if message})
    # The last one may be cut off where the stream was.
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert head - 1 <= len(numbers) <= head
    assert again.trouble("") == []


def test_sigterm_loses_nothing_of_what_was_read(start: StartServer) -> None:
    """Every line that came before the signal, of many connections, some without their end."""
    server = start(SETTINGS.replace('type = "file"', 'type = "file"\nbatch = {max_events = 1}'))
    connections = [socket.create_connection(server.place("lines", "tcp")) for _ in range(20)]
    for number, connection in enumerate(connections):
        connection.sendall("".join(f"{number}-{line}\n" for line in range(50)).encode() + b"tail")
    server.metrics_when("received_bytes_total", sum(len(f"{n}-{i}\n") for n in range(20) for i in range(50)) + 80)
    assert server.stop() == TERMINATED
    again = start(SETTINGS)
    again.metrics_when("journal_cursor", 1020, handler="archive")
    assert again.stop() == TERMINATED
    found = messages(again.folder)
    assert {*found} == {f"{number}-{line}" for number in range(20) for line in range(50)} | {"tail"}
    assert again.trouble("") == []
    for connection in connections:
        connection.close()


def test_a_second_server_on_the_journal_ends_with_a_sentence(start: StartServer) -> None:
    server = start(SETTINGS)
    command = [beside_python("twistd"), "-n", "eventserver", "--journal", str(server.folder / "journal")]
    done = run([*command, "--listen", "tcp:0:interface=127.0.0.1", "--handler", "null"])
    assert done.returncode == 1
    assert b"Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.decode().splitlines() if " error " in line]
    assert "journal.path: " in line
    assert "another server" in line
    server.finish()
