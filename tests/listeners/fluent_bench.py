"""A listener for the Forward protocol in memory for tests: an intake whose promises the test keeps, and senders."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.listeners._fluent_connection import FluentConnection
from eventserver.listeners.fluent import FluentListener
from tests.fluent_client import acks, decode
from tests.listeners.fakes import FakeConnections, FakeTransport, MemoryReactor, make_context
from tests.listeners.relp_bench import Intake

GONE = Failure(ConnectionDone())
PEER = IPv4Address("TCP", "192.0.2.7", 51123)


class Peer:
    """A sender on a transport in memory, and the server's protocol for it."""

    def __init__(self, protocol: FluentConnection) -> None:
        self.protocol = protocol
        self.transport = FakeTransport(peerAddress=PEER)
        protocol.makeConnection(self.transport)

    def send(self, *data: bytes) -> None:
        """All of it in one read."""
        self.protocol.dataReceived(b"".join(data))

    def said(self) -> bytes:
        """What the server has said since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def acks(self) -> list[Any]:
        """What has been acknowledged since the last time."""
        return acks(self.said())

    def lose(self) -> None:
        self.protocol.connectionLost(GONE)


class Bench:
    """A running listener, and senders to it."""

    def __init__(self, reactor: MemoryReactor, counters: ListenerCounters) -> None:
        self.reactor, self.counters, self.intake = reactor, counters, Intake()
        self.connections = FakeConnections()
        self.listener: FluentListener

    def start(self, options: dict[str, Any] | None = None, **context: Any) -> Bench:
        made = FluentListener.Options(**{"endpoints": ("tcp:24224",), **(options or {})})
        context = {"intake": self.intake, "connections": self.connections, "ack": "durable", **context}
        listener_context = make_context(self.reactor, self.counters, **context)
        self.listener = FluentListener(made, listener_context, random_bytes=lambda count: bytes(range(count)))
        self.listener.listen()
        self.listener.startService()
        return self

    def connect(self) -> Peer:
        protocol = self.reactor.tcpServers[0][1].buildProtocol(PEER)
        assert isinstance(protocol, FluentConnection)
        return Peer(protocol)

    def wait(self, seconds: float) -> None:
        """Time passes, a second at a time, as with a real clock."""
        self.reactor.pump([1.0] * round(seconds))

    def stop(self) -> list[object]:
        """Begin to stop; the list gets an element when that is done."""
        stopped: list[object] = []
        self.listener.stopService().addBoth(stopped.append)
        return stopped

    @property
    def records(self) -> list[Any]:
        """The records of all frames that the intake took."""
        return [decode(frame)[1] for frame in self.intake.frames]

    @property
    def logs(self) -> list[tuple[str, Any]]:
        """The tag and the `log` of each frame."""
        return [
            (batch.context["tag"], decode(frame)[1].get("log"))
            for batch in self.intake.batches
            for frame in batch.frames
        ]
