"""pylogbeat, a client of the Beats protocol: every event arrives, in the clear and over TLS, and through a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.lumberjack import node_lumberjack
from tests.real.server import Metrics
from tests.realprograms import find, free_port, required, run

pytestmark = pytest.mark.real

WINDOWS, WINDOW = 20, 100

SETTINGS = """
[listener.beats]
type = "lumberjack"
endpoints = ["{scheme}:{port}:interface=127.0.0.1"]
time_key = "@timestamp"
{more}
[handler.console]
type = "console"
[journal]
path = "{path}"
"""


@pytest.fixture
def beats() -> Any:
    """The package pylogbeat."""
    if required():
        import pylogbeat

        return pylogbeat
    return pytest.importorskip("pylogbeat")


def windows() -> Iterator[list[dict[str, Any]]]:
    """Events as Beats make them."""
    for first in range(0, WINDOWS * WINDOW, WINDOW):
        yield [
            {
                "@timestamp": "2026-02-03T04:05:06.789Z",
                "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.19.0"},
                "message": f"message {number} of many: ünïcödé",
                "host": {"name": f"web{number % 7}"},
                "number": number,
            }
            for number in range(first, first + WINDOW)
        ]


def numbers(lines: Iterable[str]) -> list[int]:
    return [json.loads(line)["fields"]["number"] for line in lines]


def everything_was_acknowledged(metrics: Metrics) -> None:
    assert metrics.total("frames_acknowledged_total") == metrics.total("frames_received_total") == WINDOWS * WINDOW
    assert metrics.total("frames_rejected_total") == 0


def note(exchanges: Exchanges, over: str, received: int, metrics: Metrics) -> None:
    """For the table of clients."""
    acknowledged = metrics.total("frames_acknowledged_total")
    exchanges.note("pylogbeat", over, sent=WINDOWS * WINDOW, received=received, acknowledged=acknowledged)


def test_windows_are_acknowledged_when_they_are_on_disk(
    beats: Any, start: StartServer, tmp_path: Path, exchanges: Exchanges
) -> None:
    """In order, once each; `send` returns when the number of the last event was acknowledged."""
    server = start(SETTINGS.format(scheme="tcp", port=0, more="", path=tmp_path / "journal"))
    with beats.PyLogBeatClient("127.0.0.1", server.port("beats"), timeout=30) as client:
        for events in windows():
            client.send(events)
    [first, *rest] = server.events(WINDOWS * WINDOW)
    assert first["message"] == "message 0 of many: ünïcödé"
    assert first["time"] == "2026-02-03T04:05:06.789000Z"
    assert first["fields"]["host"] == {"name": "web0"}
    assert [event["fields"]["number"] for event in rest] == list(range(1, WINDOWS * WINDOW))
    metrics = server.finish()
    everything_was_acknowledged(metrics)
    note(exchanges, "Lumberjack v2, TCP", len(rest) + 1, metrics)


def test_over_tls_with_certificates_on_both_sides(
    beats: Any, start: StartServer, authority: Authority, tmp_path: Path, exchanges: Exchanges
) -> None:
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}", client_names = ["web1"]}}'
    server = start(SETTINGS.format(scheme="tls", port=0, more=tls, path=tmp_path / "journal"))
    my_cert, my_key = authority.issue("web1")
    client = beats.PyLogBeatClient(
        "127.0.0.1",
        server.port("beats", "tls"),
        timeout=30,
        ssl_enable=True,
        ca_certs=authority.ca,
        certfile=my_cert,
        keyfile=my_key,
    )
    with client:
        for events in windows():
            client.send(events)
    found = server.events(WINDOWS * WINDOW)
    assert {event["context"]["tls"]["subject"] for event in found} == {"web1"}
    metrics = server.finish()
    everything_was_acknowledged(metrics)
    note(exchanges, "Lumberjack v2, TLS", len(found), metrics)


def test_what_was_acknowledged_survives_a_kill(beats: Any, start: StartServer, tmp_path: Path) -> None:
    """And what was not is sent again by whoever uses the client."""
    settings = SETTINGS.format(scheme="tcp", port=free_port(), more="", path=tmp_path / "journal")
    server = start(settings, "life0")
    port = server.port("beats")
    found: list[int] = []
    client = beats.PyLogBeatClient("127.0.0.1", port, timeout=30)
    for number, events in enumerate(windows()):
        if number == WINDOWS // 2:
            server.__exit__(None, None, None)
            left = server.lines_left()
            if left and not left[-1].endswith("}"):
                left.pop()  # the kill came in the middle of a write
            found += numbers(left)
            with pytest.raises((OSError, beats.ConnectionException)):
                client.send(events)
            with contextlib.suppress(OSError):
                client.close()
            server = start(settings, "life1")
            client = beats.PyLogBeatClient("127.0.0.1", port, timeout=30)
        client.send(events)
    client.close()
    while len(set(found)) < WINDOWS * WINDOW:
        found += numbers(server.lines(1))
    assert set(found) == set(range(WINDOWS * WINDOW))
    server.balanced()


#: Announces a window of 100 events once, sends them one by one, and goes when the last number was acknowledged.
SCRIPT = """
const ClientSocket = require(process.argv[2] + "/lib/ClientSocket");
const { port, count, ca } = JSON.parse(process.argv[3]);
const client = new ClientSocket({ windowSize: 100 });
const acks = [];
client.on("ack", (number) => {
  acks.push(number);
  if (number === count) {
    console.log(JSON.stringify(acks));
    client.close();
    process.exit(0);
  }
});
client.on("error", (error) => { console.error(error); process.exit(1); });
client.on("connect", () => {
  for (let number = 0; number < count; number += 1) {
    client.writeDataFrame({ line: "message " + number, host: "web1", offset: String(number) }, () => {});
  }
});
client.connect({ host: "127.0.0.1", servername: "localhost", port, ca: require("fs").readFileSync(ca) });
"""


def test_version_1_of_node(start: StartServer, authority: Authority, tmp_path: Path, exchanges: Exchanges) -> None:
    """Of each window only the end is acknowledged, however it comes."""
    package, count = node_lumberjack(), 500
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}"}}'
    server = start(SETTINGS.format(scheme="tls", port=0, more=tls, path=tmp_path / "journal"))
    told = json.dumps({"port": server.port("beats", "tls"), "count": count, "ca": authority.ca})
    done = run([find("node"), "-e", SCRIPT, "client", str(package), told])
    assert json.loads(done.stdout) == [100, 200, 300, 400, 500], done.stderr
    found = server.events(count)
    assert [event["fields"]["line"] for event in found] == [f"message {number}" for number in range(count)]
    assert found[0]["fields"] == {"line": "message 0", "host": "web1", "offset": "0"}
    acknowledged = server.finish().total("frames_acknowledged_total")
    exchanges.note(
        "lumberjack-protocol", "Lumberjack v1, TLS", sent=count, received=len(found), acknowledged=acknowledged
    )
