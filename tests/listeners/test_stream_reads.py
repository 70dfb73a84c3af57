"""How much a stream connection reads at a time."""

from __future__ import annotations

from typing import Any

import pytest

from eventserver.counters import ListenerCounters
from eventserver.listeners._connection import StreamConnection
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor
from tests.listeners.stream_bench import Bench

#: What Twisted's transports read at a time.
USUAL = 65536


@pytest.fixture
def bench(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Bench:
    return Bench(reactor, intake, counters)


def connect(bench: Bench, **context: Any) -> tuple[StreamConnection, FakeTransport]:
    bench.start(**{"most_read": 3 * USUAL, **context})
    connection, transport = bench.connect()
    transport.bufferSize = USUAL
    return connection, transport


def full(line: int, size: int = USUAL) -> bytes:
    """A read of so many bytes, of lines of that length."""
    return (b"x" * (line - 1) + b"\n") * (size // line) + b"y" * (size % line)


@pytest.mark.parametrize(("line", "wanted"), [(200, 960), (100, 960), (64, 1024), (16, 4096)])
def test_while_more_is_waiting_a_read_is_to_bring_some_960_frames(bench: Bench, line: int, wanted: int) -> None:
    """But never less than usual."""
    connection, transport = connect(bench)
    connection.dataReceived(full(line))
    assert transport.bufferSize / line == pytest.approx(wanted, rel=0.01)
    connection.dataReceived(full(line, transport.bufferSize))
    assert transport.bufferSize / line == pytest.approx(wanted, rel=0.01)
    assert len(bench.intake.batches[1].frames) == pytest.approx(wanted, rel=0.02)


def test_a_read_that_is_not_full_changes_nothing(bench: Bench) -> None:
    connection, transport = connect(bench)
    connection.dataReceived(full(200, USUAL - 1))
    assert transport.bufferSize == USUAL
    connection.dataReceived(full(200))
    larger = transport.bufferSize
    connection.dataReceived(full(100, larger - 1))
    assert transport.bufferSize == larger > 2 * USUAL


@pytest.mark.parametrize("data", [full(2000), b"x" * USUAL], ids=["long lines", "within a line"])
@pytest.mark.parametrize("most", [2 * USUAL, 1000])
def test_a_read_brings_no_more_than_there_is_room_for(bench: Bench, data: bytes, most: int) -> None:
    connection, transport = connect(bench, most_read=most)
    connection.dataReceived(data)
    assert transport.bufferSize == max(most, USUAL)


def test_lines_that_become_shorter_make_reads_smaller_again(bench: Bench) -> None:
    connection, transport = connect(bench)
    connection.dataReceived(full(200))
    connection.dataReceived(full(100, transport.bufferSize))
    assert transport.bufferSize / 100 == pytest.approx(960, rel=0.01)


def test_where_peers_are_answered_reads_stay_as_they_are(bench: Bench) -> None:
    """The transport's attribute is a bound of what waits to be written, too."""
    connection, transport = connect(bench, replies=True)
    connection.dataReceived(full(200))
    assert transport.bufferSize == USUAL
