"""A Lumberjack listener in memory for tests: an intake whose promises the test keeps, and clients."""

from __future__ import annotations

from typing import Any

from eventserver.counters import ListenerCounters
from eventserver.listeners._lumberjack_connection import LumberjackConnection
from eventserver.listeners.lumberjack import LumberjackListener
from tests.listeners.fakes import FakeConnections, FakeTransport, MemoryReactor, make_context
from tests.listeners.relp_bench import GONE, PEER, Intake
from tests.lumberjack_client import LumberjackClient, acks


class Peer:
    """A client on a transport in memory, and the server's protocol for it."""

    def __init__(self, protocol: LumberjackConnection, client: LumberjackClient) -> None:
        self.protocol = protocol
        self.transport = FakeTransport(peerAddress=PEER)
        self.client = client
        client.connect()
        protocol.makeConnection(self.transport)

    def send(self, *events: bytes) -> None:
        """All that the client sends now, in one read."""
        self.client.send(*events)
        self.receive(self.client.take())

    def receive(self, data: bytes) -> None:
        """Bytes for the server."""
        self.protocol.dataReceived(data)

    def said(self) -> list[int]:
        """The acknowledgements since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return acks(data)

    def hear(self) -> None:
        """The client takes what was written."""
        data = self.transport.value()
        self.transport.clear()
        self.client.receive(data)

    def lose(self) -> None:
        self.protocol.connectionLost(GONE)


class Bench:
    """A running listener, and clients of it."""

    def __init__(self, reactor: MemoryReactor, counters: ListenerCounters) -> None:
        self.reactor, self.counters, self.intake = reactor, counters, Intake()
        self.connections = FakeConnections()
        self.listener: LumberjackListener

    def start(self, options: dict[str, Any] | None = None, **context: Any) -> Bench:
        made = LumberjackListener.Options(**{"endpoints": ("tcp:5044",), **(options or {})})
        context = {"intake": self.intake, "connections": self.connections, "ack": "durable", **context}
        self.listener = LumberjackListener(made, make_context(self.reactor, self.counters, **context))
        self.listener.listen()
        self.listener.startService()
        return self

    def connect(self, client: LumberjackClient | None = None) -> Peer:
        protocol = self.reactor.tcpServers[0][1].buildProtocol(PEER)
        assert isinstance(protocol, LumberjackConnection)
        return Peer(protocol, client or LumberjackClient())

    def wait(self, seconds: float) -> None:
        """Time passes, a second at a time, as with a real clock."""
        self.reactor.pump([1.0] * round(seconds))

    def stop(self) -> list[object]:
        """Begin to stop; the list gets an element when that is done."""
        stopped: list[object] = []
        self.listener.stopService().addBoth(stopped.append)
        return stopped
