"""The stream listener with real sockets on loopback."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.python.systemd import ListenFDs
from zope.interface import implementer

from eventserver import options
from eventserver.counters import ListenerCounters
from eventserver.listeners import _systemd
from eventserver.listeners._endpoints import CannotListen
from eventserver.listeners._tls import TlsOptions, TlsProblem, load
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeConnections, FakeIntake, make_context

pytestmark = pytest.mark.reactors

Start = Callable[..., Awaitable[StreamListener]]


class Client(Protocol):
    """A peer: what it got, and when it is gone."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


async def until(condition: Callable[[], object]) -> None:
    """Turns of the reactor until the condition holds; fails after a minute."""
    from twisted.internet import reactor

    end = reactor.seconds() + 60
    while not condition():
        assert reactor.seconds() < end, "it never came true"
        await deferLater(reactor, 0.001)


async def connect(text: str, tls: Any = None) -> Client:
    """A client of the listener at this address, `tcp:127.0.0.1:5140` or `unix:/path`."""
    from twisted.internet import reactor

    scheme, _, place = text.partition(":")
    if scheme != "unix":
        host, _, port = place.rpartition(":")
        scheme, place = "tcp", ":".join([host.strip("[]").replace(":", "\\:"), port])
    endpoint = clientFromString(reactor, f"{scheme}:{place}")
    client: Client = await connectProtocol(wrapClientTLS(tls, endpoint) if tls else endpoint, Client())
    return client


@pytest.fixture
def connections() -> FakeConnections:
    return FakeConnections()


@pytest_twisted.async_yield_fixture
async def start(intake: FakeIntake, counters: ListenerCounters, connections: FakeConnections) -> AsyncIterator[Start]:
    """Starts listeners, and stops them at the end."""
    from twisted.internet import reactor

    started: list[StreamListener] = []

    async def make(*endpoints: str, **settings: Any) -> StreamListener:
        context = {key: settings.pop(key) for key in ("replies", "batch_context") if key in settings}
        context = {"intake": intake, "connections": connections, **context}
        made = StreamListener.Options(endpoints=endpoints, close_timeout=Duration(2), **settings)
        listener = StreamListener(made, make_context(reactor, counters, **context))
        await listener.listen()
        listener.startService()
        started.append(listener)
        return listener

    yield make
    for listener in started:
        if listener.running:
            await listener.stopService()
        assert listener.connections() == []
    assert counters.connections == 0


def inet(scheme: str, host: str) -> str:
    return f"{scheme}:0:interface={host}"


@pytest.mark.parametrize(("scheme", "host", "text"), [("tcp", "127.0.0.1", "127.0.0.1"), ("tcp6", "::1", "[::1]")])
@pytest_twisted.ensureDeferred
async def test_tcp(start: Start, intake: FakeIntake, logged: list[str], scheme: str, host: str, text: str) -> None:
    listener = await start(inet(scheme, host))
    [address] = listener.addresses()
    assert address.startswith(f"{scheme}:{text}:")
    assert f"listening on {address.replace(':', ' ', 1)}" in logged[0]
    client = await connect(address)
    client.transport.write(b"a\nb\n")
    await until(lambda: intake.batches)
    assert intake.frames == [b"a", b"b"]
    assert intake.peers[0] == f"{text}:{client.transport.getHost().port}"
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_a_killed_process_with_our_number_is_followed(start: Start, intake: FakeIntake, tmp_path: Path) -> None:
    """As in a container, where every server is process 1."""
    path = tmp_path / "es"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(str(path))
    Path(f"{path}.lock").symlink_to(str(os.getpid()))
    await start(f"unix:{path}")
    client = await connect(f"unix:{path}")
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    client.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_unix_names_the_process(start: Start, intake: FakeIntake, tmp_path: Path) -> None:
    path = tmp_path / "es"
    listener = await start(f"unix:{path}:mode=660")
    assert listener.addresses() == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    client = await connect(f"unix:{path}")
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    assert intake.peers == [f"unix:pid={os.getpid()},uid={os.getuid()}"]
    client.transport.loseConnection()
    await until(lambda: not listener.connections())
    await listener.stopService()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_half_close_is_answered(start: Start, intake: FakeIntake, connections: FakeConnections) -> None:
    """`printf 'ping' | nc -N`: the peer ends its side, gets its answer, and then the end."""
    listener = await start(inet("tcp", "127.0.0.1"), replies=True)
    client = await connect(listener.addresses()[0])
    client.transport.write(b"ping")
    client.transport.loseWriteConnection()
    await until(lambda: intake.watches)
    assert intake.frames == [b"ping"]
    connections.writers[1].reply(b"pong")
    intake.deliver()
    await until(lambda: client.reason)
    assert client.got == b"pong\n"


@pytest_twisted.ensureDeferred
async def test_peer_that_does_not_read_is_cut_off(
    start: Start, connections: FakeConnections, counters: ListenerCounters
) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), replies=True)
    client = await connect(listener.addresses()[0])
    await until(lambda: connections.writers)
    client.transport.pauseProducing()
    writer = connections.writers[1]
    for _ in range(2000):
        if not connections.writers:
            break
        writer.reply(b"x" * 65536)
        await until(lambda: True)
    await until(lambda: not listener.connections())
    assert counters.closed == {"unread_replies": 1}
    client.transport.resumeProducing()
    await until(lambda: client.reason)


@pytest_twisted.ensureDeferred
async def test_port_in_use_names_the_endpoint(start: Start, counters: ListenerCounters) -> None:
    from twisted.internet import reactor

    first = await start(inet("tcp", "127.0.0.1"))
    taken = f"tcp:{first.addresses()[0].rpartition(':')[2]}:interface=127.0.0.1"
    made = StreamListener.Options(endpoints=(inet("tcp", "127.0.0.1"), taken))
    second = StreamListener(made, make_context(reactor, counters))
    with pytest.raises(CannotListen, match=f"^cannot listen on {taken}: Address already in use$"):
        await second.listen()
    assert second.addresses() == []


@pytest_twisted.ensureDeferred
async def test_optional_endpoint_may_fail(start: Start, logged: list[str]) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), optional_endpoints=("tcp:0:interface=192.0.2.1",))
    assert len(listener.addresses()) == 1
    assert "tcp:0:interface=192.0.2.1: Cannot assign requested address; it is optional" in logged[-1]


@pytest_twisted.ensureDeferred
async def test_peers_wait_until_the_listener_runs(intake: FakeIntake, counters: ListenerCounters) -> None:
    """Bound is not started, and paused is not stopped: the kernel keeps those who connect."""
    from twisted.internet import reactor

    made = StreamListener.Options(endpoints=(inet("tcp", "127.0.0.1"),))
    listener = StreamListener(made, make_context(reactor, counters, intake=intake))
    await listener.listen()
    client = await connect(listener.addresses()[0])
    client.transport.write(b"early\n")
    await deferLater(reactor, 0.02)
    assert counters.connections_total == 0
    listener.startService()
    await until(lambda: intake.frames == [b"early"])
    listener.pause()
    late = await connect(listener.addresses()[0])
    late.transport.write(b"late\n")
    client.transport.write(b"paused\n")
    await deferLater(reactor, 0.02)
    assert (counters.connections_total, intake.frames) == (1, [b"early"])
    listener.resume()
    await until(lambda: sorted(intake.frames) == [b"early", b"late", b"paused"])
    await listener.stopService()
    await until(lambda: client.reason and late.reason)


@pytest_twisted.ensureDeferred
async def test_full_intake_holds_the_sender_up_and_loses_nothing(start: Start, intake: FakeIntake) -> None:
    listener = await start(inet("tcp", "127.0.0.1"))
    client = await connect(listener.addresses()[0])
    intake.room = 1
    sent = [b"%06d" % number for number in range(100_000)]
    client.transport.write(b"\n".join(sent) + b"\n")
    await until(lambda: intake.room == 0 and listener._holding)
    intake.room = None
    listener.resume()
    await until(lambda: len(intake.frames) == len(sent))
    assert intake.frames == sent
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_accepted_sockets_have_keepalive(start: Start) -> None:
    """Linux hands it down from the listening socket."""
    listener = await start(inet("tcp", "127.0.0.1"), keepalive_idle=Duration(33))
    client = await connect(listener.addresses()[0])
    await until(listener.connections)
    [connection] = listener._connections
    sock = connection.transport.getHandle()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    values = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
    assert values == [33, 10]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 6
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"keepalive": False}, (0, None, None)),
        ({"keepalive_interval": Duration(7), "keepalive_probes": 3}, (1, 7, 3)),
    ],
)
async def test_keepalive_is_as_the_settings_say(start: Start, options: dict[str, Any], values: tuple[Any, ...]) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), **options)
    client = await connect(listener.addresses()[0])
    await until(listener.connections)
    [connection] = listener._connections
    sock = connection.transport.getHandle()
    on, interval, probes = values
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == on
    if on:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == probes
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_backlog_is_what_the_kernel_was_told(start: Start, real_program: Callable[[str], str]) -> None:
    """Of a listening socket `ss` shows the backlog as Send-Q."""
    listener = await start(inet("tcp", "127.0.0.1"), backlog=37)
    port = listener.addresses()[0].rpartition(":")[2]
    command = [real_program("ss"), "-ltnH", f"sport = :{port}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split()[2] == "37"


@pytest_twisted.ensureDeferred
async def test_refused_connection_is_closed_at_once(start: Start, counters: ListenerCounters) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), max_connections=1)
    first = await connect(listener.addresses()[0])
    await until(listener.connections)
    second = await connect(listener.addresses()[0])
    await until(lambda: second.reason)
    assert first.reason is None
    assert counters.closed == {"max_connections": 1}
    first.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_sockets_of_systemd_are_adopted(
    start: Start, intake: FakeIntake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stream sockets with the name; their files and permissions are left alone, and so are the descriptors."""
    path = str(tmp_path / "es")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(path)
        os.chmod(path, 0o620)
        unix.listen()
        passed = ListenFDs([sock.fileno() for sock in (udp, tcp, unix)], ["es", "es", "es"])
        monkeypatch.setattr(_systemd, "inherited", lambda: passed)
        addresses = [f"tcp:127.0.0.1:{tcp.getsockname()[1]}", f"unix:{path}"]
        wanted: list[bytes] = []
        for endpoints in (["systemd:name=es"], ["systemd:domain=INET:index=1", "systemd:domain=UNIX:index=2"]):
            listener = await start(*endpoints)
            assert listener.addresses() == addresses
            for address in addresses:
                client = await connect(address)
                wanted.append(address.encode())
                client.transport.write(wanted[-1] + b"\n")
                await until(lambda: intake.frames == wanted)
                client.transport.loseConnection()
            await until(lambda running=listener: not running.connections())
            await listener.stopService()
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o620


# TLS


@implementer(IOpenSSLClientConnectionCreator)
class Trusting:
    """A client that looks at no certificate, may show one, and may insist on a version."""

    def __init__(self, certificate: tuple[str, str] | None = None, only: int | None = None) -> None:
        self.context = SSL.Context(SSL.TLS_METHOD)
        if certificate is not None:
            self.context.use_certificate_file(certificate[0])
            self.context.use_privatekey_file(certificate[1])
        if only is not None:
            self.context.set_min_proto_version(only)
            self.context.set_max_proto_version(only)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def tls_options(authority: Authority, name: str = "server", **more: Any) -> TlsOptions:
    cert, key = authority.server(name)
    return TlsOptions(cert=cert, key=key, **more)


TLS = inet("tls", "127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_tls(start: Start, intake: FakeIntake, connections: FakeConnections, authority: Authority) -> None:
    """Lines in, replies out; close_notify ends the last line as end of file does."""
    listener = await start(TLS, tls=tls_options(authority), replies=True)
    assert listener.addresses()[0].startswith("tls:127.0.0.1:")
    trusted = ssl.Certificate.loadPEM(Path(authority.ca).read_bytes())
    client = await connect(listener.addresses()[0], ssl.optionsForClientTLS("localhost", trusted))
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    connections.writers[1].reply(b"pong")
    await until(lambda: client.got == b"pong\n")
    assert intake.batches[0].context == {}
    client.transport.write(b"tail")
    client.transport.loseConnection()
    await until(lambda: not listener.connections())
    assert intake.frames == [b"a", b"tail"]
    assert intake.peers[0].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        ((), "the common name"),
        ((x509.DNSName("web1"), x509.DNSName("web2")), "web1"),
        ((x509.UniformResourceIdentifier("spiffe://x/y"),), "spiffe://x/y"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_client_certificate_names_the_sender(
    start: Start, intake: FakeIntake, authority: Authority, names: tuple[x509.GeneralName, ...], subject: str
) -> None:
    settings = tls_options(authority, client_ca=authority.ca)
    listener = await start(TLS, tls=settings, batch_context={"labels": {"site": "hq"}})
    client = await connect(listener.addresses()[0], Trusting(authority.issue("the common name", names)))
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    assert intake.batches[0].context == {"labels": {"site": "hq"}, "tls": {"subject": subject}}
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest.mark.parametrize("certificate", ["none", "stranger"])
@pytest_twisted.ensureDeferred
async def test_client_without_a_good_certificate_is_refused(
    start: Start,
    intake: FakeIntake,
    counters: ListenerCounters,
    authority: Authority,
    tmp_path: Path,
    certificate: str,
) -> None:
    listener = await start(TLS, tls=tls_options(authority, client_ca=authority.ca))
    shown = None if certificate == "none" else Authority(tmp_path).issue("stranger")
    client = await connect(listener.addresses()[0], Trusting(shown))
    client.transport.write(b"a\n")
    await until(lambda: client.reason and not listener.connections())
    assert intake.batches == []
    assert counters.closed == {"tls": 1}


@pytest_twisted.ensureDeferred
async def test_only_named_clients_may_connect(
    start: Start, intake: FakeIntake, counters: ListenerCounters, authority: Authority
) -> None:
    settings = tls_options(authority, client_ca=authority.ca, client_names=("web1",))
    listener = await start(TLS, tls=settings)
    for name in ("web2", "web1"):
        client = await connect(listener.addresses()[0], Trusting(authority.issue(name)))
        client.transport.write(name.encode() + b"\n")
        await until(lambda client=client: client.reason or intake.batches)
    assert intake.frames == [b"web1"]
    assert counters.closed == {"client_name": 1}
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_old_tls_is_refused_and_its_neighbour_served(
    start: Start, intake: FakeIntake, counters: ListenerCounters, authority: Authority
) -> None:
    listener = await start(TLS, tls=tls_options(authority))
    old = await connect(listener.addresses()[0], Trusting(only=SSL.TLS1_1_VERSION))
    plain = await connect(listener.addresses()[0])
    plain.transport.write(b"this is no TLS\n")
    await until(lambda: old.reason and plain.reason)
    assert counters.closed == {"tls": 2}
    good = await connect(listener.addresses()[0], Trusting(only=SSL.TLS1_2_VERSION))
    good.transport.write(b"a\n")
    await until(lambda: intake.frames == [b"a"])
    good.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_probe_of_the_port_is_no_failure(start: Start, counters: ListenerCounters, authority: Authority) -> None:
    """A health check connects and goes."""
    listener = await start(TLS, tls=tls_options(authority))
    client = await connect(listener.addresses()[0])
    client.transport.loseConnection()
    await until(lambda: counters.connections_total == 1 and not listener.connections())
    assert counters.closed == {}


@pytest_twisted.ensureDeferred
async def test_stop_closes_tls_in_order(
    start: Start, intake: FakeIntake, connections: FakeConnections, counters: ListenerCounters, authority: Authority
) -> None:
    """Replies still go out, and the peer's close_notify is waited for, not its time-out."""
    listener = await start(TLS, tls=tls_options(authority), replies=True)
    client = await connect(listener.addresses()[0], Trusting())
    client.transport.write(b"a\ntail")
    await until(lambda: intake.batches)
    stopping = listener.stopService()
    assert intake.frames == [b"a", b"tail"]
    assert intake.marks[1] == ("truncated",)
    connections.writers[1].reply(b"pong")
    intake.deliver()
    await stopping
    assert counters.closed == {}
    await until(lambda: client.reason)
    assert client.got == b"pong\n"


@pytest_twisted.ensureDeferred
async def test_full_intake_holds_tls_up_and_loses_nothing(
    start: Start, intake: FakeIntake, authority: Authority
) -> None:
    """What TLS has already decrypted comes after the pause, and is held too."""
    listener = await start(TLS, tls=tls_options(authority))
    client = await connect(listener.addresses()[0], Trusting())
    intake.room = 1
    sent = [b"%06d" % number for number in range(50_000)]
    client.transport.write(b"\n".join(sent) + b"\n")
    await until(lambda: intake.room == 0 and listener._holding)
    await deferLater(listener.context.reactor, 0.02)
    [holding] = listener._holding
    assert sum(len(batch.frames) * 7 for batch in holding.held) <= 65536 + 16384
    intake.room = None
    listener.resume()
    await until(lambda: len(intake.frames) == len(sent))
    assert intake.frames == sent
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_renewed_certificate_is_shown_to_the_next_client(start: Start, authority: Authority) -> None:
    """And a bad one leaves the old in place."""
    settings = tls_options(authority, "renewed")
    listener = await start(TLS, tls=settings)

    async def shown() -> int:
        client = await connect(listener.addresses()[0], Trusting())
        done: Deferred[None] = Deferred()
        client.transport.write(b"x\n")
        await until(lambda: client.transport.getPeerCertificate())
        certificate: crypto.X509 = client.transport.getPeerCertificate()
        client.transport.loseConnection()
        await until(lambda: client.reason)
        done.callback(None)
        return certificate.get_serial_number()

    before = await shown()
    authority.server("renewed")
    assert await shown() == before
    listener.renew()
    after = await shown()
    assert after != before
    Path(settings.cert).write_text("broken")
    with pytest.raises(TlsProblem, match="holds no certificate"):
        listener.renew()
    assert await shown() == after


def test_tls_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.server()
    _, other = authority.issue("other")
    _, locked = authority.issue("locked", password=b"secret")
    for table, wrong, message in [
        ({"cert": "/nowhere.pem"}, "tls.cert", "cannot read /nowhere.pem: No such file"),
        ({"cert": key}, "tls.cert", "holds no certificate in PEM"),
        ({"cert": cert}, "tls.key", "holds no private key in PEM"),
        ({"cert": cert, "key": other}, "tls.key", f"{other} is not the key of {cert}"),
        ({"cert": cert, "key": locked}, "tls.key", "protected by a password"),
        ({"cert": cert, "key": key, "client_ca": key}, "tls.client_ca", "holds no certificate"),
        ({"cert": cert, "key": key, "client_names": ["a"]}, "tls.client_names", "needs `client_ca`"),
    ]:
        _, problems = options.parse(StreamListener.Options, {"endpoints": ["tls:1"], "tls": table})
        assert [name for name, _ in problems] == [wrong]
        assert message in problems[0][1]


def test_tls_context_is_strict(authority: Authority) -> None:
    context = load(tls_options(authority))
    assert context.set_options(0) & SSL.OP_NO_RENEGOTIATION
    assert context.set_options(0) & SSL.OP_NO_COMPRESSION
    ciphers = SSL.Connection(context, None).get_cipher_list()
    assert ciphers
    assert all("GCM" in cipher or "CHACHA20" in cipher for cipher in ciphers)
