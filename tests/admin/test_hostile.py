"""What a hostile client of the admin endpoint can do: nothing."""

from __future__ import annotations

import pytest

from eventserver.admin.web import ANSWER_TIMEOUT, HEAD_TIMEOUT, MAX_CONNECTIONS
from tests.admin.server import Server


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_refused_unread(server: Server, request_bytes: bytes) -> None:
    answer = server.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /live HTTP/1.1\r\nno colon here\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000,
    ],
)
def test_broken_requests_are_refused_and_the_connection_closed(server: Server, request_bytes: bytes) -> None:
    answer = server.raw(request_bytes)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") <= 1


def test_a_second_request_on_one_connection_is_not_answered(server: Server) -> None:
    one = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert server.raw(one + one).count(b"HTTP/1.1 200") == 1


def test_a_request_that_trickles_in_is_cut_off_however_steady_it_is(server: Server) -> None:
    """Twisted's own timeout starts anew with every byte; this deadline does not."""
    exchange = server.connect()
    for _ in range(HEAD_TIMEOUT - 1):
        exchange.send(b"G")
        server.clock.advance(1)
    assert not exchange.closing
    server.clock.advance(1)
    assert exchange.transport.disconnected


def test_an_answer_that_nobody_reads_is_cut_off(server: Server) -> None:
    exchange = server.connect()
    exchange.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.clock.advance(ANSWER_TIMEOUT - 1)
    assert not exchange.transport.disconnected
    server.clock.advance(1)
    assert exchange.transport.disconnected


def test_connections_beyond_the_bound_are_closed_and_a_freed_place_is_used(server: Server) -> None:
    open_ones = [server.connect() for _ in range(MAX_CONNECTIONS)]
    assert server.site.buildProtocol(None) is None
    open_ones[0].end()
    assert server.site.buildProtocol(None) is not None
