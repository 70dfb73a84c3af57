"""Carbon's relay, and in it carbon's client, in both of its protocols, and statsd: they send to us as to a carbon."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.real.carbon import Relay
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.statsd import Statsd
from tests.realprograms import free_port

pytestmark = pytest.mark.real

DATAPOINTS = 1000
NEW_YEAR = 1767225600

SETTINGS = """
[listener.plain]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
decoder = "graphite"
[listener.pickle]
endpoints = ["tcp:0:interface=127.0.0.1"]
framing = "length"
max_frame = "1 MiB"
decoder = "graphite"
protocol = "pickle"
[handler.console]
type = "console"
"""

RELAY = """
[relay]
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
PICKLE_RECEIVER_PORT = 0
RELAY_METHOD = consistent-hashing
DESTINATIONS = 127.0.0.1:{to}:a
DESTINATION_PROTOCOL = {protocol}
CARBON_METRIC_INTERVAL = 0
"""


def path(number: int) -> str:
    tags = f";dc=fra;rack=r{number % 3}" if number % 2 else ""
    return f"servers.web{number % 10}.load{tags}"


def line(number: int) -> bytes:
    return f"{path(number)} {number}.25 {NEW_YEAR + number}\n".encode()


@pytest.mark.parametrize(("protocol", "listener"), [("line", "plain"), ("pickle", "pickle")])
def test_what_a_relay_takes_in_arrives(
    start: StartServer, tmp_path: Path, protocol: str, listener: str, exchanges: Exchanges
) -> None:
    server = start(SETTINGS)
    port = free_port()
    configuration = RELAY.format(port=port, to=server.port(listener), protocol=protocol)
    with Relay(tmp_path / "relay", configuration) as relay:
        relay.wait_for("Destination is up")
        with socket.create_connection(("127.0.0.1", port), 60) as source:
            source.sendall(b"".join(line(number) for number in range(DATAPOINTS)))
        events = server.events(DATAPOINTS)
        # Another order than it took them in would be carbon's right; with one destination it keeps it.
        for number, event in enumerate(events):
            name, _, tags = path(number).partition(";")
            fields = {"name": name, "value": number + 0.25}
            if tags:
                fields["tags"] = dict(tag.split("=") for tag in tags.split(";"))
            assert event["fields"] == fields
            assert event["message"] == f"{path(number)} {number}.25"
            minutes, seconds = divmod(number, 60)
            assert event["time"] == f"2026-01-01T00:{minutes:02}:{seconds:02}Z"
            assert (event["type"], event["listener"]) == ("graphite", listener)
        assert relay.stop() in (0, -15), relay.output()
    metrics = server.finish()
    exchanges.note("carbon", f"relay, {protocol} protocol", sent=DATAPOINTS, received=len(events))
    frames = metrics.total("frames_received_total", listener=listener)
    # Carbon puts up to 500 datapoints into a pickle.
    assert frames == DATAPOINTS if protocol == "line" else 2 <= frames < DATAPOINTS


def test_what_statsd_writes_for_graphite(start: StartServer, tmp_path: Path) -> None:
    """The original statsd flushes to us; every line is a datapoint."""
    server = start(SETTINGS)
    to: Any = SimpleNamespace(port=server.port("plain"))
    with (
        Statsd(tmp_path, "statsd.js", to, {"legacyNamespace": False}) as statsd,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        found: dict[str, Any] = {}
        for _ in range(500):
            event = server.event()
            assert event["type"] == "graphite", event
            name = event["fields"]["name"]
            found[name] = event["fields"]
            if name == "stats.statsd.numStats":
                if "stats.gauges.load" in found:
                    break
                # It says that it is up before it has its port.
                source.sendto(b"logins:3|c\npage:320|ms\nload:0.25|g|#dc:fra", ("127.0.0.1", statsd.port))
    assert found["stats.counters.logins.count"]["value"] in (3, 6, 9, 12), "several times in one flush, if slow"
    assert found["stats.timers.page.upper_90"]["value"] == 320
    assert found["stats.gauges.load"] == {"name": "stats.gauges.load", "value": 0.25, "tags": {"dc": "fra"}}
    server.balanced()


def test_a_datagram_of_lines_and_a_line_that_is_none(start: StartServer) -> None:
    server = start(SETTINGS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.sendto(line(0) + b"nonsense\n" + line(2), server.place("plain", "udp"))
    first, second, wrong = server.events(3)
    assert (first["message"], second["message"]) == ("servers.web0.load 0.25", "servers.web2.load 2.25")
    assert wrong["type"] == "undecodable"
    assert [event["id"].rpartition("-")[2] for event in (first, second, wrong)] == ["0", "0.1", "0.2"]
    server.finish()


def test_a_pickle_that_would_make_a_folder_makes_none(start: StartServer, tmp_path: Path) -> None:
    """And the connection goes on with the next one."""
    server = start(SETTINGS)
    made = tmp_path / "made"
    evil = b"\x80\x02cos\nmkdir\nX" + len(str(made)).to_bytes(4, "little") + str(made).encode() + b"\x85R."
    good = b"\x80\x02]X\x01\0\0\0aJ\x00\xb9UiK\x07\x86\x86a."
    with socket.create_connection(server.place("pickle", "tcp"), 60) as source:
        source.sendall(b"".join(len(each).to_bytes(4, "big") + each for each in (evil, good)))
        wrong, right = server.events(2)
    assert wrong["fields"] == {"error": "byte 2 of the pickle is GLOBAL, which is more than data"}
    assert (right["message"], right["time"]) == ("a 7.0", "2026-01-01T00:00:00Z")
    assert not made.exists()
    server.finish()
