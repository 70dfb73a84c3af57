"""The decoder `json`: the verdicts of its documentation, one by one."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver import options
from eventserver.decoders.json import JsonDecoder, JsonOptions
from eventserver.event import Event
from eventserver.matching import Match
from eventserver.testing.decoders import NASTY, RECEIVED, DecoderConformance, batch

NOON = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


class TestJsonConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> JsonDecoder:
        return JsonDecoder()

    def samples(self) -> list[bytes]:
        return [
            b'{"message":"hello","n":1}',
            b'{"time":"2026-11-22T12:00:00Z","user":{"tags":["a","b"]}}',
            b'{"n":-1.5}',
        ]


def decode(*frames: bytes, **settings: Any) -> list[Event]:
    return JsonDecoder(JsonOptions(**settings)).decode(batch(*frames))


def one(frame: bytes, **settings: Any) -> Event:
    """The event of a frame, which is the same alone and in company."""
    [event] = decode(frame, **settings)
    _, again, _ = decode(b'{"n":1}', frame, b'{"n":2}', **settings)
    assert again.replace(id=event.id) == event
    return event


def test_message_time_and_type_are_taken_out_and_the_rest_is_fields() -> None:
    event = one(b'{"message":"m","time":"2026-11-22T13:00:00+01:00","type":"t","user":{"id":7}}')
    assert (event.message, event.time, event.type, event.fields) == ("m", NOON, "t", {"user": {"id": 7}})


def test_without_these_keys_there_are_defaults() -> None:
    event = one(b'{"n":1}')
    assert (event.message, event.time, event.type, event.fields) == ("", RECEIVED, "json", {"n": 1})


def test_the_keys_are_settings() -> None:
    event = one(
        b'{"msg":"m","ts":1795348800,"kind":"t","message":"x"}', message_key="msg", time_key="ts", type_key="kind"
    )
    assert (event.message, event.time, event.type, event.fields) == ("m", NOON, "t", {"message": "x"})


def test_an_empty_key_takes_nothing() -> None:
    event = one(
        b'{"message":"m","time":1,"type":"t","":"e"}', message_key="", time_key="", type_key="", event_type="log"
    )
    assert (event.message, event.time, event.type) == ("", RECEIVED, "log")
    assert event.fields == {"message": "m", "time": 1, "type": "t", "": "e"}


@pytest.mark.parametrize(
    ("value", "message"),
    [("null", ""), ("42", "42"), ("true", "true"), ('{"a":[1]}', '{"a":[1]}')],
)
def test_a_message_that_is_no_text_stays_in_the_fields_too(value: str, message: str) -> None:
    event = one(b'{"message":%s}' % value.encode())
    assert (event.message, event.fields) == (message, {"message": json.loads(value)})


@pytest.mark.parametrize("value", ["null", "1", '""', "[]"])
def test_a_type_that_is_no_text_stays_in_the_fields(value: str) -> None:
    event = one(b'{"type":%s}' % value.encode())
    assert (event.type, event.fields) == ("json", {"type": json.loads(value)})


@pytest.mark.parametrize(
    "value",
    [
        '"2026-11-22T12:00:00Z"',
        '"2026-11-22t12:00:00z"',
        '"2026-11-22 12:00:00.000000+00:00"',
        '"2026-11-22T12:00:00"',
        '"2026-11-22T06:30:00-05:30"',
        "1795348800",
        "1795348800.0",
        "1795348800000",
        "1795348800000000",
        "1795348800000000000",
    ],
)
def test_times_are_rfc_3339_or_numbers_since_1970(value: str) -> None:
    event = one(b'{"time":%s}' % value.encode())
    assert (event.time, event.fields) == (NOON, {})
    assert event.time.tzinfo is dt.UTC


@pytest.mark.parametrize(
    "value",
    [
        '"yesterday"',
        '"2026-11-22"',
        '"2026-11-22x12:00:00Z"',
        '"20261122T120000.000Z"',
        '""',
        '"2026-13-22T12:00:00Z"',
        '"0001-01-01T00:00:00+14:00"',
        "null",
        "true",
        "[]",
        "1e300",
    ],
)
def test_a_time_that_cannot_be_read_stays_in_the_fields(value: str) -> None:
    event = one(b'{"time":%s}' % value.encode())
    assert (event.time, event.fields) == (RECEIVED, {"time": json.loads(value)})


def test_an_array_gives_an_event_for_each_object() -> None:
    events = decode(b'{"n":0}', b'[{"n":1},{"n":2},{"n":3}]', b"[]", b'{"n":4}')
    stem = batch().id
    assert [(e.id, e.fields["n"]) for e in events] == [
        (f"{stem}-0", 0), (f"{stem}-1", 1), (f"{stem}-1.1", 2), (f"{stem}-1.2", 3), (f"{stem}-3", 4)
    ]  # fmt: skip


@pytest.mark.parametrize("blank", [b"", b"  ", b"\t\r\n", b"\0", b"\xef\xbb\xbf", b"[ ]"])
def test_a_blank_frame_gives_no_event(blank: bytes) -> None:
    assert decode(blank) == []
    assert [e.fields for e in decode(b'{"n":1}', blank, b'{"n":2}')] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"null", "neither an object nor an array of objects"),
        (b'"text"', "neither an object nor an array of objects"),
        (b"42", "neither an object nor an array of objects"),
        (b'[{"n":1},2]', "neither an object nor an array of objects"),
        (b'[[{"n":1}]]', "neither an object nor an array of objects"),
        (b'{"a":NaN}', "malformed"),
        (b'{"a":-Infinity}', "malformed"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 4301 + b"}", "out of range"),
        (b'{"a":"\\ud800"}', "truncated"),
        (b'{"a":"\\udc00 x"}', "surrogate"),
        (b'{"\\ud800 and more":1}', "surrogate"),
        (b'{"a":"\xed\xa0\x80"}', "utf-8"),
        (b'{"a":"\xff"}', "utf-8"),
        (b'{"a":"\x01"}', "malformed"),
        (b'{"a":1,}', "trailing comma"),
        (b'{"a":1} x', "trailing characters"),
        (b'{"a":1}{"b":2}', "trailing characters"),
        (b'{"a":1', "truncated"),
        (b"{'a':1}", "malformed"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64"),
        (b'[{"a":' + b"[" * 63 + b"]" * 63 + b"}]", "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
        (json.dumps({f"k{n}": n for n in range(1001)}).encode(), "more than 1000 keys"),
        (json.dumps({"a": [{f"k{n}": n for n in range(500)}] * 2}).encode(), "more than 1000 keys"),
    ],
)
def test_what_is_undecodable_says_why_and_keeps_its_bytes(frame: bytes, reason: str) -> None:
    event = one(frame)
    assert event.type == "undecodable"
    assert reason in event.fields["error"]
    assert event.raw_bytes == frame


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":9223372036854775807,"b":-9223372036854775808}', {"a": 2**63 - 1, "b": -(2**63)}),
        (b'{"a":9223372036854775808,"b":[-9223372036854775809]}', {"a": str(2**63), "b": [str(-(2**63) - 1)]}),
        (b'{"a":{"b":18446744073709551616}}', {"a": {"b": str(2**64)}}),
        (b'{"a":' + b"9" * 4000 + b"}", {"a": "9" * 4000}),
        (b'{"a":1e-999,"b":-0,"c":1E2}', {"a": 0.0, "b": 0, "c": 100.0}),
        (b'{"a":"9223372036854775808999"}', {"a": "9223372036854775808999"}),
        (b'{"a":"\\ud83d\\ude00\\u0000"}', {"a": "\U0001f600\0"}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b' {"a":1}\r\n', {"a": 1}),
        (b'{"a":1}\0', {"a": 1}),
        (b'{\n"a":\n1\n}', {"a": 1}),
        (b'{"a":' * 64 + b"1" + b"}" * 64, None),
        (b'{"a":"' + b"[" * 500 + b'"}', {"a": "[" * 500}),
        (json.dumps({f"k{n}": n for n in range(1000)}).encode(), {f"k{n}": n for n in range(1000)}),
    ],
)
def test_what_is_odd_but_readable_has_its_documented_value(frame: bytes, fields: dict[str, Any] | None) -> None:
    event = one(frame)
    assert event.type == "json"
    assert event.fields == (json.loads(frame) if fields is None else fields)
    msgspec.json.encode(event)


def test_the_limits_of_an_array_hold_for_each_of_its_objects() -> None:
    events = decode(json.dumps([{f"k{n}": n for n in range(600)}] * 3).encode())
    assert [len(e.fields) for e in events] == [600, 600, 600]


def test_depth_and_keys_are_settings() -> None:
    assert one(b'{"a":{"b":1}}', max_depth=1).type == "undecodable"
    assert one(b'{"a":1}', max_depth=1).type == "json"
    assert one(b'{"a":1,"b":{"c":1}}', max_keys=2).type == "undecodable"
    assert one(b'{"a":1,"b":2}', max_keys=2).type == "json"


@pytest.mark.parametrize("settings", [{"max_depth": 0}, {"max_depth": 201}, {"max_keys": 0}, {"type": "x"}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """`type` is the listener's: the events' is `event_type`."""
    made, problems = options.parse(JsonOptions, settings)
    assert made is None
    assert [key for key, _ in problems] == list(settings)


@pytest.mark.parametrize(
    "frames",
    [
        [b'{"a":1}{"b":2}', b'{"c":', b"3}"],
        [b'{"a":1}{"b":2}', b'{"c":3'],
        [b'{"a":{}', b'"b":2}', b'{"c":3}{"d":4}'],
        [b'{"a":1}', b"", b'{"b":1}{"c":1}'],
        [b'{"a":"', b'"}', b"{}{}"],
        [b'{"a":[{}', b"{}]}{}"],
        [b"{}{}", b'{"a":[1,', b'{"b":2}]}'],
        [b'{"a":1}\n{"b":2}', b"{", b"}"],
    ],
)
def test_no_frame_gets_into_the_event_of_another(frames: list[bytes]) -> None:
    """Frames of several peers are decoded in one call, so values must not cross from one to the next."""
    alone = [(event.type, event.fields) for frame in frames for event in decode(frame)]
    assert [(event.type, event.fields) for event in decode(*frames)] == alone


_bits = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"a":', b"1", b",", b"{}", b'"', b"\n", b" ", b"9" * 19, b"\xff", b"\\"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.lists(_bits, max_size=8).map(b"".join) | st.sampled_from(NASTY[:30]), max_size=5))
def test_a_batch_decodes_as_its_frames_do_one_by_one(frames: list[bytes]) -> None:
    """The call for the whole batch is only faster."""
    alone = [(event.type, event.message, event.fields) for frame in frames for event in decode(frame)]
    assert [(event.type, event.message, event.fields) for event in decode(*frames)] == alone


_stamps: st.SearchStrategy[Any] = st.sampled_from(
    ["2026-11-22T12:00:00Z", "2026-11-22T12:00:00.5Z", "2026-11-22T12:00:00.123456789Z", "2026-11-22T13:00:00+01:00",
     "2026-11-22 12:00:00.25", "2026-11-22t12:00:00z", "2026-11-22T12:00:60Z", "2026-11-22T24:00:00Z", "2026-11-22",
     "20261122T120000.000Z", "2026-11-22x12:00:00Z", "2026-W47-7T12:00:00Z", "2026-11-22T12:00Z", "2026-11-22T12",
     "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "22/Nov/2026:12:00:00 +0000", "", 1795348800, 1.5,
     1e300, None, True, [], {}]
)  # fmt: skip
_objects = st.fixed_dictionaries(
    {"a": st.integers()},
    optional={
        "message": st.text(max_size=3) | _values,
        "time": _stamps,
        "type": st.sampled_from(["t", "json", "", None, 1, ["t"]]),
        "b": _values,
        "huge": st.integers(2**62, 2**65),
    },
)


@settings(max_examples=300)
@given(
    objects=st.lists(_objects | st.lists(_objects, max_size=2), min_size=1, max_size=5),
    keys=st.sampled_from([{}, {"time_key": "message"}, {"type_key": "time"}, {"type_key": "message", "time_key": "b"}]),
    indent=st.sampled_from([None, 1]),
    bad=st.sampled_from([b"", b" ", b'{"a":', b'{"a":1}{"b":2}', b"\xff"]) | st.none(),
)
def test_the_call_for_the_whole_batch_gives_what_frame_by_frame_gives(
    objects: list[Any], keys: dict[str, str], indent: int | None, bad: bytes | None
) -> None:
    """Columns for the usual, a look of its own for what is odd: not to be told apart, the order of fields included."""
    frames = [json.dumps(value, indent=indent).encode() for value in objects]
    frames += [] if bad is None else [bad]
    decoder = JsonDecoder(msgspec.convert(keys, JsonOptions))
    given_batch = batch(*frames, peers=[f"192.0.2.{n}:1" for n in range(len(frames))], marks={0: ("truncated",)})
    events, singly = decoder.decode(given_batch), decoder._one_by_one(given_batch)
    assert events == singly
    assert msgspec.json.encode(events) == msgspec.json.encode(singly)
    assert all(event.time.tzinfo is dt.UTC for event in events)


def test_common_frames_are_decoded_in_one_call() -> None:
    """What makes it fast: neither long frames nor nesting, blank space nor a value of another type cost that."""
    decoder = JsonDecoder()
    common = [
        b'{"message":"m","time":"2026-11-22T12:00:00.123456789Z","type":"t"}',
        b'{"message":null,"time":"yesterday","type":7}',
        b'{ "message": "m", "time": 1795348800 }',
        b'{"a":' * 7 + b"[1]" + b"}" * 7,
        b'{"a":"%s"}' % (b"x" * 20_000),
        b"{}",
    ]
    assert decoder._whole(common) is not None
    for odd in (
        b"",
        b"[]",
        b" {}",
        b'{"a":',
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":%d}' % 2**63,
        b'{"a":%d}' % (-(2**63) - 1),
    ):
        assert decoder._whole([*common, odd]) is None


@given(st.lists(st.dictionaries(st.text(max_size=8), _values, max_size=5), min_size=1, max_size=4))
def test_every_object_comes_through_as_it_is_but_for_huge_integers(objects: list[dict[str, Any]]) -> None:
    events = decode(*(json.dumps(value, ensure_ascii=False).encode("utf-8") for value in objects),
                    message_key="", time_key="", type_key="")  # fmt: skip
    assert [event.fields for event in events] == [_tamed(value) for value in objects]
    assert all(event.type == "json" for event in events)
    msgspec.json.encode(events)


def _tamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tamed(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_tamed(child) for child in value]
    return str(value) if type(value) is int and not -(2**63) <= value < 2**63 else value


#: Conditions that look at fields only and are false without them, and some that do not.
MATCHES = [
    *("a == 1", "a > 0", 'b == "x" or a < 0', 'has("a")', 'fields["b"]["c"] == 1', 'a in (1, "x")'),
    'b == "9223372036854775808"',
    *("a != 1", "not b", 'message == "m"', 'has("error")', 'has("msg")', 'has("message")'),
    *("True", 'peer == "a"', "fields"),
]
_objects = st.dictionaries(
    st.sampled_from(["a", "b", "c", "message", "msg", "time", "error", "d"]),
    st.sampled_from([1, 0, 2**63, -1, 1.5, "x", "m", "", None, True, {"c": 1}, {"c": {"c": 1}}, [1, "x"], [[]]]),
    max_size=4,
)
_odd = st.sampled_from([
    *(b'{"d":"\xff"}', b'{"d":1e999}', b'{"a":1,"d":"\xff"}', b'{"d":"\\ud800"}', b"{}{}", b'{"a":1} {"a":1}'),
    *(b"[]", b"", b'{"a":1,"a":2}', b'{"a":2,"a":1}', b'{"a":}', b'[{"a":1},{"a":1}]', b' {"a":1}'),
    *(b'{"d":' * 70 + b"1" + b"}" * 70, b'{"a":' * 70 + b"1" + b"}" * 70, b'{"a":1,"d":%s}' % (b"9" * 400)),
    b"{" + b",".join([b'"d":1'] * 2000) + b"}",
])  # fmt: skip


@settings(max_examples=500)
@given(
    frames=st.lists(_objects.map(lambda value: json.dumps(value).encode()), min_size=5, max_size=12),
    odd=st.lists(_odd, max_size=2) | st.just([]),
    text=st.sampled_from(MATCHES),
    several=st.booleans(),
    start=st.integers(0, 2),
)
def test_select_gives_what_decoding_and_matching_gives(
    frames: list[bytes], odd: list[bytes], text: str, several: bool, start: int
) -> None:
    """Or None; also for a part of a batch, with marks, and with a peer a frame."""
    frames = [*odd[:1], *frames, *odd[1:]]
    decoder, match = JsonDecoder(JsonOptions(message_key="msg")), Match(text)
    peers = [f"192.0.2.{n}:1" for n in range(len(frames))] if several else ["a"]
    given_batch = batch(*frames, peers=peers, marks={1: ("truncated",)} if len(frames) > 1 else {})
    for one in (given_batch, given_batch.part(min(start, len(frames) - 1), len(frames))):
        selected = decoder.select(one, match)
        expected = match.select(decoder.decode(one))
        assert selected is None or selected == expected
        assert selected is None or msgspec.json.encode(selected) == msgspec.json.encode(expected)


@pytest.mark.parametrize("text", MATCHES[:7])
def test_select_decodes_only_what_it_has_to(text: str) -> None:
    """Nobody finds out that a frame is broken which is not wanted anyway."""
    decoder, match = JsonDecoder(), Match(text)
    frames = [b'{"a":1,"b":{"c":1},"c":"x"}', b'{"a":null}', b'{"b":"x","d":"\xff"}', *[b'{"n":1}'] * 5]
    wanted = match.select(decoder.decode(batch(*frames)))
    if any(event.type == "undecodable" for event in decoder.decode(batch(*frames))[:2]):
        raise AssertionError("the test is wrong")
    selected = decoder.select(batch(*frames), match)
    if 'b == "x"' in text:
        # The frame that is wanted is broken: its event is made with all the others.
        assert selected is None
    else:
        assert selected == wanted


@pytest.mark.parametrize("text", MATCHES[7:])
def test_select_leaves_other_conditions_to_events(text: str) -> None:
    frames = [b'{"a":%d}' % n for n in range(20)]
    assert JsonDecoder(JsonOptions(message_key="msg")).select(batch(*frames), Match(text)) is None


def test_select_is_not_fooled_by_two_objects_in_a_frame_and_reads_huge_integers_as_decoding_does() -> None:
    decoder = JsonDecoder()
    common = [b'{"a":1}', b'{"a":0}'] * 3
    two = batch(b'{"a":1} {"a":1}', *common)
    assert decoder.select(two, Match("a == 1")) is None
    # A frame that ends in the next one would make up for it, if there could be one.
    assert decoder.select(batch(b'{"a":1} {"a":1}', b'{"b":"}', b'{","a":1}', *common), Match("a == 1")) is None
    huge = batch(b'{"a":%d}' % 2**63, *common)
    assert decoder.select(huge, Match('a == "9223372036854775808"')) in (None, decoder.decode(huge)[:1])
    assert decoder.select(huge, Match("a > 1")) in (None, [])
