"""curl and Python's http.client: events that are posted, with everything that people use these with."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import run

pytestmark = pytest.mark.real

SETTINGS = """
[listener.web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "{decoder}"
{more}
[handler.console]
type = "console"
"""


@pytest.fixture
def curl(real_program: Callable[[str], str]) -> str:
    return real_program("curl")


def settings(decoder: str = "text", more: str = "") -> str:
    return SETTINGS.format(decoder=decoder, more=more)


def ask(curl: str, server: Server, words: Sequence[str], data: bytes = b"", path: str = "/") -> tuple[int, str]:
    """The status and the body of curl's request."""
    url = f"http://127.0.0.1:{server.port('web')}{path}"
    done = run([curl, "-sS", "-w", "\n%{http_code}", *words, url], data)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), body


def test_one_event_and_many(curl: str, start: StartServer, exchanges: Exchanges) -> None:
    server = start(settings())
    assert ask(curl, server, ["-d", "hello"]) == (200, '{"accepted":1,"duplicates":0}')
    lines = b"".join(b"line %d\n" % number for number in range(10_000))
    ndjson = ["--data-binary", "@-", "-H", "Content-Type: application/x-ndjson"]
    assert ask(curl, server, ndjson, lines, "/bulk") == (200, '{"accepted":10000,"duplicates":0}')
    events = server.events(10_001)
    assert [event["message"] for event in events] == ["hello", *(f"line {number}" for number in range(10_000))]
    assert [events[number]["context"] for number in (0, 1)] == [{"path": "/"}, {"path": "/bulk"}]
    acknowledged = server.finish().total("frames_acknowledged_total")
    exchanges.note("curl", "HTTP", sent=10_001, received=len(events), acknowledged=acknowledged)


def test_bodies_in_chunks_compressed_and_after_100_continue(curl: str, start: StartServer) -> None:
    server = start(settings())
    text = "x" * 300_000
    chunks = ["--data-binary", "@-", "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: text/plain"]
    assert ask(curl, server, chunks, text.encode())[0] == 200
    packed = ["--data-binary", "@-", "-H", "Content-Encoding: gzip"]
    assert ask(curl, server, packed, gzip.compress(b"packed"))[0] == 200
    expects = ["--data-binary", "@-", "-H", "Expect: 100-continue", "--expect100-timeout", "50"]
    assert ask(curl, server, expects, b"after 100")[0] == 200
    assert [event["message"] for event in server.events(3)] == [text, "packed", "after 100"]
    server.finish()


def test_a_json_array_and_cloudevents(curl: str, start: StartServer) -> None:
    server = start(settings("cloudevents"))
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order", "data": "structured"}
    structured = ["-d", json.dumps(event), "-H", "Content-Type: application/cloudevents+json"]
    assert ask(curl, server, structured)[0] == 200
    names = ["-H", "ce-specversion: 1.0", "-H", "ce-id: 2", "-H", "ce-source: /shop", "-H", "ce-type: order"]
    assert ask(curl, server, [*names, "-H", "Content-Type: text/plain", "-d", "binary"])[0] == 200
    batch = json.dumps([{**event, "id": "3", "data": "batch"}, event])
    status, body = ask(curl, server, ["-d", batch, "-H", "Content-Type: application/cloudevents-batch+json"])
    assert (status, json.loads(body)) == (200, {"accepted": 1, "duplicates": 1})
    events = server.events(3)
    assert [(event["type"], event["message"]) for event in events] == [
        ("order", "structured"),
        ("order", "binary"),
        ("order", "batch"),
    ]
    assert server.finish().total("frames_duplicate_total") == 1


def test_what_is_too_large_gets_its_answer_in_time(curl: str, start: StartServer, tmp_path: Path) -> None:
    """Before it was sent where it says so, and else as soon as it is; curl gets to read the answer, and goes on."""
    server = start(settings(more='max_body = "64 KiB"'))
    large = tmp_path / "large"
    large.write_bytes(bytes(3 << 20))
    post = ["--data-binary", f"@{large}"]
    assert ask(curl, server, post)[0] == 413
    assert ask(curl, server, [*post, "-H", "Transfer-Encoding: chunked"])[0] == 413
    assert ask(curl, server, [*post, "-H", "Expect:"])[0] == 413
    assert ask(curl, server, ["-d", "small"])[0] == 200
    assert server.event()["message"] == "small"
    assert server.finish().total("frames_rejected_total", reason="oversize") == 3


def test_a_token_and_paths(curl: str, start: StartServer) -> None:
    server = start(settings(more='token = "0123456789abcdef"\npaths = ["/in"]'))
    token = ["-H", "Authorization: Bearer 0123456789abcdef"]
    assert ask(curl, server, ["-d", "x"], path="/in")[0] == 401
    assert ask(curl, server, ["-d", "x", *token], path="/out")[0] == 404
    assert ask(curl, server, token, path="/in")[0] == 405
    assert ask(curl, server, ["-d", "x", *token], path="/in")[0] == 200
    assert len(server.events(1)) == 1
    server.finish()


def test_a_repeat_with_an_idempotency_key(curl: str, start: StartServer) -> None:
    server = start(settings())
    key = ["-H", "Idempotency-Key: 8e03978e", "-d", "once"]
    assert json.loads(ask(curl, server, key)[1]) == {"accepted": 1, "duplicates": 0}
    assert json.loads(ask(curl, server, key)[1]) == {"accepted": 0, "duplicates": 1}
    assert server.event()["message"] == "once"
    assert server.finish().total("frames_journaled_total") == 1


def test_tls_with_a_clients_certificate(curl: str, start: StartServer, authority: Authority) -> None:
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}"}}'
    server = start(settings(more=tls).replace("tcp:0", "tls:0"))
    url = f"https://127.0.0.1:{server.port('web', 'tls')}/"
    client_cert, client_key = authority.issue("web1")
    who = ["--cert", client_cert, "--key", client_key]
    done = run([curl, "-sS", "--cacert", authority.ca, *who, "-d", "hello", url])
    assert json.loads(done.stdout) == {"accepted": 1, "duplicates": 0}, done.stderr
    assert server.events(1)[0]["context"] == {"path": "/", "tls": {"subject": "web1"}}
    assert run([curl, "-sS", "--cacert", authority.ca, "-d", "hello", url]).returncode != 0
    server.finish()


def test_a_handlers_answer_is_the_response(curl: str, start: StartServer, tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text("def greet(event):\n    return {'hello': event.message}\n")
    handler = '[handler.greet]\ncall = "greeting:greet"\nreplies = true\n'
    server = start(settings() + handler, env={"PYTHONPATH": str(tmp_path)})
    assert ask(curl, server, ["-d", "world"]) == (200, '{"hello":"world"}')
    assert server.event()["message"] == "world"
    server.finish()


def test_python_keeps_its_connection(start: StartServer, exchanges: Exchanges) -> None:
    server = start(settings())
    connection = http.client.HTTPConnection("127.0.0.1", server.port("web"), timeout=20)
    for number in range(200):
        connection.request("POST", "/", f"event {number}", {"Content-Type": "text/plain"})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["accepted"]) == (200, 1)
    connection.request("POST", "/", iter([b"in ", b"chunks"]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    events = server.events(201)
    assert [event["message"] for event in events][-2:] == ["event 199", "in chunks"]
    metrics = server.metrics_when("connections", 0, listener="web")
    assert metrics.total("connections_accepted_total", listener="web") == 1
    acknowledged = server.finish().total("frames_acknowledged_total")
    exchanges.note("Python http.client", "HTTP", sent=201, received=len(events), acknowledged=acknowledged)
