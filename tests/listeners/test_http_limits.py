"""The HTTP listener against peers that ask too much: limits, deadlines, tokens, bombs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from tests.listeners.httpworld import World, chunked, request

KIB, MIB = 1 << 10, 1 << 20
NDJSON = "application/x-ndjson"


@pytest.fixture
def make() -> Any:
    """Makes worlds whose sums are checked at the end."""
    worlds = []

    def make(context: dict[str, Any] | None = None, **options: Any) -> World:
        worlds.append(World(context, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        assert world.counters.balanced(), world.counters
        assert world.listener.budget.used == 0


Make = Callable[..., World]

# Who may send what, and where


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer 0123456789abcdef"}, 200),
        ({"authorization": "bearer   0123456789abcdef "}, 200),
        ({"authorization": "Bearer 0123456789abcdeF"}, 401),
        ({"authorization": "Basic 0123456789abcdef"}, 401),
        ({"authorization": "0123456789abcdef"}, 401),
        ({}, 401),
    ],
)
def test_a_token_lets_in_whoever_names_it(make: Make, headers: dict[str, str], status: int) -> None:
    world = make(token="0123456789abcdef")
    answer = world.asks(b"x", **headers)
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("bearer")
        assert world.counters.rejected == {"unauthorized": 1}
        assert world.frames == []


def test_paths_that_are_not_named_are_not_found(make: Make) -> None:
    world = make(paths=("/events",))
    assert world.asks(b"x", path="/events?a=b").status == 200
    assert world.asks(b"x", path="/events/").status == 404
    assert world.counters.rejected == {"not_found": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE"])
def test_only_post_is_taken_and_the_connection_stays(make: Make, method: str) -> None:
    world = make()
    peer = world.peer()
    peer.send(request(method=method, content_length="(none)"))
    if method == "HEAD":
        assert peer.transport.value().endswith(b"\r\n\r\n")
        peer.transport.clear()
    else:
        answer = peer.answer()
        assert (answer.status, answer.headers["allow"]) == (405, "post")
    assert peer.asks(b"x").status == 200


def test_a_path_has_a_bound(make: Make) -> None:
    assert make().asks(b"x", path="/" + "a" * 1100).status == 414


@pytest.mark.parametrize("header", ["host", "content_type", "authorization", "idempotency_key", "ce_id"])
def test_headers_that_make_no_sense_twice(make: Make, header: str) -> None:
    world = make()
    name = header.replace("_", "-")
    data = request(b"x", **{header: "a"}).replace(b"\r\n\r\n", f"\r\n{name}: b\r\n\r\n".encode())
    peer = world.peer()
    peer.send(data)
    assert peer.answer().status == 400


def test_http_1_1_needs_a_host_and_1_0_none(make: Make) -> None:
    world = make()
    assert world.asks(b"x", host="(none)").status == 400
    peer = world.peer()
    peer.send(b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
    assert (peer.answer().status, peer.closed) == (200, True)


def test_connection_close_is_obeyed(make: Make) -> None:
    peer = make().peer()
    assert peer.asks(b"x", connection="Keep-Alive, Close").headers["connection"] == "close"
    assert peer.closed


# Expect: 100-continue


def test_whoever_waits_for_100_gets_it(make: Make) -> None:
    peer = make().peer()
    whole = request(b"hello", expect="100-Continue")
    peer.send(whole[:-5])
    assert peer.answer().status == 100
    peer.send(whole[-5:])
    assert peer.answer().status == 200


def test_whoever_asks_too_much_is_not_told_to_continue(make: Make) -> None:
    world = make(max_body=10)
    peer = world.peer()
    peer.send(request(b"x" * 11, expect="100-continue")[:-11])
    assert peer.answer().status == 413
    assert make().asks(b"x", expect="200-ok").status == 417


# Sizes


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(make: Make) -> None:
    world = make(max_body=1000)
    peer = world.peer()
    peer.send(request(b"", content_length="1001"))
    answer = peer.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert world.counters.rejected == {"oversize": 1}
    # What was sent already is read, for a while, so that the answer is not lost; then it ends.
    assert not peer.closed
    peer.send(b"x" * 1000)
    assert not peer.closed
    peer.send(b"x")
    assert peer.closed
    assert peer.answers() == []


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(make: Make) -> None:
    world = make(max_body=1000)
    peer = world.peer()
    peer.send(request(content_length="(none)", transfer_encoding="chunked"))
    for _ in range(11):
        peer.send(b"64\r\n" + b"x" * 100 + b"\r\n")
    assert peer.answer().status == 413
    assert world.listener.budget.used == 0
    world.reactor.pump([1] * 6)
    assert peer.closed


def test_whoever_goes_on_sending_what_is_refused_is_cut_off(make: Make) -> None:
    world = make(max_body=1000)
    peer = world.peer()
    peer.send(request(b"", content_length="999999"))
    for _ in range(10):
        peer.send(b"x" * 100)
    assert not peer.closed
    peer.send(b"x")
    assert peer.closed
    read = world.counters.bytes
    peer.send(b"x" * 1000)
    assert world.counters.bytes == read + 1000
    assert world.counters.received == 1


def test_an_event_that_is_too_large_refuses_the_request_and_is_named(make: Make) -> None:
    world = make(max_frame=10)
    answer = world.asks(b"a\n" + b"b" * 11 + b"\nc", content_type=NDJSON)
    assert answer.status == 413
    assert "event 1 has 11 bytes" in answer.json["error"]
    assert world.frames == []
    assert world.asks(b"b" * 10).status == 200
    assert world.asks(b"b" * 11).status == 413


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"1\n2\n3\n4", NDJSON), (b"[1,2,3,4]", "application/json"), (b"[" + b"1," * 70 + b"1]", "application/json")],
)
def test_too_many_events_in_one_request(make: Make, body: bytes, content_type: str) -> None:
    world = make(max_frames=3)
    assert world.asks(body, content_type=content_type).status == 413
    assert world.asks(b"1\n2\n3\n", content_type=NDJSON).status == 200


def test_bodies_of_all_peers_together_have_a_bound(make: Make) -> None:
    world = make(max_body=1000, max_bodies=1500)
    one, two, three = world.peer(), world.peer(), world.peer()
    one.send(request(b"x" * 1000)[:-1])
    two.send(request(b"x" * 1000)[:-1])
    answer = two.answer()
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
    assert world.counters.rejected == {"busy": 1}
    one.send(b"x")
    assert one.answer().status == 200
    assert three.asks(b"x" * 1000).status == 200


@pytest.mark.parametrize("limits", [{"max_connections": 2}, {"max_connections_per_peer": 2}])
def test_connections_have_a_bound(make: Make, limits: dict[str, int]) -> None:
    world = make(**limits)
    first, _second = world.peer(), world.peer()
    third = world.peer()
    answer = third.answer()
    assert (answer.status, answer.headers["retry-after"], third.closed) == (429, "5", True)
    assert world.counters.closed == {next(iter(limits)): 1}
    assert world.counters.connections == 2
    first.lose()
    assert world.asks(b"x").status == 200


def test_headers_have_a_bound_each_and_together(make: Make) -> None:
    world = make()
    many = {f"x-{number}": "a" for number in range(98)}
    assert world.asks(b"x", **many).status == 200
    peer = world.peer()
    assert peer.asks(b"x", **many, x_98="a").status == 431
    assert peer.closed
    for data in (request(x="a" * 17000), request(**{f"x-{n}": "a" * 1000 for n in range(17)}), b"x" * 17000):
        peer = world.peer()
        peer.send(data)
        assert (peer.answer().status, peer.closed) == (431, True)
    assert world.counters.rejected == {"headers": 4}


# Time


def test_a_request_that_trickles_in_is_cut_off_however_it_trickles(make: Make) -> None:
    """A byte a second does not buy time."""
    world = make()
    peer = world.peer()
    for byte in request(b"x")[:9]:
        peer.send(bytes([byte]))
        world.reactor.advance(1)
        assert not peer.closed
    peer.send(b"/")
    world.reactor.pump([1] * 2)
    assert (peer.answer().status, peer.closed) == (408, True)
    assert world.counters.closed == {"header_timeout": 1}


def test_whoever_connects_and_says_nothing_is_cut_off(make: Make) -> None:
    world = make()
    peer = world.peer()
    world.reactor.pump([1] * 11)
    assert peer.closed
    assert peer.answers() == []
    assert world.counters.closed == {"header_timeout": 1}


def test_a_body_must_come_at_a_rate(make: Make) -> None:
    world = make(min_rate=100)
    fast, slow = world.peer(), world.peer()
    fast.send(request(b"", content_length="5000"))
    slow.send(request(b"", content_length="5000"))
    for _ in range(9):
        fast.send(b"x" * 120)
        slow.send(b"x" * 90)
        world.reactor.advance(1)
    assert slow.answers() == []
    for _ in range(3):
        fast.send(b"x" * 120)
        slow.send(b"x" * 90)
        world.reactor.advance(1)
    answer = slow.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert fast.answers() == []
    assert world.counters.closed == {"min_rate": 1}
    world.reactor.pump([1] * 5)
    assert slow.closed
    fast.lose()


def test_a_body_has_a_deadline(make: Make) -> None:
    world = make(min_rate=0)
    peer = world.peer()
    peer.send(request(b"", content_length="5000"))
    for _ in range(59):
        peer.send(b"x")
        world.reactor.advance(1)
    assert peer.answers() == []
    world.reactor.pump([1] * 2)
    assert peer.answer().status == 408
    assert world.counters.closed == {"frame_timeout": 1}


def test_a_connection_without_requests_is_closed(make: Make) -> None:
    world = make(idle_timeout=20.0)
    peer = world.peer()
    assert peer.asks(b"x").status == 200
    world.reactor.pump([1] * 19)
    assert peer.asks(b"x").status == 200
    world.reactor.pump([1] * 19)
    assert not peer.closed
    world.reactor.pump([1] * 2)
    assert peer.closed


def test_a_pause_counts_against_nobody(make: Make) -> None:
    world = make(busy_timeout=100.0)
    peer = world.peer()
    peer.send(request(b"xyz")[:-1])
    world.listener.pause()
    world.reactor.pump([1] * 90)
    world.listener.resume()
    world.reactor.pump([1] * 8)
    peer.send(b"z")
    assert peer.answer().status == 200


def test_a_connection_that_closes_is_read_also_in_a_pause(make: Make) -> None:
    """Over TLS the peer has to be heard saying that it closes."""
    world = make()
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(b"x")
    peer.post(b"x", connection="close")
    world.intake.ack_now = True
    world.listener.pause()
    world.intake.deliver()
    assert [answer.status for answer in peer.answers()] == [200, 200]
    assert peer.closed
    assert peer.transport.reading


def test_a_peer_that_reads_no_answers_is_cut_off(make: Make) -> None:
    world = make(close_timeout=30.0)
    peer = world.peer()
    peer.protocol.pauseProducing()  # as the transport does whose buffer is full
    assert not peer.transport.reading
    world.reactor.pump([1] * 31)
    assert peer.transport.aborted
    assert world.counters.closed == {"unread_replies": 1}


# Compression


def pack(encoding: str, data: bytes) -> bytes:
    if encoding in ("gzip", "x-gzip"):
        return gzip.compress(data)
    if encoding == "zstd":
        return zstandard.compress(data)
    return zlib.compress(data)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "zstd", "GZIP"])
def test_compressed_bodies_are_unpacked(make: Make, encoding: str) -> None:
    world = make()
    body = b"".join(b'{"n": %d}\n' % number for number in range(1000))
    answer = world.asks(pack(encoding.lower(), body), content_type=NDJSON, content_encoding=encoding)
    assert answer.json["accepted"] == 1000
    assert world.frames[-1] == b'{"n": 999}'


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip,deflate", "compress"])
def test_other_encodings_and_several_layers_are_refused(make: Make, encoding: str) -> None:
    answer = make().asks(gzip.compress(gzip.compress(b"x")), content_encoding=encoding)
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate, zstd")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_refused_before_it_goes_off(make: Make, encoding: str) -> None:
    world = make()
    answer = world.asks(pack(encoding, bytes(100 * MIB)), content_encoding=encoding)
    assert answer.status == 413
    assert world.counters.rejected == {"oversize": 1}


def test_what_unpacks_to_more_than_a_body_may_have(make: Make) -> None:
    world = make(max_body=100 * KIB, max_ratio=10000)
    answer = world.asks(gzip.compress(bytes(101 * KIB)), content_encoding="gzip")
    assert answer.status == 413
    assert "max_body" in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"abc" * 100)[:-1], gzip.compress(b"abc") + b"garbage"],
    ids=["no gzip", "cut", "garbage behind"],
)
def test_broken_compression_is_malformed(make: Make, body: bytes) -> None:
    world = make()
    assert world.asks(body, content_encoding="gzip").status == 400
    assert world.counters.rejected == {"malformed": 1}


def test_a_refused_body_in_chunks_is_dropped_and_the_connection_closed(make: Make) -> None:
    world = make()
    peer = world.peer()
    peer.send(request(content_length="(none)", transfer_encoding="chunked", content_encoding="gzip"))
    peer.send(chunked(b"no gzip", b"at all"))
    assert (peer.answer().status, peer.closed) == (400, True)


# Settings


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"token": "short"}, "token"),
        ({"token": "with spaces in it, and long"}, "token"),
        ({"paths": ("events",)}, "paths"),
        ({"paths": ("/events?x",)}, "paths"),
        ({"max_body": 100, "max_bodies": 99}, "max_bodies"),
        ({"endpoints": ("udp:80",)}, "endpoints"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], key: str) -> None:
    from eventserver.listeners.http import HttpListener

    given = HttpListener.Options(**({"endpoints": ("tcp:80",)} | options))
    assert [name for name, _ in given.problems()] == [key]
