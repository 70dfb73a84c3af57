"""Busy connections take turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.listeners._turns import MUCH, USUAL, Turns, _cut
from tests.listeners.fakes import MemoryReactor, make_context

MOST = 12 * USUAL


class Transport:
    bufferSize = USUAL


class Peer:
    """A connection that notes what it is given, each part of which takes `seconds`."""

    def __init__(self, name: str, turns: Turns, reactor: MemoryReactor, log: list[tuple[str, bytes]]) -> None:
        self.name, self.turns, self.reactor, self.log = name, turns, reactor, log
        self.transport = Transport()
        self.most_read = self.most_at_once = MOST
        self.pauses = self.fails = self.failed = False
        self.reading = True
        self.seconds = 0.0
        self.line = 100

    def take_in(self, data: bytes) -> int:
        self.log.append((self.name, data))
        self.reactor.rightNow += self.seconds
        self.turns.paused = self.turns.paused or self.pauses
        if self.fails:
            raise OSError("the disk is full")
        if data.startswith(b"end"):
            self.most_read = 0
            self.turns.finish(self)
        return len(data) // self.line

    def pause(self) -> None:
        self.reading = False

    def read_on(self) -> None:
        self.reading = not self.turns.paused

    def fail(self) -> None:
        self.failed = True

    def read(self, data: bytes | None = None) -> None:
        """What the transport does: reads if it may, as much as it may."""
        if self.reading:
            size = self.transport.bufferSize
            data = b"x" * size if data is None else data
            if len(data) >= MUCH or self.turns.current is self:
                self.turns.add(self, data)


class World:
    def __init__(self, reactor: MemoryReactor, counters: ListenerCounters) -> None:
        self.reactor = reactor
        self.turns = Turns(make_context(reactor, counters))
        self.log: list[tuple[str, bytes]] = []

    def peer(self, name: str) -> Peer:
        return Peer(name, self.turns, self.reactor, self.log)

    def turn(self, *peers: Peer) -> str:
        """A turn of the reactor: it reads what can be read, then come its timers. Returns whose parts were taken in."""
        self.log.clear()
        for peer in peers:
            peer.read()
        # Not `advance`, which calls what is due after what it calls, too.
        for call in self.reactor.getDelayedCalls():
            go_on = call.func
            call.cancel()
            go_on()
        return "".join(name for name, _ in self.log)

    def timers(self) -> int:
        return len(self.reactor.getDelayedCalls())


@pytest.fixture
def world(reactor: MemoryReactor, counters: ListenerCounters) -> World:
    return World(reactor, counters)


def test_one_busy_peer_is_read_in_every_turn_and_much_at_a_time(world: World) -> None:
    a = world.peer("a")
    assert world.turn(a) == "a"
    assert a.transport.bufferSize == pytest.approx(8 * 96000, rel=0.001)
    assert [world.turn(a) for _ in range(3)] == ["a" * 8] * 3


def test_busy_peers_are_read_one_after_another(world: World) -> None:
    peers = [world.peer(name) for name in "abc"]
    assert world.turn(*peers) == "abc"
    assert [world.turn(*peers)[:1] for _ in range(7)] == list("bcabcab")
    assert sum(peer.reading for peer in peers) == 1
    assert sum(peer.transport.bufferSize > USUAL for peer in peers) == 1


def test_in_its_turn_a_peer_has_as_many_parts_as_it_can_read(world: World) -> None:
    peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    assert [world.turn(*peers) for _ in range(3)] == ["b" * 8, "a" * 8, "b" * 8]


def test_the_reactor_has_its_turn_every_five_milliseconds(world: World) -> None:
    a = world.peer("a")
    a.seconds = 0.0018
    world.turn(a)
    assert [world.turn(a) for _ in range(3)] == ["aaaaaa", "aa", "aaaaaa"]
    a.seconds = 0.02
    assert world.turn(a) == "a"
    assert not a.reading


def test_what_takes_long_is_taken_in_before_another_has_its_turn(world: World) -> None:
    a, b = peers = [world.peer("a"), world.peer("b")]
    a.seconds = b.seconds = 0.002
    world.turn(*peers)
    assert "".join(world.turn(*peers) for _ in range(8)).startswith("b" * 8 + "a" * 8 + "b" * 8)


def test_who_has_nothing_much_to_read_in_its_turn_is_busy_no_more(world: World) -> None:
    a, b, c = peers = [world.peer(name) for name in "abc"]
    world.turn(*peers)
    assert world.turn(a, c) == ""  # it was the turn of b
    assert b.reading
    assert b.transport.bufferSize == USUAL
    assert [world.turn(a, c)[:1] for _ in range(4)] == list("caca")


def test_when_all_are_quiet_nothing_is_left(world: World) -> None:
    peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    for _ in range(4):
        world.turn()
    assert not world.timers()
    assert all(peer.reading and peer.transport.bufferSize == USUAL for peer in peers)


def test_while_it_is_paused_nothing_is_taken_in(world: World) -> None:
    a, b = peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    a.seconds = b.seconds = 0.02
    assert world.turn(*peers) == "bb"
    world.turns.paused = True
    assert [world.turn(*peers) for _ in range(3)] == [""] * 3
    assert b in world.turns
    assert a in world.turns
    world.turns.go_on()
    assert [world.turn(*peers) for _ in range(7)] == ["b"] * 6 + ["aa"]


def test_what_was_read_before_a_pause_stays(world: World) -> None:
    a = world.peer("a")
    world.turn(a)
    a.pauses = True
    assert world.turn(a) == "a"
    assert not a.reading
    world.turns.go_on()
    assert world.turn() == "a"


def test_who_ends_has_all_taken_in_at_once_and_is_forgotten(world: World) -> None:
    a, b = peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    b.seconds = 0.02
    world.turn(*peers)
    world.log.clear()
    b.most_read = 0
    world.turns.finish(b)
    assert "".join(name for name, _ in world.log) == "b" * 6
    world.turns.finish(a)
    assert a not in world.turns
    assert not world.timers()


def test_who_fails_at_its_end_is_forgotten_all_the_same(world: World) -> None:
    a, b = peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    b.seconds = 0.02
    world.turn(*peers)
    b.fails = True
    with pytest.raises(OSError, match="full"):
        world.turns.finish(b)
    assert b not in world.turns
    assert world.turn() == ""
    assert world.turn(a) == "aaaaaaaa"


def test_who_ends_while_a_part_is_taken_in_has_the_rest_taken_in_before_that_returns(world: World) -> None:
    a, b = world.peer("a"), world.peer("b")
    world.turn(a, b)
    world.turn()
    world.turn()
    a.read(b"end" + b"x" * 300_000)
    assert sum(len(data) for name, data in world.log if name == "a") == 300_003
    assert world.timers() <= 1
    b.read(b"end" + b"x" * MUCH)
    world.turn()
    assert not world.timers()


def test_who_is_answered_has_one_part_a_turn_and_takes_turns_no_more(world: World) -> None:
    """So that replies go out before there are more of them."""
    a = world.peer("a")
    world.turn(a)
    a.read()
    world.turn(a)
    a.most_read = USUAL
    assert world.turn(a) == "a"
    assert a.reading


def test_what_comes_although_it_is_paused_comes_behind_what_waits(world: World) -> None:
    a = world.peer("a")
    world.turn(a)
    a.seconds = 0.02
    a.read()
    for data in (b"late", b"x" * MUCH):
        world.turns.add(a, data)
    a.most_read = USUAL
    world.turns.add(a, b"later")
    taken: list[tuple[str, bytes]] = []
    while a in world.turns:
        world.turn()
        taken += world.log
    assert [data for _, data in taken][-3:] == [b"late", b"x" * MUCH, b"later"]


def test_a_small_read_in_its_turn_is_taken_in_and_ends_it(world: World) -> None:
    a, b = peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    b.read(b"small")
    assert world.log[-1] == ("b", b"small")
    world.turn()
    assert b not in world.turns
    assert b.reading
    assert a.reading


def test_who_fails_is_told_and_the_others_go_on(world: World) -> None:
    """What comes behind the gap is not taken in."""
    a, b = peers = [world.peer("a"), world.peer("b")]
    world.turn(*peers)
    b.seconds = 0.02
    b.read()
    assert b in world.turns
    b.fails = True
    world.turn()
    assert b.failed
    b.fails, b.most_read = False, 0
    world.turns.finish(b)
    assert world.turn() == ""
    assert a.reading


def test_a_failure_while_it_is_read_is_the_transports(world: World) -> None:
    a = world.peer("a")
    world.turn(a)
    a.fails = True
    with pytest.raises(OSError, match="full"):
        a.read()
    assert a not in world.turns
    assert not a.failed


def test_it_can_be_told_when_a_peer_could_be_read_last(world: World) -> None:
    a, b, _ = peers = [world.peer(name) for name in "abc"]
    world.turn(*peers)
    world.reactor.rightNow += 7
    assert [world.turns.waits_since(peer) for peer in peers] == [0, 0, 0]
    world.turn(b)
    assert [world.turns.waits_since(peer) for peer in peers] == [0, 7, 0]
    world.turn()
    assert [world.turns.waits_since(peer) for peer in peers] == [0, 7, None]
    world.turn(a)
    assert world.turns.waits_since(a) == 7


@pytest.mark.parametrize("most", [1000, USUAL])
def test_who_may_read_no_more_than_usual_takes_no_turns(world: World, most: int) -> None:
    peers = [world.peer("a"), world.peer("b")]
    for peer in peers:
        peer.most_read = most
    assert [world.turn(*peers) for _ in range(3)] == ["ab"] * 3
    assert not world.timers()
    assert all(peer.reading and peer.transport.bufferSize == USUAL for peer in peers)


@pytest.mark.parametrize(
    ("line", "part"), [(100, 96000), (200, 192000), (16, USUAL), (4000, 3 * USUAL), (10**6, 3 * USUAL)]
)
def test_a_part_has_some_960_frames_within_limits(world: World, line: int, part: int) -> None:
    a = world.peer("a")
    a.line = line
    world.turn(a)
    world.turn(a)
    assert [len(data) for _, data in world.log] == [pytest.approx(part, rel=0.01)] * (MOST // part)
    assert a.transport.bufferSize == pytest.approx(MOST // part * part, rel=0.01)


@pytest.mark.parametrize("most", [2 * USUAL, 100_000])
def test_a_read_has_no_more_than_it_may(world: World, most: int) -> None:
    a = world.peer("a")
    a.most_read, a.line = most, 10_000
    world.turn(a)
    assert a.transport.bufferSize == most


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=60), st.integers(1, 400))
def test_parts_are_the_data_and_end_behind_a_line_where_there_is_one(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    parts = list(_cut(data, size))
    assert b"".join(parts) == data
    assert len(parts) == max(1, -(-len(data) // size))
    assert all(part.endswith(b"\n") or b"\n" not in part for part in parts[:-1])
