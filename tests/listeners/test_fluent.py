"""The listener for the Forward protocol in memory: batches, acks, repeats, and what happens when there is no room."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.errors import Expired
from eventserver.interfaces import ListenerContext
from eventserver.listeners._fluent_heartbeat import Heartbeats
from eventserver.listeners.fluent import FluentListener
from eventserver.options import Duration
from eventserver.testing.listeners import ListenerConformance, Setting
from eventserver.testing.listeners import _Intake as IntakeUnderTest
from tests.fluent_client import decode, entry, forward, message, packed, ping, values
from tests.listeners.fakes import FakeTransport, MemoryReactor
from tests.listeners.fluent_bench import Bench


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding
    for connection in list(made.listener._connections):
        connection.connectionLost(Failure(ConnectionDone()))
    assert made.listener.budget.used == 0


class _Unpacked(IntakeUnderTest):
    """Shows the texts that entries carry."""

    @property
    def frames(self) -> list[bytes]:
        return [decode(frame)[1]["log"].encode() for frame in super().frames]


class TestConformance(ListenerConformance):
    def make(self, context: ListenerContext) -> Any:
        context.intake.__class__ = _Unpacked
        return FluentListener(FluentListener.Options(endpoints=("tcp:24224",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(FakeTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1)))
        protocol.dataReceived(packed("app", [entry(1, {"log": frame.decode()}) for frame in frames]))
        protocol.connectionLost(Failure(ConnectionDone()))


def logs(first: int, count: int = 1) -> list[bytes]:
    return [entry(number, {"log": str(number)}) for number in range(first, first + count)]


# Batches


def test_what_one_read_brought_is_a_batch_for_each_tag(bench: Bench) -> None:
    peer = bench.start().connect()
    data = [message(tag, 1, {"log": f"{tag}{number}"}) for number in range(3) for tag in "ab"]
    peer.send(*data, packed("a", logs(7)))
    assert [(batch.context["tag"], len(batch.frames)) for batch in bench.intake.batches] == [("a", 4), ("b", 3)]
    assert [log for _, log in bench.logs] == ["a0", "a1", "a2", "7", "b0", "b1", "b2"]
    assert {batch.peers for batch in bench.intake.batches} == {("192.0.2.7:51123",)}
    assert bench.intake.watches == [], "nobody asked for an ack"
    assert peer.said() == b""


def test_labels_and_tag_are_in_the_context(bench: Bench) -> None:
    peer = bench.start(batch_context={"labels": {"site": "hq"}}).connect()
    peer.send(message("app.x", 1, {}))
    assert bench.intake.batches[0].context == {"labels": {"site": "hq"}, "tag": "app.x"}
    assert bench.listener.context.batch_context == {"labels": {"site": "hq"}}


def test_a_large_message_is_several_batches_and_one_ack(bench: Bench) -> None:
    peer = bench.start().connect()
    entries = [entry(number, {"log": "x" * 100_000}) for number in range(35)]
    peer.send(packed("a", entries, chunk="c", size=35))
    assert [len(batch.frames) for batch in bench.intake.batches] == [11, 11, 11, 2]
    assert bench.intake.frames == entries
    assert [position for position, _ in bench.intake.watches] == [11, 22, 33, 35]
    bench.intake.settle()
    assert peer.acks() == ["c"]
    assert bench.counters.acknowledged == 35


@pytest.mark.parametrize("given_up", [0, 1, 3])
def test_a_large_message_of_which_a_part_is_given_up_is_not_acknowledged(bench: Bench, given_up: int) -> None:
    """Each of its batches may be, by itself."""
    peer = bench.start().connect()
    peer.send(packed("a", [entry(number, {"log": "x" * 100_000}) for number in range(35)], chunk="c", size=35))
    watches, bench.intake.watches = list(bench.intake.watches), type(bench.intake.watches)()
    for number, (_, done) in enumerate(watches):
        done(Failure(Expired("given up")) if number == given_up else None)
    assert peer.acks() == []
    assert bench.counters.acknowledged == 0


def test_an_entry_over_the_limit_is_marked(bench: Bench) -> None:
    peer = bench.start({"max_frame": 1000, "max_message": 10_000}).connect()
    big = entry(1, {"log": "x" * 2000})
    peer.send(message("a", 1, {"log": "x"}), forward("a", [big]), message("a", 1, {"log": "y"}))
    assert bench.intake.marks == [(), ("truncated",), ()]
    assert bench.intake.frames[1] == big[:1000]
    assert bench.counters.truncated == 1


# Acks


def test_an_ack_comes_when_the_promise_is_kept(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", logs(1, 3), chunk="c1"), message("a", 9, {}), message("b", 4, {"log": "4"}, chunk="c2"))
    assert bench.intake.levels == {"durable"}
    assert peer.acks() == []
    bench.intake.settle(3)
    assert peer.acks() == ["c1"]
    bench.intake.settle()
    assert peer.acks() == ["c2"]
    assert (bench.counters.acknowledged, bench.counters.received) == (4, 5)


def test_memory_is_acknowledged_within_the_read(bench: Bench) -> None:
    peer = bench.start(ack="memory").connect()
    peer.send(packed("a", logs(1), chunk="c"))
    assert peer.acks() == ["c"]


def test_a_chunk_with_nothing_in_it_is_acknowledged(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", [], chunk="c"), forward("a", [], chunk="d"), forward("a", []))
    assert peer.acks() == ["c", "d"]
    assert bench.intake.batches == []


def test_a_broken_promise_is_no_ack(bench: Bench) -> None:
    """The connection stays: others have messages under way on it. The sender sends this one again."""
    peer = bench.start(ack="delivered").connect()
    peer.send(packed("a", logs(1), chunk="c"))
    bench.intake.settle(failure=Expired("gave up"))
    assert peer.said() == b""
    assert not peer.transport.aborted
    assert bench.counters.replies == {"unsent": 1}


def test_what_is_not_kept_in_time_is_no_ack(bench: Bench) -> None:
    peer = bench.start(ack_timeout=5.0).connect()
    peer.send(packed("a", logs(1), chunk="c"))
    bench.wait(3)
    peer.send(packed("a", logs(2), chunk="d"))
    bench.wait(2)
    assert bench.counters.replies == {"unsent": 1}
    bench.intake.settle()
    assert peer.acks() == ["d"]
    peer.send(packed("a", logs(1), chunk="c"))
    bench.intake.settle()
    assert peer.acks() == ["c"], "it is there, so what is sent again is acknowledged"
    assert bench.records == [{"log": "1"}, {"log": "2"}]


def test_so_many_messages_may_wait_for_acks(bench: Bench) -> None:
    peer = bench.start({"max_unacknowledged": 3}).connect()
    for number in range(3):
        assert peer.transport.reading
        peer.send(packed("a", logs(number), chunk=str(number)))
    assert not peer.transport.reading
    bench.intake.settle(1)
    assert peer.transport.reading


def test_a_message_in_json_is_acknowledged_in_json(bench: Bench) -> None:
    peer = bench.start(ack="memory").connect()
    peer.send(b'["php",1700000000,{"log":"x"},{"chunk":"c"}]')
    assert bench.logs == [("php", "x")]
    assert peer.said() == b'{"ack":"c"}'


# Repeats


def test_a_repeat_is_answered_and_not_stored(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", logs(1, 2), chunk="c"))
    bench.intake.settle()
    other = bench.connect()
    other.send(packed("a", logs(1, 2), chunk="c", size=2))
    bench.intake.settle()
    assert (peer.acks(), other.acks()) == (["c"], ["c"])
    assert bench.records == [{"log": "1"}, {"log": "2"}]
    assert (bench.counters.duplicates, bench.counters.received) == (2, 2)


def test_a_repeat_in_flight_waits_for_the_first(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", logs(1), chunk="c"))
    peer.send(packed("a", logs(2), chunk="d"), packed("a", logs(1), chunk="c"))
    assert [position for position, _ in bench.intake.watches] == [1, 2, 1]
    assert peer.acks() == []
    bench.intake.settle(1)
    assert peer.acks() == ["c", "c"]


def test_a_chunk_id_that_is_used_twice_loses_nothing(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(*[packed(tag, logs(number), chunk="c") for tag in "ab" for number in (1, 2)])
    bench.intake.settle()
    assert peer.acks() == ["c"] * 4
    assert len(bench.records) == 4
    assert bench.counters.duplicates == 0


def test_what_asks_for_no_ack_is_never_a_repeat(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", logs(1)), packed("a", logs(1)))
    assert len(bench.records) == 2


def test_repeats_are_known_for_a_while(bench: Bench) -> None:
    peer = bench.start({"repeat_window": Duration(60), "max_repeat_keys": 2}).connect()
    peer.send(*[packed("a", logs(number), chunk="c") for number in (1, 2, 3, 1)])
    assert len(bench.records) == 4, "the oldest was forgotten for the third"
    bench.wait(61)
    peer.send(packed("a", logs(1), chunk="c"))
    assert len(bench.records) == 5


class Journal:
    """What a journal on disk remembers."""

    unwell = None

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], int] = {}

    def recall(self, scope: str, key: str) -> int | None:
        return self.kept.get((scope, key))

    def remember(self, scope: str, keys: list[tuple[str, int]]) -> None:
        self.kept |= {(scope, key): position for key, position in keys}


def test_a_journal_on_disk_remembers(bench: Bench) -> None:
    journal = Journal()
    bench.start(journal=journal).connect().send(packed("a", logs(1, 2), chunk="c"))
    [((scope, _), position)] = journal.kept.items()
    assert (scope, position) == ("test/forward", 2)
    bench.connect().send(packed("a", logs(1, 2), chunk="c"))
    assert len(bench.records) == 2


# No room


def test_what_finds_no_room_is_held_and_reading_stops(bench: Bench) -> None:
    peer = bench.start().connect()
    bench.intake.room = 0
    peer.send(message("a", 1, {"log": "1"}), packed("b", logs(2), chunk="c"))
    assert not peer.transport.reading
    assert bench.listener.budget.used > 0
    bench.listener.resume()
    assert bench.intake.batches == []
    bench.intake.room = None
    bench.listener.resume()
    assert bench.logs == [("a", "1"), ("b", "2")]
    assert peer.transport.reading
    bench.intake.settle()
    assert peer.acks() == ["c"]
    assert bench.listener.budget.used == 0


def test_a_message_that_was_stored_in_part_is_not_stored_twice(bench: Bench) -> None:
    peer = bench.start().connect()
    entries = [entry(number, {"log": "x" * 1_000_000}) for number in range(3)]
    bench.intake.room = 1
    peer.send(packed("a", entries, chunk="c"))
    bench.intake.room = None
    bench.listener.resume()
    bench.intake.settle()
    assert bench.intake.frames == entries
    assert peer.acks() == ["c"]


def test_the_rest_of_a_message_that_came_again_as_a_whole_is_not_stored_besides(bench: Bench) -> None:
    """Its sender gave up waiting while there was no room, and its repeat found some before it."""
    entries = [entry(number, {"log": "x" * 1_000_000}) for number in range(3)]
    data = packed("a", entries, chunk="c")
    peer = bench.start().connect()
    bench.intake.room = 1
    peer.send(data)
    peer.lose()
    bench.intake.room = None
    again = bench.connect()
    again.send(data)
    bench.listener.resume()
    bench.intake.settle()
    assert [len(batch.frames) for batch in bench.intake.batches] == [2, 2, 1]
    assert again.acks() == ["c"]
    assert bench.counters.duplicates == 1
    assert bench.listener.budget.used == 0


def test_what_is_held_outlives_its_connection(bench: Bench) -> None:
    """Its sender has forgotten what it asked no ack for; the other message comes again, and is a repeat then."""
    peer = bench.start().connect()
    bench.intake.room = 0
    chunk = packed("b", logs(2), chunk="c")
    peer.send(message("a", 1, {"log": "1"}), chunk)
    peer.lose()
    bench.intake.room = None
    bench.listener.resume()
    assert bench.logs == [("a", "1"), ("b", "2")]
    again = bench.connect()
    again.send(chunk)
    bench.intake.settle()
    assert again.acks() == ["c"]
    assert len(bench.records) == 2


def test_a_paused_listener_reads_from_nobody(bench: Bench) -> None:
    peer = bench.start().connect()
    bench.listener.pause()
    assert not peer.transport.reading
    bench.wait(100)
    bench.listener.resume()
    assert peer.transport.reading


# The end


def test_a_sender_that_only_stops_sending_is_acknowledged(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(packed("a", logs(1), chunk="c"))
    peer.protocol.readConnectionLost()
    assert not peer.transport.disconnecting
    bench.intake.settle()
    assert peer.acks() == ["c"]
    assert peer.transport.disconnecting


def test_half_a_message_is_counted(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(message("a", 1, {"log": "1"}), b"\x93\xa1a")
    peer.lose()
    assert bench.counters.rejected == {"incomplete": 1}
    assert len(bench.records) == 1


def test_a_stop_acknowledges_what_is_met(bench: Bench) -> None:
    idle, busy = bench.start().connect(), bench.connect()
    busy.send(packed("a", logs(1), chunk="c"), b"\x93\xa1a")
    stopped = bench.stop()
    assert idle.transport.disconnecting
    assert not busy.transport.disconnecting
    idle.lose()
    bench.intake.settle()
    assert busy.acks() == ["c"]
    assert busy.transport.disconnecting
    assert not stopped
    busy.lose()
    assert stopped
    assert bench.counters.rejected == {"incomplete": 1}


def test_a_stop_without_room_counts_what_is_lost(bench: Bench) -> None:
    peer = bench.start({"close_timeout": Duration(5)}).connect()
    bench.intake.room = 0
    peer.send(message("a", 1, {"log": "1"}), packed("a", logs(2, 2), chunk="c"))
    stopped = bench.stop()
    bench.wait(6)
    peer.lose()
    assert stopped
    assert bench.counters.rejected == {"stopped": 3}


def test_a_handler_may_stop_the_server_while_it_takes_a_batch(bench: Bench) -> None:
    """The rest of the read is kept, the half message counted once, and what can be acknowledged is."""
    peer = bench.start().connect()
    stopped: list[object] = []

    def stop() -> None:
        bench.intake.on_put = lambda: None
        stopped.append(bench.stop())

    bench.intake.on_put = stop
    peer.send(
        message("a", 1, {"log": "1"}), message("b", 1, {"log": "2"}), packed("c", logs(3), chunk="c"), b"\x93\xa1a"
    )
    assert [log for _, log in bench.logs] == ["1", "2", "3"]
    bench.intake.settle()
    assert peer.acks() == ["c"]
    assert peer.transport.disconnecting
    assert bench.counters.rejected == {"incomplete": 1}
    assert bench.counters.closed == {}
    peer.lose()
    assert len(stopped) == 1
    assert stopped[0], "it has stopped"


# Handshake


def test_messages_are_taken_after_the_handshake(bench: Bench) -> None:
    peer = bench.start({"shared_key": "key", "users": {"web": "secret"}}).connect()
    hello = peer.said()
    peer.send(ping(hello, "key", user="web", password="secret"), message("a", 1, {"log": "1"}))
    [pong] = values(peer.said())
    assert pong[:2] == ["PONG", True]
    assert bench.intake.batches[0].context == {"tag": "a", "user": "web"}


def test_who_is_refused_is_told_so_and_closed(bench: Bench) -> None:
    peer = bench.start({"shared_key": "key"}).connect()
    peer.send(ping(peer.said(), "wrong"), message("a", 1, {"log": "1"}))
    peer.send(message("a", 1, {"log": "2"}))
    assert values(peer.said()) == [["PONG", False, "shared_key mismatch", "", ""]]
    assert peer.transport.disconnecting
    assert bench.intake.batches == []
    assert bench.counters.rejected == bench.counters.closed == {"not_authorized": 1}


def test_who_does_not_shake_hands_is_cut(bench: Bench) -> None:
    silent, rude = bench.start({"shared_key": "key"}).connect(), bench.connect()
    rude.send(message("a", 1, {"log": "1"}))
    assert rude.transport.aborted
    bench.wait(9)
    assert not silent.transport.aborted
    bench.wait(1)
    assert silent.transport.aborted
    assert bench.counters.closed == {"not_authorized": 1, "handshake_timeout": 1}


# Heartbeats


def test_heartbeats_over_tcp_need_no_answer(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(b"\xc0\xc0")
    assert peer.said() == b""
    assert bench.counters.received == 0


def test_heartbeats_over_udp_are_answered_with_as_much(bench: Bench) -> None:
    """That the port is opened is tested with a real one."""
    bench.start()
    heartbeats, sent = Heartbeats(bench.listener.ingest), []
    heartbeats.transport = SimpleNamespace(write=lambda data, to: sent.append((data, to)))  # type: ignore[assignment]
    for datagram in (b"\0", b"", b"\0\0", b"\x01", message("a", 1, {})):
        heartbeats.datagramReceived(datagram, ("192.0.2.7", 1))
    assert sent == [(b"\0", ("192.0.2.7", 1))]
    assert bench.counters.rejected == {"no_heartbeat": 4}


def test_options_are_checked() -> None:
    def wrong(**options: Any) -> list[str]:
        return [key for key, _ in FluentListener.Options(**{"endpoints": ("tcp:1",), **options}).problems()]

    assert wrong() == wrong(endpoints=("tcp:1", "udp:1")) == wrong(shared_key="k", users={"a": "b"}) == []
    assert wrong(users={"a": "b"}) == ["users"]
    assert wrong(shared_key="") == ["shared_key"]
    assert wrong(max_frame=2000, max_message=1999) == ["max_message"]
    assert wrong(max_buffered=2000) == ["max_buffered"]
    assert wrong(endpoints=("unix-datagram:/x",)) == ["endpoints"]
    assert wrong(endpoints=("tls:1",)) == ["tls"]


def test_nothing_is_answered_to_events(bench: Bench) -> None:
    peer = bench.start(replies=True).connect()
    peer.send(message("a", 1, {}))
    bench.connections.writers[bench.intake.batches[0].connection_of(0)].reply(b"x")
    assert peer.said() == b""
    assert bench.counters.replies == {"unsent": 1}
    peer.lose()
    assert bench.connections.writers == {}
