"""Datagrams with a PROXY header each: real sockets on loopback, read by a reactor without a loop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger

from eventserver.counters import ListenerCounters
from eventserver.listeners._ingest import Ingest
from eventserver.listeners._proxy_datagrams import ProxyHeaders
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners.datagram import DatagramListener
from eventserver.options import Size
from eventserver.thinned_log import ThinnedLog
from tests.listeners.fakes import FakeConnections, FakeIntake, MemoryReactor, lines, make_context
from tests.listeners.proxyheaders import DATAGRAM, local, tlv, v2, v2_head

HERE, OTHER, THERE = ("192.0.2.7", 51123), ("192.0.2.8", 51123), ("198.51.100.1", 5140)
FROM_HERE, FROM_OTHER = v2(HERE, THERE, transport=DATAGRAM), v2(OTHER, THERE, transport=DATAGRAM)


Start = Callable[..., tuple[DatagramListener, Any]]


@pytest.fixture
def start(
    reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, connections: FakeConnections
) -> Iterator[Start]:
    """Starts listeners that trust loopback and unix sockets; gives them with their places."""
    started: list[DatagramListener] = []

    def make(
        endpoint: str = "udp:0:interface=127.0.0.1",
        trusted: tuple[str, ...] = ("127.0.0.0/8", "unix"),
        options: dict[str, Any] | None = None,
        **context: Any,
    ) -> tuple[DatagramListener, Any]:
        context = {"intake": intake, "connections": connections, **context}
        proxy = ProxyOptions(trusted=trusted, max_header=Size(512))
        made = DatagramListener.Options(endpoints=(endpoint,), proxy_protocol=proxy, **(options or {}))
        listener = DatagramListener(made, make_context(reactor, counters, **context))
        listener.startService()
        started.append(listener)
        [address] = listener.addresses()
        place = address.partition(":")[2]
        return listener, place if endpoint.startswith("unix") else ("127.0.0.1", int(place.rpartition(":")[2]))

    yield make
    for listener in started:
        listener.stopService()


@pytest.fixture
def proxy() -> Iterator[socket.socket]:
    """A proxy's socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(60)
        yield sock


def test_each_datagram_names_its_peer(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, proxy: socket.socket
) -> None:
    """One batch, since the proxy says the same of all of them besides."""
    _listener, place = start(batch_context={"labels": {"site": "hq"}})
    for data in (FROM_HERE + b"a", FROM_OTHER + b"b\n", FROM_HERE + b"c"):
        proxy.sendto(data, place)
    reactor.read_all()
    [batch] = intake.batches
    assert batch.frames == [b"a", b"b", b"c"]
    assert list(batch.peers) == ["192.0.2.7:51123", "192.0.2.8:51123", "192.0.2.7:51123"]
    assert batch.context == {
        "labels": {"site": "hq"},
        "proxy": {"address": "127.0.0.1", "destination": "198.51.100.1:5140"},
    }
    assert counters.bytes == 3 * 28 + 4


def test_what_else_the_proxy_says_divides_batches(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, proxy: socket.socket
) -> None:
    _listener, place = start()
    one, two = (v2(HERE, THERE, tlv(5, unique), DATAGRAM) for unique in (b"1", b"2"))
    for data in (one + b"a", two + b"b", one + b"c", local() + b"d"):
        proxy.sendto(data, place)
    reactor.read_all()
    assert [(batch.context.get("proxy", {}).get("unique_id"), batch.frames) for batch in intake.batches] == [
        ("1", [b"a", b"c"]),
        ("2", [b"b"]),
        (None, [b"d"]),
    ]
    assert intake.peers == ["192.0.2.7:51123"] * 3 + [f"127.0.0.1:{proxy.getsockname()[1]}"]


def test_ipv6_peers(start: Start, reactor: MemoryReactor, intake: FakeIntake, proxy: socket.socket) -> None:
    _listener, place = start()
    proxy.sendto(v2(("2001:db8::7", 1), ("2001:db8::1", 2), transport=DATAGRAM) + b"a", place)
    reactor.read_all()
    assert intake.peers == ["[2001:db8::7]:1"]


def test_strangers_are_rejected(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, proxy: socket.socket,
    logged: list[str],
) -> None:  # fmt: skip
    _listener, place = start(trusted=("10.0.0.0/8",))
    for _ in range(3):
        proxy.sendto(FROM_HERE + b"a", place)
    reactor.read_all()
    assert intake.frames == []
    assert counters.rejected == {"untrusted_proxy": 3}
    assert sum("is not among `proxy_protocol.trusted`" in line for line in logged) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no PROXY header of version 2"),
        (b"hello", "no PROXY header of version 2"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 51123 5140\r\na", "no PROXY header of version 2"),
        (FROM_HERE[:14], "ends within its header"),
        (FROM_HERE[:27], "ends within its header"),
        (v2_head(600, 0x12) + bytes(600), "over max_header"),
        (v2(HERE, THERE, b"\xff", DATAGRAM), "extensions"),
    ],
)
def test_datagrams_without_a_good_header_are_rejected(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, proxy: socket.socket,
    logged: list[str], data: bytes, why: str,
) -> None:  # fmt: skip
    """And concern no others."""
    _listener, place = start()
    proxy.sendto(data, place)
    proxy.sendto(FROM_HERE + b"good", place)
    reactor.read_all()
    assert intake.frames == [b"good"]
    assert counters.rejected == {"proxy_header": 1}
    assert counters.bytes == len(data) + 28 + 4
    assert any(why in line for line in logged), logged


def test_limits_are_for_what_follows_the_header(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, proxy: socket.socket
) -> None:
    _listener, place = start(options={"max_frame": Size(4)})
    for data in (b"abcd", b"abcde", b""):
        proxy.sendto(FROM_HERE + data, place)
    reactor.read_all()
    assert intake.frames == [b"abcd", b"abcd"]
    assert intake.marks == [(), ("truncated",)]
    assert counters.rejected == {"empty": 1}


def test_lines_in_datagrams(start: Start, reactor: MemoryReactor, intake: FakeIntake, proxy: socket.socket) -> None:
    _listener, place = start(new_datagram_framer=lines())
    proxy.sendto(FROM_HERE + b"a\nb\n", place)
    proxy.sendto(FROM_OTHER + b"c", place)
    reactor.read_all()
    assert intake.frames == [b"a", b"b", b"c"]
    assert intake.peers == ["192.0.2.7:51123", "192.0.2.7:51123", "192.0.2.8:51123"]


def test_chunks_of_gelf_are_put_together_by_their_real_sender(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, proxy: socket.socket
) -> None:
    """Two senders that number their messages alike, behind one proxy."""
    _listener, place = start(decoder="gelf")
    for number, part in enumerate((b'{"version":"1.1","host":"a",', b'"short_message":"x"}')):
        chunk = b"\x1e\x0f" + bytes(8) + bytes([number, 2]) + part
        proxy.sendto(FROM_HERE + chunk, place)
        proxy.sendto(FROM_OTHER + chunk, place)
    reactor.read_all()
    assert intake.frames == [b'{"version":"1.1","host":"a","short_message":"x"}'] * 2
    assert sorted(intake.peers) == ["192.0.2.7:51123", "192.0.2.8:51123"]
    assert intake.batches[0].context["proxy"]["destination"] == "198.51.100.1:5140"


def test_replies_go_back_through_the_proxy(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, connections: FakeConnections, proxy: socket.socket
) -> None:
    """Two peers behind one proxy are two connections."""
    _listener, place = start(replies=True)
    proxy.sendto(FROM_HERE + b"a", place)
    proxy.sendto(FROM_OTHER + b"b", place)
    reactor.read_all()
    [batch] = intake.batches
    assert len({batch.connection_of(0), batch.connection_of(1)}) == 2
    connections.writers[batch.connection_of(1)].reply(b"pong")
    assert proxy.recv(100) == b"pong"


def test_a_proxy_on_a_unix_socket(start: Start, reactor: MemoryReactor, intake: FakeIntake, tmp_path: Path) -> None:
    _listener, place = start(f"unix-datagram:{tmp_path}/es")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(FROM_HERE + b"a", place)
        reactor.read_all()
    assert intake.peers == ["192.0.2.7:51123"]
    assert intake.batches[0].context["proxy"]["address"] == "unix"


def headers(counters: ListenerCounters) -> ProxyHeaders:
    """What takes headers off, without a socket."""
    context = make_context(MemoryReactor(), counters)
    log = ThinnedLog(Logger("tests"), context.reactor)
    settings = ProxyOptions(trusted=("10.0.0.0/8",))
    return ProxyHeaders(settings, context, Ingest(context), log, lambda sender: "proxy", lambda payload, sender: None)


@given(st.lists(st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda data: FROM_HERE + data))))
def test_any_datagrams_are_taken_or_counted(datas: list[bytes]) -> None:
    counters = ListenerCounters()
    groups = headers(counters).strip(datas, [("10.0.0.1", 1)] * len(datas))
    good = [data[28:] for data in datas if data.startswith(FROM_HERE)]
    assert [data for group in groups for data in group.datas] == good
    assert counters.rejected["proxy_header"] == len(datas) - len(good)


def test_what_is_remembered_is_bounded(counters: ListenerCounters) -> None:
    """By the number of headers, and of addresses, whoever sends them."""
    made = headers(counters)
    for port in range(3000):
        header = v2(("192.0.2.7", port), THERE, transport=DATAGRAM)
        made.strip([header + b"x"] * 2, [("10.0.0.1", 1), (f"192.0.{port >> 8}.{port & 255}", 1)])
    assert len(made._known) <= 1024
    assert len(made._trust._known) <= 1024
    assert counters.rejected == {"untrusted_proxy": 3000}


def test_cut_datagrams_stay_cut() -> None:
    group, other = headers(ListenerCounters()).strip(
        [b"bad", FROM_HERE + b"a", FROM_OTHER + b"b", local() + b"c"], [("10.0.0.1", 1)] * 4, [0, 2, 3]
    )
    assert (group.datas, group.cut) == ([b"a", b"b"], [1])
    assert (other.datas, other.cut) == ([b"c"], [0])
