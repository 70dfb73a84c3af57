"""Requests that two servers would read differently: each is answered 400, and nothing behind it is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.listeners.httpworld import World, read_answers, request

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
NEXT = request(b"smuggled")

CORPUS = {
    "length and chunked": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "length and identity": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\nx",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\nx",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    "two equal lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "a sign": HEAD + b"Content-Length: +1\r\n\r\nx",
    "a minus": HEAD + b"Content-Length: -1\r\n\r\nx",
    "hexadecimal": HEAD + b"Content-Length: 0x1\r\n\r\nx",
    "underscore": HEAD + b"Content-Length: 1_0\r\n\r\n0123456789",
    "a space inside": HEAD + b"Content-Length: 1 0\r\n\r\n0123456789",
    "empty length": HEAD + b"Content-Length:\r\n\r\n",
    "other digits": HEAD + b"Content-Length: \xd9\xa1\r\n\r\nx",
    "more digits than Python reads": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"Content-Length : 1\r\n\r\nx",
    "a space before the name": HEAD + b" Content-Length: 1\r\n\r\nx",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx",
    "a folded chunked": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a header without colon": HEAD + b"nonsense\r\nContent-Length: 1\r\n\r\nx",
    "a bare CR in a header": HEAD + b"X: a\rContent-Length: 1\r\n\r\nx",
    "a bare LF in a header": HEAD + b"X: a\nContent-Length: 1\r\n\r\nx",
    "a NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 1\r\n\r\nx",
    "lines that end with LF": b"POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\nx",
    "headers that end with LF": HEAD + b"Content-Length: 1\n\nx",
    "a bare CR in the request line": b"POST /\r HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"POST /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower case": b"POST / http/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"POST  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a chunk with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    "a chunk with 0x": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n",
    "a chunk longer than its size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "a chunk that ends with LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n" + b"\r\n" * 9,
    "a bare CR in an extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=\rb\r\nx\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", CORPUS)
@pytest.mark.parametrize("step", [1, 1 << 16], ids=["by bytes", "at once"])
def test_it_is_answered_400_and_closed(case: str, step: int) -> None:
    world = World()
    peer = world.peer()
    data = CORPUS[case] + NEXT
    for at in range(0, len(data), step):
        if peer.closed:
            break
        peer.send(data[at : at + step])
    assert peer.closed
    assert peer.answer().status == 400
    peer.send(NEXT)
    assert peer.answers() == []
    assert world.frames == []
    assert world.counters.rejected == {"malformed": 1}
    assert world.counters.balanced()
    assert world.listener.budget.used == 0
    peer.lose()


pieces = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n"]
    ),
    st.sampled_from(
        [b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"GET ", b"\n", b"\r", request(b"abc"), b"Expect: 100-continue\r\n"]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, min_size=3, max_size=12), st.integers(1, 40))
def test_whatever_comes_nothing_breaks(parts: list[bytes], step: int) -> None:
    """However the bytes are cut: the same frames, answers that can be read, and sums that balance."""
    data = b"".join(parts)
    seen = []
    for size in (step, len(data) or 1):
        world = World()
        peer = world.peer()
        for at in range(0, len(data), size):
            if peer.closed:
                break
            peer.send(data[at : at + size])
        world.reactor.pump([1] * 12)
        peer.lose()
        answers = [answer.status for answer in read_answers(peer.transport.value())]
        assert world.counters.balanced()
        assert world.listener.budget.used == 0
        seen.append((world.frames, answers, dict(world.counters.rejected)))
    assert seen[0] == seen[1]
