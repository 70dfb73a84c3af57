"""Stream listeners behind a proxy: who the peer is, who may connect, and how long a header may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from eventserver import options
from eventserver.counters import ListenerCounters
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners.auto import AutoListener
from eventserver.listeners.http import HttpListener
from eventserver.listeners.relp import RelpListener
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration, Size
from eventserver.settings import from_mapping
from eventserver.startup import commands_to_try
from tests import relp_client
from tests.listeners.fakes import NOW, FakeConnections, FakeIntake, FakeTransport, MemoryReactor, make_context
from tests.listeners.proxyheaders import local, tls_details, tlv, v2, v2_head, v2_unix

HERE, THERE = ("192.0.2.7", 51123), ("198.51.100.1", 6514)
PROXY = IPv4Address("TCP", "10.0.0.5", 40000)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 51123 6514\r\n"


class Peer:
    """One connection of a proxy to a listener."""

    def __init__(self, reactor: MemoryReactor, address: Any = PROXY) -> None:
        servers = [*reactor.tcpServers, *reactor.unixServers]
        self.transport = FakeTransport(peerAddress=address)
        self.protocol: Any = servers[-1][1].buildProtocol(address)
        self.refused = self.protocol is None
        if not self.refused:
            self.protocol.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> Peer:
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return self

    def lose(self) -> None:
        reason = ConnectionAborted() if self.transport.aborted else ConnectionDone()
        self.protocol.connectionLost(Failure(reason))


Make = Callable[..., Any]


@pytest.fixture
def make(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Make:
    """Makes a listener that runs; `proxy` are the settings of the protocol."""

    def made(
        kind: Any = StreamListener,
        *,
        proxy: dict[str, Any] | None = None,
        endpoint: str = "tcp:5140",
        context: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Any:
        settings["proxy_protocol"] = ProxyOptions(**{"trusted": ("10.0.0.0/8", "fd00::/8", "unix"), **(proxy or {})})
        options = kind.Options(endpoints=(endpoint,), **settings)
        listener = kind(options, make_context(reactor, counters, **{"intake": intake, **(context or {})}))
        listener.startService()
        return listener

    return made


# Who it is


@pytest.mark.parametrize("header", [LINE, v2(HERE, THERE)])
def test_the_peer_is_the_one_that_the_header_names(
    make: Make, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, header: bytes
) -> None:
    listener = make(context={"batch_context": {"labels": {"site": "hq"}}})
    peer = Peer(reactor).send(header + b"a\nb\nc")
    assert intake.peers == ["192.0.2.7:51123"] * 2
    assert intake.batches[0].context == {
        "labels": {"site": "hq"},
        "proxy": {"address": "10.0.0.5", "destination": "198.51.100.1:6514"},
    }
    [info] = listener.connections()
    assert (info.peer, info.since, info.received) == ("192.0.2.7:51123", NOW, 2)
    peer.lose()
    assert intake.frames == [b"a", b"b", b"c"]
    assert counters.bytes == len(header) + 5
    assert (counters.connections, counters.connections_total) == (0, 1)


@given(data=st.data())
def test_a_header_may_come_in_any_pieces(data: st.DataObject) -> None:
    """However the network slices the stream, header and frames are the same."""
    header = data.draw(st.sampled_from([LINE, v2(HERE, THERE), v2(HERE, THERE, tlv(2, b"sni") * 20), local()]))
    stream = header + b"first\nsecond\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=20)))
    reactor, intake, counters = MemoryReactor(), FakeIntake(), ListenerCounters()
    settings = StreamListener.Options(endpoints=("tcp:1",), proxy_protocol=ProxyOptions(trusted=("10.0.0.0/8",)))
    StreamListener(settings, make_context(reactor, counters, intake=intake)).startService()
    Peer(reactor).send(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert intake.frames == [b"first", b"second"]
    assert set(intake.peers) == {"10.0.0.5:40000" if header == local() else "192.0.2.7:51123"}
    assert counters.bytes == len(stream)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", local(), local(b"\xff" * 50), v2_head(0, 0)])
def test_a_proxy_that_names_nobody_is_the_peer(
    make: Make, reactor: MemoryReactor, intake: FakeIntake, header: bytes
) -> None:
    """haproxy's health checks among them."""
    make()
    Peer(reactor).send(header + b"a\n")
    assert intake.peers == ["10.0.0.5:40000"]
    assert intake.batches[0].context == {}


def test_extensions_are_in_the_context(make: Make, reactor: MemoryReactor, intake: FakeIntake) -> None:
    make()
    tls = tls_details(3, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"web1"))
    Peer(reactor).send(v2(HERE, THERE, tlv(2, b"logs.example") + tlv(5, b"id-1") + tls) + b"a\n")
    assert intake.batches[0].context["proxy"] == {
        "address": "10.0.0.5",
        "destination": "198.51.100.1:6514",
        "authority": "logs.example",
        "unique_id": "id-1",
        "tls": {"verified": True, "version": "TLSv1.3", "cn": "web1"},
    }


def test_extensions_without_addresses(make: Make, reactor: MemoryReactor, intake: FakeIntake) -> None:
    make()
    Peer(reactor).send(v2_head(6, 0) + tlv(2, b"sni") + b"a\n")
    assert intake.peers == ["10.0.0.5:40000"]
    assert intake.batches[0].context == {"proxy": {"address": "10.0.0.5", "authority": "sni"}}


def test_a_proxy_on_a_unix_socket(make: Make, reactor: MemoryReactor, intake: FakeIntake) -> None:
    make(endpoint="unix:/run/es.sock")
    Peer(reactor, UNIXAddress(None)).send(v2(HERE, THERE) + b"a\n")
    Peer(reactor, UNIXAddress(None)).send(v2_unix(b"/run/app", b"") + b"a\n")
    assert intake.peers == ["192.0.2.7:51123", "unix:/run/app"]
    assert intake.batches[0].context == {"proxy": {"address": "unix", "destination": "198.51.100.1:6514"}}


def test_nothing_is_said_before_the_header(make: Make, reactor: MemoryReactor) -> None:
    """What refuses a connection speaks the protocol behind the header, so it waits for that."""
    make(HttpListener, max_connections_per_peer=1)
    first, second = Peer(reactor), Peer(reactor)
    assert second.transport.value() == b""
    first.send(LINE)
    second.send(LINE)
    assert second.transport.value().startswith(b"HTTP/1.1 429 ")


def test_every_listener_for_streams_can_be_behind_a_proxy(
    make: Make, reactor: MemoryReactor, intake: FakeIntake, connections: FakeConnections
) -> None:
    make(RelpListener, context={"ack": "delivered"})
    peer = Peer(reactor).send(LINE + relp_client.frame(1, "open", relp_client.OFFERS) + relp_client.syslog(2, b"a"))
    intake.deliver()
    assert b"2 rsp 6 200 OK" in peer.transport.value()
    make(HttpListener, context={"ack": "delivered", "connections": connections})
    body = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nb"
    peer = Peer(reactor).send(v2(HERE, THERE, tlv(5, b"id-1")) + body)
    intake.deliver()
    assert peer.transport.value().startswith(b"HTTP/1.1 200 ")
    assert intake.frames == [b"a", b"b"]
    assert intake.peers == ["192.0.2.7:51123"] * 2
    assert intake.batches[1].context["proxy"]["unique_id"] == "id-1"


def test_what_a_peer_speaks_is_found_out_behind_the_header(
    make: Make, reactor: MemoryReactor, intake: FakeIntake
) -> None:
    make(AutoListener, context={"ack": "delivered", "decoder": "auto"})
    Peer(reactor).send(LINE[:9], LINE[9:] + b"hel", b"lo\n").lose()
    relp = relp_client.frame(1, "open", relp_client.OFFERS) + relp_client.syslog(2, b"a")
    Peer(reactor).send(v2(HERE, THERE, tlv(5, b"id-1")) + relp)
    assert intake.frames == [b"hello", b"a"]
    assert intake.peers == ["192.0.2.7:51123"] * 2
    assert intake.batches[1].context["proxy"]["unique_id"] == "id-1"


# Who may


@pytest.mark.parametrize(
    "address",
    [IPv4Address("TCP", "10.255.0.1", 1), IPv6Address("TCP", "fd00::1", 1), IPv6Address("TCP", "::ffff:10.0.0.9", 1)],
)
def test_trusted(make: Make, reactor: MemoryReactor, intake: FakeIntake, address: Any) -> None:
    make()
    Peer(reactor, address).send(LINE + b"a\n")
    assert intake.peers == ["192.0.2.7:51123"]


@pytest.mark.parametrize(
    "address",
    [
        IPv4Address("TCP", "192.0.2.7", 1),
        IPv4Address("TCP", "127.0.0.1", 1),
        IPv6Address("TCP", "2001:db8::1", 1),
        IPv6Address("TCP", "fe80::1%eth0", 1),
        UNIXAddress(None),
    ],
)
def test_whoever_is_not_trusted_is_refused(
    make: Make, reactor: MemoryReactor, counters: ListenerCounters, logged: list[str], address: Any
) -> None:
    make(proxy={"trusted": ("10.0.0.0/8", "fd00::/8")})
    assert Peer(reactor, address).refused
    assert counters.closed == {"untrusted_proxy": 1}
    assert "is not among `proxy_protocol.trusted`" in logged[-1]


def test_an_address_of_another_kind_is_not_trusted(make: Make, reactor: MemoryReactor) -> None:
    """Plugins bring their own endpoints; that of a unix socket has no host either."""
    make()
    assert Peer(reactor, HostnameAddress(b"abc.example", 1)).refused
    assert not Peer(reactor, UNIXAddress(None)).refused


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello\n", "does not begin with a PROXY header"),
        (b"PROXY TCP4 nonsense\r\n", "malformed"),
        (v2_head(5000, 0x11), "over max_header"),
        (v2(HERE, THERE, b"\xff"), "extensions"),
    ],
)
def test_what_is_no_header_is_cut_off(
    make: Make,
    reactor: MemoryReactor,
    intake: FakeIntake,
    counters: ListenerCounters,
    logged: list[str],
    data: bytes,
    why: str,
) -> None:
    """Whether a header is there is never guessed."""
    listener = make()
    peer = Peer(reactor).send(data, b"more\n")
    assert peer.transport.aborted
    peer.lose()
    assert intake.frames == []
    assert counters.rejected == {"proxy_header": 1}
    assert counters.closed == {"proxy_header": 1}
    assert counters.bytes == len(data)
    assert why in logged[-1]
    assert "10.0.0.5:40000" in logged[-1]
    assert not listener._waiting


def test_max_header(make: Make, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> None:
    header = v2(HERE, THERE, tlv(4, bytes(300)))
    make(proxy={"max_header": Size(len(header))})
    Peer(reactor).send(header + b"a\n")
    make(proxy={"max_header": Size(len(header) - 1)})
    assert Peer(reactor).send(header + b"a\n").transport.aborted
    assert intake.frames == [b"a"]
    assert counters.closed == {"proxy_header": 1}


# How long, and how many


def test_header_timeout(make: Make, reactor: MemoryReactor, counters: ListenerCounters) -> None:
    """A drop at a time does not help; and once the header is there other deadlines apply."""
    make(proxy={"header_timeout": Duration(3)})
    silent, slow, good = Peer(reactor), Peer(reactor).send(b"PRO"), Peer(reactor).send(LINE)
    reactor.pump([1, 1])
    slow.send(b"XY")
    assert not silent.transport.aborted
    reactor.advance(1)
    assert silent.transport.aborted
    assert slow.transport.aborted
    assert not good.transport.aborted
    assert counters.closed == {"proxy_timeout": 2}
    slow.send(b" TCP4 ")
    slow.lose()
    silent.lose()
    assert counters.rejected == {"proxy_header": 1}, "a piece of a header is a discard, whatever ends it"
    assert counters.bytes == len(b"PROXY") + len(LINE)


def test_a_peer_that_goes_before_its_header(make: Make, reactor: MemoryReactor, counters: ListenerCounters) -> None:
    """To connect and go is a health check; a piece of a header is a discard, and counted."""
    listener = make()
    Peer(reactor).lose()
    assert counters.rejected == {}
    Peer(reactor).send(b"PROXY TC").lose()
    assert counters.rejected == {"proxy_header": 1}
    assert counters.closed == {}
    assert not listener._waiting


def test_max_connections_counts_those_without_a_header(
    make: Make, reactor: MemoryReactor, counters: ListenerCounters
) -> None:
    make(max_connections=2)
    first, second = Peer(reactor).send(LINE), Peer(reactor)
    assert Peer(reactor).refused
    assert counters.closed == {"max_connections": 1}
    second.send(LINE)
    assert not second.transport.aborted
    first.lose()
    assert not Peer(reactor).refused


def test_max_connections_per_peer_counts_real_peers(
    make: Make, reactor: MemoryReactor, counters: ListenerCounters
) -> None:
    make(max_connections_per_peer=1)
    first, second = Peer(reactor).send(LINE), Peer(reactor).send(LINE)
    other = Peer(reactor).send(b"PROXY TCP4 192.0.2.8 198.51.100.1 51123 6514\r\n")
    assert second.transport.aborted
    assert not other.transport.aborted
    assert counters.closed == {"max_connections_per_peer": 1}
    second.lose()
    first.lose()
    assert not Peer(reactor).send(LINE).transport.aborted


def test_a_paused_listener_holds_what_came_with_the_header(
    make: Make, reactor: MemoryReactor, intake: FakeIntake
) -> None:
    listener = make()
    peer = Peer(reactor).send(LINE[:5])
    listener.pause()
    intake.room = 0
    peer.send(LINE[5:] + b"a\n")
    assert not peer.transport.reading
    intake.room = None
    listener.resume()
    assert intake.frames == [b"a"]
    assert peer.transport.reading


def test_stop_cuts_those_without_a_header(make: Make, reactor: MemoryReactor, counters: ListenerCounters) -> None:
    listener = make()
    waiting = Peer(reactor).send(b"PROXY")
    stopped = listener.stopService()
    assert waiting.transport.aborted
    assert not stopped.called
    waiting.lose()
    assert stopped.called
    assert counters.closed == {"stopped": 1}


def test_stop_keeps_the_tail_of_those_with_one(make: Make, reactor: MemoryReactor, intake: FakeIntake) -> None:
    listener = make()
    peer = Peer(reactor).send(LINE + b"tail")
    stopped = listener.stopService()
    peer.lose()
    assert stopped.called
    assert intake.frames == [b"tail"]
    assert intake.marks == [("truncated",)]


# Settings


@pytest.mark.parametrize(
    ("table", "key", "sentence"),
    [
        ({}, "proxy_protocol.trusted", "is missing"),
        ({"trusted": []}, "proxy_protocol.trusted", "is missing"),
        ({"trusted": ["lb1"]}, "proxy_protocol.trusted", "'lb1' is no network"),
        ({"trusted": ["10.0.0.1/8"]}, "proxy_protocol.trusted", "'10.0.0.1/8' is no network"),
        ({"trusted": ["10.0.0.0/8"], "header_timeout": "500 ms"}, "proxy_protocol.header_timeout", "too small"),
        ({"trusted": ["10.0.0.0/8"], "max_header": "64 KiB"}, "", ""),
        ({"trusted": ["10.0.0.0/8"], "max_header": "65 KiB"}, "proxy_protocol.max_header", "too large"),
        ({"trusted": ["10.0.0.0/8"], "trust": []}, "proxy_protocol.trust", "unknown key"),
    ],
)
def test_wrong_settings(table: dict[str, Any], key: str, sentence: str) -> None:
    _made, problems = options.parse(StreamListener.Options, {"endpoints": ["tcp:1"], "proxy_protocol": table})
    assert [found for found, _ in problems] == ([key] if key else [])
    assert not key or sentence in problems[0][1]


@pytest.mark.parametrize(("more", "count"), [({}, 1), ({"proxy_protocol": {"trusted": ["10.0.0.0/8"]}}, 0)])
def test_no_command_is_offered_that_cannot_work(more: dict[str, Any], count: int) -> None:
    settings = from_mapping({"listener": {"lines": {"endpoints": ["tcp:5140"], **more}}})
    assert len(commands_to_try(settings, {"lines": ["tcp:127.0.0.1:5140"]})) == count


def test_the_log_says_that_a_header_is_expected(make: Make, logged: list[str]) -> None:
    make()
    assert logged[0].startswith("listening on tcp ")
    assert logged[0].endswith(" (PROXY protocol)")
