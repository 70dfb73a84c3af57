"""The stream listener in memory: limits, time-outs, faults, pauses, replies. No socket, no sleep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.framing.counted import OctetFramer
from eventserver.framing.lines import LinesFramer
from eventserver.listeners._tls import TlsOptions
from eventserver.options import Duration, Size
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor, lines
from tests.listeners.stream_bench import PEER, Bench

GONE = Failure(ConnectionDone())


@pytest.fixture
def bench(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Bench:
    return Bench(reactor, intake, counters)


def test_one_read_is_one_batch(bench: Bench) -> None:
    """However many lines a read brings, the intake is called once, with the peer once."""
    bench.start(batch_context={"labels": {"site": "hq"}})
    connection, _ = bench.connect()
    connection.dataReceived(b"a\nb\nc")
    connection.dataReceived(b"d\n")
    [first, second] = bench.intake.batches
    assert (first.frames, second.frames) == ([b"a", b"b"], [b"cd"])
    assert list(first.peers) == ["192.0.2.7:51123"]
    assert (first.listener, first.decoder, first.connection) == ("test", "text", 0)
    assert first.context == {"labels": {"site": "hq"}}
    assert first.id != second.id
    assert (bench.counters.received, bench.counters.journaled, bench.counters.bytes) == (3, 3, 7)


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (IPv6Address("TCP", "2001:db8::7", 51123), "[2001:db8::7]:51123"),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 9), "192.0.2.7:9"),
        (IPv6Address("TCP", "fe80::1%eth0", 9), "[fe80::1%eth0]:9"),
        (UNIXAddress(None), "unix:"),
    ],
)
def test_peer_is_written_as_people_write_it(bench: Bench, address: Any, peer: str) -> None:
    bench.start()
    bench.connect(address)[0].dataReceived(b"x\n")
    assert bench.intake.peers == [peer]


def test_unterminated_last_line_is_a_frame(bench: Bench) -> None:
    """`echo -n x | nc` loses nothing, whether the peer half-closes or just goes."""
    bench.start()
    half, half_transport = bench.connect()
    half.dataReceived(b"half")
    half.readConnectionLost()
    assert half_transport.disconnecting
    half.connectionLost(GONE)
    gone, _ = bench.connect()
    gone.dataReceived(b"gone")
    gone.connectionLost(GONE)
    assert bench.intake.frames == [b"half", b"gone"]
    assert bench.intake.marks == [(), ()]
    assert bench.counters.connections == 0
    assert bench.counters.connections_total == 2


def test_cut_frame_is_marked_and_counted(bench: Bench) -> None:
    bench.start(new_framer=lines(max_frame=Size(4)))
    connection, _ = bench.connect()
    connection.dataReceived(b"ab\nabcdefgh\ncd\n")
    assert bench.intake.frames == [b"ab", b"abcd", b"cd"]
    assert bench.intake.marks == [(), ("truncated",), ()]
    assert bench.counters.truncated == 1


def test_refused_frame_is_counted_as_rejected(bench: Bench) -> None:
    bench.start(new_framer=lines(max_frame=Size(4), oversize="drop"))
    connection, transport = bench.connect()
    connection.dataReceived(b"abcdefgh\ncd\n")
    assert bench.intake.frames == [b"cd"]
    assert bench.counters.rejected == {"oversize": 1}
    assert bench.counters.received == 2
    assert not transport.aborted


def test_fatal_fault_closes_its_connection_and_no_other(bench: Bench, logged: list[str]) -> None:
    """What was cut before the error is kept; the log has one line, and no second one for the next such peer."""
    bench.start(new_framer=lambda: OctetFramer(OctetFramer.Options()))
    bad, bad_transport = bench.connect()
    good, good_transport = bench.connect()
    bad.dataReceived(b"2 ok99999999 x")
    bad.dataReceived(b"2 no")
    good.dataReceived(b"4 fine")
    assert bad_transport.aborted
    assert not good_transport.aborted
    assert bench.intake.frames == [b"ok", b"fine"]
    [(reason, count)] = bench.counters.closed.items()
    assert count == 1
    worse, _ = bench.connect()
    worse.dataReceived(b"99999999 x")
    assert bench.counters.closed == {reason: 2}
    assert [line for line in logged if "closed the connection of 192.0.2.7:51123" in line] == logged[1:]
    assert len(logged) == 2


def test_log_tells_later_what_it_left_out(bench: Bench, logged: list[str]) -> None:
    bench.start({"max_connections": 1})
    bench.connect()
    for _ in range(3):
        assert bench.refused()
    bench.wait(61)
    assert bench.refused()
    assert len(logged) == 3
    assert "(2 more like this" in logged[-1]


def test_connections_are_limited(bench: Bench) -> None:
    bench.start({"max_connections": 2})
    first, _ = bench.connect()
    bench.connect()
    assert bench.refused()
    assert bench.counters.closed == {"max_connections": 1}
    first.connectionLost(GONE)
    bench.connect()


def test_connections_of_one_peer_are_limited(bench: Bench) -> None:
    """By IPv4 address and IPv6 /64; loopback and unix sockets are exempt."""
    bench.start({"max_connections_per_peer": 1})
    first, _ = bench.connect()
    assert bench.refused(IPv4Address("TCP", "192.0.2.7", 2))
    assert bench.refused(IPv6Address("TCP", "::ffff:192.0.2.7", 2))
    bench.connect(IPv4Address("TCP", "192.0.2.8", 1))
    bench.connect(IPv6Address("TCP", "2001:db8::1", 1))
    assert bench.refused(IPv6Address("TCP", "2001:db8::ffff:2", 1))
    bench.connect(IPv6Address("TCP", "2001:db8:0:1::1", 1))
    for exempt in (IPv4Address("TCP", "127.0.0.1", 1), IPv6Address("TCP", "::1", 1), UNIXAddress(None)):
        bench.connect(exempt)
        bench.connect(exempt)
    assert bench.counters.closed == {"max_connections_per_peer": 3}
    first.connectionLost(GONE)
    again, _ = bench.connect()
    again.connectionLost(GONE)
    assert "192.0.2.7" not in bench.listener._limits._peers, "peers that are gone cost no memory"


def test_idle_connection_is_closed_where_asked(bench: Bench) -> None:
    bench.start({"idle_timeout": Duration(10)})
    idle, idle_transport = bench.connect()
    busy, busy_transport = bench.connect()
    idle.dataReceived(b"x\n")
    bench.wait(6)
    busy.dataReceived(b"y\n")
    bench.wait(6)
    assert idle_transport.disconnecting
    assert not busy_transport.disconnecting
    assert bench.counters.closed == {"idle_timeout": 1}


def test_idle_connection_stays_by_default(bench: Bench) -> None:
    """A sender over plain TCP would lose what it sends into a closed connection."""
    bench.start()
    _, transport = bench.connect()
    bench.wait(3600)
    assert not transport.disconnecting


def test_slow_frame_is_kept_as_far_as_it_came(bench: Bench) -> None:
    """A byte now and then does not hold a connection for ever."""
    bench.start({"frame_timeout": Duration(30)})
    slow, transport = bench.connect()
    slow.dataReceived(b"whole\n")
    for _ in range(29):
        slow.dataReceived(b"x")
        bench.wait(1)
    assert not transport.aborted
    bench.wait(2)
    assert transport.aborted
    assert bench.intake.frames == [b"whole", b"x" * 29]
    assert bench.intake.marks == [(), ("truncated",)]
    assert bench.counters.closed == {"frame_timeout": 1}
    slow.connectionLost(GONE)
    assert len(bench.intake.frames) == 2


def test_frame_time_begins_anew_with_each_frame(bench: Bench) -> None:
    """A steady sender whose reads always end inside a line is not slow."""
    bench.start({"frame_timeout": Duration(5)})
    connection, transport = bench.connect()
    for _ in range(30):
        connection.dataReceived(b"rest\nbegin")
        bench.wait(1)
    assert not transport.aborted
    assert bench.counters.closed == {}


def test_pause_between_frames_does_not_count(bench: Bench) -> None:
    """Only the frame that has begun is timed, from its own first byte."""
    bench.start({"frame_timeout": Duration(5)})
    connection, transport = bench.connect()
    for _ in range(3):
        connection.dataReceived(b"be")
        bench.wait(3)
        connection.dataReceived(b"gin\n")
        bench.wait(10)
    connection.dataReceived(b"x")
    bench.wait(3)
    assert not transport.aborted


def test_stalled_handshake_is_ended(bench: Bench, authority: Authority) -> None:
    """Whoever connects and says nothing, or a byte now and then, is cut off."""
    cert, key = authority.server()
    bench.start({"endpoints": ("tls:6514",), "tls": TlsOptions(cert=cert, key=key)})
    tls = bench.reactor.tcpServers[0][1].buildProtocol(PEER)
    transport = FakeTransport(peerAddress=PEER)
    tls.makeConnection(transport)
    bench.wait(9)
    assert not transport.aborted
    bench.wait(2)
    assert transport.aborted
    assert bench.counters.closed == {"handshake_timeout": 1}
    tls.connectionLost(GONE)


def test_refused_batch_is_held_and_put_first(bench: Bench) -> None:
    """Nothing is lost, the order stays, and nothing more is read meanwhile."""
    bench.start()
    connection, transport = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\n")
    assert not transport.reading
    connection.dataReceived(b"b\nrest")  # out of a buffer, as TLS has one
    bench.intake.room = None
    bench.listener.resume()
    assert transport.reading
    connection.dataReceived(b"\n")
    assert bench.intake.frames == [b"a", b"b", b"rest"]


def test_held_batches_are_put_as_far_as_there_is_room(bench: Bench) -> None:
    bench.start()
    connections = [bench.connect() for _ in range(3)]
    bench.intake.room = 0
    for number, (connection, _) in enumerate(connections):
        connection.dataReceived(b"%d\n" % number)
    bench.intake.room = 1
    bench.listener.resume()
    assert bench.intake.frames == [b"0"]
    assert bench.listener.paused
    assert not any(transport.reading for _, transport in connections)
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == [b"0", b"1", b"2"]
    assert all(transport.reading for _, transport in connections)


def test_intake_that_pauses_while_it_takes_stays_paused(bench: Bench) -> None:
    """The intake may have room for one held batch and be near its bound again."""
    bench.start()
    connections = [bench.connect() for _ in range(2)]
    bench.intake.room = 0
    for connection, _ in connections:
        connection.dataReceived(b"x\n")
    bench.intake.room = None
    bench.intake.on_put = bench.listener.pause
    bench.listener.resume()
    assert len(bench.intake.batches) == 1
    assert bench.listener.paused
    assert not any(transport.reading for _, transport in connections)
    bench.intake.on_put = lambda: None
    bench.listener.resume()
    assert len(bench.intake.batches) == 2
    assert all(transport.reading for _, transport in connections)


def test_room_that_is_made_while_a_held_batch_is_put_loses_and_repeats_nothing(bench: Bench) -> None:
    """A handler may run, and the intake resume its listeners, before `put` returns."""
    bench.start()
    connections = [bench.connect() for _ in range(2)]
    bench.intake.room = 0
    for number, (connection, _) in enumerate(connections):
        for frame in (b"a", b"b", b"c"):
            connection.dataReceived(b"%s%d\n" % (frame, number))
    bench.intake.room = None
    bench.intake.on_put = bench.listener.resume
    bench.listener.resume()
    assert bench.intake.frames == [b"a0", b"b0", b"c0", b"a1", b"b1", b"c1"]
    assert not bench.listener.paused
    assert all(transport.reading for _, transport in connections)


def test_what_comes_while_a_held_batch_is_put_comes_after_it(bench: Bench) -> None:
    """Also where there is no room for it: a tail, when the handler that runs stops the server."""
    bench.start(replies=True)
    connection, _ = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\ntail")
    bench.intake.room = 1
    bench.intake.on_put = bench.listener.stopService
    bench.listener.resume()
    assert bench.intake.frames == [b"a"]
    assert bench.listener.paused
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == [b"a", b"tail"]
    assert [position for position, _ in bench.intake.watches] == [2]
    connection.connectionLost(GONE)
    assert bench.counters.journaled == bench.counters.received == 2


def test_a_connection_that_is_lost_while_its_batch_is_put_loses_no_tail(bench: Bench) -> None:
    bench.start()
    connection, _ = bench.connect()
    bench.intake.meanwhile(lambda: connection.connectionLost(GONE))
    connection.dataReceived(b"a\ntail")
    assert bench.intake.frames == [b"a", b"tail"]
    assert not connection.held


def test_a_connection_that_ends_while_its_batch_is_put_waits_for_the_reply(bench: Bench) -> None:
    bench.start(replies=True)
    connection, transport = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\n")
    bench.intake.room = None
    bench.intake.on_put = bench.listener.stopService
    bench.listener.resume()
    assert not transport.disconnecting
    assert [position for position, _ in bench.intake.watches] == [1]
    bench.intake.deliver()
    assert transport.disconnecting
    connection.connectionLost(GONE)


@pytest.mark.parametrize(("tail", "room"), [(b"", None), (b"tail", None), (b"tail", 1)])
def test_a_handler_that_stops_the_server_can_still_answer(bench: Bench, tail: bytes, room: int | None) -> None:
    """It runs inside of `put`, where the position of its own event is not known yet."""
    bench.start(replies=True)
    connection, transport = bench.connect()

    def stop() -> None:
        bench.intake.on_put = lambda: None
        bench.listener.stopService()

    bench.intake.on_put, bench.intake.room = stop, room
    connection.dataReceived(b"quit\n" + tail)
    assert not transport.disconnecting
    if room is not None:
        assert bench.intake.watches == []
        bench.intake.room = None
        bench.listener.resume()
    assert bench.intake.frames == ([b"quit", tail] if tail else [b"quit"])
    assert [position for position, _ in bench.intake.watches] == [2 if tail else 1]
    connection.reply(b"bye")
    bench.intake.deliver()
    assert transport.value() == b"bye\n"
    assert transport.disconnecting
    connection.connectionLost(GONE)


def test_any_number_of_connections_may_hold_batches(bench: Bench) -> None:
    """Room that is made with each of them does not nest their calls."""
    bench.start(options={"max_connections_per_peer": 1000})
    connections = [bench.connect()[0] for _ in range(500)]
    bench.intake.room = 0
    for number, connection in enumerate(connections):
        connection.dataReceived(b"%d\n" % number)
    bench.intake.room = None
    bench.intake.on_put = bench.listener.resume
    bench.listener.resume()
    assert bench.intake.frames == [b"%d" % number for number in range(500)]


def test_giving_up_while_a_held_batch_is_put_counts_every_frame_once(bench: Bench) -> None:
    bench.start()
    connections = [bench.connect() for _ in range(2)]
    bench.intake.room = 0
    for connection, _ in connections:
        connection.dataReceived(b"a\n")
        connection.dataReceived(b"b\n")
    bench.intake.room = 3

    def stop() -> None:
        bench.intake.on_put = lambda: None
        bench.listener.stopService()
        bench.listener.give_up()

    bench.intake.on_put = stop
    bench.listener.resume()
    for connection, _ in connections:
        connection.connectionLost(GONE)
    assert bench.intake.frames == [b"a", b"b", b"a"]
    assert (bench.counters.received, bench.counters.journaled) == (4, 3)
    assert bench.counters.rejected == {"stopped": 1}


def test_pause_stops_every_connection_and_new_ones(bench: Bench) -> None:
    bench.start()
    _, old = bench.connect()
    bench.listener.pause()
    _, new = bench.connect()
    assert not old.reading
    assert not new.reading
    bench.listener.resume()
    assert old.reading
    assert new.reading


def test_time_does_not_count_while_paused(bench: Bench) -> None:
    """The server does not read: the peer is neither idle nor slow."""
    bench.start({"idle_timeout": Duration(10), "frame_timeout": Duration(10)})
    connection, transport = bench.connect()
    connection.dataReceived(b"begin")
    bench.listener.pause()
    bench.wait(60)
    bench.listener.resume()
    bench.wait(9)
    assert not transport.disconnecting
    connection.dataReceived(b" end\n")
    assert bench.intake.frames == [b"begin end"]


def test_held_batch_outlives_its_connection(bench: Bench) -> None:
    bench.start()
    connection, _ = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\ntail")
    connection.connectionLost(GONE)
    assert bench.listener.connections() == []
    bench.intake.room = None
    bench.listener.resume()
    assert bench.intake.frames == [b"a", b"tail"]


def test_reply_is_framed_and_goes_to_its_connection(bench: Bench) -> None:
    bench.start(replies=True)
    connection, transport = bench.connect()
    other, other_transport = bench.connect()
    connection.dataReceived(b"ping\n")
    other.dataReceived(b"ping\n")
    numbers = [batch.connection for batch in bench.intake.batches]
    assert numbers == [1, 2]
    bench.connections.writers[1].reply(b"pong")
    assert transport.value() == b"pong\n"
    assert other_transport.value() == b""
    connection.connectionLost(GONE)
    assert list(bench.connections.writers) == [2]
    connection.reply(b"late")  # nobody is there


def test_half_closed_connection_waits_for_its_replies(bench: Bench) -> None:
    """`printf 'ping\\n' | nc -N` gets its answer."""
    bench.start(replies=True)
    connection, transport = bench.connect()
    connection.dataReceived(b"ping\n")
    connection.readConnectionLost()
    assert not transport.disconnecting
    [(position, _)] = bench.intake.watches
    assert position == 1
    connection.reply(b"pong")
    bench.intake.deliver()
    assert transport.disconnecting
    assert transport.value() == b"pong\n"
    connection.connectionLost(GONE)


def test_half_closed_connection_that_sent_nothing_is_closed(bench: Bench) -> None:
    bench.start(replies=True)
    connection, transport = bench.connect()
    connection.readConnectionLost()
    assert transport.disconnecting


def test_half_closed_connection_waits_for_held_batches_too(bench: Bench) -> None:
    bench.start(replies=True)
    connection, transport = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"ping\n")
    connection.readConnectionLost()
    assert bench.intake.watches == []
    assert not transport.disconnecting
    bench.intake.room = None
    bench.listener.resume()
    assert len(bench.intake.watches) == 1
    bench.intake.deliver()
    assert transport.disconnecting


def test_wait_for_replies_is_bounded(bench: Bench) -> None:
    """A handler that is stuck does not keep connections of peers that are gone."""
    bench.start({"close_timeout": Duration(30)}, replies=True)
    connection, transport = bench.connect()
    connection.dataReceived(b"ping\n")
    connection.readConnectionLost()
    bench.wait(29)
    assert not transport.aborted
    bench.wait(2)
    assert transport.aborted
    assert bench.counters.closed == {"close_timeout": 1}
    connection.connectionLost(GONE)
    bench.intake.deliver()


def test_unread_replies_close_the_connection(bench: Bench) -> None:
    """A peer that sends and never reads costs a bounded amount of memory."""
    bench.start({"max_unread_replies": Size(100_000)}, replies=True)
    connection, transport = bench.connect()
    transport.producer.pauseProducing()  # its buffer holds 64 KiB
    connection.reply(b"x" * 30_000)
    assert not transport.aborted
    connection.reply(b"x" * 30_000)
    assert transport.aborted
    assert bench.counters.closed == {"unread_replies": 1}
    assert transport.value() == b""


def test_waiting_replies_go_out_in_order_when_the_peer_reads(bench: Bench) -> None:
    bench.start(replies=True)
    connection, transport = bench.connect()
    connection.dataReceived(b"ping\n")
    producer = transport.producer
    connection.reply(b"1")
    producer.pauseProducing()
    connection.reply(b"2")
    connection.reply(b"3")
    connection.readConnectionLost()
    bench.intake.deliver()
    assert not transport.disconnecting
    producer.resumeProducing()
    assert transport.value() == b"1\n2\n3\n"
    assert transport.disconnecting


def test_peer_that_reads_slowly_is_not_overrun(bench: Bench) -> None:
    """Only as much is handed to the transport as it takes."""
    bench.start(replies=True)
    connection, transport = bench.connect()
    producer = transport.producer
    producer.pauseProducing()
    for text in (b"1", b"2", b"3"):
        connection.reply(text)
    write = transport.write

    def write_and_be_full(data: bytes) -> None:
        write(data)
        producer.pauseProducing()

    transport.write = write_and_be_full
    for written in (b"1\n", b"1\n2\n", b"1\n2\n3\n"):
        producer.resumeProducing()
        assert transport.value() == written


def test_connections_are_listed_oldest_first(bench: Bench) -> None:
    bench.start()
    first, _ = bench.connect()
    bench.connect(IPv4Address("TCP", "192.0.2.9", 4))
    first.dataReceived(b"a\nb\n")
    infos = bench.listener.connections()
    assert [(info.peer, info.received, info.bytes) for info in infos] == [
        ("192.0.2.7:51123", 2, 4),
        ("192.0.2.9:4", 0, 0),
    ]


def stopped(bench: Bench) -> Callable[[], bool]:
    """Stops the listener; call the result to know whether it has."""
    fired: list[object] = []
    bench.listener.stopService().addCallback(fired.append)
    return lambda: bool(fired)


def test_stop_keeps_what_was_read(bench: Bench) -> None:
    """A line without its end is kept, marked: it was the server that stopped."""
    bench.start()
    connection, transport = bench.connect()
    connection.dataReceived(b"whole\ntail")
    done = stopped(bench)
    assert bench.intake.frames == [b"whole", b"tail"]
    assert bench.intake.marks == [(), ("truncated",)]
    assert transport.disconnecting
    connection.dataReceived(b" more\n")
    assert bench.intake.frames == [b"whole", b"tail"]
    assert not done()
    connection.connectionLost(GONE)
    assert done()
    assert bench.reactor.getDelayedCalls() == []


class Joining(LinesFramer):
    """As a reassembling framer: two lines are a frame, or one after which two seconds passed."""

    def __init__(self) -> None:
        super().__init__(LinesFramer.Options())
        self._lines: list[bytes] = []
        self._since: float | None = None

    def feed(self, data: bytes) -> list[bytes]:
        self._lines += super().feed(data)
        return self._take() if len(self._lines) > 1 else []

    def expire(self, now: float) -> list[bytes]:
        if self._since is None and self._lines:
            self._since = now
        return self._take() if self._since is not None and now - self._since >= 2 else []

    def finish(self) -> list[bytes]:
        self._lines += super().finish()
        return self._take()

    def _take(self) -> list[bytes]:
        lines, self._lines, self._since = self._lines, [], None
        return [b" ".join(lines)] if lines else []


def test_framer_is_told_the_time(bench: Bench) -> None:
    """What waits for more is a frame when no more comes."""
    bench.start(new_framer=Joining)
    connection, _ = bench.connect()
    connection.dataReceived(b"a\n")
    bench.wait(2)
    assert bench.intake.frames == []
    bench.wait(1)
    assert bench.intake.frames == [b"a"]


def test_stop_marks_only_what_was_cut(bench: Bench) -> None:
    """A frame that merely waited for more is whole."""
    bench.start(new_framer=Joining)
    for data in (b"a\n", b"a\nb"):
        connection, _ = bench.connect()
        connection.dataReceived(data)
    stopped(bench)
    assert bench.intake.frames == [b"a", b"a b"]
    assert bench.intake.marks == [(), ("truncated",)]
    for connection in list(bench.listener._connections):
        connection.connectionLost(GONE)


def test_stop_waits_for_room_for_what_is_held(bench: Bench) -> None:
    bench.start()
    connection, _ = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\n")
    done = stopped(bench)
    connection.connectionLost(GONE)
    assert not done()
    bench.intake.room = None
    bench.listener.resume()
    assert done()
    assert bench.intake.frames == [b"a"]


def test_stop_is_bounded(bench: Bench) -> None:
    """What found no room is counted, a peer that does not read is cut."""
    bench.start({"close_timeout": Duration(5)})
    connection, transport = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\nb\n")
    done = stopped(bench)
    bench.wait(6)
    assert transport.aborted
    assert bench.counters.rejected == {"stopped": 2}
    connection.connectionLost(GONE)
    assert done()
    assert bench.reactor.getDelayedCalls() == []


def test_service_may_give_up_earlier(bench: Bench) -> None:
    """When the intake is closed for good, nothing is to be waited for."""
    bench.start()
    connection, _ = bench.connect()
    bench.intake.room = 0
    connection.dataReceived(b"a\n")
    done = stopped(bench)
    bench.listener.give_up()
    connection.connectionLost(GONE)
    assert done()
    assert bench.counters.rejected == {"stopped": 1}


def test_stop_of_a_quiet_listener_is_immediate(bench: Bench) -> None:
    bench.start()
    assert stopped(bench)()
    assert bench.reactor.getDelayedCalls() == []
