"""What the tests of the relay handler share: handlers under test, servers that keep what they get, certificates."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.handlers.relay import RelayHandler
from tests.handlers.fakes import make_context


def make(to: str, reactor: Any = None, encoder: str = "raw", framing: str = "lines", **changes: Any) -> RelayHandler:
    """A relay, not started, whose delays are not cut at random; `changes` are options, a `log`, or `needs_events`."""
    contextual = {"needs_events": changes.pop("needs_events")} if "needs_events" in changes else {}
    context = make_context(
        reactor, changes.pop("log", None), parts={"encoder": encoder, "framing": framing}, **contextual
    )
    options = RelayHandler.Options(to=to, encoder=encoder, framing=framing, **changes)
    return RelayHandler(options, context, lambda: 0.0)


def results_of(deferred: Deferred[Any] | None) -> list[Any]:
    """What comes of a Deferred, failures as exceptions; filled when it fires."""
    assert deferred is not None
    results: list[Any] = []
    deferred.addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
    return results


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
    """The `Sink` of each connection, in the order in which they came."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Sink] = []

    def buildProtocol(self, addr: Any) -> Sink:
        self.made.append(Sink())
        return self.made[-1]


async def deliver(handler: RelayHandler, pile: list[Any]) -> None:
    """Hand a pile over, and wait until it is safe."""
    deferred = handler.handle(pile)
    assert deferred is not None
    await deferred


async def stop(handler: RelayHandler) -> None:
    """Stop the handler, and wait for the end of its connection."""
    stopped = handler.stop()
    if stopped is not None:
        await stopped


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """The server's side of TLS."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate_file(str(cert))
        self.context.use_privatekey_file(str(key))

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def pem(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    """A private key as it is kept in a file."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `peer.example` that signed itself, and its key, as PEM files."""
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
    key_file.write_bytes(pem(key, serialization.NoEncryption()))
    return cert_file, key_file


def locked(folder: Path) -> Path:
    """A private key that is protected by a password."""
    file = folder / "locked.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(pem(key, serialization.BestAvailableEncryption(b"secret")))
    return file
