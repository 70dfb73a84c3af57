"""The HTTP listener: what is taken, how it is cut into frames, and when it is acknowledged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from eventserver.interfaces import ListenerContext
from eventserver.listeners.http import HttpListener
from eventserver.testing.listeners import ListenerConformance, Setting
from tests.listeners.fakes import FakeTransport
from tests.listeners.httpworld import World, chunked, request

NDJSON = "application/x-ndjson"


class TestHttpListener(ListenerConformance):
    """The contract of every listener."""

    def make(self, context: ListenerContext) -> Any:
        return HttpListener(HttpListener.Options(endpoints=("tcp:8080",)), context)

    def send(self, setting: Setting, frames: list[bytes]) -> None:
        address = IPv4Address("TCP", "192.0.2.1", 1)
        protocol = setting.reactor.tcpServers[-1][1].buildProtocol(address)
        protocol.makeConnection(FakeTransport(peerAddress=address))
        protocol.dataReceived(request(b"\n".join(frames) + b"\n", content_type=NDJSON))
        protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    assert world.counters.balanced(), world.counters
    assert world.listener.budget.used == 0


# What is taken


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/octet-stream", "(none)"])
def test_a_body_of_any_type_is_one_frame(world: World, content_type: str) -> None:
    answer = world.asks(b"line 1\nline 2\xff", content_type=content_type)
    assert (answer.status, answer.json) == (200, {"accepted": 1, "duplicates": 0})
    assert world.frames == [b"line 1\nline 2\xff"]


def test_a_batch_says_where_it_came_from(world: World) -> None:
    world.asks(b"x", path="/github?token=secret")
    [batch] = world.intake.batches
    assert batch.context == {"labels": {"site": "hq"}, "path": "/github"}
    assert (batch.listener, batch.decoder, batch.peers) == ("test", "text", ("192.0.2.1:51123",))


def test_the_path_of_a_proxys_request(world: World) -> None:
    world.peer().send(request(b"x", path="http://events.example/a/b?c"))
    assert world.intake.batches[0].context["path"] == "/a/b"


@pytest.mark.parametrize("content_type", [NDJSON, "application/ndjson; charset=utf-8", "Application/JSONL"])
def test_lines_are_frames_and_blank_ones_are_none(world: World, content_type: str) -> None:
    answer = world.asks(b'{"a": 1}\r\n\n  \n{"b":\t2}\nlast', content_type=content_type)
    assert answer.json == {"accepted": 3, "duplicates": 0}
    assert world.frames == [b'{"a": 1}', b'{"b":\t2}', b"last"]
    assert len(world.intake.batches) == 1


def test_no_lines_are_no_events(world: World) -> None:
    assert world.asks(b"\n\n", content_type=NDJSON).json == {"accepted": 0, "duplicates": 0}
    assert world.intake.batches == []


def test_the_elements_of_an_array_are_frames_byte_for_byte(world: World) -> None:
    body = b' [ {"n" : 1.0e0, "n": 2},"text" ,\n[1, 2], null ]\n'
    assert world.asks(body, content_type="application/json").json["accepted"] == 4
    assert world.frames == [b'{"n" : 1.0e0, "n": 2}', b'"text"', b"[1, 2]", b"null"]


def test_an_object_is_one_frame_whatever_is_in_it(world: World) -> None:
    world.asks(b'{"broken": ', content_type="application/json")
    assert world.frames == [b'{"broken": ']


@pytest.mark.parametrize("body", [b"[1, 2", b"[1,]", b"[1] 2", b"[" * 5000, b'["\xff"', b"[nope]"])
def test_an_array_that_is_none_is_refused_with_the_reason(world: World, body: bytes) -> None:
    answer = world.asks(body, content_type="application/json")
    assert answer.status == 400
    assert "no array in JSON" in answer.json["error"]
    assert world.counters.rejected == {"malformed": 1}


def test_an_empty_body_is_refused(world: World) -> None:
    assert world.asks(b"").status == 400
    assert world.asks(b"", content_length="(none)").status == 400


def test_bodies_in_chunks(world: World) -> None:
    peer = world.peer()
    data = request(content_length="(none)", transfer_encoding="chunked") + chunked(b"ab", b"c" * 20)
    for at in range(len(data)):
        peer.send(data[at : at + 1])
    assert peer.answer().status == 200
    assert world.frames == [b"ab" + b"c" * 20]


def test_requests_may_come_one_behind_the_other(world: World) -> None:
    """Also all at once: they are answered in order."""
    peer = world.peer()
    peer.send(b"".join(request(b"%d" % number) for number in range(500)))
    assert [answer.status for answer in peer.answers()] == [200] * 500
    assert world.frames == [b"%d" % number for number in range(500)]
    assert not peer.closed


def test_requests_wait_for_the_one_before(world: World) -> None:
    world.intake.ack_now = False
    peer = world.peer()
    peer.send(request(b"1") + request(b"2"))
    assert (peer.answers(), world.frames) == ([], [b"1"])
    world.intake.deliver()
    assert (peer.answer().status, world.frames) == (200, [b"1", b"2"])
    world.intake.deliver()
    assert peer.answer().status == 200


# When it is acknowledged


@pytest.mark.parametrize("level", ["durable", "delivered"])
def test_200_comes_when_it_is_acknowledged(level: str) -> None:
    world = World({"ack": level})
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    assert peer.answers() == []
    assert world.intake.levels == [level]
    assert world.counters.acknowledged == 0
    world.intake.deliver()
    assert peer.answer().status == 200
    assert world.counters.acknowledged == 1


def test_memory_waits_for_nothing() -> None:
    world = World({"ack": "memory"})
    assert world.asks(b"x").status == 200
    assert world.intake.levels == []


def test_what_is_not_acknowledged_in_time_is_answered_503() -> None:
    """It is stored, so it counts as journaled; and what comes too late is not answered twice."""
    world = World({"ack_timeout": 7.0})
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    world.reactor.pump([1] * 6)
    assert peer.answers() == []
    world.reactor.advance(1)
    answer = peer.answer()
    assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "5", "close")
    assert world.counters.closed == {"ack_timeout": 1}
    assert (world.counters.journaled, world.counters.balanced()) == (1, True)
    world.intake.deliver()
    assert peer.answers() == []


def test_what_never_will_be_acknowledged_is_answered_503(world: World) -> None:
    world.intake.failure = Failure(RuntimeError("the handler gave it up"))
    answer = world.asks(b"x")
    assert answer.status == 503
    assert "the handler gave it up" in answer.json["error"]


def test_an_intake_without_room_is_answered_503(world: World) -> None:
    world.intake.room = 0
    peer = world.peer()
    answer = peer.asks(b"1\n2\n", content_type=NDJSON)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert world.counters.rejected == {"full": 2}
    world.intake.room = None
    assert peer.asks(b"1\n2\n", content_type=NDJSON).status == 200


def test_a_peer_that_goes_away_disturbs_nobody(world: World) -> None:
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    peer.lose()
    world.intake.deliver()
    half = world.peer()
    half.send(request(b"xyz")[:-1])
    half.lose()
    assert world.counters.rejected == {"incomplete": 1}
    assert world.listener.connections() == []


def test_a_peer_that_has_sent_all_is_still_answered(world: World) -> None:
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    peer.protocol.readConnectionLost()
    assert not peer.closed
    world.intake.deliver()
    assert peer.answer().headers["connection"] == "close"
    assert peer.closed


# No room, and the end


def test_a_short_lack_of_room_holds_senders_up_and_a_long_one_is_answered_503(world: World) -> None:
    peer = world.peer()
    world.listener.pause()
    assert not peer.transport.reading
    world.reactor.pump([1] * 4)
    assert not peer.transport.reading
    world.reactor.pump([1] * 2)
    assert peer.transport.reading
    answer = peer.asks(b"x")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert world.counters.rejected == {"full": 1}
    world.listener.pause()
    assert peer.closed  # the body was not waited for
    world.listener.resume()
    assert world.asks(b"x").status == 200


class Unwell:
    """As much of a journal as matters here."""

    def __init__(self) -> None:
        self.unwell: str | None = None
        self.keys: dict[tuple[str, str], int] = {}

    def recall(self, scope: str, key: str) -> int | None:
        return self.keys.get((scope, key))

    def remember(self, scope: str, keys: list[tuple[str, int]]) -> None:
        self.keys |= {(scope, key): position for key, position in keys}


def test_a_journal_that_can_store_nothing_is_answered_503_at_once() -> None:
    journal = Unwell()
    world = World({"journal": journal})
    journal.unwell = "disk full"
    assert world.asks(b"x").status == 503
    assert world.counters.rejected == {"journal": 1}
    peer = world.peer()
    world.listener.pause()
    world.reactor.advance(1)
    assert peer.asks(b"x").status == 503
    world.listener.resume()
    journal.unwell = None
    assert world.asks(b"x").status == 200


def test_while_it_stops_what_is_whole_is_answered_and_the_rest_refused(world: World) -> None:
    world.intake.ack_now = False
    idle, whole, half = world.peer(), world.peer(), world.peer()
    whole.post(b"x")
    half.send(request(b"xyz")[:-1])
    stopped: list[object] = []
    world.listener.stopService().addBoth(stopped.append)
    assert idle.closed
    assert half.answer().status == 503
    assert whole.answers() == []
    world.intake.deliver()
    answer = whole.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    for peer in (idle, whole, half):
        assert not stopped
        peer.lose()
    assert stopped
    assert world.reactor.getDelayedCalls() == []


# Replies


def test_what_a_handler_returns_is_the_body_of_the_200() -> None:
    world = World({"replies": True, "answered_by": "python"})
    world.intake.ack_now = False
    for replies, content_type in (
        ([b"hello"], "text/plain; charset=utf-8"),
        ([b'{"a":1}'], "application/json"),
        ([b'{"a":1}', b'{"b":2}'], "application/x-ndjson"),
    ):
        peer = world.peer()
        peer.post(b"x")
        writer = world.context.connections.writers[world.intake.batches[-1].connection_of(0)]
        for reply in replies:
            writer.reply(reply)
        world.intake.deliver()
        answer = peer.answer()
        assert (answer.status, answer.body) == (200, b"\n".join(replies))
        assert answer.headers["content-type"] == content_type
        assert world.context.connections.writers == {}


def test_replies_that_are_too_large_are_left_out() -> None:
    world = World({"replies": True}, max_unread_replies=10)
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    [writer] = world.context.connections.writers.values()
    writer.reply(b"x" * 11)
    world.intake.deliver()
    assert peer.answer().json["accepted"] == 1
    assert world.counters.replies == {"unsent": 1}


def test_without_ack_delivered_nobody_waits_for_replies() -> None:
    world = World({"replies": True, "ack": "memory"})
    world.asks(b"x")
    assert world.intake.batches[0].connection_of(0) == 0


# What people see


def test_refusals_are_logged_with_the_reason(world: World, logged: list[str]) -> None:
    world.asks(b"[", content_type="application/json")
    assert any("refused a request of 192.0.2.1:51123: the body is no array" in line for line in logged)


def test_connections_say_what_they_brought(world: World) -> None:
    peer = world.peer()
    peer.post(b"1\n2\n", content_type=NDJSON)
    [info] = world.listener.connections()
    assert (info.peer, info.received) == ("192.0.2.1:51123", 2)
    assert info.bytes == world.counters.bytes == len(request(b"1\n2\n", content_type=NDJSON))


def test_every_answer_has_a_date_and_is_json(world: World) -> None:
    answer = world.asks(b"x")
    assert answer.headers["date"] == "sun, 22 nov 2026 12:00:00 gmt"
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)
