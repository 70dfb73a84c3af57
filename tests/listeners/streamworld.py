"""The stream listener on real sockets: clients, and listeners that are started and stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from eventserver.listeners.stream import StreamListener

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


def inet(scheme: str, host: str) -> str:
    return f"{scheme}:0:interface={host}"
