"""The listener for the Forward protocol against peers that are slow, large, broken or many."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from eventserver.counters import ListenerCounters
from eventserver.options import Duration
from tests.fluent_client import entry, forward, message, packed, packed_blob
from tests.listeners.fakes import MemoryReactor
from tests.listeners.fluent_bench import Bench


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


ENTRY = entry(1, {"log": "x"})


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"GET / HTTP/1.1\r\n\r\n", "bad_message"), (b"<13>hello\n", "bad_message"), (b'{"a":1}\n', "bad_message"),
     (b"\xc1", "bad_message"), (packed("a", [ENTRY] * 11), "too_many"), (b"\xc6\xff\xff\xff\xff", "too_long"),
     (packed_blob("a", gzip.compress(ENTRY * 4000), compressed="gzip"), "oversize"),
     (packed_blob("a", ENTRY, compressed="gzip"), "bad_compression"),
     (packed_blob("a", ENTRY, compressed="snappy"), "unsupported")],
    ids=["http", "syslog", "json", "bad", "too_many", "too_long", "oversize", "bad_compression", "unsupported"],
)  # fmt: skip
def test_what_cannot_be_taken_cuts_that_connection_only(bench: Bench, data: bytes, reason: str) -> None:
    """What came before it is kept, and counted is why."""
    options = {"max_entries": 10, "max_unpacked": 10_000, "max_frame": 1000, "max_message": 5000}
    bad, good = bench.start(options).connect(), bench.connect()
    bad.send(message("a", 1, {"log": "before"}), data, message("a", 1, {"log": "after"}))
    assert bad.transport.aborted
    good.send(message("a", 1, {"log": "good"}))
    assert [log for _, log in bench.logs] == ["before", "good"]
    assert not good.transport.aborted
    assert bench.counters.rejected == bench.counters.closed == {reason: 1}
    bad.lose()
    assert bench.listener.budget.used == 0


def test_a_message_has_to_come_in_time(bench: Bench) -> None:
    slow, quick = bench.start({"frame_timeout": Duration(10)}).connect(), bench.connect()
    data = packed("a", [ENTRY] * 100)
    quick.send(data)
    for index in range(10):
        slow.send(data[index : index + 1])
        bench.wait(1)
    assert slow.transport.aborted
    assert not quick.transport.aborted
    assert bench.counters.closed == bench.counters.rejected == {"frame_timeout": 1}


def test_the_time_of_a_pause_counts_against_nobody(bench: Bench) -> None:
    peer = bench.start({"frame_timeout": Duration(10), "idle_timeout": Duration(20)}).connect()
    peer.send(b"\x93\xa1a")
    bench.listener.pause()
    bench.wait(30)
    bench.listener.resume()
    bench.wait(9)
    assert not peer.transport.aborted
    bench.wait(1)
    assert peer.transport.aborted


def test_idle_connections_are_closed_if_asked(bench: Bench) -> None:
    peer = bench.start({"idle_timeout": Duration(5)}).connect()
    bench.wait(4)
    peer.send(b"\xc0")
    bench.wait(4)
    assert not peer.transport.disconnecting
    bench.wait(1)
    assert peer.transport.disconnecting
    assert bench.counters.closed == {"idle_timeout": 1}


def test_messages_in_progress_of_all_connections_are_bounded(bench: Bench) -> None:
    """Who wants more is cut, and what the others have stays; a little is always allowed."""
    bench.start({"max_buffered": 1_000_000, "max_message": 900_000, "max_frame": 1000})
    peers = [bench.connect() for _ in range(5)]
    for peer in peers:
        peer.send(b"\x92\xa1a\xc6\0\x0c\0\0", bytes(300_000))
    assert [peer.transport.aborted for peer in peers] == [False, False, False, True, True]
    assert bench.counters.closed == bench.counters.rejected == {"busy": 2}
    small = bench.connect()
    small.send(b"\x92\xa1a\xc6\0\0\xff\xff", bytes(50_000))
    assert not small.transport.aborted
    for peer in [*peers, small]:
        peer.lose()
    assert bench.listener.budget.used == 0


def test_a_bomb_costs_no_memory(bench: Bench) -> None:
    """Neither what is packed, nor what headers announce, nor many tiny entries take much more than the limits."""
    bench.start({"max_message": 1 << 20, "max_unpacked": 1 << 20, "max_frame": 1 << 16, "max_entries": 10_000})
    zeros = gzip.compress(bytes(100 << 20), 1)
    bombs = [
        packed_blob("a", zeros[: 1 << 19], compressed="gzip"),
        packed_blob("a", gzip.compress(zeros), compressed="gzip"),
        packed_blob("a", b"\xc0" * 1_000_000),
        packed_blob("a", b"\xc0" * 1_000_000, size=1_000_000),
        forward("a", [b"\xc0"] * 1_000_000),
        b"\x93\xa1a\xdd\xff\xff\xff\xff" + b"\xc0" * 1_000_000,
        b"\x93\xa1a\xdf\xff\xff\xff\xff" + b"\xc0" * 1_000_000,
        b"\x93\xa1a\x01" + b"\x91" * 1_000_000 + b"\xc0",
        b"\x94\xa1a\x01\x80\xdf\0\x0f\0\0" + b"\xa0\xc0" * 400_000,
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            peer = bench.connect()
            tracemalloc.reset_peak()
            for start in range(0, len(bomb), 65536):
                peer.send(bomb[start : start + 65536])
            assert tracemalloc.get_traced_memory()[1] < 16 << 20, bomb[:40]
            peer.lose()
            bench.intake.batches.clear()
    finally:
        tracemalloc.stop()
    assert sum(bench.counters.closed.values()) == len(bombs) - 1, "deep nesting is a matter of decoders"


def test_a_peer_that_reads_no_acks_is_cut(bench: Bench) -> None:
    peer = bench.start({"max_unread_replies": 70_000}, ack="memory").connect()
    peer.transport.producer.pauseProducing()  # type: ignore[attr-defined]
    number = 0
    while not peer.transport.aborted:
        peer.send(packed("a", [ENTRY], chunk="c" * 1000 + str(number)))
        number += 1
        assert number < 100
    assert bench.counters.closed == {"unread_replies": 1}


def test_nobody_is_cut_for_waiting_for_an_ack(bench: Bench) -> None:
    options: dict[str, Any] = {"idle_timeout": Duration(5)}
    peer = bench.start(options).connect()
    peer.send(packed("a", [ENTRY], chunk="c"))
    bench.wait(20)
    assert not peer.transport.disconnecting
    bench.intake.settle()
    assert peer.acks() == ["c"]
