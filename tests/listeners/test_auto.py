"""The listener that finds out what its peers speak, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address

from eventserver.counters import ListenerCounters
from eventserver.errors import SettingsError
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners._tls import TlsOptions
from eventserver.listeners.auto import AutoListener
from eventserver.listeners.relp import RelpListener
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration, Secret, Size
from eventserver.settings import from_mapping
from tests import fluent_client
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeConnections, FakeTransport, MemoryReactor, make_context
from tests.listeners.relp_bench import GONE, PEER, Intake
from tests.lumberjack_client import acks, json_frame, window
from tests.relp_client import RelpClient

SYSLOG = b"<13>1 2026-11-22T10:00:00Z web1 app - - - hello"
GELF = b'{"version":"1.1","host":"web1","short_message":"hello"}'
POST = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Peer:
    """A client on a transport in memory; it is read by whatever protocol its transport has now."""

    def __init__(self, protocol: Any) -> None:
        self.transport = FakeTransport(peerAddress=PEER)
        self.lost = False
        self.transport.protocol = protocol  # type: ignore[attr-defined]  # as a real one has it
        protocol.makeConnection(self.transport)

    @property
    def protocol(self) -> Any:
        return self.transport.protocol  # type: ignore[attr-defined]

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.protocol.dataReceived(piece)

    def said(self) -> bytes:
        data = self.transport.value()
        self.transport.clear()
        return data

    def lose(self) -> None:
        self.lost = True
        self.protocol.connectionLost(GONE)


class Bench:
    """A running listener, and clients of it."""

    def __init__(self, reactor: MemoryReactor, counters: ListenerCounters) -> None:
        self.reactor, self.counters, self.intake = reactor, counters, Intake()
        self.listener: AutoListener
        self.peers: list[Peer] = []
        self.stopped: list[object] | None = None

    def start(self, options: dict[str, Any] | None = None, **context: Any) -> Bench:
        made = AutoListener.Options(**{"endpoints": ("tcp:5140",), **(options or {})})
        context = {
            "intake": self.intake,
            "connections": FakeConnections(),
            "ack": "memory",
            "decoder": "auto",
        } | context
        self.listener = AutoListener(made, make_context(self.reactor, self.counters, **context))
        self.listener.listen()
        self.listener.startService()
        assert len(self.reactor.tcpServers) == 1, "the port is this listener's, and nobody else's"
        return self

    def connect(self) -> Peer:
        peer = Peer(self.reactor.tcpServers[0][1].buildProtocol(PEER))
        self.peers.append(peer)
        return peer

    def wait(self, seconds: float) -> None:
        self.reactor.pump([1.0] * round(seconds))

    def stop(self) -> list[object]:
        if self.stopped is None:
            self.stopped = []
            self.listener.stopService().addBoth(self.stopped.append)
        return self.stopped

    @property
    def found(self) -> list[tuple[str, str, bytes]]:
        """Of each frame: the protocol and the decoder that were found, and its bytes."""
        return [
            (batch.context["protocol"], batch.decoder, frame) for batch in self.intake.batches for frame in batch.frames
        ]


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    stopped = made.stop()
    made.intake.settle()
    for peer in made.peers:
        if not peer.lost:
            tls = hasattr(peer.protocol, "wrappedProtocol")  # waits for the word of its client
            assert tls or peer.transport.disconnecting or peer.transport.aborted
            peer.lose()
    assert stopped
    assert counters.connections == 0
    assert not reactor.getDelayedCalls()


# Each protocol, and what it is answered


def test_streams_are_cut_and_decoded_as_what_they_are(bench: Bench) -> None:
    bench.start()
    streams = [
        SYSLOG + b"\n",
        b"%d %b" % (len(SYSLOG), SYSLOG),
        GELF + b"\0" + GELF + b"\0",
        b'{"message":"x"}\n',
        b"hello\n" + SYSLOG + b"\n",
        b"hello\nhallo\n",
    ]
    for stream in streams:
        peer = bench.connect()
        peer.send(stream)
        peer.lose()
    assert bench.found == [
        ("syslog", "syslog", SYSLOG),
        ("syslog", "syslog", SYSLOG),
        ("gelf", "gelf", GELF),
        ("gelf", "gelf", GELF),
        ("json", "json", b'{"message":"x"}'),
        ("lines", "auto", b"hello"),
        ("lines", "auto", SYSLOG),
        ("lines", "text", b"hello"),
        ("lines", "text", b"hallo"),
    ]
    assert bench.counters.protocols == {"syslog": 2, "gelf": 1, "json": 1, "lines": 2}
    assert bench.counters.connections_total == 6


def test_relp_is_acknowledged(bench: Bench) -> None:
    peer = bench.start().connect()
    client = RelpClient()
    peer.send(*(bytes((byte,)) for byte in client.open()))
    client.receive(peer.said())
    client.send(SYSLOG)
    peer.send(client.take())
    assert list(client.receive(peer.said())) == [SYSLOG]
    assert bench.found == [("relp", "syslog", SYSLOG)]
    assert bench.counters.acknowledged == 1


def test_lumberjack_is_acknowledged(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(window(2), json_frame(1, b'{"a":1}') + json_frame(2, b"hello"))
    assert acks(peer.said()) == [2]
    assert bench.found == [("lumberjack", "json", b'{"a":1}'), ("lumberjack", "json", b"hello")]


def test_forward_is_acknowledged(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(fluent_client.message("app", 1700000000, {"log": "x"}, chunk="c1"))
    assert fluent_client.acks(peer.said()) == ["c1"]
    [(protocol, decoder, _frame)] = bench.found
    assert (protocol, decoder) == ("fluent", "fluent")
    assert bench.intake.batches[0].context["tag"] == "app"


@pytest.mark.parametrize(("body", "decoder"), [(b'{"message":"x"}', "json"), (b'["a"]', "text"), (GELF, "gelf")])
def test_http_is_answered(bench: Bench, body: bytes, decoder: str) -> None:
    peer = bench.start().connect()
    peer.send(POST % (len(body), body))
    assert peer.said().startswith(b"HTTP/1.1 200 ")
    assert [found[:2] for found in bench.found] == [("http", decoder)]


def test_gelf_over_http_is_answered_as_such(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send((POST % (len(GELF), GELF)).replace(b"/events", b"/gelf"))
    assert peer.said().startswith(b"HTTP/1.1 202 ")
    assert bench.found == [("http", "gelf", GELF)]


def test_gelf_may_say_late_what_it_is(bench: Bench) -> None:
    """Its keys may stand behind a long text; as lines it would never end."""
    message = b'{"full_message":"%b","version":"1.1","host":"h","short_message":"x"}' % (b"x" * 20000)
    peer = bench.start().connect()
    for at in range(0, len(message), 1460):
        peer.send(message[at : at + 1460])
    peer.send(b"\0" + message + b"\0")
    assert bench.found == [("gelf", "gelf", message)] * 2


def test_objects_that_end_with_nul_are_cut_there(bench: Bench) -> None:
    """Whether they were recognised as GELF or not."""
    peer = bench.start({"max_frame": Size(1 << 20)}).connect()
    message = b'{"full_message":"%b","version":"1.1","host":"h","short_message":"x"}' % (b"x" * 70000)
    for at in range(0, len(message), 1460):
        peer.send(message[at : at + 1460])
    peer.send(b'\0{"a":1}\0{"a":2}\n')
    assert bench.found == [("json", "json", message), ("json", "json", b'{"a":1}'), ("json", "json", b'{"a":2}')]


def test_what_was_found_is_logged_once_a_peer(bench: Bench, logged: list[str]) -> None:
    bench.start()
    for _ in range(3):
        bench.connect().send(SYSLOG + b"\n")
    assert [line for line in logged if "speaks" in line] == ["192.0.2.7:51123 speaks syslog"]
    assert any("relp, fluent, lumberjack, http, gelf, syslog, json, lines" in line for line in logged)
    bench.connect()
    assert [info.protocol for info in bench.listener.connections()] == ["", "syslog", "syslog", "syslog"]


def test_ever_new_peers_do_not_flood_the_log(bench: Bench, logged: list[str]) -> None:
    bench.start()
    for number in range(300):
        address = IPv4Address("TCP", f"192.0.2.{number % 250}", 1000 + number)
        bench.listener.speaker(address, f"192.0.2.{number}:51123", "syslog", tls=False)
    assert len([line for line in logged if "speaks syslog" in line]) == 100
    bench.listener.speaker(PEER, "192.0.2.7:1", "relp", tls=False)
    assert logged[-1].endswith("192.0.2.7:1 speaks relp"), "another protocol has its own share"
    bench.wait(61)
    bench.listener.speaker(PEER, "198.51.100.1:1", "syslog", tls=False)
    assert logged[-1].endswith("198.51.100.1:1 speaks syslog (200 more like this since the last such line)")


# TLS on the same port


class TlsClient:
    """TLS on top of a peer, in memory."""

    def __init__(self, bench: Bench, context: SSL.Context | None = None, peer: Peer | None = None) -> None:
        self.bench = bench
        self.peer = peer or bench.connect()
        context = context or SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.connection = SSL.Connection(context, None)
        self.connection.set_connect_state()
        self.shake()

    def shake(self) -> None:
        for _ in range(4):
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                self.pump()
        self.pump()

    def pump(self) -> None:
        while True:
            try:
                self.peer.send(self.connection.bio_read(65536))
            except SSL.WantReadError:
                break
        self.bench.wait(1)  # what is written to TLS gathers for a turn
        if data := self.peer.said():
            self.connection.bio_write(data)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.pump()

    def said(self) -> bytes:
        self.pump()
        return self.connection.recv(65536)


@pytest.fixture
def tls(authority: Authority) -> TlsOptions:
    cert, key = authority.server()
    return TlsOptions(cert=cert, key=key)


def test_tls_may_come_on_the_same_port_with_anything_inside(bench: Bench, tls: TlsOptions) -> None:
    bench.start({"tls": tls})
    client = TlsClient(bench)
    client.send(window(1) + json_frame(1, b'{"a":1}'))
    assert acks(client.said()) == [1]
    other = TlsClient(bench)
    other.send(SYSLOG + b"\n")
    plain = bench.connect()
    plain.send(b"hello\n")
    assert [found[:2] for found in bench.found] == [("lumberjack", "json"), ("syslog", "syslog"), ("lines", "text")]
    assert bench.counters.protocols == {"tls": 2, "lumberjack": 1, "syslog": 1, "lines": 1}
    assert bench.counters.connections == bench.counters.connections_total == 3


def test_clients_are_known_by_their_certificate(bench: Bench, authority: Authority) -> None:
    cert, key = authority.server()
    options = TlsOptions(cert=cert, key=key, client_ca=authority.ca, client_names=("web1",))
    bench.start({"tls": options})
    for name in ("web1", "web2"):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        own_cert, own_key = authority.issue(name)
        context.use_certificate_file(own_cert)
        context.use_privatekey_file(own_key)
        TlsClient(bench, context).send(SYSLOG + b"\n")
    assert [batch.context["tls"] for batch in bench.intake.batches] == [{"subject": "web1"}]
    assert bench.counters.closed == {"client_name": 1}


def test_a_tls_endpoint_takes_nothing_else(bench: Bench, tls: TlsOptions) -> None:
    bench.start({"tls": tls, "endpoints": ("tls:6514",)})
    client = TlsClient(bench)
    client.send(window(1) + json_frame(1, b"{}"))
    assert acks(client.said()) == [1]
    plain = bench.connect()
    plain.send(SYSLOG + b"\n")
    plain.lose()
    nested = TlsClient(bench)
    nested.send(b"\x16\x03\x01\x02\x00\x01")
    assert [found[:2] for found in bench.found] == [("lumberjack", "json")]
    assert bench.counters.closed == {"tls": 1, "protocol": 1}


def test_proxies_name_the_peer(bench: Bench, tls: TlsOptions) -> None:
    """In front of TLS, and of whatever is inside."""
    bench.start({"tls": tls, "proxy_protocol": ProxyOptions(trusted=("192.0.2.0/24",))})
    header = b"PROXY TCP4 198.51.100.9 192.0.2.7 40000 5140\r\n"
    plain = bench.connect()
    plain.send(header + SYSLOG + b"\n")
    peer = bench.connect()
    peer.send(header)
    client = TlsClient(bench, peer=peer)
    client.send(window(1) + json_frame(1, b"{}"))
    assert acks(client.said()) == [1]
    assert [batch.peers for batch in bench.intake.batches] == [("198.51.100.9:40000",)] * 2
    assert [found[:2] for found in bench.found] == [("syslog", "syslog"), ("lumberjack", "json")]
    assert bench.counters.connections == 2


def test_tls_without_a_certificate_is_refused(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(b"\x16\x03\x01\x02\x00\x01")
    assert peer.transport.aborted
    assert bench.counters.closed == bench.counters.rejected == {"protocol": 1}


def test_a_handshake_does_not_take_for_ever(bench: Bench, tls: TlsOptions) -> None:
    peer = bench.start({"tls": tls, "handshake_timeout": Duration(10)}).connect()
    peer.send(b"\x16\x03\x01")
    bench.wait(9)
    assert not peer.transport.aborted
    bench.wait(1)
    assert peer.transport.aborted
    assert bench.counters.closed == {"handshake_timeout": 1}


# What is allowed


@pytest.mark.parametrize(
    ("protocols", "data", "protocol", "decoder"),
    [
        (["json"], GELF + b"\n", "json", "json"),
        (["lines"], GELF + b"\n", "lines", "gelf"),
        (["lines"], SYSLOG + b"\n", "lines", "syslog"),
    ],
)
def test_objects_and_syslog_are_lines_too(
    bench: Bench, protocols: list[str], data: bytes, protocol: str, decoder: str
) -> None:
    bench.start({"protocols": protocols}).connect().send(data)
    assert [found[:2] for found in bench.found] == [(protocol, decoder)]


@pytest.mark.parametrize("data", [b"hello\n", b"1 open 0\n", POST % (0, b""), window(1), b"\x93\xa1t\x01\x80"])
def test_who_speaks_anything_else_is_cut_off(bench: Bench, data: bytes) -> None:
    bad, good = bench.start({"protocols": ["syslog"]}).connect(), bench.connect()
    bad.send(data)
    good.send(SYSLOG + b"\n")
    assert bad.transport.aborted
    assert bench.counters.closed == bench.counters.rejected == {"protocol": 1}
    assert len(bench.found) == 1
    bad.lose()


# Time


def test_what_is_open_is_decided_in_time(bench: Bench) -> None:
    """`1 ` may become RELP, a counted frame or a line."""
    peer = bench.start({"detect_timeout": Duration(5)}).connect()
    bench.wait(60)
    peer.send(b"1 ")
    bench.wait(4)
    peer.send(b"o")
    bench.wait(1)
    peer.send(b"pen door\n")
    assert bench.found == [("lines", "text", b"1 open door")]


def test_a_silent_peer_may_stay(bench: Bench) -> None:
    peer = bench.start().connect()
    bench.wait(3600)
    peer.send(SYSLOG + b"\n")
    assert len(bench.found) == 1


def test_peers_of_which_nothing_is_known_are_counted_too(bench: Bench, tls: TlsOptions) -> None:
    bench.start({"tls": tls})
    silent, speaking = bench.connect(), bench.connect()
    assert (bench.counters.connections, bench.counters.connections_total) == (2, 0)
    speaking.send(b"hello\n")
    assert (bench.counters.connections, bench.counters.connections_total) == (2, 1)
    silent.send(b"\x16\x03")
    assert (bench.counters.connections, bench.counters.connections_total) == (2, 1)
    silent.lose()
    assert (bench.counters.connections, bench.counters.connections_total) == (1, 2)


def test_a_silent_peer_may_go_if_a_setting_says_so(bench: Bench) -> None:
    peer = bench.start({"idle_timeout": Duration(60)}).connect()
    bench.wait(60)
    assert peer.transport.aborted
    assert bench.counters.closed == {"idle_timeout": 1}
    peer.lose()


def test_who_waits_for_the_first_word_gets_it_where_there_is_a_key(bench: Bench) -> None:
    peer = bench.start({"shared_key": Secret("a key of the test"), "detect_timeout": Duration(5)}).connect()
    bench.wait(4)
    assert peer.said() == b""
    bench.wait(1)
    assert b"HELO" in peer.said()


def test_an_unterminated_line_is_a_line(bench: Bench) -> None:
    """`echo -n`, with which the stream ends before it is known what it is."""
    for end in ("half", "lost"):
        peer = bench.connect() if end == "lost" else bench.start().connect()
        peer.send(b"12")
        if end == "half":
            peer.protocol.readConnectionLost()
            assert peer.transport.disconnecting
        peer.lose()
    assert bench.found == [("lines", "text", b"12")] * 2


def test_a_peer_that_says_nothing_and_ends_is_let_go(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.protocol.readConnectionLost()
    assert peer.transport.disconnecting
    peer.lose()
    assert bench.found == []
    assert bench.listener.connections() == []


# What concerns all


def test_limits_count_all_connections_together(bench: Bench) -> None:
    bench.start({"max_connections": 2})
    first, second = bench.connect(), bench.connect()
    first.send(SYSLOG + b"\n")
    factory = bench.reactor.tcpServers[0][1]
    assert factory.buildProtocol(PEER) is None
    second.send(b"1 open 0\n")
    assert factory.buildProtocol(PEER) is None
    first.lose()
    bench.connect()
    assert factory.buildProtocol(PEER) is None
    assert bench.counters.closed["max_connections"] == 3


def test_all_are_paused_and_resumed(bench: Bench) -> None:
    bench.start(ack="durable")
    line, relp, silent = bench.connect(), bench.connect(), bench.connect()
    line.send(b"hello\n")
    relp.send(RelpClient().open())
    bench.intake.room = 0
    line.send(b"held\n")
    bench.listener.pause()
    assert [peer.transport.reading for peer in (line, relp, silent)] == [False] * 3
    bench.listener.resume()
    assert [peer.transport.reading for peer in (line, relp, silent)] == [False] * 3, "there is no room yet"
    bench.intake.room = None
    bench.listener.resume()
    assert [peer.transport.reading for peer in (line, relp, silent)] == [True] * 3
    assert bench.intake.frames == [b"hello", b"held"]


def test_the_room_may_fill_up_again_with_what_is_held(bench: Bench) -> None:
    """Then nobody is read, of whatever protocol."""
    bench.start(ack="durable")
    relp, json_lines, line = bench.connect(), bench.connect(), bench.connect()
    client = RelpClient()
    relp.send(client.open())
    client.receive(relp.said())
    client.send(b"held by RELP")
    bench.intake.room = 0
    relp.send(client.take())
    json_lines.send(b'{"held":1}\n')
    line.send(b"held\n")
    bench.listener.pause()
    bench.intake.room = 1
    bench.intake.on_put = bench.listener.pause
    bench.listener.resume()
    assert bench.intake.frames == [b"held by RELP"]
    assert [peer.transport.reading for peer in (relp, json_lines, line)] == [False] * 3
    bench.intake.room, bench.intake.on_put = None, lambda: None
    bench.listener.resume()
    assert bench.intake.frames == [b"held by RELP", b'{"held":1}', b"held"]
    assert [peer.transport.reading for peer in (relp, json_lines, line)] == [True] * 3


def test_a_stop_takes_what_was_said(bench: Bench) -> None:
    bench.start()
    open_, silent, line = bench.connect(), bench.connect(), bench.connect()
    open_.send(b"12")
    line.send(b"hello\nhal")
    stopped = bench.stop()
    assert bench.intake.frames == [b"12", b"hello", b"hal"] or bench.intake.frames == [b"hello", b"12", b"hal"]
    assert silent.transport.aborted
    for peer in (open_, line):
        peer.lose()
    silent.lose()
    assert stopped


def test_limits_of_frames_hold_for_all(bench: Bench) -> None:
    bench.start({"max_frame": Size(8)})
    bench.connect().send(b"hello world\n")
    bench.connect().send(window(1) + json_frame(1, b"hello world"))
    assert bench.intake.frames == [b"hello wo", b"hello wo"]
    assert bench.counters.truncated == 2


@pytest.mark.parametrize("listener_type", [StreamListener, RelpListener])
def test_other_listeners_find_the_decoder_out_too(
    reactor: MemoryReactor, counters: ListenerCounters, listener_type: Any
) -> None:
    """With `decoder = "auto"`: what one read brought has its name, or `auto` where it is mixed."""
    intake = Intake()
    context = make_context(reactor, counters, intake=intake, decoder="auto", ack="memory")
    listener = listener_type(listener_type.Options(endpoints=("tcp:5140",)), context)
    listener.listen()
    listener.startService()
    peer = Peer(reactor.tcpServers[0][1].buildProtocol(PEER))
    for frames in ([SYSLOG, SYSLOG], [GELF], [SYSLOG, b"hello"]):
        if listener_type is StreamListener:
            peer.send(b"".join(frame + b"\n" for frame in frames))
        else:
            client = RelpClient()
            peer = Peer(reactor.tcpServers[0][1].buildProtocol(PEER))
            peer.send(client.open())
            client.receive(peer.said())
            client.send(*frames)
            peer.send(client.take())
    assert [batch.decoder for batch in intake.batches] == ["syslog", "gelf", "auto"]
    listener.stopService()


# Settings


def test_everything_has_a_default() -> None:
    listener = from_mapping({"listener": {"all": {"type": "auto", "endpoints": ["tcp:5140"]}}}).listeners["all"]
    assert listener.decoder.name == "auto"
    assert listener.ack == "delivered"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"protocols": []}, "protocols: is empty"),
        ({"protocols": ["relp"], "token": "0123456789abcdef"}, "token: is for `http`"),
        ({"token": "short"}, "token: is too short"),
        ({"protocols": ["gopher"]}, "protocols"),
        ({"framing": "lines"}, "framing: is for streams"),
        ({"max_frame": 0}, "max_frame: 0 B is too small"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping({"listener": {"all": {"type": "auto", "endpoints": ["tcp:5140"], **keys}}})
    assert f"listener.all.{said}" in str(caught.value)


def test_another_decoder_is_for_protocols_that_leave_it_open(bench: Bench) -> None:
    with pytest.raises(ValueError, match="`fluent`"):
        Bench(MemoryReactor(), bench.counters).start(decoder="syslog")
    bench.start({"protocols": ["lines", "json"]}, decoder="syslog").connect().send(json.dumps({}).encode() + b"\n")
    assert bench.found == [("json", "syslog", b"{}")]
