"""A RELP listener in memory for tests: an intake whose promises the test keeps, and clients."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.interfaces import AckLevel
from eventserver.listeners._relp_connection import RelpConnection
from eventserver.listeners.relp import RelpListener
from tests.listeners.fakes import FakeConnections, FakeIntake, FakeTransport, MemoryReactor, make_context
from tests.relp_client import RelpClient

GONE = Failure(ConnectionDone())
PEER = IPv4Address("TCP", "192.0.2.7", 51123)


class Intake(FakeIntake):
    """Keeps its promises when the test says so; at level `memory` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: set[AckLevel] = set()

    def watch(
        self,
        level: AckLevel,
        position: int,
        done: Callable[[Failure | None], None],
        handlers: Collection[str] | None = None,
    ) -> None:
        self.levels.add(level)
        if level == "memory":
            done(None)
        else:
            self.watches.append((position, done))

    def settle(self, position: int | None = None, failure: Exception | None = None) -> None:
        """Keep the promises up to a position, or break all of them."""
        due = [watch for watch in self.watches if position is None or watch[0] <= position]
        self.watches = [watch for watch in self.watches if watch not in due]
        for _position, done in due:
            done(None if failure is None else Failure(failure))


class Peer:
    """A client on a transport in memory, and the server's protocol for it."""

    def __init__(self, protocol: RelpConnection, window: int) -> None:
        self.protocol = protocol
        self.transport = FakeTransport(peerAddress=PEER)
        self.client = RelpClient(window)
        protocol.makeConnection(self.transport)

    def open(self) -> Peer:
        self.protocol.dataReceived(self.client.open())
        self.hear()
        assert self.client.opened
        return self

    def send(self, *messages: bytes) -> None:
        """All that the window lets through, in one read."""
        self.client.send(*messages)
        self.protocol.dataReceived(self.client.take())

    def hear(self) -> list[bytes]:
        """What has been acknowledged since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return list(self.client.receive(data))

    def lose(self) -> None:
        self.protocol.connectionLost(GONE)


class Bench:
    """A running listener, and clients of it."""

    def __init__(self, reactor: MemoryReactor, counters: ListenerCounters) -> None:
        self.reactor, self.counters, self.intake = reactor, counters, Intake()
        self.connections = FakeConnections()
        self.listener: RelpListener

    def start(self, options: dict[str, Any] | None = None, **context: Any) -> Bench:
        made = RelpListener.Options(**{"endpoints": ("tcp:2514",), **(options or {})})
        context = {"intake": self.intake, "connections": self.connections, "ack": "durable", **context}
        self.listener = RelpListener(made, make_context(self.reactor, self.counters, **context))
        self.listener.listen()
        self.listener.startService()
        return self

    def connect(self, window: int = 1000) -> Peer:
        protocol = self.reactor.tcpServers[0][1].buildProtocol(PEER)
        assert isinstance(protocol, RelpConnection)
        return Peer(protocol, window)

    def wait(self, seconds: float) -> None:
        """Time passes, a second at a time, as with a real clock."""
        self.reactor.pump([1.0] * round(seconds))

    def stop(self) -> list[object]:
        """Begin to stop; the list gets an element when that is done."""
        stopped: list[object] = []
        self.listener.stopService().addBoth(stopped.append)
        return stopped
