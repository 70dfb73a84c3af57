"""The Lumberjack listener in memory: acknowledgements, limits and deadlines, and what happens without room."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired, SettingsError, Stopped
from eventserver.listeners.lumberjack import LumberjackListener
from eventserver.options import Duration, Size, parse
from eventserver.settings import from_mapping
from tests.listeners.fakes import MemoryReactor
from tests.listeners.lumberjack_bench import DURING_PUT, Bench, Life
from tests.listeners.relp_bench import PEER
from tests.lumberjack_client import LumberjackClient, compressed, json_frame, pairs_frame, window


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


# Acknowledgements


def test_a_window_is_one_batch_and_one_write(bench: Bench) -> None:
    """However many events: the intake is called once, and the window acknowledged when it is safe, not before."""
    peer = bench.start().connect(LumberjackClient(100, compress=True))
    sent = [b'{"message":"%d"}' % number for number in range(100)]
    peer.send(*sent)
    [batch] = bench.intake.batches
    assert batch.frames == sent
    assert (list(batch.peers), batch.connection) == (["192.0.2.7:51123"], 0)
    assert peer.said() == []
    bench.intake.settle()
    assert peer.said() == [100]
    assert bench.counters.acknowledged == bench.counters.received == 100
    assert bench.intake.levels == {"durable"}


def test_memory_is_acknowledged_within_the_read(bench: Bench) -> None:
    peer = bench.start(ack="memory").connect()
    peer.send(b"a", b"b")
    assert peer.said() == [2]


def test_parts_of_a_window_are_acknowledged_as_they_get_safe(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.receive(window(3) + json_frame(1, b"a"))
    peer.receive(json_frame(2, b"b"))
    bench.intake.settle(1)
    assert peer.said() == [1]
    peer.receive(json_frame(3, b"c"))
    bench.intake.settle()
    assert peer.said() == [2, 3]


def test_no_acknowledgement_waits_for_the_one_before_to_arrive(bench: Bench) -> None:
    """Nagle's algorithm would hold the second small write back until the client's kernel confirms the first."""
    assert bench.start().connect().transport.no_delay


def test_acknowledgements_keep_the_order_of_windows(bench: Bench) -> None:
    """Neither a later batch that is settled first, nor an empty window, overtakes."""
    peer = bench.start().connect()
    peer.receive(window(1) + json_frame(11, b"a"))
    peer.receive(window(0))
    peer.receive(window(1) + json_frame(12, b"b"))
    (_, first), (_, second) = bench.intake.watches
    second(None)
    assert peer.said() == []
    first(None)
    assert peer.said() == [11, 0, 12]


def test_version_1_is_answered_in_its_version_and_once(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.receive(window(2, b"1") + pairs_frame(7, {b"line": b"a"}))
    bench.intake.settle()
    assert bench.counters.acknowledged == 0, "its client has been told nothing yet"
    bench.wait(20)
    peer.receive(compressed(pairs_frame(8, {b"line": b"b"}), b"1"))
    bench.wait(20)
    assert peer.transport.value() == b"", "any six bytes would be taken for the acknowledgement"
    bench.intake.settle()
    assert peer.transport.value() == b"1A\0\0\0\x08"
    assert bench.intake.frames == [b'{"line":"a"}', b'{"line":"b"}']
    assert bench.counters.acknowledged == 2


def test_who_waits_is_told_to_go_on_waiting(bench: Bench) -> None:
    """For the promise, and for room; until `ack_timeout`."""
    peer = bench.start({"progress_interval": Duration(5)}, ack_timeout=12.0).connect()
    peer.send(b"a")
    bench.wait(4)
    assert peer.said() == []
    bench.wait(1)
    assert peer.said() == [0]
    bench.wait(6)
    assert peer.said() == [0]
    bench.intake.settle()
    assert peer.said() == [1]
    bench.wait(60)
    assert peer.said() == [], "nothing is owed"
    bench.intake.room = 0
    peer.client.receive(b"2A\0\0\0\1")
    peer.send(b"b")
    bench.wait(11)
    assert peer.said() == [0, 0]
    bench.wait(1)
    assert peer.transport.aborted
    assert bench.counters.closed == {"ack_timeout": 1}
    assert bench.counters.rejected == {"full": 1}


def test_who_is_not_read_in_the_middle_of_a_window_is_told_too(bench: Bench) -> None:
    peer = bench.start(ack="memory").connect()
    peer.receive(window(2) + json_frame(1, b"a"))
    assert peer.said() == [1]
    bench.wait(20)
    assert peer.said() == [], "it is the client that keeps us waiting"
    bench.listener.pause()
    bench.wait(5)
    assert peer.said() == [0]
    bench.listener.resume()
    peer.receive(json_frame(2, b"b"))
    assert peer.said() == [2]


def test_progress_can_be_turned_off(bench: Bench) -> None:
    peer = bench.start({"progress_interval": Duration(0)}).connect()
    peer.send(b"a")
    bench.wait(29)
    assert peer.said() == []


def test_a_promise_that_will_not_be_kept_cuts_the_connection(bench: Bench) -> None:
    peer = bench.start(ack="delivered").connect()
    peer.send(b"a")
    bench.intake.settle(failure=Expired("gave up"))
    assert peer.transport.aborted
    assert peer.said() == []
    assert bench.counters.closed == {"expired": 1}


# Limits


@pytest.mark.parametrize("limit", [{"max_unacknowledged": 10}, {"max_unacknowledged_bytes": Size(100)}])
def test_a_client_with_too_much_unanswered_is_not_read(bench: Bench, limit: dict[str, Any]) -> None:
    peer = bench.start(limit).connect(LumberjackClient(5, ahead=9))
    peer.send(*[b"x" * 10] * 5)
    assert peer.transport.reading
    peer.send(*[b"x" * 10] * 5)
    assert not peer.transport.reading
    bench.intake.settle(5)
    assert peer.transport.reading
    bench.intake.settle()
    assert peer.said() == [5, 5]


def test_an_event_over_max_frame_is_kept_cut_and_acknowledged(bench: Bench) -> None:
    peer = bench.start({"max_frame": Size(4)}, ack="memory").connect()
    peer.send(b"ab", b"abcdefgh", b"cd")
    assert peer.said() == [3]
    assert bench.intake.frames == [b"ab", b"abcd", b"cd"]
    assert bench.intake.marks == [(), ("truncated",), ()]
    assert bench.counters.truncated == 1


@pytest.mark.parametrize(
    ("options", "data", "reason"),
    [
        ({}, b"<13>hello\n", "bad_version"),
        ({}, json_frame(1, b"x"), "no_window"),
        ({"max_window": 5}, window(6), "window_too_large"),
        ({"max_pairs": 1}, window(1, b"1") + pairs_frame(1, {b"a": b"", b"b": b""}), "too_many_pairs"),
        ({"max_data": Size(1 << 16)}, window(1) + b"2J" + struct.pack(">II", 1, 65537), "too_long"),
        ({"max_inflated": Size(9)}, window(1) + compressed(json_frame(1, bytes(90))), "too_long"),
        ({"max_inflated": Size(99)}, window(1) + compressed(json_frame(1, bytes(90))), "inflated_size"),
        ({"max_ratio": 2.0}, window(1) + compressed(json_frame(1, bytes(66000))), "bad_ratio"),
    ],
)
def test_what_is_no_lumberjack_cuts_that_connection_and_no_other(
    bench: Bench, options: dict[str, Any], data: bytes, reason: str
) -> None:
    bad, good = bench.start(options, ack="memory").connect(), bench.connect()
    bad.receive(window(1) + json_frame(1, b"before"))
    bad.receive(data)
    assert bad.transport.aborted
    assert bench.counters.closed == {reason: 1}
    assert bench.counters.rejected == {reason: 1}
    good.send(b"x")
    assert (bad.said(), good.said()) == ([1], [1])
    bad.lose()
    assert bench.intake.frames[0] == b"before"


def test_a_frame_that_takes_too_long_cuts_the_connection(bench: Bench) -> None:
    peer = bench.start({"frame_timeout": Duration(10)}).connect()
    peer.receive(window(1) + b"2J" + struct.pack(">II", 1, 100))
    for _ in range(9):
        bench.wait(1)
        peer.receive(b"x")
    assert not peer.transport.aborted
    bench.wait(1)
    assert peer.transport.aborted
    peer.lose()
    assert bench.counters.closed == {"frame_timeout": 1}
    assert bench.counters.rejected == {"incomplete": 1}


def test_an_idle_connection_is_closed_if_a_setting_says_so(bench: Bench) -> None:
    peer = bench.start({"idle_timeout": Duration(60)}, ack="memory").connect()
    bench.wait(59)
    peer.send(b"x")
    bench.wait(59)
    assert not peer.transport.disconnecting
    bench.wait(1)
    assert peer.transport.disconnecting
    assert bench.counters.closed == {"idle_timeout": 1}


def test_a_peer_that_does_not_read_is_cut_off(bench: Bench) -> None:
    peer = bench.start({"max_unread_replies": Size(65600)}, ack="memory").connect()
    peer.transport.producer.pauseProducing()
    for _ in range(20):
        peer.receive(window(1) + json_frame(1, b"x"))
    assert peer.transport.aborted
    assert bench.counters.closed == {"unread_replies": 1}


def test_connections_are_limited(bench: Bench) -> None:
    bench.start({"max_connections": 1})
    bench.connect()
    assert bench.reactor.tcpServers[0][1].buildProtocol(PEER) is None
    assert bench.counters.closed == {"max_connections": 1}


# The end


def test_a_stop_acknowledges_what_is_met(bench: Bench) -> None:
    idle, busy = bench.start().connect(), bench.connect()
    busy.receive(window(3) + json_frame(1, b"a"))
    busy.receive(json_frame(2, b"b") + b"2J")
    stopped = bench.stop()
    assert idle.transport.disconnecting
    bench.intake.settle(1)
    assert busy.said() == [1]
    bench.intake.settle(failure=Stopped("the server is stopping"))
    assert busy.said() == []
    assert busy.transport.disconnecting
    idle.lose()
    busy.lose()
    assert stopped
    assert bench.counters.rejected == {"incomplete": 1}
    assert bench.counters.closed == {}


def test_nothing_held_outlives_its_connection(bench: Bench) -> None:
    peer = bench.start().connect()
    bench.intake.room = 0
    peer.send(b"a")
    peer.lose()
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == []
    assert bench.counters.rejected == {"full": 1}


def test_a_client_that_only_stops_sending_is_answered(bench: Bench) -> None:
    """`pylogbeat` closes its half first."""
    peer = bench.start().connect()
    peer.send(b"a")
    peer.protocol.readConnectionLost()
    bench.intake.settle()
    assert peer.said() == [1]
    assert peer.transport.disconnecting


# Settings


def test_events_are_json_unless_the_settings_say_otherwise() -> None:
    table = {"beats": {"type": "lumberjack", "endpoints": ["tcp:5044"], "time_key": "@timestamp"}}
    listener = from_mapping({"listener": table}).listeners["beats"]
    assert listener.decoder.name == "json"
    assert (listener.ack, listener.parts[0].options.max_window) == ("delivered", 65536)
    table["beats"] |= {"decoder": "text"}
    del table["beats"]["time_key"]
    assert from_mapping({"listener": table}).listeners["beats"].decoder.name == "text"


def test_settings_that_cannot_be_meant_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping({"listener": {"beats": {"type": "lumberjack", "endpoints": ["udp:5044"], "framing": "lines"}}})
    said = str(caught.value)
    assert "listener.beats.framing" in said
    assert "udp:5044" in said
    keys = {"endpoints": ["tcp:1"], "max_frame": "1 MiB", "max_data": "64 KiB"}
    assert parse(LumberjackListener.Options, keys)[1] == [("max_data", "is less than `max_frame`, 1 MiB")]


# A client through all of it

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "settle", "settle", "expire", "full", "room", "pause", "resume", "lose",
                         "half", "wait", *DURING_PUT]),
        st.integers(1, 9),
    ), min_size=30, max_size=60,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(DEEDS, st.sampled_from([1, 3]), st.booleans())
def test_nothing_is_acknowledged_that_was_not_stored_and_in_the_end_all_is(
    deeds: list[tuple[str, int]], ahead: int, compress: bool
) -> None:
    """Random lives: refused batches, broken promises and connections; and the counters balance."""
    life = Life(LumberjackClient(7, ahead=ahead, compress=compress), most=12, cut=True)
    for deed, number in deeds:
        life.do(deed, number)
        life.go_on()
        assert set(life.client.acknowledged) <= set(life.bench.intake.frames)
    life.end(200)
