"""statsd's and Datadog's clients, and the original statsd on the same input."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import datadog.dogstatsd
import pytest
import statsd

from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.real.statsd import Sink, Statsd

pytestmark = pytest.mark.real

LISTENERS = """
[listener.metrics]
endpoints = ["udp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1", "unix-datagram:datagram.sock"]
decoder = "statsd"
[listener.stream]
endpoints = ["unix:stream.sock"]
decoder = "statsd"
framing = "length"
byte_order = "little"
"""
CONSOLE = """
[handler.console]
type = "console"
"""
FIGURES = """
[handler.{name}]
type = "statsd"
to = "tcp:127.0.0.1:{port}"
flush_interval = "1 s"
percentiles = [50, 90, 99.9, -10]
{more}
"""

#: What both servers get, in one datagram so that it is in one interval: all that both understand in the same way.
INPUT = [
    b"page.views:1|c\npage.views:3|c|@0.1\npage.views:-2|c\nload:0.75|g\nload:+1.5|g\nload:-0.25|g",
    b"new gauge/x:-7|g\nnew gauge/x:+2|g\nempty:0|g\nsmall:0.0000125|g\nlarge:12345678901234567890|g",
    b"\n".join(b"api.time:%d.%d|ms" % (number * 37 % 101, number) for number in range(100)),
    b"one.time:12|ms\ntwo.time:1|ms|@0.5\ntwo.time:4|ms|@0.5\nmulti:1|c:2|c|@0.5:320|ms:7|g\nzero.time:0|ms",
    b"users:anna|s\nusers:ben|s\nusers:anna|s\nusers:|s",
    b"tagged:4|c|#env:prod,host:web-1\ntagged:6|c|#env:prod,host:web-1\ntagged:1|ms|@0.25|#env:a/b c\nt:1|g|#a:b",
    b"odd=name/b:1|c\ninside;env=x:2|c",
    b"bad\nbad:\nbad:x|c\nbad:1\nbad:-1|ms\n",
]


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    taking = Sink()
    try:
        yield taking
    finally:
        taking.close()


def with_input(each: Sink) -> list[dict[str, float]]:
    """The flush with the input, and those after it."""
    return [comparable(flush) for flush in each.flushes() if any("sets.users" in name for name in flush)]


def comparable(flush: dict[str, float]) -> dict[str, float]:
    """Without what a server says of itself."""
    return {name: value for name, value in flush.items() if "statsd." not in name}


def differences(one: dict[str, float], other: dict[str, float]) -> dict[str, tuple[float | None, float | None]]:
    """What is not the same in both."""
    return {name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)}


#: Settings of the original, and ours to the same end.
NAMINGS: list[tuple[dict[str, object], str]] = [
    ({}, ""),
    (
        {"legacyNamespace": False, "globalPrefix": "shop", "prefixCounter": "", "globalSuffix": "eu"},
        'names = {legacy = false, prefix = "shop", counters = "", suffix = "eu"}',
    ),
]


def test_figures_are_those_of_the_original(start: StartServer) -> None:
    """Names and values, in the interval with the input and in the idle one after it, as lines show them."""
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(sink()) for _ in range(4)]
        nodes = [
            stack.enter_context(Statsd(start.folder, f"statsd-{number}.js", theirs_to, theirs))
            for number, ((theirs, _), theirs_to) in enumerate(zip(NAMINGS, sinks[2:], strict=True))
        ]
        figures = "".join(
            FIGURES.format(name=f"figures{number}", port=sinks[number].port, more=ours)
            for number, (_, ours) in enumerate(NAMINGS)
        )
        server = start(LISTENERS + figures)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for place in (server.place("metrics", "udp"), *(("127.0.0.1", node.port) for node in nodes)):
                sender.sendto(b"\n".join(INPUT), place)
        for each in sinks:
            each.wait_for(lambda each=each: len(with_input(each)) >= 2)
        for ours, original in zip(sinks[:2], sinks[2:], strict=True):
            pairs = list(zip(with_input(ours)[:2], with_input(original)[:2], strict=True))
            assert [differences(*pair) for pair in pairs] == [{}, {}]
            assert len(pairs[0][0]) > 150
        server.finish()


def test_the_clients_of_python(start: StartServer, exchanges: Exchanges) -> None:
    """statsd, over UDP and TCP: what its methods send arrives."""
    server = start(LISTENERS + CONSOLE)
    host, port = server.place("metrics", "udp")
    udp = statsd.StatsClient(host, port, prefix="shop")
    with udp.pipeline() as pipe:
        pipe.incr("orders")
        pipe.decr("stock", 3)
        pipe.gauge("load", 0.5)
        pipe.gauge("load", 2, delta=True)
        pipe.timing("time", 320)
        pipe.set("users", "anna")
    udp._sock.close()
    client = statsd.TCPStatsClient(*server.place("metrics", "tcp"))
    client.incr("tcp", 7, rate=1)
    client.close()
    events = server.events(7)
    exchanges.note("statsd", "UDP and TCP", sent=7, received=len(events))
    found = {(event["fields"]["name"], event["fields"]["metric_type"], event["fields"]["value"]) for event in events}
    assert found == {
        ("shop.orders", "counter", 1), ("shop.stock", "counter", -3), ("shop.load", "gauge", 0.5),
        ("shop.load", "gauge", 2), ("shop.time", "timer", 320), ("shop.users", "set", "anna"), ("tcp", "counter", 7),
    }  # fmt: skip
    server.finish()


def send_all(client: Any) -> None:
    """One of each that Datadog's client can send."""
    client.increment("orders", 2, tags=["env:prod", "beta"])
    client.gauge("load", 0.5, cardinality="low")
    client.gauge_with_timestamp("at", 7, 1656581400)
    client.timing("time", 320)
    client.histogram("size", 12)
    client.distribution("bytes", 5, tags=["url:http://x/y"])
    client.set("users", "anna")
    client.event("Größe", "line 1\nline 2 | more", alert_type="error", tags=["a:b"], hostname="web-1")
    client.service_check("db.up", 2, message="no answer\nm: none", hostname="db-1", tags=["a:b"])
    client.flush()


TRANSPORTS = {"udp": "UDP", "unixgram": "unix datagram", "unixstream": "unix stream with lengths"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_datadogs_client(start: StartServer, transport: str, exchanges: Exchanges) -> None:
    server = start(LISTENERS + CONSOLE)
    options: dict[str, Any] = {"disable_telemetry": True, "origin_detection_enabled": False, "container_id": "ci-83c0"}
    if transport == "udp":
        host, port = server.place("metrics", "udp")
        options |= {"host": host, "port": port}
    else:
        listener, scheme = ("stream", "unix") if transport == "unixstream" else ("metrics", "unix-datagram")
        options["socket_path"] = f"{transport}://{server.place(listener, scheme)}"
    client = datadog.dogstatsd.DogStatsd(**options)
    send_all(client)
    client.stop()
    events = server.events(9)
    exchanges.note("datadog", TRANSPORTS[transport], sent=9, received=len(events))
    found = {event["fields"].get("name", "event"): event for event in events}
    fields = {name: {**event["fields"]} for name, event in found.items()}
    assert all(each.pop("container_id") == "ci-83c0" for each in fields.values())
    assert fields.pop("orders") == {
        "name": "orders", "value": 2, "metric_type": "counter", "tags": {"env": "prod", "beta": ""},
    }  # fmt: skip
    assert fields.pop("load") == {"name": "load", "value": 0.5, "metric_type": "gauge", "cardinality": "low"}
    assert fields.pop("at") == {"name": "at", "value": 7, "metric_type": "gauge", "timestamp": 1656581400}
    assert found["at"]["time"] == "2022-06-30T09:30:00Z"
    assert fields.pop("bytes")["tags"] == {"url": "http://x/y"}
    assert {name: each["metric_type"] for name, each in fields.items() if "metric_type" in each} == {
        "time": "timer", "size": "histogram", "users": "set",
    }  # fmt: skip
    assert (fields["event"]["title"], found["event"]["message"]) == ("Größe", "line 1\nline 2 | more")
    assert (fields["event"]["severity"], fields["event"]["hostname"]) == ("err", "web-1")
    assert (fields["db.up"]["status"], found["db.up"]["message"]) == ("critical", "no answer\nm: none")
    assert {found[name]["type"] for name in ("event", "db.up")} == {"statsd_event", "statsd_service_check"}
    server.finish()


def test_datadogs_client_aggregates_and_buffers(start: StartServer, exchanges: Exchanges) -> None:
    """Many lines in a datagram: each value of a distribution is an event, and counts were added up by the client."""
    server = start(LISTENERS + CONSOLE)
    host, port = server.place("metrics", "udp")
    client = datadog.dogstatsd.DogStatsd(host=host, port=port, disable_telemetry=True, disable_buffering=False)
    client.enable_aggregation(flush_interval=60, max_samples_per_context=1000)
    for number in range(500):
        client.distribution("latency", number)
        client.increment("orders")
    client.flush_aggregated_metrics()
    client.flush()
    client.stop()
    events = server.events(501)
    exchanges.note("datadog", "UDP, aggregated and buffered", sent=501, received=len(events))
    values = [event["fields"]["value"] for event in events if event["fields"]["name"] == "latency"]
    assert sorted(values) == list(range(500))
    assert sum(event["fields"]["value"] for event in events if event["fields"]["name"] == "orders") == 500
    assert server.finish().total("frames_received_total", listener="metrics") < 50


def test_prometheus_fetches_the_figures(start: StartServer) -> None:
    settings = """
    [handler.page]
    type = "statsd"
    endpoint = "tcp:0:interface=127.0.0.1"
    flush_interval = "200 ms"
    """
    server = start(LISTENERS + settings)
    where = server.wait_for(r"/metrics on tcp:([0-9.]+):(\d+)")
    client = statsd.StatsClient(*server.place("metrics", "udp"))
    client.incr("orders", 5)
    client._sock.close()
    page = fetch_until(where[1], int(where[2]), "orders_total")
    assert "# TYPE orders_total counter" in page
    assert "orders_total 5.0" in page
    server.finish()


def fetch_until(host: str, port: int, name: str) -> str:
    """The page, once it has the series: it is made anew five times a second."""
    for _ in range(10_000):
        connection = http.client.HTTPConnection(host, port, timeout=30)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        page = response.read().decode()
        connection.close()
        assert response.status == 200
        if f"\n{name}" in page:
            return page
    pytest.fail(f"no {name}: {page}")


def test_nothing_is_lost_between_server_and_graphite(start: StartServer) -> None:
    """Sums of counters over all flushes are what was sent; the last one comes when the server stops."""
    with sink() as mine:
        server = start(LISTENERS + FIGURES.format(name="figures", port=mine.port, more=""))
        send_thousands(server)
        server.metrics_when("events_delivered_total", 5000, handler="figures")
        server.finish()
        mine.wait_for(lambda: sum(flush.get("stats_counts.tcp.hits", 0) for flush in mine.flushes()) >= 10_000)
        assert sum(flush.get("stats_counts.tcp.hits", 0) for flush in mine.flushes()) == 10_000


def send_thousands(server: Server) -> None:
    with socket.create_connection(server.place("metrics", "tcp")) as sender:
        sender.sendall(b"tcp.hits:2|c\n" * 5000)
