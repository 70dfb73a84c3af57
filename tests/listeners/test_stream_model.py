"""Any course of events: each line of each peer is stored once and in order, or counted as one that found no room."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.fakes import FakeConnections, FakeTransport, MemoryReactor, make_context, nothing
from tests.listeners.relp_bench import Intake

_happens = st.sampled_from([
    ("pause",), ("resume",), ("resume",), ("room", 0), ("room", 1), ("room", 2), ("room", None), ("settle",),
    *[(what, index) for what in ("half", "lose") for index in range(3)],
])  # fmt: skip
_steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 3), st.booleans()),
    _happens, st.tuples(st.just("wait"), st.integers(1, 8)),
    st.tuples(st.just("during put"), st.booleans(), _happens | st.just(("stop",))),
)  # fmt: skip


class Peer:
    """A sender, which knows what was read of it."""

    def __init__(self, reactor: MemoryReactor, number: int) -> None:
        address = IPv4Address("TCP", "192.0.2.7", number)
        self.name = f"192.0.2.7:{number}"
        self.protocol: Any = reactor.tcpServers[0][1].buildProtocol(address)
        self.transport = FakeTransport(peerAddress=address)
        self.protocol.makeConnection(self.transport)
        self.data = b""

    @property
    def over(self) -> bool:
        return bool(self.protocol._finished)

    def send(self, data: bytes) -> None:
        self.data += data
        self.protocol.dataReceived(data)

    def lines(self) -> list[bytes]:
        return [line for line in self.data.split(b"\n") if line]


class Model:
    """Three peers at a time. In the middle of a put either the server is stopped, or connections are lost, not both."""

    def __init__(self, replies: bool, stops: bool) -> None:
        self.stops = stops
        self.reactor, self.counters, self.intake = MemoryReactor(), ListenerCounters(), Intake()
        options = StreamListener.Options(endpoints=("tcp:5140",), idle_timeout=Duration(6), close_timeout=Duration(3))
        more = {"intake": self.intake, "connections": FakeConnections(), "replies": replies}
        self.listener = StreamListener(options, make_context(self.reactor, self.counters, **more))
        self.listener.listen()
        self.listener.startService()
        self.all: list[Peer] = []
        self.peers: list[Peer | None] = [None, None, None]
        self.number = 0
        self.stopped: list[object] | None = None

    def step(self, what: str, *given: Any) -> None:
        if what == "send":
            self.send(*given)
        elif what in ("pause", "resume"):
            getattr(self.listener, what)()
        elif what == "room":
            self.intake.room = given[0]
        elif what == "settle":
            self.intake.settle()
        elif what == "wait":
            self.reactor.pump([1.0] * given[0])
        elif what == "stop" and self.stopped is None:
            self.stopped = []
            self.listener.stopService().addBoth(self.stopped.append)
        elif what == "lose":
            peer, self.peers[given[0]] = self.peers[given[0]], None
            if peer is not None:
                peer.protocol.connectionLost(Failure(ConnectionDone()))
        elif what == "half" and (peer := self.peers[given[0]]) is not None and not peer.over:
            peer.protocol.readConnectionLost()
        elif what == "during put" and given[1][0] != ("lose" if self.stops else "stop"):
            self.intake.meanwhile(partial(self.step, *given[1]), before=given[0])

    def send(self, index: int, count: int, whole: bool) -> None:
        """Lines; the last one may end with the next that the peer sends."""
        peer = self.peers[index]
        if peer is not None and (peer.transport.aborted or peer.transport.disconnecting):
            self.step("lose", index)
            peer = None
        if self.stopped is not None:
            return
        if peer is None:
            peer = self.peers[index] = Peer(self.reactor, len(self.all))
            self.all.append(peer)
        if peer.transport.reading and not peer.over:
            numbers = range(self.number, self.number + count)
            self.number += count
            peer.send(b"".join(b"%d\n" % number for number in numbers) + (b"" if whole else b"begun "))

    def check(self) -> None:
        stored: dict[str, list[bytes]] = {}
        for name, frame in zip(self.intake.peers, self.intake.frames, strict=True):
            stored.setdefault(name, []).append(frame)
        missing = 0
        for peer in self.all:
            lines, found = peer.lines(), stored.get(peer.name, [])
            assert found == lines[: len(found)], "in order, and once"
            missing += len(lines) - len(found)
        assert self.counters.balanced()
        assert self.counters.journaled == sum(map(len, stored.values()))
        if self.stopped:
            assert missing == self.counters.rejected["stopped"]

    def finish(self) -> None:
        """Everything gets room, and the listener ends."""
        self.intake.before_put = self.intake.on_put = nothing
        self.intake.room = None
        self.listener.resume()
        self.step("stop")
        self.intake.settle()
        for index in range(3):
            self.step("lose", index)
        assert self.stopped
        assert not self.listener._holding
        self.check()


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(_steps, min_size=30, max_size=60), replies=st.booleans(), stops=st.booleans())
def test_each_line_is_stored_once_and_in_order(steps: list[tuple[Any, ...]], replies: bool, stops: bool) -> None:
    model = Model(replies, stops)
    for step in steps:
        model.step(*step)
        model.check()
    model.finish()
