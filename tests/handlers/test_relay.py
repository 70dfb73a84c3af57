"""The relay handler: what goes out, when it counts as sent, and what happens when the peer is away."""

from __future__ import annotations

import datetime as dt
import errno
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver import options
from eventserver.errors import PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.handlers import _datagrams
from eventserver.handlers._destinations import Destination, make_endpoint, parse_destination
from eventserver.handlers._peer_connection import PeerProtocol, StreamPeer
from eventserver.handlers._tls_client import TlsClient, TlsOptions
from eventserver.handlers.relay import Reconnect, RelayHandler
from eventserver.options import Duration
from tests.handlers.fakes import (
    FakeReactor,
    HandMoved,
    LateTransport,
    Log,
    PullTransport,
    make_batch,
    make_context,
    make_event,
    make_events,
    until,
)

Options = RelayHandler.Options


def make(to: str, reactor: Any = None, encoder: str = "raw", framing: str = "lines", **changes: Any) -> RelayHandler:
    contextual = {"needs_events": changes.pop("needs_events")} if "needs_events" in changes else {}
    context = make_context(
        reactor, changes.pop("log", None), parts={"encoder": encoder, "framing": framing}, **contextual
    )
    return RelayHandler(Options(to=to, encoder=encoder, framing=framing, **changes), context, lambda: 0.0)


def results_of(deferred: Deferred[Any] | None) -> list[Any]:
    """What comes of a Deferred, failures as exceptions; filled when it fires."""
    assert deferred is not None
    results: list[Any] = []
    deferred.addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
    return results


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "destination"),
        [
            ("tcp:logs.example:514", ("tcp", "logs.example", 514)),
            ("tls:192.0.2.1:6514", ("tls", "192.0.2.1", 6514)),
            ("udp:[2001:db8::1]:514", ("udp", "2001:db8::1", 514)),
            ("tcp:2001:db8::1:514", ("tcp", "2001:db8::1", 514)),
            ("unix:/run/x:y", ("unix", "/run/x:y", 0)),
            ("unix-datagram:/dev/log", ("unix-datagram", "/dev/log", 0)),
        ],
    )
    def test_destinations_are_read(self, text: str, destination: tuple[str, str, int]) -> None:
        assert parse_destination(text) == destination

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tcp",
            "tcp:",
            "tcp:host",
            "tcp:host:",
            "tcp::5",
            "tcp:h:0",
            "tcp:h:65536",
            "unix:",
            "http:h:80",
            "tcp:h:+5",
        ],
    )
    def test_what_is_no_destination_is_told(self, text: str) -> None:
        parsed, problems = options.parse(Options, {"to": text})
        assert parsed is None
        assert "is no destination; write tcp:HOST:PORT" in problems[0][1]

    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ({"to": "tcp:h:1", "tls": {"ca": "x"}}, "tls"),
            ({"to": "tls:h:1", "tls": {"cert": "x"}}, "tls.key"),
            ({"to": "tls:h:1", "tls": {"key": "x"}}, "tls.cert"),
            ({"to": "tls:h:1", "tls": {"certificate": "x"}}, "tls.certificate"),
            ({"to": "tcp:h:1", "reconnect": {"initial_interval": "2 min"}}, "reconnect.max_interval"),
        ],
    )
    def test_settings_that_do_not_go_together_are_told(self, table: dict[str, Any], key: str) -> None:
        assert [name for name, _ in options.parse(Options, table)[1]] == [key]

    def test_certificates_that_cannot_be_used_are_told_at_start(self, tmp_path: Path) -> None:
        cert, key = certificate(tmp_path)
        (tmp_path / "other").mkdir()
        _, other_key = certificate(tmp_path / "other")
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing")
        wrong = {
            "empty.pem holds no certificate": TlsOptions(ca=str(empty)),
            "missing.pem: No such file": TlsOptions(ca=str(tmp_path / "missing.pem")),
            "holds no certificate in": TlsOptions(cert=str(empty), key=str(key)),
            "empty.pem holds no private key": TlsOptions(cert=str(cert), key=str(empty)),
            "key.pem is not the key of": TlsOptions(cert=str(cert), key=str(other_key)),
        }
        for sentence, tls in wrong.items():
            with pytest.raises(ValueError, match=sentence):
                make("tls:127.0.0.1:1", Clock(), tls=tls).start()
        with pytest.raises(ValueError, match="has a password"):
            TlsClient("host", TlsOptions(cert=str(cert), key=str(locked(tmp_path))))

    def test_frames_are_enough_for_raw_streams(self) -> None:
        assert make("tcp:h:1").wants == "frames"
        assert make("tcp:h:1", encoder="json").wants == "events"
        handler = make("tcp:h:1", needs_events=True)
        assert (handler.wants, handler.wants_raw) == ("events", True)
        handler = make("udp:h:1")
        assert (handler.wants, handler.wants_raw) == ("events", True)


class TestProtocol:
    """When data counts as sent."""

    @pytest.fixture
    def transport(self) -> PullTransport:
        return PullTransport()

    @pytest.fixture
    def protocol(self, transport: PullTransport) -> PeerProtocol:
        protocol = PeerProtocol(False, lambda lost: None)
        protocol.makeConnection(transport)
        return protocol

    def test_data_is_sent_when_the_buffer_is_empty(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        first, second = results_of(protocol.send(b"one")), results_of(protocol.send(b"two"))
        assert (transport.value(), first, second) == (b"onetwo", [], [])
        transport.drain()
        assert (first, second) == ([None], [None])
        third = results_of(protocol.send(b"three"))
        assert third == []
        transport.drain()
        assert third == [None]

    def test_a_lost_connection_fails_what_was_not_sent(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        sent = results_of(protocol.send(b"one"))
        transport.drain()
        lost = results_of(protocol.send(b"two"))
        protocol.connectionLost(Failure(ConnectionDone()))
        assert sent == [None]
        assert isinstance(lost[0], TemporaryFailure)
        with pytest.raises(TemporaryFailure):
            protocol.send(b"three")

    def test_what_is_cancelled_cuts_the_connection(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        """Half of the pile may be out: it must not be followed by the same pile on the same connection."""
        sending = protocol.send(b"one")
        sending.cancel()
        assert transport.aborted
        assert results_of(sending)


class FakeEndpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred()
        self.attempts.append((factory, attempt))
        return attempt

    def succeed(self, transport: PullTransport | None = None) -> PullTransport:
        factory, attempt = self.attempts[-1]
        protocol, transport = factory.buildProtocol(None), transport or PullTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        attempt.callback(protocol)
        if protocol._secure:
            protocol.handshakeCompleted()
        return transport

    def fail(self) -> None:
        self.attempts[-1][1].errback(ConnectionRefusedError())


class TestReconnecting:
    """One connection, made when it is needed; failures say when to come again."""

    def setup_method(self) -> None:
        self.clock, self.endpoint, self.log = Clock(), FakeEndpoint(), Log()
        self.peer = StreamPeer(
            self.endpoint,  # type: ignore[arg-type]
            "tcp:peer:1",
            make_context(self.clock, self.log),
            connect_timeout=10,
            send_timeout=20,
            delay=lambda failures: 100.0 + failures,
        )

    def test_a_pile_waits_for_the_connection(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        assert sent == []
        transport = self.endpoint.succeed()
        assert (transport.value(), sent) == (b"one", [])
        transport.drain()
        assert sent == [None]
        results_of(self.peer.send(b"two"))
        assert transport.value() == b"onetwo"
        assert len(self.endpoint.attempts) == 1

    def test_failures_in_a_row_wait_longer_until_something_was_sent(self) -> None:
        """A peer that accepts and hangs up does not count as well."""
        for failures in (1, 2):
            sent = results_of(self.peer.send(b"one"))
            self.endpoint.fail()
            assert isinstance(sent[0], TemporaryFailure)
            assert "cannot connect to tcp:peer:1" in str(sent[0])
            assert sent[0].retry_after == 100 + failures
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed().protocol.connectionLost(Failure(ConnectionDone()))
        assert sent[0].retry_after == 103
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed().drain()
        assert sent == [None]
        assert len([line for line in self.log.lines if "cannot connect" in line]) == 1

    def test_after_a_loss_the_next_pile_connects_again(self) -> None:
        results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed()
        transport.drain()
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        results_of(self.peer.send(b"two"))
        assert self.endpoint.succeed().value() == b"two"

    def test_connecting_has_a_limit(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        self.clock.advance(10)
        assert isinstance(sent[0], TemporaryFailure)
        assert "no connection in 10 s" in str(sent[0])

    def test_a_peer_that_takes_nothing_is_cut_off(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed()
        self.clock.advance(20)
        assert transport.aborted
        assert isinstance(sent[0], TemporaryFailure)
        assert "took nothing for 20 s" in str(sent[0])

    @pytest.mark.parametrize("connected", [False, True])
    def test_a_cancelled_pile_is_a_temporary_failure(self, connected: bool) -> None:
        sending = self.peer.send(b"one")
        sent = results_of(sending)
        if connected:
            self.endpoint.succeed()
        sending.cancel()
        assert isinstance(sent[0], TemporaryFailure)
        if not connected:
            assert self.endpoint.succeed().value() == b""
        assert not self.clock.getDelayedCalls()

    def test_closing_while_connecting_gives_up(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        assert self.peer.close() is None
        assert isinstance(sent[0], TemporaryFailure)
        assert self.log.lines == []

    def test_closing_waits_for_the_peer_but_not_for_ever(self) -> None:
        results_of(self.peer.connected())
        transport = self.endpoint.succeed()
        closed = results_of(self.peer.close())
        assert transport.disconnecting
        self.clock.advance(5)
        assert transport.aborted
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        assert closed == [None]

    @pytest.mark.parametrize("secure", [False, True])
    def test_after_a_peer_that_took_nothing_it_connects_again_and_stops(self, secure: bool) -> None:
        """A connection that is cut is lost a turn later, when the pile has failed already."""
        self.peer._secure = secure
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed(LateTransport(self.clock, secure))
        self.clock.advance(20)
        assert "took nothing for 20 s" in str(sent[0])
        self.clock.advance(0.001)
        again = results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed(LateTransport(self.clock, secure))
        transport.drain()
        assert again == [None]
        closed = results_of(self.peer.close())
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_between_the_cut_and_the_loss_nothing_is_written(self) -> None:
        results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed(LateTransport(self.clock))
        self.clock.advance(20)
        assert isinstance(results_of(self.peer.send(b"two"))[0], TemporaryFailure)
        assert transport.value() == b"one"
        self.clock.advance(0.001)
        assert self.endpoint.attempts[1:] == []

    def test_stopping_in_the_middle_of_a_pile_ends(self) -> None:
        """Delivery cancels the call, then stops the handler."""
        sending = self.peer.send(b"one")
        sent = results_of(sending)
        self.endpoint.succeed(LateTransport(self.clock))
        sending.cancel()
        closed = results_of(self.peer.close())
        self.clock.advance(0.001)
        assert isinstance(sent[0], TemporaryFailure)
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_stopping_ends_even_if_the_connection_is_never_lost(self) -> None:
        results_of(self.peer.connected())
        transport = self.endpoint.succeed()
        closed = results_of(self.peer.close())
        self.clock.pump([5, 1])
        assert transport.aborted
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_delays_double_up_to_the_limit_and_are_cut_at_random(self) -> None:
        handler = make("tcp:h:1", reconnect=Reconnect())
        assert [handler._delay(n) for n in (1, 2, 3, 7, 1000)] == [0.5, 1, 2, 30, 30]
        handler._random = lambda: 1.0
        assert handler._delay(2) == 0.5


class Sink(Protocol):
    """A server that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Sinks(Factory):
    noisy = False

    def __init__(self) -> None:
        self.made: list[Sink] = []

    def buildProtocol(self, addr: Any) -> Sink:
        self.made.append(Sink())
        return self.made[-1]


async def deliver(handler: RelayHandler, pile: list[Any]) -> None:
    deferred = handler.handle(pile)
    assert deferred is not None
    await deferred


async def stop(handler: RelayHandler) -> None:
    stopped = handler.stop()
    if stopped is not None:
        await stopped


class TestStreams:
    """Over real sockets."""

    @pytest_twisted.ensureDeferred
    async def test_tcp_in_both_framings(self) -> None:
        from twisted.internet import reactor

        sinks = Sinks()
        port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(sinks)
        for framing, expected in (("lines", b"a\nbc\n"), ("octet", b"1 a2 bc")):
            handler = make(f"tcp:localhost:{port.getHost().port}", reactor, framing=framing)
            handler.start()
            await deliver(handler, [make_batch(b"a"), make_batch(b"bc")])
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == expected
        await port.stopListening()

    @pytest.mark.parametrize("secure", [False, True])
    @pytest_twisted.ensureDeferred
    async def test_a_large_pile_is_sent_when_the_kernel_has_it(self, tmp_path: Path, secure: bool) -> None:
        """More than the buffers of the kernel: the Deferred waits for the peer to read."""
        from twisted.internet import reactor

        sinks = Sinks()
        if secure:
            server = Server(*certificate(tmp_path))
            listening = endpoints.SSL4ServerEndpoint(reactor, 0, server, interface="127.0.0.1")
        else:
            listening = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await listening.listen(sinks)
        kind, tls = ("tls", TlsOptions(verify=False)) if secure else ("tcp", TlsOptions())
        handler = make(f"{kind}:127.0.0.1:{port.getHost().port}", reactor, tls=tls)
        handler.start()
        await deliver(handler, [make_batch(b"first")])
        transport: Any = sinks.made[0].transport
        transport.pauseProducing()
        sent = results_of(handler.handle([make_batch(*[b"x" * 65535] * 300)]))
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]  # a module, to the type checker
        assert sent == []
        transport.resumeProducing()
        await until(lambda: sent)
        assert sent == [None]
        await stop(handler)
        await until(lambda: sinks.made[0].lost)
        assert len(sinks.made[0].data) == 65536 * 300 + 6
        await port.stopListening()

    @pytest.mark.parametrize("secure", [False, True])
    @pytest_twisted.ensureDeferred
    async def test_a_peer_that_is_stuck_is_cut_off_and_gets_the_pile_again(self, tmp_path: Path, secure: bool) -> None:
        from twisted.internet import reactor

        sinks = Sinks()
        if secure:
            server = Server(*certificate(tmp_path))
            listening = endpoints.SSL4ServerEndpoint(reactor, 0, server, interface="127.0.0.1")
        else:
            listening = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await listening.listen(sinks)
        to = f"{'tls' if secure else 'tcp'}:127.0.0.1:{port.getHost().port}"
        tls = TlsOptions(verify=False) if secure else TlsOptions()
        timed = HandMoved(reactor)
        handler = make(to, timed, tls=tls, log=Log(), send_timeout=Duration(10))
        handler.start()
        await deliver(handler, [make_batch(b"first")])
        await until(lambda: sinks.made[0].data)
        stuck: Any = sinks.made[0].transport
        stuck.pauseProducing()
        pile = [make_batch(*[b"x" * 65535] * 300)]
        sent = results_of(handler.handle(pile))
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # a module, to the type checker
        assert sent == []
        timed.advance(10)
        await until(lambda: sent)
        assert isinstance(sent[0], TemporaryFailure)
        assert "took nothing" in str(sent[0])
        await until(lambda: handler._peer._protocol is None)  # type: ignore[union-attr]
        await deliver(handler, [make_batch(b"again")])
        await until(lambda: sinks.made[1].data)
        # Once more, and this time the handler is stopped in the middle, as a server does.
        stuck_too: Any = sinks.made[1].transport
        stuck_too.pauseProducing()
        sending = handler.handle(pile)
        assert sending is not None
        sent = results_of(sending)
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # a module, to the type checker
        sending.cancel()
        await stop(handler)
        assert isinstance(sent[0], TemporaryFailure)
        for transport in (stuck, stuck_too):
            transport.abortConnection()
        await until(lambda: all(sink.lost for sink in sinks.made))
        assert [bytes(sink.data[:6]) for sink in sinks.made] == [b"first\n", b"again\n"]
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_a_peer_that_comes_later_gets_the_pile(self, tmp_path: Path) -> None:
        from twisted.internet import reactor

        path = tmp_path / "socket"
        handler = make(f"unix:{path}", reactor, encoder="json", log=Log())
        handler.start()
        with pytest.raises(TemporaryFailure) as caught:
            await deliver(handler, make_events(1))
        assert caught.value.retry_after is not None
        sinks = Sinks()
        port = await endpoints.UNIXServerEndpoint(reactor, str(path)).listen(sinks)
        await deliver(handler, make_events(1))
        await stop(handler)
        await until(lambda: sinks.made[0].lost)
        assert sinks.made[0].data.startswith(b'{"id":"01BATCH-0"')
        assert sinks.made[0].data.endswith(b"}\n")
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_tls_with_a_certificate_that_is_checked(self, tmp_path: Path) -> None:
        from twisted.internet import reactor

        cert, key = certificate(tmp_path)
        sinks = Sinks()
        port = await endpoints.SSL4ServerEndpoint(reactor, 0, Server(cert, key), interface="127.0.0.1").listen(sinks)
        to = f"tls:127.0.0.1:{port.getHost().port}"
        pile = [make_batch(b"a" * 60_000, b"b")]
        good = [
            TlsOptions(ca=str(cert), server_name="peer.example"),
            TlsOptions(ca=str(cert), server_name="peer.example", cert=str(cert), key=str(key)),
            TlsOptions(verify=False),
        ]
        for tls in good:
            handler = make(to, reactor, tls=tls)
            handler.start()
            await deliver(handler, pile)
            await deliver(handler, [make_batch(b"c")])
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == b"a" * 60_000 + b"\nb\nc\n"
        bad = {
            "the peer's certificate is not for 127.0.0.1": TlsOptions(ca=str(cert)),
            "the peer's certificate is not for other.example": TlsOptions(ca=str(cert), server_name="other.example"),
            "certificate verify failed": TlsOptions(server_name="peer.example"),
        }
        for sentence, tls in bad.items():
            handler = make(to, reactor, tls=tls, log=Log())
            handler.start()
            with pytest.raises(TemporaryFailure, match=f"cannot connect to {to}: {sentence}"):
                await deliver(handler, pile)
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == b""
        await port.stopListening()

    def test_endpoints_for_names_and_addresses(self) -> None:
        clock = Clock()
        kinds = {
            "logs.example": endpoints.HostnameEndpoint,
            "192.0.2.1": endpoints.TCP4ClientEndpoint,
            "2001:db8::1": endpoints.TCP6ClientEndpoint,
        }
        for host, kind in kinds.items():
            from twisted.internet import reactor

            assert isinstance(make_endpoint(Destination("tcp", host, 1), TlsOptions(), 10, reactor), kind)
        unix = make_endpoint(Destination("unix", "/x"), TlsOptions(), 10, clock)
        assert isinstance(unix, endpoints.UNIXClientEndpoint)


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """The server's side of TLS."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate_file(str(cert))
        self.context.use_privatekey_file(str(key))

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `peer.example` that signed itself, and its key, as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer.example")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("peer.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def locked(folder: Path) -> Path:
    """A private key that is protected by a password."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    file = folder / "locked.pem"
    file.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return file


class TestDatagrams:
    """One datagram a payload."""

    @pytest.fixture
    def receiver(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(60)
            yield receiver

    def test_each_event_is_a_datagram_without_framing(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        assert results_of(handler.handle(make_events(3))) == [None]
        assert [receiver.recv(100) for _ in range(3)] == [b"m0", b"m1", b"m2"]
        handler.stop()

    def test_a_datagram_with_several_events_is_passed_on_once(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        first, second = make_event(0), make_event(1)
        pile = [first, *[first.replace(id=f"{first.id}.{n}") for n in (1, 2)], second]
        assert results_of(handler.handle(pile)) == [None]
        assert [receiver.recv(100) for _ in range(2)] == [b"m0", b"m1"]
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        handler.stop()

    def test_names_are_looked_up_in_a_thread(self, receiver: socket.socket) -> None:
        reactor = FakeReactor()
        handler = make(f"udp:localhost:{receiver.getsockname()[1]}", reactor)
        handler.start()
        results_of(handler.handle(make_events(1)))
        assert reactor.hops == 1
        results_of(handler.handle(make_events(1)))
        assert reactor.hops == 1
        handler.stop()

    def test_what_does_not_fit_is_a_dead_letter(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        pile = [make_event(0), make_event(1, raw="x" * (_datagrams.MAX_DATAGRAM + 1)), make_event(2)]
        [error] = results_of(handler.handle(pile))
        assert isinstance(error, PartialFailure)
        assert {name: type(e) for name, e in error.errors.items()} == {"01BATCH-1": PermanentFailure}
        assert [receiver.recv(100) for _ in range(2)] == [b"m0", b"m2"]
        handler.stop()

    @pytest_twisted.ensureDeferred
    async def test_the_largest_datagram_passes(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        await deliver(handler, [make_event(raw="x" * _datagrams.MAX_DATAGRAM)])
        assert len(receiver.recv(70_000)) == _datagrams.MAX_DATAGRAM
        handler.stop()

    def test_a_full_queue_is_waited_for(self, tmp_path: Path) -> None:
        """Nothing is lost, and nothing is sent twice; after a while without progress the rest comes again."""
        path, reactor = str(tmp_path / "socket"), FakeReactor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.setblocking(False)
            handler = make(f"unix-datagram:{path}", reactor)
            handler.start()
            events = make_events(3000)
            sent = results_of(handler.handle(events))
            assert sent == []
            received = [receiver.recv(100)]
            reactor.advance(0.01)
            for _ in range(100):
                reactor.advance(0.3)
            assert isinstance(sent[0], PartialFailure)
            while True:
                try:
                    received.append(receiver.recv(100))
                except BlockingIOError:
                    break
            waiting = set(sent[0].errors)
            assert received == [event.message.encode() for event in events if event.id not in waiting]
            assert len(received) + len(waiting) == 3000
            assert all(isinstance(error, TemporaryFailure) for error in sent[0].errors.values())
            assert next(iter(sent[0].errors.values())).retry_after == 0.5  # type: ignore[attr-defined]
            handler.stop()

    def test_a_cancelled_pile_names_what_was_not_sent(self, tmp_path: Path) -> None:
        path, reactor = str(tmp_path / "socket"), FakeReactor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            handler = make(f"unix-datagram:{path}", reactor)
            handler.start()
            sending = handler.handle(make_events(3000))
            assert sending is not None
            sending.cancel()
            [error] = results_of(sending)
            assert isinstance(error, PartialFailure)
            assert "01BATCH-2999" in error.errors
            assert "01BATCH-0" not in error.errors
            assert not reactor.getDelayedCalls()
            handler.stop()

    def test_a_long_wait_can_be_cancelled(self, tmp_path: Path) -> None:
        """However often the socket was looked at meanwhile."""
        path, reactor = str(tmp_path / "socket"), FakeReactor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            handler = make(f"unix-datagram:{path}", reactor)
            handler.start()
            sending = handler.handle(make_events(3000))
            assert sending is not None
            reactor.pump([0.005] * 3500)
            sending.cancel()
            [error] = results_of(sending)
            assert isinstance(error, PartialFailure)
            assert str(error.errors["01BATCH-2999"]) == "the call was cancelled"
            assert not reactor.getDelayedCalls()
            handler.stop()

    def test_a_peer_that_is_not_there_is_a_temporary_failure(self, tmp_path: Path) -> None:
        path, log = str(tmp_path / "socket"), Log()
        handler = make(f"unix-datagram:{path}", log=log)
        handler.start()
        for expected in (0.5, 1.0):
            [error] = results_of(handler.handle(make_events(2)))
            assert isinstance(error, TemporaryFailure)
            assert error.retry_after == expected
        assert len(log.lines) == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            assert results_of(handler.handle(make_events(1))) == [None]
            assert receiver.recv(10) == b"m0"
        handler.stop()

    def test_a_refusal_concerns_the_rest_only(self) -> None:
        """ECONNREFUSED tells of an earlier datagram; what was not reached waits."""

        class Refusing:
            def __init__(self) -> None:
                self.answers = deque([None, errno.ECONNREFUSED])

            def send(self, payload: bytes) -> None:
                if (number := self.answers.popleft()) is not None:
                    raise OSError(number, "Connection refused")

        sending = _datagrams._Sending(deque([("a", b"1"), ("b", b"2"), ("c", b"3")]), 20, Clock())
        with pytest.raises(PartialFailure) as caught:
            sending.run(Refusing())  # type: ignore[arg-type]
        assert list(caught.value.errors) == ["b", "c"]
        assert all(isinstance(error, TemporaryFailure) for error in caught.value.errors.values())
