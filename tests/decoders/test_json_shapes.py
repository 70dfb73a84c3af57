"""Objects of one shape: what `select` gives is the same, with and without."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.decoders import _json_shapes
from eventserver.decoders._json_shapes import Shape, Shapes
from eventserver.decoders._json_values import value_type
from eventserver.decoders.json import JsonDecoder, JsonOptions
from eventserver.event import Batch, Event
from eventserver.matching import Match
from eventserver.steps import Set

FLAT, NESTED = value_type(1), value_type(8)
PLAIN = {"site": "hq", "b": [1]}


def batch(frames: list[bytes], peers: tuple[str, ...] = ("a",), **more: Any) -> Batch:
    received = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
    return Batch(id="B", listener="l", decoder="json", received=received, peers=peers, frames=frames, **more)


def shape_of(names: tuple[str, ...], *, flat: bool = True) -> Shape:
    shapes = Shapes(FLAT, NESTED)
    line = json.dumps(dict.fromkeys(names, 1)).encode()
    for _ in range(_json_shapes._OFTEN):
        found = shapes.of_line(line)
    assert found is not None
    if not flat:
        with patch.object(_json_shapes, "_VERY_OFTEN", 0):
            rows_of(found, b"[]")
    assert found.is_flat is flat
    return found


def rows_of(shape: Shape, block: bytes) -> list[Any] | None:
    return shape.rows(block, shape.maker((), {}, False))


def learned(decoder: JsonDecoder, match: Match, plain: dict[str, Any]) -> list[bytes]:
    """Frames with the key `n`, whose shape the decoder knows then."""
    frames = [b'{"n":%d}' % n for n in range(6)]
    for _ in range(_json_shapes._OFTEN):
        decoder.select(batch(frames), match, plain, to_encode=True)
    return frames


def as_json(events: list[Event]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(events))


def expected(decoder: JsonDecoder, one: Batch, match: Match) -> list[Event]:
    return Set(PLAIN).apply(match.select(decoder.decode(one)))


_value = st.sampled_from([1, 0, 2**63, -(2**63), 1.5, "x", "", None, True, {"c": 1}, [1, "x"], [[]]])
_special = {
    "msg": st.sampled_from(["m", "", 1, None]),
    "time": st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.5+01:00", "soon", 1e9, None]),
    "type": st.sampled_from(["t", "", 1]),
}


@st.composite
def _alike(draw: st.DrawFn) -> list[bytes]:
    """Objects with the same keys in any order, and now and then one that is not like that."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c", "d", "msg", "time", "type"]), min_size=1, unique=True))
    frames = []
    for _ in range(draw(st.integers(6, 9))):
        values = {name: draw(_special.get(name, _value)) for name in draw(st.permutations(names))}
        frames.append(json.dumps(values).encode())
    odd = [
        b'{"a":1}',
        b'{"a":1,"a":2,"z":1}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b"{}{}",
        b'{"d":' * 12 + b"1" + b"}" * 12,
    ]
    if draw(st.booleans()):
        frames[draw(st.integers(0, len(frames) - 1))] = draw(st.sampled_from(odd))
    return frames


@settings(max_examples=400, deadline=None)
@given(
    frames=_alike(),
    text=st.sampled_from(["a == 1", "a > 0 or a < 0", 'has("a")', 'a == 1 and b == "x"', "d", 'fields["b"]["c"] == 1']),
    several=st.booleans(),
    marks=st.booleans(),
    often=st.sampled_from([0, 3, 50]),
)
def test_select_by_shapes_gives_what_decoding_matching_and_setting_give(
    frames: list[bytes], text: str, several: bool, marks: bool, often: int
) -> None:
    decoder, match = JsonDecoder(JsonOptions(message_key="msg")), Match(text)
    peers = tuple(f"192.0.2.{n}:1" for n in range(len(frames))) if several else ("a",)
    one = batch(frames, peers, marks={1: ("truncated",)} if marks else {})
    with patch.multiple(_json_shapes, _OFTEN=1, _VERY_OFTEN=often):
        for part in (one, one.part(1, len(frames))):
            selected = decoder.select(part, match, PLAIN)
            assert selected is None or selected == expected(decoder, part, match)
            assert selected is None or as_json(selected) == as_json(expected(decoder, part, match))
            to_encode = decoder.select(part, match, PLAIN, to_encode=True)
            assert to_encode is None or as_json(to_encode) == as_json(expected(decoder, part, match))
            # What was made for one is nothing to another.
            assert decoder.select(part, match, PLAIN) == selected
            assert decoder.select(part, match) == (None if selected is None else match.select(decoder.decode(part)))


def test_objects_that_come_often_are_read_by_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, match = JsonDecoder(), Match("n > 2")
    frames = [b'{"time":"2026-11-22T10:00:0%dZ","n":%d,"message":"m"}' % (n, n) for n in range(6)]
    for _ in range(_json_shapes._OFTEN):
        decoder.select(batch(frames), match, PLAIN)
    monkeypatch.setattr("eventserver.decoders.json.peeking_decoder", None)
    selected = decoder.select(batch(frames), match, PLAIN)
    assert selected is not None
    assert [event.fields for event in selected] == [{"n": n, "site": "hq", "b": [1]} for n in (3, 4, 5)]
    assert selected == expected(decoder, batch(frames), match)
    assert decoder.select(batch(frames), Match("n > 9"), PLAIN) == []


def test_a_shape_takes_objects_with_its_keys_and_no_others() -> None:
    shape = shape_of(("a", "b"), flat=False)
    rows = rows_of(shape, b'{"a":1,"b":2}\n{"b":3,"a":{"x":[1]}}')
    assert rows is not None
    assert shape.column(rows, "b") == [2, 3]
    assert shape.column(rows, "c") is None
    assert shape.column(rows, None) is None
    assert shape.columns(rows, ["a", "c"]) is None
    assert shape.maker(("a", None), {"c": 1, "b": 0}, False).fields(rows) == [{"b": 0, "c": 1}] * 2


@pytest.mark.parametrize(
    "plain", [{}, {"c": [1]}, {"a": 0, "c": 1}, {"b": None}, {'quo"ted': 1}, {"": 1}, {"b": 1, "": 2}]
)
@pytest.mark.parametrize("without", [(), ("a", None), ("a", "b"), ("c", "d")])
def test_rows_that_are_only_encoded_are_what_dictionaries_are(plain: dict[str, Any], without: tuple[str]) -> None:
    shape, block = shape_of(("a", "b"), flat=False), b'{"a":1,"b":2}\n{"b":3.5,"a":{"x":[1]}}'
    found = []
    for to_encode in (False, True):
        maker = shape.maker(without, plain, to_encode)
        rows = shape.rows(block, maker)
        assert rows is not None
        found.append(msgspec.json.decode(msgspec.json.encode(maker.fields(rows))))
    assert found[0] == found[1]


def test_what_is_set_takes_the_place_of_what_a_later_line_has() -> None:
    decoder, match, plain = JsonDecoder(), Match("n >= 0"), {"site": "hq"}
    given = batch([*learned(decoder, match, plain), b'{"n":7,"site":"elsewhere"}', b'{"site":null,"n":8}'])
    selected = decoder.select(given, match, plain, to_encode=True)
    assert selected is not None
    assert as_json(selected) == as_json(Set(plain).apply(match.select(decoder.decode(given))))
    assert [event["fields"] for event in as_json(selected)[-2:]] == [{"n": 7, "site": "hq"}, {"n": 8, "site": "hq"}]


@pytest.mark.parametrize("odd", [b'{"a":1}', b'{"a":1,"b":2,"c":3}', b'{"a":1,"b":1e999}', b'{"a":1,"b"', b"[]"])
def test_after_a_miss_a_shape_rests_longer_each_time(odd: bytes) -> None:
    shape, good = shape_of(("a", "b"), flat=False), b'{"a":1,"b":2}'
    for misses in range(1, 12):
        assert rows_of(shape, odd) is None
        rests = 0
        while rows_of(shape, good) is None:
            rests += 1
        assert rests == 2
        for _ in range(misses):
            # A hit makes up for all misses.
            assert rows_of(shape, good) is not None
    rows_of(shape, odd)
    rows_of(shape, good), rows_of(shape, good)
    for rests in (4, 8, 16, 32, 64, 128, 256, 256):
        assert rows_of(shape, odd) is None
        assert [rows_of(shape, odd) for _ in range(rests)] == [None] * rests


def test_a_sender_of_ever_new_keys_costs_no_shapes_and_no_memory() -> None:
    shapes = Shapes(FLAT, NESTED)
    with patch.object(Shapes, "_made", side_effect=AssertionError):
        for number in range(10_000):
            assert shapes.of_line(b'{"k%d":1}' % (number % 100)) is None
    assert len(shapes._known) <= _json_shapes._MOST_SHAPES


@pytest.mark.parametrize(
    "line", [b'{"a\\"b":1}', b'{"":1}', b"{" + b",".join(b'"k%d":1' % n for n in range(65)) + b"}"]
)
def test_some_keys_have_no_shape_or_one_that_works(line: bytes) -> None:
    shapes = Shapes(FLAT, NESTED)
    for _ in range(2 * _json_shapes._OFTEN):
        found = shapes.of_line(line)
    if found is not None:
        rows = rows_of(found, line)
        assert rows is not None
        assert found.maker((), {}, False).fields(rows) == [json.loads(line)]


def test_handlers_that_come_and_go_leave_nothing_behind() -> None:
    shape = shape_of(("a",))
    rows = rows_of(shape, b'{"a":1}')
    assert rows is not None
    for number in range(100):
        assert shape.maker((), {"n": number}, False).fields(rows) == [{"a": 1, "n": number}]
        assert shape.maker((), {"n": number}, True).plain == {"n": number}
    assert len(shape._makers) <= _json_shapes._MOST_MAKERS


@pytest.mark.parametrize("key", ["message_key", "time_key", "type_key"])
def test_what_is_set_by_the_name_of_what_is_taken_out_takes_nothing_away(key: str) -> None:
    decoder, match, plain = JsonDecoder(JsonOptions(**{key: "own"})), Match("n >= 0"), {"own": "set"}
    given = batch([*learned(decoder, match, plain), b'{"n":7,"own":"2026-11-22T10:00:00Z"}'])
    selected = decoder.select(given, match, plain, to_encode=True)
    assert selected is None or as_json(selected) == as_json(Set(plain).apply(match.select(decoder.decode(given))))


def test_what_gives_way_is_within_the_limits_too() -> None:
    decoder, match, plain = JsonDecoder(JsonOptions(max_depth=3)), Match("n >= 0"), {"site": "hq"}
    given = batch([*learned(decoder, match, plain), b'{"n":7,"site":[[[1]]]}'])
    selected = decoder.select(given, match, plain, to_encode=True)
    assert selected is None or as_json(selected) == as_json(Set(plain).apply(match.select(decoder.decode(given))))


def test_a_decoder_is_made_only_where_there_is_none() -> None:
    shape = shape_of(("a", "b"))
    shape.maker((), {}, False), shape.maker(("a",), {}, True), shape.maker((), {"b": 1}, True)
    assert shape._decoders.keys() == {()}
    shape.maker((), {"c": 1}, True), shape.maker((), {"c": 2, "a": 1}, True)
    assert shape._decoders.keys() == {(), ("c",)}


def test_nested_values_are_read_where_there_are_some_and_they_come_very_often() -> None:
    """A decoder for them takes long to make: until then such batches are read the other way."""
    shape, nested = shape_of(("a", "b")), b'{"a":1,"b":{"c":[2]}}'
    asked = 0
    while (rows := rows_of(shape, nested)) is None:
        asked += 1
        assert shape.is_flat is (asked < _json_shapes._VERY_OFTEN) or asked < 2 * _json_shapes._VERY_OFTEN
    assert _json_shapes._VERY_OFTEN <= asked < 2 * _json_shapes._VERY_OFTEN
    assert shape.column(rows, "b") == [{"c": [2]}]
    assert not shape.is_flat
    assert rows_of(shape, b'{"a":1,"b":2}') is not None


@pytest.mark.parametrize("plain", [{}, {"site": "hq"}])
def test_more_keys_than_are_allowed_are_noticed_in_flat_objects_too(plain: dict[str, Any]) -> None:
    """Also where one of them is what is set anyway."""
    decoder, match = JsonDecoder(JsonOptions(max_keys=2)), Match("n >= 0")
    frames = [b'{"n":%d,"a":1}' % n for n in range(6)]
    for _ in range(2 * _json_shapes._OFTEN):
        decoder.select(batch(frames), match, plain, to_encode=True)
    given = batch([*frames, b'{"n":7,"a":"%s","site":1}' % (b":" * 60)])
    assert decoder.select(given, match, plain, to_encode=True) is None
    assert [event.type for event in decoder.decode(given)][-1] == "undecodable"
    for _ in range(2 * _json_shapes._OFTEN):
        given = batch([b'{"n":%d,"a":1,"b":2}' % n for n in range(6)])
        assert decoder.select(given, match, plain, to_encode=True) is None
        assert {event.type for event in decoder.decode(given)} == {"undecodable"}


@pytest.mark.parametrize("at", [0, 3])
def test_nesting_without_end_raises_nothing(at: int) -> None:
    decoder, match = JsonDecoder(), Match("n >= 0")
    frames = [b'{"n":1}'] * 6
    frames[at] = b'{"n":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert decoder.select(batch(frames), match) is None
