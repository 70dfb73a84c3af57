"""The PROXY protocol with real sockets on loopback: TLS behind the header, half-closed connections, deadlines."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from eventserver.counters import ListenerCounters
from eventserver.listeners._connection import StreamConnection
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners._tls import TlsOptions
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeIntake
from tests.listeners.proxyheaders import tlv, v2
from tests.listeners.streamworld import Client, Start, connect, inet, until

pytestmark = pytest.mark.reactors

HEADER = v2(("192.0.2.7", 51123), ("198.51.100.1", 6514), tlv(2, b"logs.example"))


@pytest.fixture
def start(start: Start) -> Start:
    """Starts listeners that trust loopback."""
    trusting = ProxyOptions(trusted=("127.0.0.1",), header_timeout=Duration(1))

    def make(scheme: str, **settings: Any) -> Awaitable[StreamListener]:
        return start(inet(scheme, "127.0.0.1"), proxy_protocol=trusting, **settings)

    return make


@implementer(IOpenSSLClientConnectionCreator)
class _Tls:
    """A client that shows a certificate, and asks for a server by name."""

    def __init__(self, authority: Authority) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.load_verify_locations(authority.ca)
        self._context.set_verify(SSL.VERIFY_PEER)
        certificate, key = authority.issue("web1")
        self._context.use_certificate_file(certificate)
        self._context.use_privatekey_file(key)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def mutual(authority: Authority) -> TlsOptions:
    certificate, key = authority.server()
    return TlsOptions(cert=certificate, key=key, client_ca=authority.ca)


async def open_to(listener: StreamListener) -> Client:
    return await connect(listener.addresses()[0])


@pytest_twisted.ensureDeferred
async def test_tls_begins_behind_the_header(start: Start, intake: FakeIntake, authority: Authority) -> None:
    """Both names are known: the one that the proxy gives, and the one of the client's certificate."""
    listener = await start("tls", tls=mutual(authority))
    client = await open_to(listener)
    for at in range(len(HEADER)):
        client.transport.write(HEADER[at : at + 1])
    client.transport.startTLS(_Tls(authority))
    client.transport.write(b"a\nb")
    client.transport.loseConnection()
    await until(lambda: len(intake.frames) == 2)
    assert intake.peers == ["192.0.2.7:51123"] * 2
    assert intake.batches[0].context == {
        "tls": {"subject": "web1"},
        "proxy": {"address": "127.0.0.1", "destination": "198.51.100.1:6514", "authority": "logs.example"},
    }
    await until(lambda: client.reason)


@pytest_twisted.ensureDeferred
async def test_tls_without_a_header_is_cut_off(
    start: Start, counters: ListenerCounters, authority: Authority, logged: list[str]
) -> None:
    listener = await start("tls", tls=mutual(authority))
    client = await open_to(listener)
    client.transport.startTLS(_Tls(authority))
    client.transport.write(b"a\n")
    await until(lambda: client.reason)
    assert counters.closed == {"proxy_header": 1}


@pytest_twisted.ensureDeferred
async def test_no_tls_behind_the_header(start: Start, counters: ListenerCounters, authority: Authority) -> None:
    listener = await start("tls", tls=mutual(authority))
    client = await open_to(listener)
    client.transport.write(HEADER + b"hello\n")
    await until(lambda: client.reason)
    assert counters.closed == {"tls": 1}


@pytest_twisted.ensureDeferred
async def test_the_connection_takes_the_place_of_the_header(start: Start, intake: FakeIntake) -> None:
    """So reads cost nothing more, and a peer that ends its side is still answered."""
    listener = await start("tcp", replies=True)
    client = await open_to(listener)
    client.transport.write(HEADER + b"ping")
    await until(listener.connections)
    [connection] = listener._connections
    assert isinstance(connection, StreamConnection)
    assert connection.transport.protocol is connection
    client.transport.loseWriteConnection()
    await until(lambda: intake.watches)
    assert intake.frames == [b"ping"]
    connection.reply(b"pong")
    intake.deliver()
    await until(lambda: client.reason)
    assert client.got == b"pong\n"


@pytest_twisted.ensureDeferred
async def test_header_timeout_closes(start: Start, counters: ListenerCounters) -> None:
    listener = await start("tcp")
    client = await open_to(listener)
    client.transport.write(HEADER[:-1])
    await until(lambda: client.reason)
    assert counters.closed == {"proxy_timeout": 1}
    assert counters.rejected == {"proxy_header": 1}


@pytest_twisted.ensureDeferred
async def test_stop_closes_what_waits_for_a_header(start: Start, counters: ListenerCounters) -> None:
    listener = await start("tcp")
    client = await open_to(listener)
    await until(lambda: listener._waiting)
    await listener.stopService()
    await until(lambda: client.reason)
    assert counters.closed == {"stopped": 1}
