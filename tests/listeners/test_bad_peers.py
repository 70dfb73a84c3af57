"""Peers that do everything wrong, of each listener that acknowledges: nothing raises, and nothing leaks.

Whatever peers say and wherever they stop, in the end the sums balance, and nothing is left: no connection, no batch, no
byte of a budget, no timer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired, Stopped
from eventserver.options import Duration, Size
from tests.fluent_client import docker, encode, entry, message, packed, packed_blob
from tests.listeners import fluent_bench, lumberjack_bench, relp_bench
from tests.listeners.fakes import MemoryReactor
from tests.lumberjack_client import compressed, json_frame, pairs_frame, window

Bench = fluent_bench.Bench | lumberjack_bench.Bench | relp_bench.Bench

_ENTRY = entry(1, {"log": "x"})
_LONG = [entry(1, {"log": "x" * 700})] * 5
FLUENT = [
    packed("a", [_ENTRY] * 3, chunk="c"),
    packed("a", [_ENTRY] * 3, chunk="c", compressed="gzip"),
    packed("a", [_ENTRY], chunk="c"),
    packed("b", _LONG, chunk="d"),
    packed("a", [], chunk="e"),
    packed_blob("a", _ENTRY + b"\x92\1", chunk="f"),
    message("a", 1, docker("part", part="l", ordinal=1)),
    message("a", 1, docker("part", part="l", ordinal=2, last=True)),
    message("a", 1, {"log": "x"}),
    b'["a",1,{"log":"x"},{"chunk":"j"}]',
    b"\xc0",
    b"\x93\xa1a\xdd\xff\xff\xff\xff",
    encode({"ack": "never sent"}),
    encode(["PING", "h", "s", "d", "", ""]),
    b"\xc1",
]
LUMBERJACK = [
    window(2) + json_frame(1, b"a") + json_frame(2, b"b"),
    window(30) + compressed(b"".join(json_frame(number, b"x" * 40) for number in range(1, 31))),
    window(3) + json_frame(1, b"a"),
    json_frame(2, b"b"),
    json_frame(9, b"x" * 100),
    window(1, b"1") + pairs_frame(1, {b"line": b"x"}),
    pairs_frame(2, {b"line": b"y" * 99}),
    window(0),
    window(0xFFFFFFFF),
    compressed(b""),
    b"2C" + struct.pack(">I", 1 << 31),
    b"2A" + struct.pack(">I", 7),
    b"2J",
]
RELP = [
    b"1 open 30 relp_version=0\ncommands=syslog\n\n",
    b"2 syslog 3 abc\n",
    b"2 syslog 3 abc\n3 syslog 3 def\n4 syslog 3 ghi\n",
    b"3 syslog 3 def\n",
    b"4 close 0\n",
    b"2 close 0\n",
    b"1 rsp 6 200 OK\n",
    b"0 hint 2 ab\n",
    b"1 nothing 0\n",
    b"2 syslog 999999999 x",
    b"2 sys",
]
KINDS: dict[str, tuple[Callable[..., Any], list[bytes], dict[str, Any]]] = {
    "fluent": (fluent_bench.Bench, FLUENT, {"max_buffered": 200_000, "max_message": 100_000, "max_frame": 1000}),
    "lumberjack": (lumberjack_bench.Bench, LUMBERJACK, {"max_frame": 64, "max_unacknowledged_bytes": Size(500)}),
    "relp": (relp_bench.Bench, RELP, {"max_frame": 2}),
}
COMMON = {
    "max_unacknowledged": 4,
    "frame_timeout": Duration(3),
    "close_timeout": Duration(4),
    "idle_timeout": Duration(8),
    "max_unread_replies": Size(65_600),
}
_deeds = st.lists(
    st.tuples(
        st.sampled_from(
            ["say"] * 8 + ["garbage", "half", "lose", "deaf", "hears", "full", "room", "pause", "resume"]
            + ["settle", "settle", "expire", "wait"]
            + ["put resume", "put pause", "put settle", "put full", "put expire", "before expire", "before full"],
        ),
        st.integers(0, 2),
        st.integers(0, 1 << 16),
        st.sampled_from([1.0, 1.0, 0.5, 0.1]),
    ),
    min_size=30,
    max_size=60,
)  # fmt: skip


class Peers:
    """Three at a time; who is cut comes again."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench
        self._now = [self._new() for _ in range(3)]

    def _new(self) -> Any:
        return self._bench.connect()

    def renew(self, index: int) -> None:
        peer = self._now[index]
        if peer.transport.aborted or peer.transport.disconnecting:
            peer.lose()
            self._now[index] = self._new()

    def __getitem__(self, index: int) -> Any:
        return self._now[index]

    def lose(self, index: int) -> None:
        self._now[index].lose()
        self._now[index] = self._new()

    def lose_all(self) -> None:
        for peer in self._now:
            peer.lose()


def live(kind: str, deeds: list[tuple[str, int, int, float]], ack: str) -> None:
    make, sayings, options = KINDS[kind]
    counters = ListenerCounters()
    reactor = MemoryReactor()
    bench = make(reactor, counters).start({**COMMON, **options}, ack_timeout=6.0, ack=ack)
    peers = Peers(bench)
    for deed, index, number, share in deeds:
        peer = peers[index]
        if deed == "say":
            said = sayings[number % len(sayings)]
            peer.protocol.dataReceived(said[: max(1, int(len(said) * share))])
        elif deed == "garbage":
            peer.protocol.dataReceived(struct.pack(">I", number * 40_503))
        elif deed == "half":
            peer.protocol.readConnectionLost()
        elif deed == "lose":
            peers.lose(index)
        elif deed in ("deaf", "hears"):
            producer = peer.transport.producer
            if producer is not None:
                getattr(producer, "pauseProducing" if deed == "deaf" else "resumeProducing")()
        elif deed == "wait":
            bench.wait(1 + number % 5)
        elif " " in deed:
            when, _, what = deed.partition(" ")
            bench.intake.meanwhile(partial(happens, bench, what, number), before=when == "before")
        else:
            happens(bench, deed, number)
        for each in range(3):
            peers.renew(each)
        assert counters.balanced()
        assert counters.connections == 3
        line = list(bench.listener._holding)
        for index in range(3):
            assert line.count(peers[index].protocol) == peers[index].protocol._in_line, (
                "whoever waits stands in line, once"
            )
        assert counters.acknowledged <= counters.journaled + counters.duplicates
    end(bench, peers, kind)


def happens(bench: Any, deed: str, number: int) -> None:
    """What may also happen in the middle of a put, where a handler runs, or the oldest batch is given up."""
    if deed in ("full", "room"):
        bench.intake.room = 0 if deed == "full" else number % 4 or None
    elif deed in ("pause", "resume"):
        getattr(bench.listener, deed)()
    elif deed == "settle":
        bench.intake.settle(bench.intake.watches[0][0] if bench.intake.watches else None)
    else:
        assert deed == "expire"
        bench.intake.settle(failure=Expired("gave up"))


def end(bench: Any, peers: Peers, kind: str) -> None:
    counters = bench.counters
    stopped = bench.stop()
    bench.intake.settle(failure=Stopped("the server is stopping"))
    bench.wait(6)
    peers.lose_all()
    bench.intake.settle()
    assert stopped
    assert counters.balanced()
    assert counters.connections == 0
    assert not bench.listener._holding
    assert not bench.listener._connections
    assert bench.reactor.getDelayedCalls() == []
    assert not bench.connections.writers
    assert not +bench.listener._limits._peers
    if kind == "fluent":
        assert bench.listener.budget.used == 0
        stored = [batch.frames for batch in bench.intake.batches]
        assert stored.count([_ENTRY] * 3) <= 1, "it is recognised, also packed in another way"
        assert stored.count(_LONG) <= 1


@settings(max_examples=50, deadline=None)
@given(deeds=_deeds)
def test_a_sender_of_forward(deeds: list[tuple[str, int, int, float]]) -> None:
    live("fluent", deeds, "durable")


@settings(max_examples=50, deadline=None)
@given(deeds=_deeds)
def test_a_beat(deeds: list[tuple[str, int, int, float]]) -> None:
    live("lumberjack", deeds, "durable")


@settings(max_examples=50, deadline=None)
@given(deeds=_deeds)
def test_a_client_of_relp(deeds: list[tuple[str, int, int, float]]) -> None:
    live("relp", deeds, "durable")


@settings(max_examples=30, deadline=None)
@given(deeds=_deeds, kind=st.sampled_from(sorted(KINDS)))
def test_the_same_where_memory_is_enough(deeds: list[tuple[str, int, int, float]], kind: str) -> None:
    live(kind, deeds, "memory")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_saying_may_be_the_last(kind: str) -> None:
    """Whole or cut off, and then left by each way out."""
    _, sayings, _ = KINDS[kind]
    for number, said in enumerate(sayings):
        for way in ("half", "lose", "wait"):
            shares = {1.0, 0.5, (len(said) - 1) / len(said)}
            live(kind, [(deed, 0, number, share) for share in shares for deed in ("say", way, "settle")], "durable")
