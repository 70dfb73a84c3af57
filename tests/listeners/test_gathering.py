"""Many connections are read together: what the group does, and that listeners notice nothing of it."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from eventserver.counters import ListenerCounters
from eventserver.listeners import _gathering
from eventserver.listeners._gathering import MANY, PAUSE, SMALL, SOON, Gathering, Group
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.fakes import FakeIntake, make_context

#: Three quarters of them are read in the group.
CONNECTIONS = 4 * MANY


class FakeReactor(Clock):
    """Knows its readers, and how one of them is disconnected."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    removeWriter = removeReader

    def _disconnectSelectable(self, reader: Any, why: Any, is_read: bool) -> None:
        reader.connectionLost(Failure(why))


class Recorder(Protocol):
    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None
        self.then: Callable[[], Any] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self.then()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@pytest.fixture
def reactor() -> FakeReactor:
    return FakeReactor()


@pytest.fixture
def gathering(reactor: FakeReactor) -> Gathering:
    return Gathering(reactor)


@pytest.fixture
def connect(gathering: Gathering) -> Iterator[Callable[[], tuple[tcp.Connection, socket.socket]]]:
    made: list[tuple[tcp.Connection, socket.socket]] = []

    def connect() -> tuple[tcp.Connection, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = tcp.Connection(ours, Recorder(), gathering)
        connection.seen = connection.protocol  # it loses that one when it is lost
        connection.connected = True
        connection.startReading()
        made.append((connection, theirs))
        return made[-1]

    yield connect
    for connection, theirs in made:
        if connection.connected:
            connection.connectionLost(Failure(ConnectionDone()))
        theirs.close()


def group_of(reactor: FakeReactor) -> Group:
    [group] = [reader for reader in reactor.readers if isinstance(reader, Group)]
    return group


@pytest.fixture
def crowd(reactor: FakeReactor, connect: Any) -> list[tuple[tcp.Connection, socket.socket]]:
    """As many connections in the group as it takes to wait for more of them."""
    for _ in range(MANY):
        connect()
    return [connect() for _ in range(MANY)]


def test_the_first_ones_are_the_reactors_own(reactor: FakeReactor, connect: Any) -> None:
    first = [connect()[0] for _ in range(MANY)]
    assert reactor.readers == set(first)
    connect()
    assert len(group_of(reactor).readers) == 1
    # One that pauses and reads on stays what it was, or becomes what there is room for.
    first[0].stopReading()
    first[0].startReading()
    assert set(first) < reactor.readers


def test_the_group_goes_with_its_last_connection(reactor: FakeReactor, connect: Any) -> None:
    for _ in range(MANY):
        connect()
    connection, theirs = connect()
    group = group_of(reactor)
    theirs.close()
    group.doRead()
    assert connection.seen.lost.type is ConnectionDone
    assert group not in reactor.readers
    assert group.fileno() == -1
    assert not reactor.getDelayedCalls()
    connect()
    assert group_of(reactor) is not group


def test_lines_that_come_fast_one_by_one_are_waited_for(reactor: FakeReactor, crowd: Any) -> None:
    group = group_of(reactor)
    reactor.advance(1)
    crowd[0][1].send(b"a")
    group.doRead()
    assert crowd[0][0].seen.got == b"a"
    assert group in reactor.readers, "the first after a silence makes nobody wait"
    reactor.advance(SOON / 2)
    crowd[1][1].send(b"b")
    group.doRead()
    assert crowd[1][0].seen.got == b"b"
    assert group not in reactor.readers
    for round in range(3):
        for _, theirs in crowd[:5]:
            theirs.send(b"%d" % round)
        reactor.advance(PAUSE)
        assert all(connection.seen.got.endswith(b"%d" % round) for connection, _ in crowd[:5])
        assert group not in reactor.readers
    reactor.advance(PAUSE)
    assert group in reactor.readers, "nothing came meanwhile"
    assert not reactor.getDelayedCalls()


def test_many_at_once_and_slow_ones_are_not_waited_for(reactor: FakeReactor, crowd: Any) -> None:
    assert len(crowd) >= SMALL
    group = group_of(reactor)
    for _ in range(3):
        for _connection, theirs in crowd:
            theirs.send(b"a")
        group.doRead()
        assert group in reactor.readers
    for _ in range(3):
        reactor.advance(2 * SOON)
        crowd[0][1].send(b"a")
        group.doRead()
        assert group in reactor.readers


def test_one_that_raises_ends_and_the_others_go_on(
    reactor: FakeReactor, crowd: Any, logged_failures: Callable[..., list[Failure]]
) -> None:
    def bug() -> None:
        raise ValueError("a bug")

    crowd[0][0].seen.then = bug
    for _, theirs in crowd:
        theirs.send(b"a")
    group_of(reactor).doRead()
    assert crowd[0][0].seen.lost.type is ValueError
    assert all(connection.seen.got == b"a" for connection, _ in crowd)
    assert all(connection.seen.lost is None for connection, _ in crowd[1:])
    assert len(logged_failures(ValueError)) == 1


def test_one_that_another_closes_is_not_read(reactor: FakeReactor, crowd: Any) -> None:
    def close_all() -> None:
        for connection, _ in crowd:
            if connection.connected:
                connection.connectionLost(Failure(ConnectionDone()))

    for connection, theirs in crowd:
        connection.seen.then = close_all
        theirs.send(b"a")
    group_of(reactor).doRead()
    assert sum(connection.seen.got == b"a" for connection, _ in crowd) == 1
    assert not any(isinstance(reader, Group) for reader in reactor.readers)
    assert not reactor.getDelayedCalls()


@pytest.mark.reactors
@pytest_twisted.ensureDeferred
async def test_a_listener_with_many_peers(intake: FakeIntake, counters: ListenerCounters) -> None:
    from twisted.internet import reactor

    made = StreamListener.Options(endpoints=("tcp:0:interface=127.0.0.1",), close_timeout=Duration(2))
    listener = StreamListener(made, make_context(reactor, counters, intake=intake))
    await listener.listen()
    listener.startService()
    port = int(listener.addresses()[0].rpartition(":")[2])

    async def until(condition: Callable[[], object]) -> None:
        end = reactor.seconds() + 60
        while not condition():
            assert reactor.seconds() < end
            await deferLater(reactor, 0.001)

    peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    await until(lambda: len(listener.connections()) == CONNECTIONS)
    for round in range(3):
        for number, peer in enumerate(peers):
            peer.send(b"%d %d\n" % (round, number))
        await until(lambda expected=(round + 1) * CONNECTIONS: len(intake.frames) == expected)
    # While nothing is read, nothing is; and all of it afterwards.
    listener.pause()
    for peer in peers:
        peer.send(b"later\nunterminated")
    await deferLater(reactor, 4 * PAUSE)
    assert len(intake.frames) == 3 * CONNECTIONS
    listener.resume()
    await until(lambda: len(intake.frames) == 4 * CONNECTIONS)
    # The end of a stream is noticed, half closed or reset.
    for number, peer in enumerate(peers):
        if number % 2:
            peer.shutdown(socket.SHUT_WR)
        peer.close()
    await until(lambda: not listener.connections())
    assert intake.frames.count(b"later") == intake.frames.count(b"unterminated") == CONNECTIONS
    await listener.stopService()
    gc.collect()
    assert not any(isinstance(reader, Group) for reader in reactor.getReaders())


def test_where_there_is_no_epoll_nothing_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_gathering.select, "epoll")
    reactor = FakeReactor()
    port = tcp.Port(0, None, reactor=reactor)
    _gathering.gather(port, reactor)
    assert port.reactor is reactor
