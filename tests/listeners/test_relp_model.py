"""Random lives of RELP connections: no message is ever acknowledged that was not stored, and in the end all are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired, Stopped
from eventserver.options import Size
from tests.listeners.fakes import MemoryReactor, nothing
from tests.listeners.relp_bench import Bench, Peer
from tests.relp_client import RelpClient

#: What may happen in the middle of a put: a handler runs, or the oldest batch is given up.
DURING_PUT = ["put settle", "put later", "put expire", "put full", "put pause", "put resume", "put half", "put lose",
              "before settle", "before expire", "before full", "before room", "before pause"]  # fmt: skip
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "send", "settle", "settle", "later", "expire", "full", "room", "pause", "resume",
             "lose", "half", "close", "wait", "cut", "hear", *DURING_PUT]
        ),
        st.integers(0, 9),
    ),
    min_size=30,
    max_size=60,
)  # fmt: skip


class Life:
    """One client with its connections, one after the other."""

    def __init__(self, ack: str) -> None:
        self.counters = ListenerCounters()
        limits = {"max_unacknowledged": 12, "max_frame": Size(40)}
        self.bench = Bench(MemoryReactor(), self.counters).start(limits, ack=ack, ack_timeout=5.0)
        self.client = RelpClient(window=20)
        self.sent = 0
        self.stored = 0  # by the connections before this one
        self.peer: Peer | None = None
        self.closing = False

    def connected(self) -> Peer:
        """The connection there is, or the next one."""
        if self.peer is None:
            self.closing = False
            self.stored = len(self.bench.intake.frames)
            self.peer = self.bench.connect()
            self.peer.client = self.client
            self.peer.open()
        return self.peer

    def hear(self) -> None:
        """The client takes what was written, and goes if the server has ended the connection."""
        peer = self.peer
        if peer is None:
            return
        peer.hear()
        if peer.transport.aborted or peer.transport.disconnecting:
            peer.lose()
            self.peer = None

    def do(self, deed: str, number: int) -> None:
        bench = self.bench
        peer = self.connected()
        if deed == "send" and not self.closing:
            # However it is cut on the way.
            self.client.send(*[b"message %d" % (self.sent + index) for index in range(number)])
            self.sent += number
            data = self.client.take()
            for part in (data[: number * 3], data[number * 3 :]):
                if part:
                    peer.protocol.dataReceived(part)
        elif deed.startswith(("put ", "before ")):
            when, _, what = deed.partition(" ")
            bench.intake.meanwhile(lambda: self.happens(what, number), before=when == "before")
        elif deed == "close" and not self.closing:
            self.closing = True
            peer.protocol.dataReceived(self.client.close())
        elif deed == "wait":
            bench.wait(number)
        elif deed == "cut" and number > 6:
            peer.protocol.dataReceived(b"no RELP")
        else:
            self.happens(deed, number)
        self.hear()
        self.check()

    def happens(self, deed: str, number: int) -> None:
        """What may also happen in the middle of a put."""
        bench = self.bench
        intake, listener = bench.intake, bench.listener
        if deed == "settle":
            intake.settle(intake.position - number)
        elif deed == "later" and intake.watches:
            intake.watches.pop()[1](None)
        elif deed == "expire" and number > 6:
            intake.settle(failure=Expired("gave up"))
        elif deed in ("full", "room"):
            intake.room = 0 if deed == "full" else None
            if deed == "room":
                listener.resume()
        elif deed == "pause":
            listener.pause()
        elif deed == "resume":
            listener.resume()
        elif deed in ("half", "lose") and self.peer is not None:
            self.closing = True
            if deed == "half":
                self.peer.protocol.readConnectionLost()
            else:
                peer, self.peer = self.peer, None
                peer.lose()

    def check(self) -> None:
        bench = self.bench
        assert set(self.client.acknowledged) <= set(bench.intake.frames)
        assert self.client.refused == []
        numbers = [int(frame.split()[1]) for frame in bench.intake.frames[self.stored :]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, "in order, and once"
        assert self.counters.balanced()
        assert self.counters.acknowledged >= len(self.client.acknowledged)
        if self.peer is not None:
            protocol = self.peer.protocol
            assert protocol._frames == sum(owed.count for owed in protocol._owed)
            assert protocol._size == sum(owed.size for owed in protocol._owed)
            if not protocol._finished:
                free = protocol._frames < 12 and not protocol._held and not bench.listener.paused
                assert self.peer.transport.reading == free
        assert all(connection._held for connection in bench.listener._holding)

    def end(self) -> None:
        """Everything comes back to order: then everything is acknowledged, and the listener stops."""
        bench = self.bench
        bench.intake.before_put = bench.intake.on_put = nothing
        bench.intake.room = None
        bench.listener.resume()
        for _ in range(100):
            peer = self.connected()
            if not self.closing:
                peer.protocol.dataReceived(self.client.take())
            bench.intake.settle()
            self.hear()
            self.check()
            if not (self.client.waiting or self.client.unanswered):
                break
            if self.closing and self.peer is not None:
                self.peer.lose()
                self.peer = None
        assert sorted(set(self.client.acknowledged)) == sorted({b"message %d" % number for number in range(self.sent)})
        assert len(self.client.acknowledged) == self.sent
        stopped = bench.stop()
        bench.intake.settle(failure=Stopped("the server is stopping"))
        self.hear()
        assert stopped, "nothing keeps it from stopping"
        assert self.counters.balanced()
        assert self.counters.connections == 0
        assert bench.reactor.getDelayedCalls() == []


@settings(max_examples=120, deadline=None)
@given(DEEDS)
def test_nothing_is_acknowledged_that_was_not_stored_and_in_the_end_all_is(deeds: list[tuple[str, int]]) -> None:
    life = Life("durable")
    for deed, number in deeds:
        life.do(deed, number)
    life.end()


@settings(max_examples=40, deadline=None)
@given(DEEDS)
def test_the_same_where_memory_is_enough(deeds: list[tuple[str, int]]) -> None:
    life = Life("memory")
    for deed, number in deeds:
        life.do(deed, number)
    life.end()
