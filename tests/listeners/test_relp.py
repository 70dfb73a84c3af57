"""The RELP listener in memory: when messages are acknowledged, and what happens when they cannot be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired, Stopped
from eventserver.options import Duration
from tests.listeners.fakes import MemoryReactor
from tests.listeners.relp_bench import Bench
from tests.relp_client import OFFERS, RelpClient, frame, syslog


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


# Acknowledgements


def test_one_read_is_one_batch_and_one_write(bench: Bench) -> None:
    """However many messages: the intake is called once, watched once, and all are acknowledged in one write."""
    peer = bench.start().connect().open()
    writes: list[bytes] = []
    write = peer.transport.write
    peer.transport.write = lambda data: (writes.append(data), write(data))[1]  # type: ignore[method-assign]
    sent = [b"message %d" % number for number in range(100)]
    peer.send(*sent)
    [batch] = bench.intake.batches
    assert batch.frames == sent
    assert (list(batch.peers), batch.connection) == (["192.0.2.7:51123"], 0)
    assert len(bench.intake.watches) == 1
    assert peer.hear() == []
    bench.intake.settle()
    assert len(writes) == 1
    assert peer.hear() == sent
    assert bench.counters.acknowledged == bench.counters.received == 100
    assert bench.intake.levels == {"durable"}
    assert peer.client.server_offers.split(b"\n")[0] == b"relp_version=0"


def test_memory_is_acknowledged_within_the_read(bench: Bench) -> None:
    peer = bench.start(ack="memory").connect().open()
    peer.send(b"a", b"b")
    assert peer.hear() == [b"a", b"b"]


def test_replies_keep_the_order_of_commands(bench: Bench) -> None:
    """Neither a later batch that is settled first, nor a command that needs no promise, overtakes."""
    peer = bench.start().connect().open()
    peer.protocol.dataReceived(syslog(2, b"a") + frame(3, "hello") + syslog(4, b"b"))
    peer.protocol.dataReceived(syslog(5, b"c") + frame(6, "open", OFFERS))
    (_, first), (_, second), (_, third) = bench.intake.watches
    third(None)
    second(None)
    assert peer.transport.value() == b""
    first(None)
    answers = [line for line in peer.transport.value().splitlines() if b" rsp " in line]
    assert [line.split()[0] for line in answers] == [b"2", b"3", b"4", b"5", b"6"]
    assert [line.split()[3] for line in answers] == [b"200", b"500", b"200", b"200", b"500"]


def test_a_promise_that_will_not_be_kept_cuts_the_connection(bench: Bench) -> None:
    """The client sends the messages again on its next one; none is ever answered 500."""
    peer = bench.start(ack="delivered").connect().open()
    peer.send(b"a")
    peer.send(b"b")
    bench.intake.settle(1)
    assert peer.hear() == [b"a"]
    bench.intake.settle(failure=Expired("gave up"))
    assert peer.transport.aborted
    assert peer.hear() == []
    assert bench.counters.closed == {"expired": 1}


def test_what_is_not_acknowledged_in_time_is_left_to_the_next_connection(bench: Bench) -> None:
    peer = bench.start(ack_timeout=5.0).connect().open()
    peer.send(b"a")
    bench.wait(3)
    peer.send(b"b")
    bench.intake.settle(1)
    bench.wait(4)
    assert not peer.transport.aborted, "the time of each message counts"
    bench.wait(1)
    assert peer.transport.aborted
    assert bench.counters.closed == {"ack_timeout": 1}
    assert peer.hear() == [b"a"]
    peer.lose()
    bench.intake.settle()
    again = bench.connect()
    again.client = peer.client
    again.open().send()
    bench.intake.settle()
    again.hear()
    assert peer.client.acknowledged == [b"a", b"b"]
    assert bench.intake.frames == [b"a", b"b", b"b"]


# No room


def test_what_finds_no_room_is_not_answered_and_reading_stops(bench: Bench) -> None:
    peer = bench.start().connect().open()
    bench.intake.room = 0
    peer.send(b"a", b"b")
    assert not peer.transport.reading
    peer.send(b"c")
    bench.listener.resume()
    assert bench.intake.batches == []
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == [b"a", b"b", b"c"]
    assert peer.transport.reading
    bench.intake.settle()
    assert peer.hear() == [b"a", b"b", b"c"]


def test_what_never_finds_room_is_counted_when_the_connection_is_cut(bench: Bench) -> None:
    peer = bench.start(ack_timeout=5.0).connect().open()
    bench.intake.room = 0
    peer.send(b"a", b"b")
    bench.wait(5)
    assert peer.transport.aborted
    assert bench.counters.rejected == {"full": 2}
    assert bench.counters.closed == {"ack_timeout": 1}
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.batches == [], "its client sends them again"
    peer.lose()


def test_nothing_held_outlives_its_connection(bench: Bench) -> None:
    """What was not answered comes again: to put it too would only make copies."""
    gone, there = bench.start().connect().open(), bench.connect().open()
    bench.intake.room = 0
    gone.send(b"a")
    there.send(b"b")
    gone.lose()
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == [b"b"]
    assert bench.counters.rejected == {"full": 1}


def test_a_paused_listener_reads_from_nobody(bench: Bench) -> None:
    peer = bench.start().connect().open()
    bench.listener.pause()
    assert not peer.transport.reading
    late = bench.connect()
    assert not late.transport.reading
    bench.wait(100)
    bench.listener.resume()
    assert peer.transport.reading
    assert late.transport.reading
    bench.wait(1)
    assert not late.transport.aborted, "it could not be read until now"


# The end


def test_close_is_answered_when_everything_before_it_is(bench: Bench) -> None:
    peer = bench.start().connect().open()
    peer.send(b"a")
    peer.protocol.dataReceived(peer.client.close())
    assert peer.transport.value() == b""
    bench.intake.settle()
    assert peer.transport.value() == b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n0 serverclose 0\n"
    assert peer.transport.disconnecting
    assert peer.hear() == [b"a"]
    assert peer.client.closed
    peer.lose()
    assert bench.counters.connections == 0
    assert bench.counters.closed == {}


def test_a_closed_session_does_not_wait_for_ever(bench: Bench) -> None:
    peer = bench.start({"close_timeout": Duration(5)}).connect().open()
    peer.send(b"a")
    peer.protocol.dataReceived(peer.client.close())
    bench.wait(5)
    assert peer.transport.aborted
    assert bench.counters.closed == {"close_timeout": 1}


def test_a_client_that_only_stops_sending_is_answered(bench: Bench) -> None:
    peer = bench.start().connect().open()
    peer.send(b"a")
    peer.protocol.readConnectionLost()
    assert not peer.transport.disconnecting
    bench.intake.settle()
    assert peer.hear() == [b"a"]
    assert peer.transport.disconnecting


def test_a_stop_acknowledges_what_is_met_and_says_goodbye(bench: Bench) -> None:
    idle, busy = bench.start().connect().open(), bench.connect().open()
    busy.send(b"a")
    busy.send(b"b")
    busy.protocol.dataReceived(b"4 syslog 5 cut")
    stopped = bench.stop()
    assert idle.transport.value() == b"0 serverclose 0\n"
    assert idle.transport.disconnecting
    assert not busy.transport.reading
    bench.intake.settle(1)
    assert busy.hear() == [b"a"]
    assert not busy.transport.disconnecting
    bench.intake.settle(failure=Stopped("the server is stopping"))
    assert busy.transport.value() == b"0 serverclose 0\n"
    assert busy.transport.disconnecting
    assert not stopped
    idle.lose()
    busy.lose()
    assert stopped
    assert bench.counters.rejected == {"incomplete": 1}
    assert bench.counters.closed == {}


def test_a_stop_does_not_take_what_found_no_room(bench: Bench) -> None:
    """It is not acknowledged, nor is what is behind it; what is before it can still be."""
    peer = bench.start().connect().open()
    peer.send(b"a")
    bench.intake.room = 0
    peer.send(b"b", b"c")
    stopped = bench.stop()
    assert bench.counters.rejected == {"stopped": 2}
    bench.intake.room = None
    bench.intake.settle()
    assert peer.hear() == [b"a"]
    assert peer.client.closed
    assert peer.transport.disconnecting
    peer.lose()
    assert stopped
    assert bench.intake.frames == [b"a"]


def test_a_stop_ends_in_time_whatever_the_promises_do(bench: Bench) -> None:
    peer = bench.start({"close_timeout": Duration(5)}).connect().open()
    peer.send(b"a")
    stopped = bench.stop()
    bench.wait(5)
    assert peer.transport.aborted
    peer.lose()
    assert stopped


def test_a_handler_may_stop_the_server_in_the_middle_of_a_read(bench: Bench) -> None:
    peer = bench.start().connect().open()
    stopped: deque[list[object]] = deque()
    bench.intake.on_put = lambda: stopped.append(bench.stop())
    peer.send(b"a")
    bench.intake.on_put = lambda: None
    bench.intake.settle()
    assert peer.hear() == [b"a"]
    assert peer.client.closed
    peer.lose()
    assert stopped[0]


# A client through all of it


def test_a_client_loses_nothing_through_broken_connections(bench: Bench) -> None:
    """Refused batches, cuts and late promises: in the end each message was acknowledged, and was put before that."""
    bench.start(ack_timeout=5.0)
    client = RelpClient(window=20)
    sent = [b"message %d" % number for number in range(300)]
    client.send(*sent)
    turn = 0
    while len(client.acknowledged) < len(sent):
        peer = bench.connect()
        peer.client = client
        peer.open()
        for _ in range(6):
            turn += 1
            assert turn < 1000
            bench.intake.room = 0 if turn % 5 == 0 else None
            peer.protocol.dataReceived(client.take())
            if turn % 3:
                bench.intake.settle()
            peer.hear()
            assert set(client.acknowledged) <= set(bench.intake.frames)
            if peer.transport.aborted:
                break
            bench.wait(turn % 4)
        bench.intake.room = None
        peer.lose()
        bench.intake.settle()
    assert client.acknowledged == sent
    assert client.refused == []
    assert client.resent > 0
    assert set(bench.intake.frames) == set(sent)
