"""The framer `gelf`: messages that end with NUL or with LF."""

from __future__ import annotations

import random
from typing import Any

import pytest

from eventserver.framing.gelf import GelfFramer
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.testing.framers import FramerConformance, cuts, outcome
from tests.framing.building import build

PRETTY = b'{\n  "a": {\n    "b": 1\n  },\n  "c": 2\n}'


class TestGelfWithNul(FramerConformance):
    """The contract of every framer, where NUL ends the messages."""

    alphabet = b"\n\r\0}}{a"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(GelfFramer, max_frame=max_frame, oversize=oversize)


class TestGelfWithLf(TestGelfWithNul):
    """The same, where LF does."""

    payloads = (b"<{one}", b"<{two and more}", b"<}", b"<{" + bytes(range(128, 256)) + b"}")

    def wrapped(self, *payloads: bytes) -> bytes:
        return b"".join(payload.removesuffix(b"}") + b"}\n" for payload in payloads)

    # What these tests frame does not end with "}", as all GELF does, or is counted to the byte.
    test_the_head_of_a_frame_over_the_limit_is_kept_and_the_next_survives = None  # type: ignore[assignment]
    test_a_frame_over_the_limit_is_refused_if_asked_for_and_the_next_survives = None  # type: ignore[assignment]
    test_a_frame_over_the_limit_ends_the_stream_if_asked_for = None  # type: ignore[assignment]
    test_a_frame_of_exactly_the_limit_is_whole = None  # type: ignore[assignment]
    test_rest_hands_over_what_is_unread_and_forgets_it = None  # type: ignore[assignment]


@pytest.mark.parametrize("ending", [b"\0", b"\n", b"\r\n"])
def test_messages_end_as_the_first_one_does(ending: bytes) -> None:
    stream = b"".join(message + ending for message in (b'{"a":1}', b'{"b":2}', b"", b"x"))
    for size in (1, 2, 3, 1000):
        assert outcome(build(GelfFramer), cuts(stream, size)) == ([b'{"a":1}', b'{"b":2}', b"", b"x"], [])


def test_indented_json_is_one_message_where_nul_ends_it() -> None:
    stream = b'{"a":1}\0' + PRETTY + b"\0"
    assert outcome(build(GelfFramer), [stream])[0] == [b'{"a":1}', PRETTY]


def test_the_end_of_the_stream_ends_the_message() -> None:
    assert outcome(build(GelfFramer), [b'{"a":1}']) == ([b'{"a":1}'], [])
    assert outcome(build(GelfFramer), [b'{"a":1}\n{"b":2}'])[0] == [b'{"a":1}', b'{"b":2}']


@pytest.mark.parametrize("ending", [b"\0", b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [9, 10, 11, 30])
@pytest.mark.parametrize("oversize", ["truncate", "drop", "close"])
def test_the_limit_is_met_to_the_byte(ending: bytes, size: int, oversize: str) -> None:
    """As a framer does that knows the ending from the first byte."""
    first = b"{" + b"x" * (size - 2) + b"}"
    stream = first + ending + b'{"b":2}' + ending + b"{}" + ending
    inner: Any = NulFramer if ending == b"\0" else LinesFramer
    expected = outcome(build(inner, max_frame=10, oversize=oversize), [stream])
    for step in (1, 2, 3, 7, 1000):
        assert outcome(build(GelfFramer, max_frame=10, oversize=oversize), cuts(stream, step)) == expected


def test_replies_end_as_the_messages_do() -> None:
    framer = build(GelfFramer)
    assert framer.wrap(b"ok") == b"ok\0"
    framer.feed(b'{"a":1}\n')
    assert framer.wrap(b"ok") == b"ok\n"


def test_chunking_changes_nothing_whatever_the_bytes() -> None:
    rng = random.Random(12201)
    pieces = [b"\0", b"\n", b"\r", b"}", b"{", b"}\n", b"}\r\n", b"aaaa", b'{"a":1}']
    for _ in range(400):
        stream = b"".join(rng.choices(pieces, k=rng.randrange(12)))
        limit, oversize = rng.choice([1, 3, 5, 8, 65536]), rng.choice(["truncate", "drop", "close"])
        whole = outcome(build(GelfFramer, max_frame=limit, oversize=oversize), [stream])
        for size in (1, 2, 3):
            assert outcome(build(GelfFramer, max_frame=limit, oversize=oversize), cuts(stream, size)) == whole, stream
