"""Any course of events: what asked for no ack is stored once, what was acknowledged is stored once, all is counted."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.options import Duration
from tests.fluent_client import decode, docker, entry, message, packed
from tests.listeners.fakes import MemoryReactor
from tests.listeners.fluent_bench import Bench, Peer

_steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("repeat"), st.integers(0, 2), st.integers(0, 9)),
    st.tuples(st.just("part"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("half"), st.integers(0, 2)),
    st.tuples(st.just("room"), st.sampled_from([0, 1, 2, None])),
    st.tuples(st.just("resume")), st.tuples(st.just("pause")), st.tuples(st.just("settle")),
    st.tuples(st.just("lose"), st.integers(0, 2)), st.tuples(st.just("stop sending"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.integers(1, 8)),
    st.tuples(st.just("during put"), st.sampled_from(["resume", "pause"])),
)  # fmt: skip


class Model:
    """What was sent, and to whom it was acknowledged."""

    def __init__(self) -> None:
        self.counters = ListenerCounters()
        self.bench = Bench(MemoryReactor(), self.counters)
        limits = {"partial_timeout": Duration(5), "max_unacknowledged": 4, "close_timeout": Duration(3)}
        self.bench.start(limits, ack_timeout=6.0)
        self.peers: list[Peer | None] = [None, None, None]
        self.plain: list[str] = []
        self.chunks: list[tuple[str, bytes, list[str]]] = []
        self.settled = 0
        self.number = 0

    def peer(self, index: int) -> Peer | None:
        """A peer that can send; None while the listener would not read from it."""
        peer = self.peers[index]
        if peer is not None and (peer.transport.aborted or peer.transport.disconnecting or peer.protocol._finished):
            self.lose(index)
            peer = None
        if peer is None:
            peer = self.peers[index] = self.bench.connect()
        return peer if peer.transport.reading else None

    def lose(self, index: int) -> None:
        peer, self.peers[index] = self.peers[index], None
        if peer is not None:
            self.hear(peer)
            peer.lose()

    def settle(self) -> None:
        self.settled = self.bench.intake.position
        self.bench.intake.settle()

    def hear(self, peer: Peer) -> None:
        """What is acknowledged has been stored, and the promise about it kept."""
        frames = self.bench.intake.frames[: self.settled]
        kept = {decode(frame)[1]["log"] for frame in frames}
        names = {chunk: names for chunk, _, names in self.chunks}
        for chunk in peer.acks():
            assert set(names[chunk]) <= kept

    def names(self, count: int) -> list[str]:
        self.number += count
        return [str(number) for number in range(self.number - count, self.number)]

    def step(self, what: str, *given: Any) -> None:
        peer = self.peer(given[0]) if what in ("send", "repeat", "part", "half") else None
        if what == "send" and peer is not None:
            self.send(peer, given[1], given[2])
        elif what == "repeat" and peer is not None and self.chunks:
            peer.send(self.chunks[given[1] % len(self.chunks)][1])
        elif what == "part" and peer is not None:
            self.part(peer, given[1])
        elif what == "half" and peer is not None:
            peer.send(b"\x93\xa1a")
            self.lose(given[0])
        elif what == "room":
            self.bench.intake.room = given[0]
        elif what in ("resume", "pause"):
            getattr(self.bench.listener, what)()
        elif what == "settle":
            self.settle()
        elif what == "lose":
            self.lose(given[0])
        elif what == "stop sending" and (leaving := self.peers[given[0]]) is not None:
            leaving.protocol.readConnectionLost()
        elif what == "wait":
            self.bench.wait(given[0])
        elif what == "during put":
            self.bench.intake.on_put = getattr(self.bench.listener, given[0])

    def send(self, peer: Peer, count: int, chunk: bool) -> None:
        names = self.names(count)
        entries = [entry(1, {"log": name}) for name in names]
        if chunk:
            data = packed("c", entries, chunk=names[0])
            self.chunks.append((names[0], data, names))
            peer.send(data)
        else:
            self.plain += names
            peer.send(*[message(f"t{int(name) % 2}", 1, {"log": name}) for name in names])

    def part(self, peer: Peer, last: bool) -> None:
        """A line in two parts, or the first part of one."""
        [name] = self.names(1)
        self.plain.append(name)
        for ordinal in (1, 2) if last else (1,):
            text = name if ordinal == 1 else ""
            peer.send(message("p", 1, docker(text, part=name, ordinal=ordinal, last=ordinal == 2)))

    def finish(self) -> None:
        """Everything gets room, and the listener ends."""
        bench = self.bench
        bench.intake.on_put = lambda: None
        bench.intake.room = None
        bench.listener.resume()
        self.settle()
        for index in range(3):
            self.lose(index)
        stopped = bench.stop()
        self.settle()
        assert stopped
        assert not bench.listener._holding
        assert bench.listener.budget.used == 0

    def check(self) -> None:
        stored = [decode(frame)[1]["log"] for frame in self.bench.intake.frames]
        assert len(stored) == len(set(stored)), "nothing is stored twice"
        assert set(self.plain) <= set(stored)
        assert {name for _, _, names in self.chunks for name in names} <= set(stored), "what was read is kept"
        assert self.counters.balanced()
        assert self.counters.journaled == len(stored)
        assert set(self.counters.rejected) <= {"incomplete"}


@settings(max_examples=300)
@given(steps=st.lists(_steps, min_size=12, max_size=40))
def test_nothing_is_lost_and_nothing_is_stored_twice(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for step in steps:
        model.step(*step)
    model.finish()
    model.check()


def test_a_chunk_that_another_connection_holds_is_not_stored_in_the_middle_of_being_stored() -> None:
    """The intake makes room while it takes a chunk that was sent on two connections."""
    model = Model()
    for step in [("room", 0), ("send", 0, 1, False), ("during put", "resume"), ("send", 2, 1, True), ("room", None)]:
        model.step(*step)
    model.step("repeat", 1, 0)
    model.finish()
    model.check()
