"""The stream listener with TLS: real clients and certificates on loopback."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import deferLater
from zope.interface import implementer

from eventserver import options
from eventserver.counters import ListenerCounters
from eventserver.listeners._tls import TlsOptions, TlsProblem, load
from eventserver.listeners.stream import StreamListener
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeConnections, FakeIntake
from tests.listeners.streamworld import Start, connect, inet, until

pytestmark = pytest.mark.reactors


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
    """And one that cannot be used leaves the old in place."""
    settings = tls_options(authority, "renewed")
    listener = await start(TLS, tls=settings, now=lambda: dt.datetime.now(dt.UTC))

    async def shown() -> x509.Certificate:
        client = await connect(listener.addresses()[0], Trusting())
        client.transport.write(b"x\n")
        await until(lambda: client.transport.getPeerCertificate())
        certificate: x509.Certificate = client.transport.getPeerCertificate().to_cryptography()
        client.transport.loseConnection()
        await until(lambda: client.reason)
        return certificate

    before = await shown()
    assert listener.certificate_ends == before.not_valid_after_utc
    authority.server("renewed", days=2)
    assert await shown() == before
    listener.reopen()
    after = await shown()
    assert after != before
    assert listener.certificate_ends == after.not_valid_after_utc > before.not_valid_after_utc
    authority.server("renewed", days=-1)
    with pytest.raises(ValueError, match=r"the certificate in .*renewed\.pem ended on 20"):
        listener.reopen()
    Path(settings.cert).write_text("broken")
    with pytest.raises(TlsProblem, match="holds no certificate"):
        listener.reopen()
    assert await shown() == after
    assert listener.certificate_ends == after.not_valid_after_utc


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_has_ended_is_told_at_start(
    start: Start, authority: Authority, logged: list[str]
) -> None:
    """The server starts all the same: its clock may be wrong, and not all clients look."""
    cert, key = authority.server("ended", days=-1)
    listener = await start(TLS, tls=TlsOptions(cert=cert, key=key), now=lambda: dt.datetime.now(dt.UTC))
    assert listener.addresses()
    assert listener.certificate_ends is not None
    day = listener.certificate_ends.date()
    assert logged[0] == f"the certificate in {cert} ended on {day}: clients that check it will not connect"


@pytest_twisted.ensureDeferred
async def test_without_tls_there_is_nothing_to_renew(start: Start) -> None:
    listener = await start(inet("tcp", "127.0.0.1"))
    listener.reopen()
    assert listener.certificate_ends is None


def test_tls_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.server()
    _, other = authority.issue("other")
    _, locked = authority.issue("locked", password=b"secret")
    half = str(tmp_path / "half.pem")
    Path(half).write_bytes(Path(cert).read_bytes() + Path(authority.ca).read_bytes()[:300])
    weak, weak_key = authority.issue("weak", key=rsa.generate_private_key(65537, 1024))
    strange = str(tmp_path / "x25519.key")
    Path(strange).write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    for table, wrong, message in [
        ({"cert": "/nowhere.pem"}, "tls.cert", "cannot read /nowhere.pem: No such file"),
        ({"cert": key}, "tls.cert", "holds no certificate in PEM"),
        ({"cert": cert}, "tls.key", "holds no private key in PEM"),
        ({"cert": half, "key": key}, "tls.cert", "is not whole: it ends within a certificate"),
        ({"cert": cert, "key": key, "client_ca": half}, "tls.client_ca", "is not whole: it ends within a certificate"),
        ({"cert": weak, "key": weak_key}, "tls.cert", f"the certificate in {weak} cannot be used: ee key too small"),
        ({"cert": cert, "key": strange}, "tls.key", f"{strange} is not the key of {cert}"),
        ({"cert": cert, "key": other}, "tls.key", f"{other} is not the key of {cert}"),
        ({"cert": cert, "key": locked}, "tls.key", "protected by a password"),
        ({"cert": cert, "key": key, "client_ca": key}, "tls.client_ca", "holds no certificate"),
        ({"cert": cert, "key": key, "client_names": ["a"]}, "tls.client_names", "needs `client_ca`"),
    ]:
        _, problems = options.parse(StreamListener.Options, {"endpoints": ["tls:1"], "tls": table})
        assert [name for name, _ in problems] == [wrong]
        assert message in problems[0][1]


def test_tls_context_is_strict(authority: Authority) -> None:
    context = load(tls_options(authority)).context
    assert context.set_options(0) & SSL.OP_NO_RENEGOTIATION
    assert context.set_options(0) & SSL.OP_NO_COMPRESSION
    ciphers = SSL.Connection(context, None).get_cipher_list()
    assert ciphers
    assert all("GCM" in cipher or "CHACHA20" in cipher for cipher in ciphers)
