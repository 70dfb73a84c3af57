"""Whatever a server does, nothing is called acknowledged that it has not, and nothing is forgotten."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from eventserver.handlers._destinations import Destination
from eventserver.listeners._relp import Messages, Reply, acknowledge
from eventserver.listeners._relp import Session as RelpServer
from eventserver.sending._msgpack import end_of
from eventserver.sending.datagrams import alone
from eventserver.sending.fluent import Fluent
from eventserver.sending.formats import FORMATS, RECORDS
from eventserver.sending.http import Http
from eventserver.sending.load import Load, Pace
from eventserver.sending.lumberjack import Lumberjack
from eventserver.sending.packets import PacketLink
from eventserver.sending.relp import Relp
from eventserver.sending.running import Run
from eventserver.sending.sources import Made
from eventserver.sending.statistics import Statistics
from tests.sending.world import ORIGIN, Wire, World

COUNT = 30


class Server:
    """One connection of a server: what it read, what it could acknowledge, and the bytes that do it."""

    def __init__(self) -> None:
        self.pending: list[tuple[list[str], bytes]] = []

    def read(self, data: bytes) -> bytes:
        """Take bytes; returns what is answered at once."""
        raise NotImplementedError


class Relps(Server):
    def __init__(self) -> None:
        super().__init__()
        self.session = RelpServer(1 << 16, 1 << 16, "s")

    def read(self, data: bytes) -> bytes:
        answer = b""
        for step in self.session.feed(data):
            if isinstance(step, Messages):
                for at, frame in enumerate(step.frames):
                    self.pending.append(([frame.decode()], acknowledge(step.first + at, 1)))
            else:
                assert isinstance(step, Reply)
                answer += step.data
        return answer


class Fluents(Server):
    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def read(self, data: bytes) -> bytes:
        self.data += data
        while (end := end_of(self.data, 0)) > 0:
            [_, blob, option] = msgspec.msgpack.decode(self.data[:end])
            self.data = self.data[end:]
            entries, texts, position = gzip.decompress(blob), [], 0
            while position < len(entries):
                stop = end_of(entries, position)
                texts.append(msgspec.msgpack.decode(entries[position:stop])[1]["message"])
                position = stop
            self.pending.append((texts, msgspec.msgpack.encode({"ack": option["chunk"]})))
        return b""


class Beats(Server):
    def read(self, data: bytes) -> bytes:
        window = int.from_bytes(data[2:6], "big")
        position, number = 6, 0
        while position < len(data):
            length = int.from_bytes(data[position + 6 : position + 10], "big")
            body = data[position + 10 : position + 10 + length]
            position += 10 + length
            number += 1
            self.pending.append(([json.loads(body)["message"]], b"2A" + number.to_bytes(4, "big")))
        assert number == window
        return b""


class Https(Server):
    def read(self, data: bytes) -> bytes:
        if data:
            body = data.partition(b"\r\n\r\n")[2]
            texts = [json.loads(line)["message"] for line in body.splitlines()]
            self.pending.append((texts, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        return b""


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "relp": (Relps, lambda: Relp(8, "x"), FORMATS["text"]),
    "fluent": (Fluents, lambda: Fluent("t", "packed", "gzip", None, None), RECORDS["fluent"]),
    "lumberjack": (Beats, lambda: Lumberjack(2, None), RECORDS["lumberjack"]),
    "http": (Https, lambda: Http("h", "/", "application/x-ndjson", {}, None), FORMATS["json"]),
}
#: What the server does next: acknowledge so many of what waits, or end the connection.
DEEDS = st.lists(st.integers(0, 6) | st.just("end") | st.just("break"), min_size=8, max_size=25)


class Play:
    """A run against a server that does as it is told."""

    def __init__(self, kind: str) -> None:
        self.make, session, format = KINDS[kind]
        self.world = World(session, source=Made(format, ORIGIN, COUNT), batch=4)
        self.servers: dict[Wire, Server] = {}
        self.received: list[str] = []
        self.told: list[str] = []
        self.world.start()
        self.settle()

    def settle(self) -> None:
        """Read all that there is, on the connection that there is."""
        server = self.servers.setdefault(self.world.wire, self.make())
        while data := self.world.wire.said():
            before = len(server.pending)
            answer = server.read(data)
            self.received += [text for texts, _ in server.pending[before:] for text in texts]
            if answer:
                self.world.wire.say(answer)

    def acknowledge(self, count: int) -> None:
        server = self.servers[self.world.wire]
        for _ in range(min(count, len(server.pending))):
            texts, answer = server.pending.pop(0)
            self.told += texts
            self.world.wire.say(answer)
        self.settle()

    def end(self, clean: bool) -> None:
        self.world.wire.end(clean)
        while not self.world.over and self.world.wire in self.servers:
            self.world.clock.advance(0.2)
        self.settle()


def play(kind: str, deeds: list[int | str]) -> None:
    one = Play(kind)
    # A server that never says anything is one that does not speak the protocol.
    one.acknowledge(1)
    for deed in deeds:
        if one.world.over:
            break
        if isinstance(deed, int):
            one.acknowledge(deed)
        elif one.world.statistics.acknowledged < COUNT:
            one.end(clean=deed == "end")
        statistics = one.world.statistics
        assert statistics.acknowledged == len(one.told)
        assert statistics.lost == statistics.taken - statistics.acknowledged
    while not one.world.over and one.world.statistics.acknowledged < COUNT:
        before = one.world.statistics.acknowledged
        one.acknowledge(1000)
        assert one.world.statistics.acknowledged > before, "what was not settled was sent again"
    if one.world.over and one.world.statistics.acknowledged < COUNT:
        # The server ended connections for half a minute without an answer.
        assert "nothing was acknowledged for 30 s" in one.world.statistics.problems
        return
    expected = [f"message {number}" for number in range(COUNT)]
    assert one.told == expected, "each once, in order"
    assert set(one.received) == set(expected)
    statistics = one.world.statistics
    assert (statistics.sent, statistics.resent) == (COUNT, len(one.received) - COUNT)
    assert statistics.latencies.count == COUNT


@settings(max_examples=50)
@given(deeds=DEEDS)
def test_relp(deeds: list[int | str]) -> None:
    play("relp", deeds)


@settings(max_examples=50)
@given(deeds=DEEDS)
def test_fluent(deeds: list[int | str]) -> None:
    play("fluent", deeds)


@settings(max_examples=50)
@given(deeds=DEEDS)
def test_lumberjack(deeds: list[int | str]) -> None:
    play("lumberjack", deeds)


@settings(max_examples=50)
@given(deeds=DEEDS)
def test_http(deeds: list[int | str]) -> None:
    play("http", deeds)


# Datagrams, through a real socket of this machine


def packets(path: Path, count: int, join: int = 0, size: int = 0) -> tuple[Run, PacketLink, Clock, list[None]]:
    clock = Clock()
    source = Made(FORMATS["text"], ORIGIN, count, size=size)
    load = Load(source, Pace(None, 0.0), Statistics(False), batch=50, run="r", clock=clock.seconds, wall=clock.seconds)
    run = Run(load, clock, patience=5)
    link = PacketLink(Destination("unix-datagram", str(path)), alone, load, run, clock, join=join)
    over: list[None] = []
    run.start([link]).addCallback(over.append)
    return run, link, clock, over


def listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    listening.bind(str(path))
    return listening


def drained(listening: socket.socket) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listening.recv(1 << 16))
    return found


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with listen(tmp_path / "s") as listening:
        run, _, clock, over = packets(tmp_path / "s", 2000)
        assert not over, "a reader that does not read is not overrun"
        found: list[bytes] = []
        while not over:
            found += drained(listening)
            clock.advance(0.01)
        found += drained(listening)
    assert found == [b"message %d" % number for number in range(2000)]
    statistics = run.load.statistics
    assert (statistics.sent, statistics.lost, statistics.problems) == (2000, 0, {})
    assert statistics.bytes == sum(map(len, found))


def test_a_reader_that_never_reads_is_given_up(tmp_path: Path) -> None:
    with listen(tmp_path / "s"):
        run, _, clock, over = packets(tmp_path / "s", 2000)
        for _ in range(6):
            clock.advance(1)
    assert over
    assert run.load.statistics.lost > 0
    assert "nothing was taken for 5 s" in run.load.statistics.problems


def test_what_is_too_large_for_a_datagram_is_refused_and_counted(tmp_path: Path) -> None:
    with listen(tmp_path / "s"):
        run, _, _, over = packets(tmp_path / "s", 2, size=4 << 20)
    assert over
    statistics = run.load.statistics
    assert (statistics.refused, statistics.lost) == (2, 2)
    assert "do not fit into a datagram" in next(iter(statistics.problems))


def test_a_reader_that_goes_away_is_told_of(tmp_path: Path) -> None:
    with listen(tmp_path / "s") as listening:
        run, _, clock, over = packets(tmp_path / "s", 1000)
        read = len(drained(listening))
    while not over:
        clock.advance(0.01)
    statistics = run.load.statistics
    assert statistics.lost >= 1000 - read - 300
    assert "nobody listens there" in statistics.problems


def test_events_share_datagrams(tmp_path: Path) -> None:
    with listen(tmp_path / "s") as listening:
        run, _, _, over = packets(tmp_path / "s", 9, join=100)
        found = drained(listening)
    assert over
    assert len(found) == 1
    assert run.load.statistics.sent == 9
