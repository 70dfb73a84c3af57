"""An HTTP listener in memory, a peer of it, and what the peer reads."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.listeners.http import HttpListener
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor, make_context


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def read_answers(data: bytes) -> list[Answer]:
    """The responses in what a peer read; `100 Continue` is one without headers."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode().split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        found.append(Answer(int(status), headers, data[:length]))
        data = data[length:]
    return found


class Peer:
    """One connection: what it sends, and what it is answered."""

    def __init__(self, world: World, host: str = "192.0.2.1") -> None:
        self.world = world
        address = IPv4Address("TCP", host, 51123)
        self.transport = FakeTransport(peerAddress=address)
        factory = world.reactor.tcpServers[-1][1]
        self.protocol: Any = factory.buildProtocol(address)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """These bytes come."""
        self.protocol.dataReceived(data)

    def post(self, body: bytes = b"", path: str = "/", **headers: str) -> None:
        """A whole request; `content_type` is the header Content-Type."""
        self.send(request(body, path, **headers))

    def answers(self) -> list[Answer]:
        """The responses since the last call."""
        data = self.transport.value()
        self.transport.clear()
        return read_answers(data)

    def answer(self) -> Answer:
        """The one response since the last call."""
        [answer] = self.answers()
        return answer

    def asks(self, body: bytes = b"", path: str = "/", **headers: str) -> Answer:
        """The answer to one request."""
        self.post(body, path, **headers)
        return self.answer()

    @property
    def closed(self) -> bool:
        """Whether the server ends the connection."""
        return bool(self.transport.disconnecting)

    def lose(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


def request(body: bytes = b"", path: str = "/", method: str = "POST", **headers: str) -> bytes:
    """The bytes of a request; names of headers are written with `_` for `-`."""
    fields = {"host": "localhost", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value != "(none)")
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class World:
    """A listener that runs, in memory; acknowledged at once unless `intake.ack_now` is False."""

    def __init__(self, context: dict[str, Any] | None = None, **options: Any) -> None:
        self.reactor = MemoryReactor()
        self.counters = ListenerCounters()
        self.intake = AckIntake()
        given = {"intake": self.intake, "ack": "delivered", "batch_context": {"labels": {"site": "hq"}}}
        self.context = make_context(self.reactor, self.counters, **(given | (context or {})))
        self.options = HttpListener.Options(**({"endpoints": ("tcp:8080",)} | options))
        self.listener = HttpListener(self.options, self.context)
        self.listener.listen()
        self.listener.startService()

    def peer(self, host: str = "192.0.2.1") -> Peer:
        """A peer that has connected."""
        return Peer(self, host)

    def asks(self, body: bytes = b"", path: str = "/", **headers: str) -> Answer:
        """The answer to one request of a peer of its own."""
        peer = self.peer()
        answer = peer.asks(body, path, **headers)
        peer.lose()
        return answer

    @property
    def frames(self) -> list[bytes]:
        """All that was stored."""
        return self.intake.frames


class AckIntake(FakeIntake):
    """Acknowledges at once, or (`ack_now = False`) when `deliver` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.ack_now = True
        self.levels: list[str] = []
        self.failure: Failure | None = None

    def watch(self, level: Any, position: int, done: Any, handlers: Any = None) -> None:
        self.levels.append(level)
        if self.ack_now:
            done(self.failure)
        else:
            self.watches.append((position, done))
