"""Servers on the real reactor, on ports that are free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol

from eventserver.service import EventServer


class Client(Protocol):
    """Sends, and keeps what comes back."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[None] = Deferred()
        self._waits: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for wait in list(self._waits):
            if wait[0] in self.received:
                self._waits.remove(wait)
                wait[1].callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)

    def until(self, data: bytes) -> Deferred[None]:
        """Fires when `data` has come."""
        waits: Deferred[None] = Deferred()
        self._waits.append((data, waits))
        self.dataReceived(b"")
        return waits


class Site:
    """Starts servers and clients, and ends them all."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.servers: list[EventServer] = []
        self.clients: list[Client] = []
        self.may_lose = False
        """Whether frames are in flight when the server stops: those are in no sum."""

    async def serve(self, settings: dict[str, Any]) -> EventServer:
        server = self.server(settings)
        await server.start()
        return server

    def server(self, settings: dict[str, Any]) -> EventServer:
        settings.setdefault("listener", {"lines": {"endpoints": ["tcp:0:interface=127.0.0.1"]}})
        server = EventServer(settings, self.reactor)
        self.servers.append(server)
        return server

    def port(self, server: EventServer, listener: str = "lines") -> int:
        return int(server.addresses()[listener][0].rpartition(":")[2])

    async def connect(self, server: EventServer, listener: str = "lines") -> Client:
        endpoint = clientFromString(self.reactor, f"tcp:127.0.0.1:{self.port(server, listener)}")
        client: Client = await connectProtocol(endpoint, Client())
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for server in self.servers:
            await server.stop()
            if not self.may_lose:
                assert server.status.unbalanced() == []
        for client in self.clients:
            client.transport.loseConnection()  # type: ignore[union-attr]  # it was connected
            await client.closed


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site

    async def close() -> None:
        await site.close()

    pytest_twisted.blockon(Deferred.fromCoroutine(close()))
