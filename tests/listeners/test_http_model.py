"""Any course of events: what is answered 200 is stored, what comes under a key is stored once, and all is counted."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from eventserver.errors import Expired
from eventserver.options import Duration
from tests.listeners.fakes import nothing
from tests.listeners.httpworld import Peer, World, request

_happens = st.sampled_from([
    ("settle", 1), ("settle", 2), ("settle", 9), ("expire",), ("pause",), ("resume",),
    ("room", 0), ("room", 1), ("room", None), ("stop",), ("half", 0), ("half", 1),
])  # fmt: skip
_steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.lists(st.integers(0, 7), min_size=1, max_size=4), st.booleans()),
    st.tuples(st.just("send"), st.integers(0, 2), st.lists(st.integers(0, 7), min_size=1, max_size=4), st.booleans()),
    _happens.filter(lambda step: step != ("stop",)),
    st.tuples(st.just("lose"), st.integers(0, 2)), st.tuples(st.just("wait"), st.integers(1, 8)),
    st.tuples(st.just("during put"), st.booleans(), _happens),
)  # fmt: skip


class Model:
    """Three peers at a time, which send requests without waiting for the answers."""

    def __init__(self) -> None:
        self.world = World(close_timeout=Duration(3), busy_timeout=Duration(4))
        self.world.intake.ack_now = False
        self.peers: list[Peer | None] = [None, None, None]
        self.asked: dict[Peer, list[list[bytes]]] = {}
        self.number = 0
        self.stopped: list[object] | None = None

    def request(self, what: int) -> tuple[bytes, list[bytes]]:
        """A request of one of eight kinds, and the frames of it: under a key, with named events, or without."""
        if what < 3:
            frames = [b"k%d %d" % (what, index) for index in range(what + 1)]
            body = b"\n".join(frames)
            return request(body, content_type="application/x-ndjson", idempotency_key=f"k{what}"), frames
        if what < 6:
            events = [{"specversion": "1.0", "id": f"{what + index}", "source": "/s", "type": "t"} for index in (0, 1)]
            frames = [json.dumps(event).encode() for event in events]
            body = b"[" + b",".join(frames) + b"]"
            return request(body, content_type="application/cloudevents-batch+json"), frames
        self.number += 1
        return request(b"%d" % self.number), [b"%d" % self.number]

    def step(self, what: str, *given: Any) -> None:
        world = self.world
        intake = world.intake
        if what == "send":
            self.send(*given)
        elif what in ("settle", "expire"):
            count = given[0] if given else len(intake.watches)
            due, intake.watches = intake.watches[:count], intake.watches[count:]
            for _, done in due:
                done(None if what == "settle" else Failure(Expired("gave up")))
        elif what in ("pause", "resume"):
            getattr(world.listener, what)()
        elif what == "room":
            intake.room = given[0]
        elif what == "stop" and self.stopped is None:
            self.stopped = []
            world.listener.stopService().addBoth(self.stopped.append)
        elif what == "half":
            peer = self.peers[given[0]]
            if peer is not None and not (peer.protocol._half_closed or peer.closed):
                peer.protocol.readConnectionLost()
        elif what == "lose":
            self.lose(given[0])
        elif what == "wait":
            world.reactor.pump([1.0] * given[0])
        elif what == "during put":
            intake.meanwhile(partial(self.step, *given[1]), before=given[0])

    def send(self, index: int, kinds: list[int], cut: bool) -> None:
        """Requests in one read, or in two."""
        if (peer := self.peers[index]) is not None and peer.protocol._phase == "closing":
            self.lose(index)
        if self.stopped is not None:
            return
        peer = self.peers[index] = self.peers[index] or self.world.peer()
        if not peer.transport.reading or peer.protocol._half_closed:
            return
        requests = [self.request(kind) for kind in kinds]
        self.asked.setdefault(peer, []).extend(frames for _, frames in requests)
        data = b"".join(data for data, _ in requests)
        middle = len(data) // 2 if cut else len(data)
        for part in (data[:middle], data[middle:]):
            if part:
                peer.send(part)

    def hear(self, peer: Peer) -> None:
        """Answers come in the order of the requests; 200 says that all of it is stored."""
        stored = set(self.world.frames)
        for answer in peer.answers():
            frames = self.asked[peer].pop(0)
            assert answer.status in (200, 503)
            if answer.status == 200:
                assert set(frames) <= stored
                assert answer.json["accepted"] + answer.json["duplicates"] == len(frames)

    def lose(self, index: int) -> None:
        peer, self.peers[index] = self.peers[index], None
        if peer is not None:
            self.hear(peer)
            peer.lose()

    def check(self) -> None:
        for index, peer in enumerate(self.peers):
            if peer is not None and peer.transport.aborted:
                self.lose(index)
            elif peer is not None:
                self.hear(peer)
        assert len(self.world.frames) == len(set(self.world.frames)), "nothing is stored twice"
        assert self.world.counters.balanced()
        assert self.world.counters.journaled == len(self.world.frames)

    def finish(self) -> None:
        """Everything gets room, and the listener ends."""
        intake, listener = self.world.intake, self.world.listener
        intake.before_put = intake.on_put = nothing
        intake.room = None
        listener.resume()
        while intake.watches:
            self.step("settle", 1)
        self.check()
        for index, peer in enumerate(self.peers):
            if peer is not None and self.stopped is None and peer.protocol._phase != "closing":
                assert not self.asked.get(peer), "all are answered"
            self.lose(index)
        self.step("stop")
        assert self.stopped
        assert listener.budget.used == 0
        self.world.reactor.advance(0)
        assert self.world.reactor.getDelayedCalls() == []


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(_steps, min_size=30, max_size=60))
def test_what_is_answered_is_stored_and_what_has_a_key_is_stored_once(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for step in steps:
        model.step(*step)
        model.check()
    model.finish()
