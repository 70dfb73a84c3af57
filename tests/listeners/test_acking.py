"""What RELP and Lumberjack share, where very much is owed: limits that hold, and work that grows with what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired
from eventserver.listeners._acking_connection import Owed
from eventserver.listeners._lumberjack_connection import BATCH_FRAMES
from eventserver.options import Duration
from tests.listeners import relp_bench
from tests.listeners.fakes import MemoryReactor
from tests.listeners.lumberjack_bench import DURING_PUT, Bench, Life, Peer
from tests.lumberjack_client import LumberjackClient, compressed, json_frame, window


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


def one_window(count: int) -> bytes:
    """A window that comes in one read."""
    frames = b"".join([json_frame(number, b"%d" % number) for number in range(1, count + 1)])
    return window(count) + compressed(frames)


def sizes(bench: Bench) -> list[int]:
    return [len(batch.frames) for batch in bench.intake.batches]


# What one read brings


def test_no_more_is_put_than_may_be_unacknowledged(bench: Bench) -> None:
    """What a compressed window brings on top of it waits, and its sender with it, who is told so."""
    peer = bench.start({"max_unacknowledged": 10}).connect()
    peer.receive(one_window(35))
    assert sizes(bench) == [10]
    assert not peer.transport.reading
    bench.wait(6)
    assert peer.said() == [0]
    for put in (20, 30, 35):
        bench.intake.settle()
        assert len(bench.intake.frames) == put
        assert not peer.transport.reading or put == 35
    assert peer.said() == []
    bench.intake.settle()
    assert peer.said() == [35]
    assert peer.transport.reading
    assert bench.intake.frames == [b"%d" % number for number in range(1, 36)]
    assert (bench.counters.received, bench.counters.acknowledged) == (35, 35)


def test_who_waits_for_many_batches_is_told_so_as_if_it_were_one(bench: Bench) -> None:
    """What is safe of a window that came in one read says nothing to its sender, who gives up after 30 s of silence."""
    peer = bench.start({"max_unacknowledged": 10}).connect()
    peer.receive(one_window(50))
    for _ in range(4):
        bench.wait(4)
        bench.intake.settle()
    assert peer.said() == [0] * 3
    bench.intake.settle()
    assert peer.said() == [50]


def test_a_batch_has_a_size_that_handlers_take_in_their_stride(bench: Bench) -> None:
    peer = bench.start({"max_unacknowledged": 5000}).connect()
    peer.receive(one_window(12_000))
    assert sizes(bench) == [BATCH_FRAMES] * 3, "until the limit is reached"
    bench.intake.settle(BATCH_FRAMES)
    assert sizes(bench) == [BATCH_FRAMES] * 4
    while not (said := peer.said()):
        bench.intake.settle()
    assert said == [12_000]


def test_where_memory_is_enough_nothing_waits(bench: Bench) -> None:
    """Each batch is acknowledged before the next: no call is made within the call before."""
    peer = bench.start({"max_unacknowledged": 1}, ack="memory").connect()
    peer.receive(one_window(5000))
    assert peer.said() == [5000]
    assert sizes(bench) == [1] * 5000
    assert peer.transport.reading


def test_marks_stay_with_their_events(bench: Bench) -> None:
    peer = bench.start({"max_unacknowledged": 2, "max_frame": 3}, ack="memory").connect()
    payloads = [b"a", b"bbbb", b"c", b"d", b"eeee"]
    frames = b"".join([json_frame(number, payload) for number, payload in enumerate(payloads, 1)])
    peer.receive(window(5) + frames)
    assert bench.intake.frames == [b"a", b"bbb", b"c", b"d", b"eee"]
    assert bench.intake.marks == [(), ("truncated",), (), (), ("truncated",)]


def test_progress_is_no_reason_to_cut(bench: Bench) -> None:
    """`ack_timeout` counts from when a batch was put, where only the ones before it made it wait."""
    peer = bench.start({"max_unacknowledged": 10}, ack_timeout=10.0).connect()
    peer.receive(one_window(50))
    for _ in range(5):
        bench.wait(8)
        bench.intake.settle()
    assert [number for number in peer.said() if number] == [50]
    peer.receive(one_window(50))
    bench.wait(10)
    assert peer.transport.aborted
    assert bench.counters.closed == {"ack_timeout": 1}
    assert bench.counters.rejected == {"unacknowledged": 40}
    assert bench.counters.balanced()


@pytest.mark.parametrize("end", ["lose", "stop", "expire", "half"])
def test_what_was_never_put_is_counted_or_put_after_all(bench: Bench, end: str) -> None:
    peer = bench.start({"max_unacknowledged": 10}).connect()
    peer.receive(one_window(25))
    stopped: list[object] = []
    if end == "lose":
        peer.lose()
    elif end == "stop":
        stopped = bench.stop()
        bench.intake.settle()
    elif end == "expire":
        bench.intake.settle(failure=Expired("gave up"))
    else:
        peer.protocol.readConnectionLost()
        for _ in range(3):
            bench.intake.settle()
        assert peer.said() == [25]
        assert peer.transport.disconnecting
    rejected = {"lose": {"unacknowledged": 15}, "stop": {"stopped": 15}, "expire": {"unacknowledged": 15}, "half": {}}
    assert bench.counters.rejected == rejected[end]
    assert len(bench.intake.frames) == (25 if end == "half" else 10)
    if end != "lose":
        peer.lose()
    assert bool(stopped) == (end == "stop")
    assert bench.counters.balanced()


def test_there_may_be_no_room_besides(bench: Bench) -> None:
    """Then the listener's line is stood in, and left, as often as it takes."""
    peer, other = bench.start({"max_unacknowledged": 10}).connect(), bench.connect()
    peer.receive(one_window(30))
    bench.intake.room = 0
    bench.intake.settle()
    assert list(bench.listener._holding) == [peer.protocol]
    other.receive(one_window(3))
    bench.intake.settle()
    bench.intake.room = None
    bench.listener.resume()
    assert len(bench.intake.frames) == 23
    assert not bench.listener._holding
    for _ in range(3):
        bench.intake.settle()
    assert (peer.said(), other.said()) == ([30], [3])
    assert bench.counters.rejected == {}


_deeds = st.lists(
    st.tuples(st.sampled_from(["send", "send", "settle", "settle", "expire", "full", "room", "lose", "half", "wait",
                               *DURING_PUT]),
              st.integers(1, 60)), min_size=30, max_size=60,
)  # fmt: skip


class Bounded(Life):
    """What is held never comes to more than the limits say, and nothing is counted twice."""

    def __init__(self, most: int) -> None:
        super().__init__(LumberjackClient(100, compress=True), most, cut=False)
        self.most = most

    def go_on(self) -> None:
        super().go_on()
        protocol = self.peer.protocol
        waiting = sum(owed.frames for owed in protocol._owed if owed.batch is None)
        assert waiting < 2 * self.most
        assert protocol._held_frames == sum(owed.count for owed in protocol._held)
        assert self.counters.received - self.counters.journaled == sum(self.counters.rejected.values())


@settings(max_examples=40, deadline=None)
@given(deeds=_deeds, most=st.integers(1, 20))
def test_whatever_happens_the_limit_holds_and_nothing_is_lost(deeds: list[tuple[str, int]], most: int) -> None:
    life = Bounded(most)
    for deed, number in deeds:
        life.do(deed, number % 4 if deed == "wait" else number)
        if deed in ("full", "room"):
            life.bench.listener.resume()
        life.go_on()
    life.end(5000)
    assert set(life.sent) <= set(life.bench.intake.frames)


# What will never be answered


def test_what_is_dropped_is_looked_at_once(
    reactor: MemoryReactor, counters: ListenerCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops breaks many promises at once; nothing is looked for among them."""
    looks = 0

    def equal(self: Owed, other: object) -> bool:
        nonlocal looks
        looks += 1
        return self is other

    bench = relp_bench.Bench(reactor, counters).start()
    peer = bench.connect().open()
    for number in range(500):
        peer.protocol.dataReceived(b"%d syslog 1 x\n" % (number + 2))
    monkeypatch.setattr(Owed, "__eq__", equal)
    stopping: list[Any] = bench.stop()
    for _, done in reversed(bench.intake.watches):
        done(relp_bench.Failure(Expired("gave up")))
    assert looks == 0
    assert peer.transport.disconnecting
    peer.lose()
    assert stopping
    assert counters.balanced()


def test_idle_connections_are_closed_still(bench: Bench) -> None:
    peer: Peer = bench.start({"idle_timeout": Duration(5), "max_unacknowledged": 10}).connect()
    peer.receive(one_window(30))
    bench.wait(10)
    assert not peer.transport.disconnecting
    for _ in range(3):
        bench.intake.settle()
    bench.wait(6)
    assert peer.transport.disconnecting
