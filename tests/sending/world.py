"""A run without a network: a clock, connections that the test plays the server of, and what is said on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.sending.formats import FORMATS, Origin
from eventserver.sending.load import Load, Pace
from eventserver.sending.parcels import Session
from eventserver.sending.running import Run
from eventserver.sending.sources import Made, Source
from eventserver.sending.statistics import Statistics
from eventserver.sending.streams import StreamLink
from tests.handlers.fakes import PullTransport

ORIGIN = Origin("gate", "door", 42, "run1")


class Wire(PullTransport):
    """One connection; the test is the server."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.closing = self.half_closed = False
        self.protocol = protocol
        protocol.makeConnection(self)

    def said(self) -> bytes:
        """What the client wrote since the last time; it is taken from the system's buffer."""
        data = self.value()
        self.clear()
        self.drain()
        return bytes(data)

    def say(self, data: bytes) -> None:
        """What the server says."""
        self.protocol.dataReceived(data)

    def end(self, clean: bool = True) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))

    def loseConnection(self) -> None:
        self.closing = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True


@implementer(IStreamClientEndpoint)
class Net:
    """Where links connect to. `up`: whether somebody listens."""

    def __init__(self) -> None:
        self.up = True
        self.attempts = 0
        self.wires: list[Wire] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        done: Deferred[Any] = Deferred()
        if not self.up:
            done.errback(Failure(ConnectionRefusedError()))
            return done
        protocol = factory.buildProtocol(None)
        self.wires.append(Wire(protocol))
        done.callback(protocol)
        return done


class World:
    """A run of `count` texts over `links` connections with such sessions; `done` says when it is over."""

    def __init__(
        self,
        session: Callable[[], Session],
        count: int | None = 10,
        *,
        links: int = 1,
        rate: float | None = None,
        batch: int = 4,
        source: Source | None = None,
        duration: float | None = None,
    ) -> None:
        self.clock = Clock()
        self.net = Net()
        self.statistics = Statistics(acknowledges=session().acknowledges)
        self.source = source or Made(FORMATS["text"], ORIGIN, count)
        load = Load(self.source, Pace(rate, self.clock.seconds()), self.statistics, batch=batch, run="run1",
                    clock=self.clock.seconds, wall=self.clock.seconds)  # fmt: skip
        self.run = Run(load, self.clock, patience=30, duration=duration)
        self.over: list[None] = []
        self.links = [StreamLink(self.net, False, session, load, self.run, self.clock, 10) for _ in range(links)]

    def start(self, up: bool = True) -> Wire:
        """Begin; the first connection."""
        self.net.up = up
        self.run.start(self.links).addCallback(self.over.append)
        return self.net.wires[0] if up else None  # type: ignore[return-value]

    @property
    def wire(self) -> Wire:
        """The newest connection."""
        return self.net.wires[-1]
