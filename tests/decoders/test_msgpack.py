"""The decoder `msgpack`: maps to events, as the decoder `json` makes them of objects."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.msgpack import MsgpackDecoder
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

encode = msgspec.msgpack.encode
AT = dt.datetime(2026, 2, 3, 4, 5, 6, 789000, dt.UTC)


class TestConformance(DecoderConformance):
    def make(self) -> Any:
        return MsgpackDecoder()

    def samples(self) -> list[bytes]:
        return [encode({"message": "hello", "n": 1}), encode({"time": AT, "type": "login", "user": {"id": 7}})]


def events(frame: bytes, **options: Any) -> list[Event]:
    return MsgpackDecoder(MsgpackDecoder.Options(**options)).decode(batch(frame))


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_special = st.sampled_from(["message", "time", "type", "a"])


@given(value=st.dictionaries(_special, _plain) | st.lists(st.dictionaries(_special, _plain), max_size=3))
def test_it_agrees_with_the_decoder_json(value: Any) -> None:
    """Whatever both formats have is the same event; only the default type differs."""
    theirs = JsonDecoder().decode(batch(msgspec.json.encode(value)))
    ours = events(encode(value), event_type="json")
    assert msgspec.to_builtins(ours) == msgspec.to_builtins(theirs)


def test_message_time_and_type_are_taken_out() -> None:
    [event] = events(encode({"message": "m", "time": AT, "type": "t", "x": 1}))
    assert (event.message, event.time, event.type, event.fields) == ("m", AT, "t", {"x": 1})
    [event] = events(encode({"msg": b"m", "ts": 1.5, "k": "t"}), message_key="msg", time_key="ts", type_key="k")
    assert (event.message, event.type, event.fields) == ("m", "t", {})
    assert event.time == dt.datetime(1970, 1, 1, 0, 0, 1, 500000, dt.UTC)
    [event] = events(encode({"message": "m", "time": 1, "type": "t"}), message_key="", time_key="", type_key="")
    assert (event.message, event.time, event.type) == ("", RECEIVED, "msgpack")
    assert event.fields == {"message": "m", "time": 1, "type": "t"}


def test_an_array_of_maps_is_an_event_each() -> None:
    found = events(encode([{"a": 1}, {"a": b"\xff"}, {"a": 3}]))
    assert [event.fields["a"] for event in found] == [1, "/w==", 3]
    first = found[0].id
    assert [event.id for event in found] == [first, f"{first}.1", f"{first}.2"]
    assert events(encode([])) == events(b"") == []


@pytest.mark.parametrize("value", [1, "x", None, [1], [{"a": 1}, 2], [[{"a": 1}]], b"x", 1.5, True])
def test_what_is_no_map_is_undecodable(value: Any) -> None:
    [event] = events(encode(value))
    assert (event.type, event.raw_bytes) == ("undecodable", encode(value))


def test_a_text_that_is_not_utf_8_keeps_the_frame() -> None:
    frame = b"\x81\xa1a\xa1\xff"
    [event] = events(frame)
    assert (event.fields, event.raw_bytes) == ({"a": "\ufffd"}, frame)


@pytest.mark.parametrize("most", [1, 8, 9, 64])
def test_depth_is_limited(most: int) -> None:
    assert events(b"\x81\xa1a" * most + b"\x01", max_depth=most)[0].type == "msgpack"
    [event] = events(b"\x81\xa1a" * (most + 1) + b"\x01", max_depth=most)
    assert event.fields == {"error": f"MessagePack nested deeper than {most}"}


def test_keys_are_limited() -> None:
    assert events(encode({str(n): n for n in range(50)}), max_keys=50)[0].type == "msgpack"
    assert events(encode({str(n): n for n in range(51)}), max_keys=50)[0].type == "undecodable"
    assert events(encode({"a": [{"b": 1}] * 50}), max_keys=50)[0].type == "undecodable"
