"""Runs: what is sent when, what becomes of it when connections break, and what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.cli._send_report import as_object, progress, report
from eventserver.listeners._relp import acknowledge
from eventserver.sending.formats import FORMATS
from eventserver.sending.http import Http
from eventserver.sending.load import Pace
from eventserver.sending.packets import _groups
from eventserver.sending.plain import Pickles, Plain
from eventserver.sending.relp import Relp
from eventserver.sending.sources import Lines
from eventserver.sending.statistics import PERCENTILES, Latencies, Statistics
from tests.relp_client import cut
from tests.sending.world import ORIGIN, Wire, World

OPENED = b"1 rsp 6 200 OK\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def relp(window: int = 100) -> Relp:
    return Relp(window, "x")


def plain() -> Plain:
    return Plain(lambda payload: payload + b"\n")


def http() -> Http:
    return Http("h", "/", "application/x-ndjson", {}, None)


def messages(wire: Wire) -> list[bytes]:
    """The data of the syslog commands that a client sent."""
    frames, rest = cut(wire.said())
    assert rest == b""
    return [data for _, command, data in frames if command == "syslog"]


def texts(first: int, end: int) -> list[bytes]:
    return [b"message %d" % number for number in range(first, end)]


# With acknowledgements


def test_all_is_sent_acknowledged_and_the_session_is_closed() -> None:
    world = World(relp)
    wire = world.start()
    assert wire.said().startswith(b"1 open ")
    wire.say(OPENED)
    assert messages(wire) == texts(0, 10)
    world.clock.advance(0.25)
    wire.say(acknowledge(2, 9))
    assert not wire.said()
    wire.say(acknowledge(11, 1))
    assert wire.said() == b"12 close 0\n"
    wire.say(b"12 rsp 0\n0 serverclose 0\n")
    assert wire.closing
    assert not world.over
    wire.end()
    assert world.over
    statistics = world.statistics
    assert (statistics.sent, statistics.acknowledged, statistics.lost, statistics.resent) == (10, 10, 0, 0)
    assert statistics.seconds == 0.25
    assert statistics.latencies.percentile(50) == pytest.approx(0.25, rel=0.02)
    assert statistics.problems == {}
    assert not world.clock.getDelayedCalls()


def test_only_a_window_is_on_its_way() -> None:
    world = World(lambda: relp(3), batch=3)
    wire = world.start()
    wire.say(OPENED)
    assert messages(wire) == texts(0, 3)
    wire.say(acknowledge(2, 1))
    assert messages(wire) == texts(3, 4)
    wire.say(acknowledge(3, 3))
    assert messages(wire) == texts(4, 7)


def test_what_was_not_acknowledged_is_sent_again_on_the_next_connection() -> None:
    world = World(relp)
    wire = world.start()
    wire.say(OPENED)
    wire.say(acknowledge(2, 5))
    assert messages(wire) == texts(0, 10)
    wire.end(clean=False)
    assert len(world.net.wires) == 1, "not at once"
    world.clock.advance(0.1)
    wire = world.wire
    wire.say(OPENED)
    assert messages(wire) == texts(5, 10)
    wire.say(acknowledge(2, 5))
    assert (world.statistics.resent, world.statistics.acknowledged, world.statistics.lost) == (5, 10, 0)


def test_a_server_that_is_away_is_tried_again_and_again_more_slowly() -> None:
    world = World(relp)
    wire = world.start()
    wire.say(OPENED)
    wire.end()
    world.net.up = False
    for _ in range(20):
        world.clock.advance(1)
    assert 6 <= world.net.attempts <= 12
    assert not world.over
    world.net.up = True
    for _ in range(20):
        world.clock.advance(0.25)
    world.wire.say(OPENED)
    assert messages(world.wire) == texts(0, 10)


def test_it_is_given_up_when_nothing_moves() -> None:
    world = World(relp)
    wire = world.start()
    wire.say(OPENED)
    wire.say(acknowledge(2, 1))
    for _ in range(31):
        assert not world.over
        world.clock.advance(1)
    assert world.over
    assert wire.aborted
    assert (world.statistics.acknowledged, world.statistics.lost) == (1, 9)
    assert "nothing was acknowledged for 30 s" in world.statistics.problems
    wire.end(clean=False)
    assert not world.clock.getDelayedCalls()


def test_it_is_given_up_too_when_the_server_is_away_and_all_that_was_sent_is_settled() -> None:
    """What is due waits all the same."""
    world = World(relp, count=100_000, rate=1.0)
    wire = world.start()
    wire.say(OPENED)
    wire.say(acknowledge(2, 1))
    world.net.up = False
    wire.end()
    for _ in range(35):
        world.clock.advance(1)
    assert world.over
    assert world.run.gave_up
    assert (world.statistics.acknowledged, world.statistics.lost) == (1, 99_999), "what was never sent is lost, too"


def test_a_quiet_input_is_no_reason_to_give_up() -> None:
    source = Lines(FORMATS["text"], ORIGIN, None, lambda: None)
    world = World(relp, source=source)
    wire = world.start()
    wire.say(OPENED)
    for _ in range(100):
        world.clock.advance(1)
    assert not world.over
    source.feed(b"late\n")
    world.run.pump()
    assert messages(wire) == [b"late"]
    source.feed(b"")
    wire.say(acknowledge(2, 1))
    assert wire.said() == b"3 close 0\n"


def test_a_first_connection_that_fails_ends_it() -> None:
    world = World(relp)
    world.start(up=False)
    assert world.over
    assert "cannot connect" in world.run.failure
    assert world.statistics.lost == 10
    assert not world.clock.getDelayedCalls()


def test_a_server_that_speaks_something_else_ends_it() -> None:
    world = World(relp)
    wire = world.start()
    wire.say(b"220 mail.example ESMTP, which is no RELP, whatever else it may be\r\n")
    assert world.over
    assert "does not speak this protocol" in world.run.failure
    wire.end(clean=False)


def test_a_server_that_closes_without_a_word_ends_it_after_some_attempts() -> None:
    world = World(http)
    world.start()
    for _ in range(8):
        world.wire.end()
        world.clock.advance(5)
        if world.over:
            break
    assert "closes connections without an answer" in world.run.failure
    assert 2 <= len(world.net.wires) <= 5


def test_a_message_that_the_server_refuses_is_lost_and_the_others_are_not() -> None:
    world = World(relp, count=3)
    wire = world.start()
    wire.say(OPENED)
    wire.say(b"2 rsp 6 200 OK\n3 rsp 7 500 bad\n4 rsp 6 200 OK\n")
    assert (world.statistics.acknowledged, world.statistics.refused, world.statistics.lost) == (2, 1, 1)
    assert world.statistics.problems == {"500 bad": 1}


def test_a_server_that_asks_for_time_gets_it_and_the_same_request_again() -> None:
    world = World(http, count=3)
    wire = world.start()
    first = wire.said()
    wire.say(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    world.clock.advance(6.9)
    assert wire.said() == b""
    world.clock.advance(0.2)
    assert wire.said() == first
    wire.say(OK)
    assert (world.statistics.acknowledged, world.statistics.resent) == (3, 3)


def test_a_server_that_only_asks_for_time_is_given_up() -> None:
    world = World(http, count=3)
    world.start()
    for _ in range(40):
        if world.wire.said():
            world.wire.say(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
        world.clock.pump([0.25] * 4)
    assert world.over
    assert world.run.gave_up
    assert world.statistics.lost == 3


def test_a_server_that_opens_sessions_and_acknowledges_nothing_is_given_up() -> None:
    world = World(relp, count=3)
    world.start()
    for _ in range(200):
        if world.over:
            break
        world.wire.say(OPENED)
        world.wire.end()
        world.clock.pump([0.25] * 24)
    assert world.over
    assert world.run.gave_up


def test_a_connection_that_is_closed_after_each_response_is_made_again_at_once() -> None:
    world = World(http, count=8)
    wire = world.start()
    for _ in range(2):
        assert world.wire.said().startswith(b"POST")
        world.wire.say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        world.wire.end()
        world.clock.advance(0)
    assert world.over
    assert len(world.net.wires) == 2
    assert world.statistics.acknowledged == 8
    assert wire is not world.wire


def test_more_acknowledged_than_sent_is_a_bad_answer() -> None:
    world = World(relp, count=1)
    wire = world.start()
    wire.say(OPENED)
    wire.say(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n")
    wire.end(clean=False)
    assert world.statistics.acknowledged == 1


def test_connections_share_the_work() -> None:
    world = World(lambda: relp(4), count=8, links=2)
    world.start()
    for wire in world.net.wires:
        wire.say(OPENED)
    assert [messages(wire) for wire in world.net.wires] == [texts(0, 4), texts(4, 8)]


# Without


def test_what_the_system_has_taken_is_sent_and_a_server_that_read_all_closes() -> None:
    world = World(plain)
    wire = world.start()
    assert wire.said() == b"\n".join(texts(0, 8)) + b"\n", "two parcels at a time"
    assert wire.said() == b"\n".join(texts(8, 10)) + b"\n"
    assert wire.half_closed
    wire.say(b"whatever it answers")
    world.clock.advance(2)
    wire.end()
    assert world.over
    assert world.statistics.seconds == 2, "until the server has read it all"
    assert (world.statistics.sent, world.statistics.lost, world.statistics.cut) == (10, 0, 0)
    assert world.statistics.bytes == 10 * len("message 0\n")


def test_a_connection_that_ends_early_is_told_of_and_what_was_not_taken_is_sent_again() -> None:
    world = World(plain)
    wire = world.start()
    wire.end()
    world.clock.advance(0.1)
    assert world.wire.said() + world.wire.said() == b"\n".join(texts(0, 10)) + b"\n"
    world.wire.end(clean=False)
    assert (world.statistics.sent, world.statistics.cut) == (10, 2)
    assert "what the server had not read of it is lost" in next(iter(world.statistics.problems))


def test_a_server_that_does_not_close_is_not_waited_for_long() -> None:
    world = World(plain, count=1)
    wire = world.start()
    wire.said()
    world.clock.advance(5)
    assert wire.closing
    assert not wire.aborted, "what the system still has must go out"
    wire.end()
    assert world.statistics.seconds == 0, "that it did not close says nothing of how long it took"
    assert world.statistics.cut == 0
    assert "did not close its side within 5 s" in next(iter(world.statistics.problems))


def test_what_cannot_be_carried_is_refused_alone() -> None:
    source = Lines(FORMATS["text"], ORIGIN, None, lambda: None)
    source.feed(b"a 1 1\nnone\nb 2 2\n")
    source.feed(b"")
    world = World(Pickles, source=source)
    wire = world.start()
    for _ in range(3):
        wire.said()
    assert wire.half_closed
    assert (world.statistics.taken, world.statistics.sent, world.statistics.refused, world.statistics.lost) == (
        3,
        3,
        1,
        1,
    )
    wire.end()


# Rates, and ends


@pytest.mark.parametrize("rate", [7.0, 1000.0, 1234.5])
def test_a_rate_is_kept_to_the_event(rate: float) -> None:
    world = World(plain, count=None, rate=rate, batch=1000)
    wire = world.start()
    for tick in range(1, 1001):
        world.clock.advance(0.002)
        wire.said()
        expected = int(rate * 0.002 * tick + 1e-6) + 1
        assert expected - 3 <= world.statistics.taken <= expected + 1
    world.run.interrupt()
    wire.end()
    assert world.over


def test_a_rate_is_not_made_up_for_after_a_quiet_time() -> None:
    source = Lines(FORMATS["text"], ORIGIN, None, lambda: None)
    world = World(plain, source=source, rate=10.0)
    wire = world.start()
    for _ in range(10):
        world.clock.advance(1)
        world.run.pump()
    source.feed(b"x\n" * 50)
    world.run.pump()
    wire.said()
    assert world.statistics.taken <= 2
    world.run.interrupt()
    wire.end()


def test_events_that_had_to_wait_for_the_server_are_late_since_they_were_due() -> None:
    """A server that stops for two seconds must not look good because nothing was sent meanwhile."""
    world = World(lambda: relp(1), count=3, rate=10.0, batch=1)
    wire = world.start()
    wire.say(OPENED)
    for _ in range(20):
        world.clock.advance(0.1)
    wire.say(acknowledge(2, 1))
    wire.say(acknowledge(3, 1))
    wire.say(acknowledge(4, 1))
    assert world.statistics.latencies.count == 3
    assert world.statistics.latencies.percentile(1) > 1.7


def test_events_that_wait_together_are_each_late_since_their_own_time() -> None:
    world = World(lambda: relp(1000), count=11, rate=10.0, batch=100)
    wire = world.start()
    world.clock.pump([0.1] * 11)
    wire.say(OPENED)  # a second late, for the first of them
    assert len(messages(wire)) == 11
    for number in range(2, 13):
        wire.say(acknowledge(number, 1))
    latencies = world.statistics.latencies
    assert (latencies.count, latencies.largest) == (11, pytest.approx(1.1))
    assert latencies.percentile(50) == pytest.approx(0.6, rel=0.02)
    assert latencies.percentile(1) == pytest.approx(0.1, rel=0.02)


def test_the_time_before_the_start_is_not_made_up_for() -> None:
    world = World(plain, count=None, rate=10.0)
    world.clock.advance(3)
    world.start()
    assert world.statistics.taken == 1


def test_ctrl_c_takes_no_more_and_waits_for_what_was_sent_and_a_second_one_does_not() -> None:
    world = World(relp, count=None, batch=4, rate=1000)
    wire = world.start()
    wire.say(OPENED)
    world.clock.advance(0.01)
    sent = len(messages(wire))
    world.run.interrupt()
    world.clock.advance(1)
    assert messages(wire) == []
    assert not world.over
    world.run.interrupt()
    assert world.over
    assert world.statistics.lost == sent
    wire.end(clean=False)
    assert not world.clock.getDelayedCalls()


def test_a_duration_ends_it() -> None:
    world = World(plain, count=None, rate=10, duration=1.05)
    wire = world.start()
    for _ in range(120):
        world.clock.advance(0.01)
        wire.said()
    assert wire.half_closed
    assert world.statistics.sent == 11
    wire.end()


def test_pace() -> None:
    pace = Pace(10.0, 100.0)
    assert [pace.allowed(now, 0) for now in (99.0, 100.0, 100.05, 100.1, 101.0)] == [0, 1, 1, 2, 11]
    assert pace.due(3) == 100.3
    assert Pace(None, 0.0).allowed(0.0, 10**6) > 10**6


@given(sizes=st.lists(st.integers(0, 30), max_size=30), join=st.integers(1, 40))
def test_payloads_share_datagrams_of_at_most_so_many_bytes(sizes: list[int], join: int) -> None:
    payloads = [b"x" * size for size in sizes]
    groups = _groups(payloads, join)
    assert [payload for group in groups for payload in group] == payloads
    assert all(len(b"\n".join(group)) <= join or len(group) == 1 for group in groups)
    assert _groups(payloads, 0) == [[payload] for payload in payloads]


# What is shown


@given(times=st.lists(st.floats(0, 1e4), min_size=1, max_size=200), percent=st.sampled_from(PERCENTILES))
def test_percentiles_are_right_to_one_percent(times: list[float], percent: float) -> None:
    latencies = Latencies()
    for one in times:
        latencies.add(one)
    rank = -int(-len(times) * percent // 100)
    exact = sorted(times)[rank - 1]
    assert exact / 1.011 - 2e-6 <= latencies.percentile(percent) <= exact * 1.011 + 2e-6
    assert latencies.largest == max(times)


def statistics(acknowledges: bool = True) -> Statistics:
    found = Statistics(acknowledges, taken=10, sent=10, acknowledged=7 if acknowledges else 0, refused=1, resent=2)
    found.ended = 2.0
    if acknowledges:
        found.latencies.add(0.0123, 7)
    found.trouble("500 no\x1b[31m")
    found.trouble("500 no\x1b[31m")
    return found


def test_the_report() -> None:
    assert report(statistics()) == (
        "sent          10 (and 2 of them again)\nacknowledged  7\nlost          3 (1 refused)\n"
        "time          2 s, 4 events/s\n"
        "latency       50% 12.3 ms, 90% 12.3 ms, 99% 12.3 ms, 99.9% 12.3 ms, max 12.3 ms\n"
        "problem       500 no\\x1b[31m (2 times)\n"
    )
    assert "acknowledged  - (the protocol has none)\nlost          1\n" in report(statistics(False))
    assert as_object(statistics())["latency"] == {
        "p50": 0.0123,
        "p90": 0.0123,
        "p99": 0.0123,
        "p99.9": 0.0123,
        "max": 0.0123,
    }
    assert as_object(statistics(False))["acknowledged"] is None


def test_the_bar() -> None:
    line = progress(statistics(), 10, 2.0, 100)
    assert line == "[################........]  70% 7/10  4/s  3 unacknowledged  50% 12.3 ms"
    assert len(progress(statistics(), 10, 2.0, 30)) == 29
    assert progress(statistics(False), None, 0.0, 100) == "10 sent  0/s"


def test_problems_are_bounded() -> None:
    found = Statistics(True)
    for number in range(1000):
        found.trouble(f"problem {number}")
    assert len(found.problems) == Statistics.MAX_PROBLEMS
