"""A stream listener in memory: connections to it, and what its intake gets."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address

from eventserver.counters import ListenerCounters
from eventserver.listeners._connection import StreamConnection
from eventserver.listeners.stream import StreamListener
from tests.listeners.fakes import FakeConnections, FakeIntake, FakeTransport, MemoryReactor, make_context

PEER = IPv4Address("TCP", "192.0.2.7", 51123)


class Bench:
    """A running listener, and connections to it."""

    def __init__(self, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> None:
        self.reactor, self.intake, self.counters = reactor, intake, counters
        self.connections = FakeConnections()
        self.listener: StreamListener

    def start(self, options: dict[str, Any] | None = None, **context: Any) -> StreamListener:
        made = StreamListener.Options(**{"endpoints": ("tcp:5140",), **(options or {})})
        context = {"intake": self.intake, "connections": self.connections, **context}
        self.listener = StreamListener(made, make_context(self.reactor, self.counters, **context))
        self.listener.listen()
        self.listener.startService()
        return self.listener

    def connect(self, address: Any = PEER) -> tuple[StreamConnection, FakeTransport]:
        factory = self.reactor.tcpServers[0][1]
        protocol = factory.buildProtocol(address)
        assert protocol is not None
        transport = FakeTransport(peerAddress=address)
        protocol.makeConnection(transport)
        return protocol, transport

    def refused(self, address: Any = PEER) -> bool:
        return self.reactor.tcpServers[0][1].buildProtocol(address) is None

    def wait(self, seconds: float) -> None:
        """Time passes, a second at a time, as with a real clock."""
        self.reactor.pump([1.0] * round(seconds))
