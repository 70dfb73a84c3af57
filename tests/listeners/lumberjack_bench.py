"""A Lumberjack listener in memory for tests: an intake whose promises the test keeps, clients, and random lives."""

from __future__ import annotations

from typing import Any

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired
from eventserver.listeners._lumberjack_connection import LumberjackConnection
from eventserver.listeners.lumberjack import LumberjackListener
from tests.listeners.fakes import FakeConnections, FakeTransport, MemoryReactor, make_context, nothing
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


#: What may happen in the middle of a put: a handler runs, or the oldest batch is given up.
DURING_PUT = ("put settle", "put expire", "put full", "put pause", "put resume", "put half",
              "before settle", "before expire", "before full", "before room", "before pause")  # fmt: skip


class Life:
    """One client with its connections, one after the other; what happens to them are `deeds`, each followed by `go_on`.

    With `cut` what the client sends comes in two reads, without in one.
    """

    def __init__(self, client: LumberjackClient, most: int, cut: bool) -> None:
        self.client = client
        self.cut = cut
        self.counters = ListenerCounters()
        self.bench = Bench(MemoryReactor(), self.counters).start({"max_unacknowledged": most}, ack_timeout=5.0)
        self.peer = self.bench.connect(client)
        self.sent: list[bytes] = []
        self.stored = 0  # by the connections before this one

    def do(self, deed: str, number: int) -> None:
        intake, listener = self.bench.intake, self.bench.listener
        if deed == "send":
            new = [b"%d" % (len(self.sent) + index) for index in range(number)]
            self.sent += new
            self.client.send(*new)
        elif deed in DURING_PUT:
            when, _, what = deed.partition(" ")
            intake.meanwhile(lambda: self.do(what, number), before=when == "before")
        elif deed == "settle":
            intake.settle(intake.watches[0][0] if intake.watches else None)
        elif deed == "expire":
            intake.settle(failure=Expired("gave up"))
        elif deed in ("full", "room"):
            intake.room = 0 if deed == "full" else None
        elif deed == "pause":
            listener.pause()
        elif deed == "resume":
            listener.resume()
        elif deed == "lose":
            self.reconnect()
        elif deed == "half":
            self.peer.protocol.readConnectionLost()
        elif deed == "wait":
            self.bench.wait(number)
        else:
            raise ValueError(deed)

    def reconnect(self) -> None:
        self.peer.lose()
        self.stored = len(self.bench.intake.frames)
        self.peer = self.bench.connect(self.client)

    def go_on(self) -> None:
        """The client hears what was written and sends what it may; it comes again if the server has hung up."""
        peer = self.peer
        peer.hear()
        if peer.transport.aborted or peer.transport.disconnecting:
            self.reconnect()
        elif peer.transport.reading and (data := self.client.take()):
            middle = len(data) // 2
            for part in (data[:middle], data[middle:]) if self.cut else (data,):
                if not peer.transport.aborted:
                    peer.receive(part)
        numbers = [int(frame) for frame in self.bench.intake.frames[self.stored :]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, "in order, and once"

    def end(self, rounds: int) -> None:
        """Everything comes back to order: then everything is acknowledged, after so many rounds at most."""
        self.bench.intake.before_put = self.bench.intake.on_put = nothing
        self.bench.intake.room = None
        for _ in range(rounds):
            if len(self.client.acknowledged) >= len(self.sent):
                break
            self.bench.listener.resume()
            self.bench.intake.settle()
            self.go_on()
        assert self.client.acknowledged == self.sent
        self.peer.lose()
        assert self.counters.balanced()
