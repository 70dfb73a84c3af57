"""How much a stream connection reads at a time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.framing.lines import LinesFramer
from eventserver.listeners._connection import StreamConnection
from eventserver.options import Size
from tests.conftest import LoggedFailures
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor
from tests.listeners.stream_bench import Bench

#: What Twisted's transports read at a time.
USUAL = 65536


@pytest.fixture
def bench(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Bench:
    return Bench(reactor, intake, counters)


def connect(bench: Bench, **context: Any) -> tuple[StreamConnection, FakeTransport]:
    bench.start(**{"most_read": 12 * USUAL, **context})
    connection, transport = bench.connect()
    transport.bufferSize = USUAL
    return connection, transport


def full(line: int, size: int = USUAL) -> bytes:
    """A read of so many bytes, of lines of that length."""
    return (b"x" * (line - 1) + b"\n") * (size // line) + b"y" * (size % line)


def sizes(bench: Bench) -> list[int]:
    return [len(batch.frames) for batch in bench.intake.batches]


def frames(bench: Bench) -> list[bytes]:
    return [frame for batch in bench.intake.batches for frame in batch.frames]


def read(connection: StreamConnection, transport: FakeTransport, data: bytes) -> None:
    """What a transport does; the reactor's turns come after that."""
    assert transport.reading
    assert len(data) <= transport.bufferSize
    connection.dataReceived(data)


@pytest.mark.parametrize("size", [USUAL, USUAL // 2])
def test_a_busy_peer_is_read_much_at_a_time_which_becomes_several_batches(bench: Bench, size: int) -> None:
    connection, transport = connect(bench)
    read(connection, transport, full(100, size))
    assert transport.bufferSize > 10 * USUAL
    read(connection, transport, full(100, 768_000))
    assert sizes(bench)[1:] == pytest.approx([960] * 8, rel=0.02)
    bench.wait(1)
    assert transport.bufferSize == USUAL


def test_batches_of_one_read_have_its_lines_in_their_order(bench: Bench) -> None:
    connection, transport = connect(bench)
    lines = [b"%d " % number + b"x" * (number % 200) for number in range(6000)]
    read(connection, transport, full(100))
    read(connection, transport, b"\n" + b"\n".join(lines))
    assert len(sizes(bench)) > 7
    connection.dataReceived(b"\n")
    assert frames(bench)[-6000:] == lines


@pytest.mark.parametrize("data", [b"x" * 4 * USUAL + b"\n", b"x\n" + b"x" * 4 * USUAL + b"\nx\n"])
def test_a_frame_longer_than_a_batch_is_one(bench: Bench, data: bytes) -> None:
    connection, _ = connect(bench, new_framer=lambda: LinesFramer(LinesFramer.Options(max_frame=Size(8 * USUAL))))
    connection.dataReceived(data)
    assert b"x" * 4 * USUAL in frames(bench)


def test_a_small_read_changes_nothing(bench: Bench) -> None:
    connection, transport = connect(bench)
    read(connection, transport, full(200, USUAL // 2 - 1))
    assert transport.bufferSize == USUAL
    assert not bench.reactor.getDelayedCalls()[1:]


def test_an_embedded_server_reads_as_usual(bench: Bench) -> None:
    connection, transport = connect(bench, most_read=USUAL)
    for _ in range(3):
        read(connection, transport, full(200))
    assert transport.bufferSize == USUAL
    assert sizes(bench) == [327, 327, 327]


def test_what_follows_a_batch_that_is_refused_waits_or_is_held(bench: Bench) -> None:
    connection, transport = connect(bench)
    read(connection, transport, full(100))
    bench.intake.room = 2
    bench.intake.on_put = lambda: bench.intake.room == 0 and bench.listener.pause()
    data = full(100, 768_000)
    read(connection, transport, data)
    assert not transport.reading
    bench.wait(2)
    assert len(sizes(bench)) == 3
    assert not transport.reading
    bench.intake.room = None
    bench.listener.resume()
    bench.wait(1)
    assert set(map(len, frames(bench)[656:])) == {99}
    assert sum(sizes(bench)) == 655 + 7680
    assert transport.reading


@pytest.mark.parametrize("way", ["leave", "lost", "abort"])
def test_what_was_read_before_the_end_is_taken_in(bench: Bench, way: str) -> None:
    connection, transport = connect(bench)
    read(connection, transport, full(100))
    ways = {
        "leave": connection.leave,
        "lost": lambda: connection.connectionLost(Failure(ConnectionDone())),
        "abort": lambda: connection.abort("unread_replies"),
    }
    bench.intake.meanwhile(ways[way])
    read(connection, transport, full(100, 768_000))
    bench.wait(1)
    assert sum(sizes(bench)) == 655 + 7680
    assert bench.counters.bytes == USUAL + 768_000
    connection.dataReceived(full(100))
    assert sum(sizes(bench)) == 655 + 7680


def test_a_peer_that_waits_for_its_turn_has_not_stopped_sending(bench: Bench) -> None:
    bench.start({"idle_timeout": 5.0, "frame_timeout": 5.0}, most_read=12 * USUAL)
    (one, first), (other, second) = bench.connect(), bench.connect()
    for connection, transport in ((one, first), (other, second)):
        transport.bufferSize = USUAL
        connection.dataReceived(full(70))
    assert not second.reading
    bench.listener.turns.paused = True
    bench.wait(20)
    assert not second.aborted
    assert not second.disconnecting


def test_where_a_peer_was_answered_reads_are_as_usual(bench: Bench) -> None:
    """The transport's attribute is a bound of what waits to be written, too, and that is many replies already."""
    connection, transport = connect(bench, replies=True)
    read(connection, transport, full(200))
    assert transport.bufferSize > 10 * USUAL
    bench.intake.on_put = lambda: connection.reply(b"OK")
    read(connection, transport, full(200, 600_000))
    assert transport.bufferSize == USUAL
    assert len(sizes(bench)) == 2
    bench.wait(1)
    assert sum(sizes(bench)) == 327 + 3000
    assert transport.reading
    read(connection, transport, full(200))
    assert transport.reading


def test_where_a_peer_may_be_answered_batches_are_of_usual_size(bench: Bench) -> None:
    """A reply to each of their lines is much already."""
    connection, transport = connect(bench, replies=True)
    read(connection, transport, full(200))
    read(connection, transport, full(200, 12 * USUAL))
    assert max(sizes(bench)) <= USUAL // 200 + 1


def test_an_endless_line_is_cut_off_whoever_sends_another_one(bench: Bench) -> None:
    bench.start({"frame_timeout": 5.0}, most_read=12 * USUAL)
    peers = [bench.connect() for _ in range(3)]
    for _ in range(8):
        for connection, transport in peers:
            if transport.reading and not transport.aborted:
                connection.dataReceived(b"z" * USUAL)
        bench.wait(1)
    assert all(transport.aborted for _, transport in peers)


def test_what_cannot_be_taken_in_closes_its_connection_and_no_other(
    bench: Bench, logged_failures: LoggedFailures
) -> None:
    (one, first), (other, second) = connect(bench), bench.connect()
    read(one, first, full(100))
    connection_lost = Failure(ConnectionDone())

    def slow() -> None:
        bench.reactor.rightNow += 0.006

    def fail() -> None:
        raise OSError("no more")

    bench.intake.on_put = slow
    read(one, first, full(100, 600_000))
    bench.intake.on_put = fail
    bench.reactor.advance(0)
    assert first.aborted
    assert len(logged_failures(OSError)) == 1
    assert bench.counters.closed == {"failed": 1}
    bench.intake.on_put = lambda: None
    one.connectionLost(connection_lost)
    before = sum(sizes(bench))
    other.dataReceived(full(100))
    bench.wait(1)
    assert sum(sizes(bench)) == before + 655
    assert second.reading
