"""graypy and pygelf, the GELF clients of Python: over UDP (plain, compressed, in chunks), TCP, TLS and HTTP."""

from __future__ import annotations

import gc
import gzip
import importlib
import logging
import re
import socket
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.server import Server
from tests.realprograms import find, required, run

pytestmark = [
    pytest.mark.real,
    # Over HTTP both packages leave their sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = """
[listener.gelf]
endpoints = ["udp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
decoder = "gelf"
tls = {{cert = "{cert}", key = "{key}"}}
[listener.web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "gelf"
paths = ["/gelf"]
[handler.console]
type = "console"
[journal]
path = "journal"
"""

RECORDS = 50
#: Datagrams that are refused, by the reason.
HOSTILE = {
    "oversize": gzip.compress(bytes(50 << 20), 9),
    "bad_compression": gzip.compress(b"{}")[:-1],
    "bad_chunk": b"\x1e\x0f",
}
#: Incompressible, and too large for any datagram.
LARGE = "".join(chr(33 + (number * number * 7919 + number) % 94) for number in range(90_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """One server for all of it: at the end its sums hold, and its log has no trouble."""
    cert, key = authority.server()
    with ExitStack() as stack:
        folder: Path = tmp_path_factory.mktemp("gelf")
        server = stack.enter_context(Server(folder, SETTINGS.format(cert=cert, key=key)))
        yield server
        server.finish()


def package(name: str) -> Any:
    """A client package."""
    if not required():
        pytest.importorskip(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its own imports are warned of
        return importlib.import_module(name)


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[logging.Logger]:
    """A logger whose records go to the handler, and to nothing else."""
    handler.handleError = _raise  # type: ignore[method-assign]
    logger = logging.Logger("shop.orders", logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()
        gc.collect()  # what it left open is warned of in this test, where nobody minds


def _raise(record: logging.LogRecord) -> None:
    """Instead of a traceback on standard error, after which a test would wait for what was never sent."""
    raise


def port_of(server: Server, kind: str) -> int:
    """Where a kind of handler sends to."""
    return server.port("web") if kind.upper() == "HTTP" else server.port("gelf", kind.lower())


def graypy(kind: str, **options: Any) -> Callable[[Server], logging.Handler]:
    """A handler of graypy."""

    def make(server: Server) -> logging.Handler:
        handler: logging.Handler = getattr(package("graypy"), f"GELF{kind}Handler")(
            "127.0.0.1", port_of(server, kind), localname="web1", **options
        )
        return handler

    return make


def pygelf(kind: str, **options: Any) -> Callable[[Server], logging.Handler]:
    """A handler of pygelf."""

    def make(server: Server) -> logging.Handler:
        handler: logging.Handler = getattr(package("pygelf"), f"Gelf{kind}Handler")(
            host="127.0.0.1", port=port_of(server, kind), include_extra_fields=True, debug=True, **options
        )
        return handler

    return make


#: graypy's handler for TLS is left out: it needs `ssl.wrap_socket`, which Python 3.12 has not.
CLIENTS = {
    "graypy UDP zlib": graypy("UDP"),
    "graypy UDP plain": graypy("UDP", compress=False),
    "graypy TCP": graypy("TCP"),
    "graypy HTTP zlib": graypy("HTTP"),
    "graypy HTTP plain": graypy("HTTP", compress=False),
    "pygelf UDP zlib": pygelf("Udp"),
    "pygelf UDP plain": pygelf("Udp", compress=False),
    "pygelf UDP chunks of 100": pygelf("Udp", compress=False, chunk_size=100),
    "pygelf TCP": pygelf("Tcp"),
    "pygelf TLS": pygelf("Tls"),
    "pygelf HTTP zlib": pygelf("Http"),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_records_arrive_with_level_time_and_fields(server: Server, client: str, exchanges: Exchanges) -> None:
    with logging_to(CLIENTS[client](server)) as logger:
        for number in range(RECORDS):
            logger.log((number % 5 + 1) * 10, "order %d: ünïcödé", number, extra={"order": number})
        # Before the client closes: with TLS 1.3 it has not read the server's session tickets, so that its kernel then
        # resets the connection, whatever is still on its way.
        events = in_order(server.events(RECORDS))
    assert [event["message"] for event in events] == [f"order {number}: ünïcödé" for number in range(RECORDS)]
    severities = ["debug", "info", "warning", "err", "crit"]
    assert [event["fields"]["severity"] for event in events[:5]] == severities
    assert all(event["type"] == "gelf" and event["fields"]["hostname"] for event in events)
    assert all(event["time"] < event["received"] for event in events)
    assert {event["peer"].rpartition(":")[0] for event in events} == {"127.0.0.1"}
    name, _, over = client.partition(" ")
    if name == "graypy":
        exchanges.note("graypy", f"GELF, {over}", sent=RECORDS, received=len(events))
    else:
        exchanges.note("pygelf", f"GELF, {over}", sent=RECORDS, received=len(events))


@pytest.mark.parametrize("client", [name for name in CLIENTS if "chunks" not in name])
def test_a_large_record_with_a_traceback_arrives_whole(server: Server, client: str) -> None:
    """Over UDP in as many chunks as the client makes; what it does not fit in 128 of them it does not send."""
    text = LARGE[:50_000] if "TCP" in client or "TLS" in client else LARGE
    with logging_to(CLIENTS[client](server)) as logger:
        try:
            raise ValueError("on purpose")
        except ValueError:
            logger.exception(text)
        event = server.event()
    assert event["message"] == text
    assert event["fields"]["full_message"].rstrip().endswith("ValueError: on purpose")


def test_curl_is_told_that_its_messages_are_safe(server: Server, exchanges: Exchanges) -> None:
    """202 for each request, compressed or not, of one message or of several lines; 404 off the path."""
    url = f"http://127.0.0.1:{server.port('web')}"
    lines = [b'{"version":"1.1","host":"web1","short_message":"%d","level":6}' % number for number in range(22)]
    requests = [lines[0], gzip.compress(lines[1]), zlib.compress(b"\n".join(lines[2:]))]
    before = server.metrics().total("frames_acknowledged_total")
    for path, body, status in [*(("/gelf", body, b"202") for body in requests), ("/other", lines[0], b"404")]:
        done = run([find("curl"), "-sS", "-o", "-", "-w", "%{http_code}", "--data-binary", "@-", url + path], body)
        assert done.stdout.endswith(status), done
        assert status == b"404" or done.stdout == status
    events = server.events(len(lines))
    assert [event["message"] for event in events] == [str(number) for number in range(len(lines))]
    acknowledged = server.metrics().total("frames_acknowledged_total") - before
    exchanges.note("curl", "GELF, HTTP", sent=len(lines), received=len(events), acknowledged=acknowledged)


def in_order(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted by their number: over HTTP each record has a connection of its own."""
    return sorted(events, key=lambda event: int(event["fields"]["order"]))


def wait_until_read(server: Server, port: int) -> None:
    """Until the kernel holds nothing for a UDP port, so that it drops nothing of what is sent then (proc(5))."""
    for _ in range(10_000):
        rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
        if all(int(row[4][9:], 16) == 0 for row in rows if int(row[1].rpartition(":")[2], 16) == port):
            return
        server.metrics()
    pytest.fail("the server does not read")


def test_under_attack_memory_is_bounded_and_an_honest_sender_gets_through(server: Server) -> None:
    """Chunks of messages that never end, bombs and garbage, each from many sources; every refusal is counted."""
    place = server.place("gelf", "udp")
    with ExitStack() as stack:
        evil = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(30)]
        for number, sock in enumerate(evil):
            sock.bind((f"127.0.1.{number + 1}", 0))
        logger = stack.enter_context(logging_to(CLIENTS["graypy UDP plain"](server)))
        for rounds in range(5):
            for number in range(2000):
                if number % 50 == 0:
                    wait_until_read(server, place[1])
                name = struct.pack(">II", rounds, number)
                evil[number % 30].sendto(b"\x1e\x0f" + name + b"\0\x80" + bytes(1000), place)
            for reason, datagram in HOSTILE.items():
                wait_until_read(server, place[1])
                before = server.metrics().total("frames_rejected_total", reason=reason)
                evil[0].sendto(datagram, place)
                server.metrics_when("frames_rejected_total", before + 1, reason=reason)
            logger.warning("honest %d %s", rounds, "x" * 5000)
            assert server.event()["message"].startswith(f"honest {rounds} ")
    assert server.metrics().total("frames_rejected_total", reason="chunks_evicted") > 1000
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 256 << 10
