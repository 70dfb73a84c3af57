"""The limits, deadlines and settings of the RELP listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventserver.counters import ListenerCounters
from eventserver.errors import SettingsError
from eventserver.listeners.relp import RelpListener
from eventserver.options import Duration, Size, parse
from eventserver.settings import from_mapping
from tests.listeners.fakes import MemoryReactor
from tests.listeners.relp_bench import PEER, Bench
from tests.relp_client import OFFERS, frame, syslog


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


# Limits


@pytest.mark.parametrize("limit", [{"max_unacknowledged": 10}, {"max_unacknowledged_bytes": Size(200)}])
def test_a_client_with_too_much_unanswered_is_not_read(bench: Bench, limit: dict[str, Any]) -> None:
    """Its window is its own business; ours is bounded, whatever it does."""
    peer = bench.start(limit).connect().open()
    for number in range(9):
        peer.send(b"%d" % number)
    assert peer.transport.reading
    peer.send(b"x" * 100)
    assert not peer.transport.reading
    bench.listener.resume()
    assert not peer.transport.reading
    bench.intake.settle(9)
    assert peer.transport.reading
    bench.intake.settle()
    assert len(peer.hear()) == 10


def test_other_commands_count_for_the_window_too(bench: Bench) -> None:
    """Their replies wait behind messages, and must not pile up there."""
    peer = bench.start({"max_unacknowledged": 10}).connect().open()
    peer.send(b"a")
    peer.protocol.dataReceived(b"".join(frame(number, "hello") for number in range(3, 12)))
    assert not peer.transport.reading


def test_a_message_over_max_frame_is_kept_cut_and_acknowledged(bench: Bench) -> None:
    peer = bench.start({"max_frame": Size(4)}).connect().open()
    peer.send(b"ab", b"abcdefgh", b"cd")
    bench.intake.settle()
    assert peer.hear() == [b"ab", b"abcdefgh", b"cd"]
    assert bench.intake.frames == [b"ab", b"abcd", b"cd"]
    assert bench.intake.marks == [(), ("truncated",), ()]
    assert bench.counters.truncated == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"<13>hello\n", "bad_header"), (syslog(7, b"x"), "bad_txnr"), (b"3 syslog 99999999 ", "too_long")],
)
def test_what_is_no_relp_cuts_that_connection_and_no_other(bench: Bench, data: bytes, reason: str) -> None:
    bad, good = bench.start().connect().open(), bench.connect().open()
    bad.send(b"before")
    bad.protocol.dataReceived(data)
    assert bad.transport.aborted
    assert bench.counters.closed == {reason: 1}
    assert bench.counters.rejected == {reason: 1}
    good.send(b"x")
    bench.intake.settle()
    assert (bad.hear(), good.hear()) == ([], [b"x"])
    bad.lose()


def test_a_message_before_open_cuts_the_connection(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.protocol.dataReceived(syslog(1, b"x"))
    assert peer.transport.aborted
    assert peer.transport.value() == b""
    assert bench.counters.closed == {"not_open": 1}


def test_a_peer_that_does_not_open_is_cut_off(bench: Bench) -> None:
    """Whether it says nothing at all, or a byte now and then."""
    bench.start({"open_timeout": Duration(30)})
    silent, slow = bench.connect(), bench.connect()
    for byte in frame(1, "open", OFFERS)[:20]:
        slow.protocol.dataReceived(bytes((byte,)))
        bench.wait(1)
    bench.wait(9)
    assert not silent.transport.aborted
    bench.wait(1)
    assert silent.transport.aborted
    assert slow.transport.aborted
    assert sum(bench.counters.closed.values()) == 2
    assert bench.counters.closed.keys() <= {"open_timeout", "frame_timeout"}
    silent.lose()
    slow.lose()


def test_a_frame_that_takes_too_long_cuts_the_connection(bench: Bench) -> None:
    """Counted from its first byte: the bytes in between do not help."""
    peer = bench.start({"frame_timeout": Duration(10)}).connect().open()
    peer.protocol.dataReceived(b"2 syslog 100 x")
    for _ in range(9):
        bench.wait(1)
        peer.protocol.dataReceived(b"x")
    assert not peer.transport.aborted
    bench.wait(1)
    assert peer.transport.aborted
    peer.lose()
    assert bench.counters.closed == {"frame_timeout": 1}
    assert bench.counters.rejected == {"incomplete": 1}


def test_an_open_session_may_be_idle_unless_a_setting_says_otherwise(bench: Bench) -> None:
    peer = bench.start().connect().open()
    bench.wait(3600)
    assert peer.transport.connected
    assert not peer.transport.disconnecting


def test_an_idle_session_is_closed_with_a_word(bench: Bench) -> None:
    peer = bench.start({"idle_timeout": Duration(60)}, ack="memory").connect().open()
    bench.wait(59)
    peer.send(b"x")
    bench.wait(59)
    assert peer.hear() == [b"x"]
    assert not peer.transport.disconnecting
    bench.wait(1)
    peer.hear()
    assert peer.client.closed
    assert peer.transport.disconnecting
    assert not peer.transport.aborted
    assert bench.counters.closed == {"idle_timeout": 1}


def test_a_peer_that_does_not_read_is_cut_off(bench: Bench) -> None:
    peer = bench.start({"max_unread_replies": Size(70000)}, ack="memory").connect().open()
    peer.transport.producer.pauseProducing()
    peer.protocol.dataReceived(syslog(2, *[b"x"] * 500))
    assert peer.transport.aborted
    assert bench.counters.closed == {"unread_replies": 1}


def test_limits_that_contradict_each_other_are_refused() -> None:
    keys = {"endpoints": ["tcp:1"], "max_frame": "1 MiB", "max_data": "64 KiB"}
    assert parse(RelpListener.Options, keys)[1] == [("max_data", "is less than `max_frame`, 1 MiB")]


# Settings


def test_settings_that_cannot_be_meant_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping({"listener": {"safe": {"type": "relp", "endpoints": ["udp:2514"], "framing": "lines"}}})
    said = str(caught.value)
    assert "listener.safe.framing" in said
    assert "udp:2514" in said
    with pytest.raises(SettingsError, match=r"listener\.safe\.ack.*durable"):
        from_mapping({"listener": {"safe": {"type": "relp", "endpoints": ["tcp:2514"], "ack": "durable"}}})


def test_the_promise_is_the_best_that_there_is() -> None:
    table = {"safe": {"type": "relp", "endpoints": ["tcp:2514"], "ack_timeout": "5 s", "max_unacknowledged": 7}}
    listener = from_mapping({"listener": table}).listeners["safe"]
    assert (listener.ack, listener.ack_timeout) == ("delivered", 5.0)
    [part] = listener.parts
    assert part.options.max_unacknowledged == 7
    with_journal = from_mapping({"listener": table, "journal": {"path": "/nowhere/at/all"}})
    assert with_journal.listeners["safe"].ack == "durable"


def test_connections_are_limited(bench: Bench) -> None:
    bench.start({"max_connections": 1})
    bench.connect()
    assert bench.reactor.tcpServers[0][1].buildProtocol(PEER) is None
    assert bench.counters.closed == {"max_connections": 1}
