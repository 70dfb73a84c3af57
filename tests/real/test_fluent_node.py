"""@fluent-org/logger on Node: every mode, each message acknowledged, and the handshake with users."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.clients import Exchanges
from tests.real.forward import node_logger
from tests.real.server import Server
from tests.realprograms import find, run

pytestmark = pytest.mark.real

COUNT = 500
SETTINGS = """
[listener.open]
type = "fluent"
endpoints = ["tcp:0:interface=127.0.0.1"]
[listener.closed]
type = "fluent"
endpoints = ["tcp:0:interface=127.0.0.1"]
shared_key = "the key"
users = {web = "secret"}
[handler.console]
type = "console"
"""

#: Sends events, waits for all acknowledgements, and prints how many there were and how many failed.
SCRIPT = """
const { FluentClient } = require(process.argv[2]);
const { port, count, options } = JSON.parse(process.argv[3]);
const client = new FluentClient("node", {
  socket: { host: "127.0.0.1", port, timeout: 10000, disableReconnect: true }, ack: { ackTimeout: 10000 }, ...options,
});
let acknowledged = 0, failed = 0;
const sent = [];
client.connect().catch(() => {});
for (let n = 0; n < count; n++)
  sent.push(client.emit("app", { message: "message " + n, n }).then(() => acknowledged++, () => failed++));
process.on("exit", () => console.log(JSON.stringify({ acknowledged, failed })));
Promise.all(sent).then(() => client.shutdown()).then(() => process.exit(0));
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("forward"), SETTINGS) as server:
        yield server
        server.finish()


Send = Callable[..., dict[str, int]]


@pytest.fixture
def send(server: Server, tmp_path: Path) -> Send:
    """Runs the client to its end; what it says of acknowledgements."""
    package = node_logger()

    def send(listener: str, count: int, **options: Any) -> dict[str, int]:
        given = {"port": server.port(listener), "count": count, "options": options}
        (tmp_path / "client.js").write_text(SCRIPT)
        done = run([find("node"), str(tmp_path / "client.js"), str(package), json.dumps(given)])
        assert done.returncode == 0, done.stderr.decode()
        answer: dict[str, int] = json.loads(done.stdout)
        return answer

    return send


@pytest.mark.parametrize("mode", ["Message", "Forward", "PackedForward", "CompressedPackedForward"])
def test_every_mode_is_acknowledged(server: Server, send: Send, mode: str, exchanges: Exchanges) -> None:
    before = server.metrics().total("frames_acknowledged_total")
    said = send("open", COUNT, eventMode=mode)
    assert said == {"acknowledged": COUNT, "failed": 0}
    events = server.events(COUNT)
    assert [event["fields"]["n"] for event in events] == list(range(COUNT))
    assert {event["context"]["tag"] for event in events} == {"node.app"}
    assert server.metrics().total("frames_acknowledged_total") == before + COUNT
    acknowledged = said["acknowledged"]
    exchanges.note("@fluent-org/logger", mode, sent=COUNT, received=len(events), acknowledged=acknowledged)


def test_the_handshake(server: Server, send: Send) -> None:
    security = {"clientHostname": "web1", "sharedKey": "the key", "username": "web", "password": "secret"}
    assert send("closed", 3, security=security) == {"acknowledged": 3, "failed": 0}
    assert [event["context"] for event in server.events(3)] == [{"tag": "node.app", "user": "web"}] * 3


@pytest.mark.parametrize("wrong", [{"sharedKey": "x"}, {"password": "x"}])
def test_who_does_not_know_the_secret_sends_nothing(server: Server, send: Send, wrong: dict[str, str]) -> None:
    security = {"clientHostname": "web1", "sharedKey": "the key", "username": "web", "password": "secret"} | wrong
    assert send("closed", 1, security=security)["acknowledged"] == 0
    assert server.metrics().total("connections_closed_total", reason="not_authorized") > 0
    assert server.no_more()
