"""HTTP with a journal on disk: what was answered 200 is there after kill -9, once, and its repeat is recognised."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server

pytestmark = pytest.mark.real

SETTINGS = """
[journal]
path = "journal"
[listener.web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "cloudevents"
[handler.console]
type = "console"
"""
READY = r"frames are kept in the journal"


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last start-up line with a journal."""
    monkeypatch.setattr("tests.real.server.READY", READY)


def ask(server: Server, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port("web"), timeout=30)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/", body, {"Content-Type": "application/cloudevents+json", **fields})
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def event(number: int) -> bytes:
    return json.dumps({"specversion": "1.0", "id": str(number), "source": "/s", "type": "t", "data": "x"}).encode()


def kill(server: Server) -> None:
    server.send_signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL


@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "k"}], ids=["source and id", "idempotency-key"])
def test_a_repeat_is_recognised_after_a_kill(start: StartServer, headers: dict[str, str]) -> None:
    """Killed as soon as the answer is there: whoever did not get it sends again."""
    for number in range(5):
        server = start(SETTINGS)
        assert ask(server, event(number), **headers | {"x": "1"}) == (200, {"accepted": 1, "duplicates": 0})
        kill(server)
        server = start(SETTINGS)
        assert ask(server, event(number), **headers) == (200, {"accepted": 0, "duplicates": 1})
        kill(server)
        headers = {name: value + "k" for name, value in headers.items()}


def test_what_was_answered_is_delivered_after_a_kill(start: StartServer, tmp_path: Path) -> None:
    server = start(SETTINGS + '[handler.file]\ntype = "file"\npath = "events.jsonl"\n')
    for number in range(50):
        assert ask(server, event(number))[0] == 200
    kill(server)
    server = start(SETTINGS + '[handler.file]\ntype = "file"\npath = "events.jsonl"\n')
    assert ask(server, event(50), x="1")[0] == 200
    server.stop()
    found = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {one["fields"]["id"] for one in found} >= {str(number) for number in range(50)}
    by_id = {one["id"]: one["fields"]["id"] for one in found}
    assert len(by_id) == len(set(by_id.values())), "what is delivered again has the same id"
