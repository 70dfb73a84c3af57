"""TLS 1.3: a client that only writes has nothing to read, so that its end of the connection loses nothing."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from eventserver.listeners._tls import Certificates, TlsFactory, TlsOptions
from tests.listeners.certificates import Authority


class Listening(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class World:
    """Our end of a TLS connection on a transport in memory, and a client's."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion) -> None:
        cert, key = authority.server()
        self.server = Listening()
        factory = TlsFactory(
            Certificates(TlsOptions(cert=cert, key=key)), False, Factory.forProtocol(lambda: self.server), Clock()
        )
        self.transport = StringTransport()
        self.tls = factory.buildProtocol(None)
        self.tls.makeConnection(self.transport)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=authority.ca)
        context.minimum_version = context.maximum_version = version
        self.client = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        while not self._shaken():
            self.to_server()
            self.to_client()

    def _shaken(self) -> bool:
        try:
            self.client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_server(self) -> None:
        if data := self._out.read():
            self.tls.dataReceived(data)

    def to_client(self) -> None:
        self._in.write(self.transport.value())
        self.transport.clear()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_a_client_that_only_writes_is_sent_nothing(authority: Authority) -> None:
    world = World(authority, ssl.TLSVersion.TLSv1_3)
    for number in range(3):
        world.client.write(b"line %d\n" % number)
        world.to_server()
    assert world.server.received == b"line 0\nline 1\nline 2\n"
    assert world.transport.value() == b""


def test_what_is_answered_can_be_read(authority: Authority) -> None:
    """The tickets go before the first answer, since the records of TLS are numbered; the second has none."""
    world = World(authority, ssl.TLSVersion.TLSv1_3)
    for number in range(2):
        world.client.write(b"question")
        world.to_server()
        assert world.server.transport is not None
        world.server.transport.write(b"answer %d" % number)
        world.tls.factory._clock.advance(0)  # small writes are gathered
        assert (len(world.transport.value()) > 100) == (number == 0)
        world.to_client()
        assert world.client.read(100) == b"answer %d" % number


def test_the_end_is_said(authority: Authority) -> None:
    world = World(authority, ssl.TLSVersion.TLSv1_3)
    world.client.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        world.client.unwrap()
    world.to_server()
    assert world.server.received == b"last"
    world.to_client()
    world.client.unwrap()


@pytest.mark.parametrize("question", [b"", b"question"])
def test_a_handshake_of_tls_1_2_is_complete(authority: Authority, question: bytes) -> None:
    """There the server has the last word of it."""
    world = World(authority, ssl.TLSVersion.TLSv1_2)
    assert world.client.version() == "TLSv1.2"
    world.client.write(question)
    world.to_server()
    assert world.server.received == question


def test_openssl_still_makes_tickets(authority: Authority) -> None:
    """If it does not any more, the class that holds them back can go."""
    cert, key = authority.server()
    connection = Certificates(TlsOptions(cert=cert, key=key)).serverConnectionForTLS(None)  # type: ignore[arg-type]
    context: Any = connection.get_context()
    plain = SSL.Connection(context, None)
    plain.set_accept_state()
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    for one, other in [(client, plain), (plain, client), (client, plain)]:
        with contextlib.suppress(SSL.WantReadError):
            one.do_handshake()
        other.bio_write(one.bio_read(1 << 15))
    plain.do_handshake()
    assert plain.bio_read(1 << 15)
