"""Random lives of RELP connections: no message is ever acknowledged that was not stored, and in the end all are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired, Stopped
from eventserver.options import Size
from tests.listeners.fakes import MemoryReactor
from tests.listeners.relp_bench import Bench, Peer
from tests.relp_client import RelpClient

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "send", "settle", "settle", "later", "expire", "full", "room", "pause", "resume",
             "lose", "half", "close", "wait", "cut", "hear"]
        ),
        st.integers(0, 9),
    ),
    min_size=12,
    max_size=40,
)  # fmt: skip


class Life:
    """One client with its connections, one after the other."""

    def __init__(self, ack: str) -> None:
        self.counters = ListenerCounters()
        limits = {"max_unacknowledged": 12, "max_frame": Size(40)}
        self.bench = Bench(MemoryReactor(), self.counters).start(limits, ack=ack, ack_timeout=5.0)
        self.client = RelpClient(window=20)
        self.sent = 0
        self.peer: Peer | None = None
        self.closing = False

    def connected(self) -> Peer:
        """The connection there is, or the next one."""
        if self.peer is None:
            self.closing = False
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
        elif deed == "settle":
            bench.intake.settle(bench.intake.position - number)
        elif deed == "later" and bench.intake.watches:
            bench.intake.watches.pop()[1](None)
        elif deed == "expire" and number > 6:
            bench.intake.settle(failure=Expired("gave up"))
        elif deed == "full":
            bench.intake.room = 0
        elif deed == "room":
            bench.intake.room = None
            bench.listener.resume()
        elif deed == "pause":
            bench.listener.pause()
        elif deed == "resume":
            bench.listener.resume()
        elif deed == "lose":
            peer.lose()
            self.peer = None
        elif deed == "half":
            self.closing = True
            peer.protocol.readConnectionLost()
        elif deed == "close" and not self.closing:
            self.closing = True
            peer.protocol.dataReceived(self.client.close())
        elif deed == "wait":
            bench.wait(number)
        elif deed == "cut" and number > 6:
            peer.protocol.dataReceived(b"no RELP")
        self.hear()
        self.check()

    def check(self) -> None:
        bench = self.bench
        assert set(self.client.acknowledged) <= set(bench.intake.frames)
        assert self.client.refused == []
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


@settings(max_examples=300)
@given(DEEDS)
def test_nothing_is_acknowledged_that_was_not_stored_and_in_the_end_all_is(deeds: list[tuple[str, int]]) -> None:
    life = Life("durable")
    for deed, number in deeds:
        life.do(deed, number)
    life.end()


@given(DEEDS)
def test_the_same_where_memory_is_enough(deeds: list[tuple[str, int]]) -> None:
    life = Life("memory")
    for deed, number in deeds:
        life.do(deed, number)
    life.end()
