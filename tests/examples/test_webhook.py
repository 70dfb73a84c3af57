"""The webhooks of examples/webhook: the real server, and web servers that have their moods."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests import realprograms
from tests.realprograms import DEADLINE, Program


class Target(ThreadingHTTPServer):
    """A web server that answers with these statuses, the last of them for ever, and notes what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.posts: Queue[tuple[int, str, Any]] = Queue()
        super().__init__(("127.0.0.1", 0), _Request)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alarms"

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def next_post(self) -> tuple[int, str, list[str]]:
        """The status it was answered with, its key, and the messages in it."""
        status, key, events = self.posts.get(timeout=DEADLINE)
        return status, key, [event["message"] for event in events]


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        target = self.server
        assert isinstance(target, Target)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = target.statuses.pop(0) if len(target.statuses) > 1 else target.statuses[0]
        self.send_response(status)
        self.end_headers()
        target.posts.put((status, self.headers["Idempotency-Key"], json.loads(body)))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not a log."""


@pytest.fixture
def moody() -> Iterator[Target]:
    target = Target(503, 204)
    yield target
    target.end()


@pytest.fixture
def well() -> Iterator[Target]:
    target = Target(200)
    yield target
    target.end()


@pytest.fixture
def strict() -> Iterator[Target]:
    target = Target(404)
    yield target
    target.end()


def serve(folder: Path, port: int, *targets: Target) -> Program:
    settings = folder / "webhook" / "webhook.toml"
    settings.write_text(settings.read_text().replace("5514", str(port)))
    env = {**os.environ, "WEBHOOKS": ",".join(target.url for target in targets)}
    return Program(
        [realprograms.beside_python("eventserver"), "run", "-c", "webhook.toml"], cwd=folder / "webhook", env=env
    )


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
        peer.sendall(data)


def test_every_target_gets_alarms_and_one_that_is_down_is_tried_again(
    folder: Path, moody: Target, well: Target
) -> None:
    port = realprograms.free_port()
    with serve(folder, port, moody, well) as server:
        server.wait_for(r"listening on")
        send(port, b"<11>1 - host app - - - broken\n<14>1 - host app - - - all is well\n")
        first, again = moody.next_post(), moody.next_post()
        assert (first[0], again[0]) == (503, 204)
        assert first[1:] == again[1:], "the same events, with the same key"
        assert again[2] == ["broken"]
        assert [well.next_post()[1:] for _ in range(2)] == [first[1:]] * 2
        server.wait_for("well again")
        assert server.stop() == realprograms.TERMINATED


def test_events_that_are_refused_become_dead_letters(folder: Path, strict: Target) -> None:
    port = realprograms.free_port()
    with serve(folder, port, strict) as server:
        server.wait_for(r"listening on")
        send(port, b"<11>1 - host app - - - broken\n")
        assert strict.next_post()[0] == 404
        server.wait_for(r"gave up.*answered 404")
        server.stop()


def test_without_targets_the_server_does_not_start(folder: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "WEBHOOKS"}
    argv = [realprograms.beside_python("eventserver"), "run", "-c", "webhook.toml"]
    with Program(argv, cwd=folder / "webhook", env=env) as server:
        assert server.wait() == 1
        assert "WEBHOOKS" in server.output()
