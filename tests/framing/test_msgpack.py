"""The framer `msgpack`: values one after another, whole or cut, however the bytes come."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from eventserver.framing.msgpack import MsgpackFramer
from eventserver.interfaces import IFramer
from eventserver.settings import from_mapping
from eventserver.testing.framers import Outcome, cuts, outcome
from tests.framing.building import build

encode = msgspec.msgpack.encode
VALUES = [encode(value) for value in ({"a": 1}, [1, "x" * 40, None], 5, "text", {"k": [b"\0" * 20] * 3}, -1, 1.5, {})]
SMALL, LONG = encode({"n": 1}), encode({"log": "x" * 30})


def made(max_frame: int = 65536, oversize: str = "truncate") -> Any:
    return build(MsgpackFramer, max_frame=max_frame, oversize=oversize)


def whole(data: bytes, *options: Any) -> Outcome:
    return outcome(made(*options), [data])


def test_it_provides_the_interface() -> None:
    framer = made()
    assert verifyObject(IFramer, framer)
    assert (framer.feed(b""), framer.expire(0.0), framer.finish(), framer.partial) == ([], [], [], False)


def test_values_are_frames() -> None:
    assert whole(b"".join(VALUES)) == (VALUES, [])


@settings(max_examples=300)
@given(
    pieces=st.lists(st.sampled_from([*VALUES, LONG, b"\xc1"]) | st.binary(max_size=4), max_size=8),
    size=st.integers(1, 9),
    max_frame=st.sampled_from([1, 2, 7, 20, 65536]),
    oversize=st.sampled_from(["truncate", "drop", "close"]),
)
def test_how_the_bytes_come_changes_nothing(pieces: list[bytes], size: int, max_frame: int, oversize: str) -> None:
    data = b"".join(pieces)
    framer = made(max_frame, oversize)
    assert outcome(framer, cuts(data, size)) == whole(data, max_frame, oversize)
    framer = made(max_frame, oversize)
    for chunk in cuts(data, size):
        framer.feed(chunk)
        assert framer.held <= max_frame + 5


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_value_over_the_limit_is_cut_refused_or_fatal_and_the_next_survives(size: int) -> None:
    data = SMALL + LONG + SMALL
    assert outcome(made(10), cuts(data, size)) == ([SMALL, LONG[:10], SMALL], [("oversize", 1, False)])
    assert outcome(made(10, "drop"), cuts(data, size)) == ([SMALL, SMALL], [("oversize", -1, False)])
    assert outcome(made(10, "close"), cuts(data, size)) == ([SMALL], [("oversize", -1, True)])
    assert outcome(made(len(LONG)), cuts(data, size)) == ([SMALL, LONG, SMALL], [])


def test_what_is_announced_is_refused_before_it_comes() -> None:
    framer = made(1000, "drop")
    assert framer.feed(b"\xdb\x7f\xff\xff\xff") == []
    assert [fault.reason for fault in framer.faults] == ["oversize"]
    for _ in range(20):
        framer.feed(bytes(100_000))
        assert framer.held == 0
    assert framer.partial


def test_what_is_no_value_ends_the_stream() -> None:
    framer = made()
    assert framer.feed(SMALL + b"\x92\xc1" + SMALL) == [SMALL]
    assert [tuple(fault) for fault in framer.faults] == [("bad_value", None, True)]
    assert (framer.feed(SMALL), framer.rest(), framer.finish(), framer.partial) == ([], b"", [], False)


def test_the_end_of_the_stream_keeps_what_came() -> None:
    assert whole(SMALL + LONG[:-1]) == ([SMALL, LONG[:-1]], [("incomplete", 1, False)])
    assert whole(SMALL + LONG[:-1], 10) == ([SMALL, LONG[:10]], [("oversize", 1, False)])


def test_rest_hands_over_what_is_unread() -> None:
    data = b"".join(VALUES)
    for at in range(len(data)):
        first, second = made(), made()
        before = outcome(first, [data[:at]], finish=False)
        unread = first.rest()
        assert (first.rest(), first.partial) == (b"", False)
        assert before[0] + outcome(second, [unread + data[at:]])[0] == VALUES


def test_replies_are_values() -> None:
    assert made().wrap("ä".encode()) == encode("ä")
    assert made().wrap(b"\xff") == encode(b"\xff")


def test_it_is_the_default_with_the_decoder_msgpack() -> None:
    settings = from_mapping({"listener": {"x": {"endpoints": ["tcp:5140"], "decoder": "msgpack"}}})
    assert settings.listeners["x"].framer.name == "msgpack"
