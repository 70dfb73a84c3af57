"""Any course of events: what asked for no ack is stored once, what was acknowledged is stored once, all is counted."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired
from eventserver.options import Duration
from tests.fluent_client import decode, docker, entry, message, packed
from tests.listeners.fakes import MemoryReactor, nothing
from tests.listeners.fluent_bench import Bench, Peer

_during = st.sampled_from([
    ("resume",), ("pause",), ("settle",), ("expire",), ("room", 0), ("room", 1), ("room", None), ("stop",),
    *[(deed, index) for deed in ("lose", "stop sending") for index in range(3)],
])  # fmt: skip
_peers = st.integers(0, 2)
_sends = st.tuples(st.just("send"), _peers, st.integers(1, 3), st.sampled_from([True, True, False]))
_repeats = st.tuples(st.just("repeat"), _peers, st.integers(0, 1))
_rooms = st.tuples(st.just("room"), st.sampled_from([0, 0, 1, 2, None, None]))
_resumes = st.tuples(st.just("during put"), st.just(False), st.just(("resume",)))
_steps = st.one_of(
    # What a fault takes comes often, so that it comes together.
    _sends, _sends, _sends, _repeats, _repeats, _repeats, _rooms, _rooms, _rooms, _resumes, _resumes,
    st.tuples(st.just("during put"), st.booleans(), _during),
    st.tuples(st.just("part"), _peers, st.booleans()), st.tuples(st.just("half"), _peers),
    st.tuples(st.sampled_from(["resume", "resume", "pause", "settle"])),
    st.tuples(st.sampled_from(["lose", "stop sending"]), _peers),
    st.tuples(st.just("wait"), st.integers(1, 8)),
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
        self.stopped: list[object] | None = None

    def peer(self, index: int) -> Peer | None:
        """A peer that can send; None while the listener would not read from it, or is stopped."""
        if self.stopped is not None:
            return None
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
            peer.send(self.chunks[-1 - given[1] % len(self.chunks)][1])
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
        elif what == "expire":
            self.bench.intake.settle(failure=Expired("gave up"))
        elif what == "stop" and self.stopped is None:
            self.stopped = self.bench.stop()
        elif what == "during put":
            self.bench.intake.meanwhile(partial(self.step, *given[1]), before=given[0])

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
        bench.intake.before_put = bench.intake.on_put = nothing
        bench.intake.room = None
        bench.listener.resume()
        self.settle()
        for index in range(3):
            self.lose(index)
        self.step("stop")
        self.settle()
        assert self.stopped
        assert not bench.listener._holding
        assert bench.listener.budget.used == 0

    def check(self) -> None:
        stored = [decode(frame)[1]["log"] for frame in self.bench.intake.frames]
        assert len(stored) == len(set(stored)), "nothing is stored twice"
        sent = {*self.plain, *[name for _, _, names in self.chunks for name in names]}
        assert len(sent - set(stored)) <= self.counters.rejected["stopped"], "what was read is kept"
        assert self.counters.balanced()
        assert self.counters.journaled == len(stored)
        assert set(self.counters.rejected) <= {"incomplete", "stopped"}


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(_steps, min_size=30, max_size=60))
def test_nothing_is_lost_and_nothing_is_stored_twice(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for step in steps:
        model.step(*step)
    model.finish()
    model.check()


def test_a_chunk_that_another_connection_holds_is_not_stored_in_the_middle_of_being_stored() -> None:
    """The intake makes room while it takes a chunk that was sent on two connections."""
    model = Model()
    model.step("room", 0)
    model.step("send", 0, 1, False)
    model.step("during put", False, ("resume",))
    model.step("send", 2, 1, True)
    model.step("room", None)
    model.step("repeat", 1, 0)
    model.finish()
    model.check()
