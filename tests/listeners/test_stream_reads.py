"""How much a stream connection reads at a time."""

from __future__ import annotations

from typing import Any

import pytest

from eventserver.counters import ListenerCounters
from eventserver.framing.lines import LinesFramer
from eventserver.listeners._connection import StreamConnection
from eventserver.options import Size
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor
from tests.listeners.stream_bench import Bench

#: What Twisted's transports read at a time.
USUAL = 65536


@pytest.fixture
def bench(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Bench:
    return Bench(reactor, intake, counters)


#: So many frames a batch is to have, so many bytes at most.
FRAMES, BATCH = 960, 3 * USUAL


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


@pytest.mark.parametrize(("line", "frames"), [(200, FRAMES), (100, FRAMES), (64, 1024), (16, 4096), (2000, 98)])
def test_while_more_is_waiting_reads_are_large_and_become_batches_of_some_960_frames(
    bench: Bench, line: int, frames: int
) -> None:
    """But no more and no smaller batches than reads of the usual size give."""
    connection, transport = connect(bench)
    connection.dataReceived(full(line))
    assert 10 * USUAL < transport.bufferSize <= 12 * USUAL
    connection.dataReceived(full(line, transport.bufferSize))
    assert sizes(bench)[1:] == pytest.approx([frames] * len(sizes(bench)[1:]), rel=0.02)
    assert max(len(b"".join(batch.frames)) for batch in bench.intake.batches) <= BATCH + line


def test_batches_of_one_read_have_whole_lines_in_their_order(bench: Bench) -> None:
    connection, _ = connect(bench)
    lines = [b"%d " % number + b"x" * (number % 200) for number in range(6000)]
    connection.dataReceived(b"\n".join(lines))
    assert len(sizes(bench)) > 8
    connection.dataReceived(b"\n")
    assert [frame for batch in bench.intake.batches for frame in batch.frames] == lines


@pytest.mark.parametrize("data", [b"x" * 4 * USUAL + b"\n", b"x\n" + b"x" * 4 * USUAL + b"\nx\n"])
def test_a_frame_longer_than_a_batch_is_one(bench: Bench, data: bytes) -> None:
    connection, _ = connect(bench, new_framer=lambda: LinesFramer(LinesFramer.Options(max_frame=Size(8 * USUAL))))
    connection.dataReceived(data)
    assert b"x" * 4 * USUAL in [frame for batch in bench.intake.batches for frame in batch.frames]


def test_reads_are_not_so_large_that_other_peers_wait_long(bench: Bench) -> None:
    """Five milliseconds, of many peers less; but a batch at least."""
    connection, transport = connect(bench)
    connection.dataReceived(full(100))
    slow = 0.0

    bench.intake.on_put = lambda: bench.reactor.advance(slow)
    for slow, batches in ((0.001, 5), (0.0024, 2), (0.1, 1), (0, 8)):
        connection.dataReceived(full(100, FRAMES * 100))
        assert transport.bufferSize / (FRAMES * 100) == pytest.approx(batches, rel=0.01)
    slow = 0.0009
    for _ in range(49):
        bench.connect()
    connection.dataReceived(full(100, FRAMES * 100))
    assert transport.bufferSize / (FRAMES * 100) == pytest.approx(2, rel=0.01)


def test_a_small_read_changes_nothing(bench: Bench) -> None:
    connection, transport = connect(bench)
    connection.dataReceived(full(200, USUAL // 2 - 1))
    assert transport.bufferSize == USUAL


@pytest.mark.parametrize("data", [full(2000), b"x" * USUAL], ids=["long lines", "within a line"])
@pytest.mark.parametrize("most", [2 * USUAL, 1000])
def test_a_read_brings_no_more_than_there_is_room_for(bench: Bench, data: bytes, most: int) -> None:
    connection, transport = connect(bench, most_read=most)
    connection.dataReceived(data)
    assert transport.bufferSize == max(most, USUAL)


def test_batches_behind_one_that_is_refused_are_held_with_it(bench: Bench) -> None:
    connection, transport = connect(bench)
    bench.intake.room = 0
    connection.dataReceived(full(100, 4 * FRAMES * 100))
    assert sum(len(batch.frames) for batch in connection.held) == 4 * FRAMES
    assert not transport.reading


def test_where_a_peer_was_answered_reads_are_as_usual(bench: Bench) -> None:
    """The transport's attribute is a bound of what waits to be written, too, and that is many replies already."""
    connection, transport = connect(bench, replies=True)
    connection.dataReceived(full(200))
    assert transport.bufferSize > 10 * USUAL
    connection.reply(b"OK")
    assert transport.bufferSize == USUAL
    connection.dataReceived(full(200))
    assert transport.bufferSize == USUAL
