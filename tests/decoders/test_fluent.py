"""The decoder `fluent`: entries of the Forward protocol to events, with a verdict for each odd thing."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import msgspec
import pytest

from eventserver.decoders.fluent import FluentDecoder
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch
from tests.fluent_client import encode, entry, event_time

SECOND = 1_700_000_000
AT = dt.datetime.fromtimestamp(SECOND, dt.UTC)


class TestConformance(DecoderConformance):
    def make(self) -> Any:
        return FluentDecoder()

    def samples(self) -> list[bytes]:
        return [
            entry(event_time(SECOND, 123456789), {"log": "hello", "source": "stdout"}),
            entry(SECOND, {"message": "other", "kubernetes": {"pod": "web", "labels": {"a": "b"}}}),
            entry([event_time(SECOND, 0), {"otlp": {"severity": 9}}], {"n": 1, "list": [1, 2.5, None, True]}),
        ]


def one(frame: bytes, **options: Any) -> Event:
    [event] = FluentDecoder(FluentDecoder.Options(**options)).decode(batch(frame, context={"tag": "app"}))
    return event


def record(value: Any) -> Any:
    """What a value in a record becomes."""
    event = one(entry(SECOND, {"v": value}))
    assert event.type == "fluent", event
    return event.fields["v"]


def reason(frame: bytes, **options: Any) -> str:
    event = one(frame, **options)
    assert event.type == "undecodable"
    assert event.raw_bytes == frame
    return str(event.fields["error"])


def test_an_entry_is_an_event() -> None:
    event = one(entry(event_time(SECOND, 987654321), {"log": "GET /", "container_name": "/web", "code": 200}))
    assert (event.type, event.message) == ("fluent", "GET /")
    assert event.time == AT.replace(microsecond=987654)
    assert event.fields == {"container_name": "/web", "code": 200}
    assert event.context == {"tag": "app"}
    assert event.raw_bytes is None


def test_metadata_of_fluent_bit_is_in_the_context() -> None:
    assert one(entry([event_time(SECOND), {}], {"log": "x"})).context == {"tag": "app"}
    event = one(entry([event_time(SECOND), {"level": "info"}], {"log": "x"}))
    assert (event.time, event.message) == (AT, "x")
    assert event.context == {"tag": "app", "metadata": {"level": "info"}}


@pytest.mark.parametrize(
    ("time", "expected"),
    [(SECOND, AT), (float(SECOND) + 0.5, AT.replace(microsecond=500000)), (0, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
     (event_time(2**32 - 3, 10**9 - 1), dt.datetime(2106, 2, 7, 6, 28, 13, 999999, dt.UTC)), (AT, AT),
     # no times
     (None, RECEIVED), ("x", RECEIVED), (True, RECEIVED), (2**62, RECEIVED), (2**64 - 1, RECEIVED), (1e300, RECEIVED),
     (float("nan"), RECEIVED), (msgspec.msgpack.Ext(5, b"x"), RECEIVED), ([], RECEIVED), ({}, RECEIVED),
     # Fluent Bit's marks of groups
     (event_time(2**32 - 1), RECEIVED), (event_time(2**32 - 2), RECEIVED), (2**32 - 1, RECEIVED)],
)  # fmt: skip
def test_times(time: Any, expected: dt.datetime) -> None:
    for given in (time, [time, {}]):
        event = one(entry(given, {"log": "x"}))
        assert (event.time, event.message, event.type) == (expected, "x", "fluent")


def test_the_first_key_that_holds_a_text_is_the_message() -> None:
    event = one(entry(SECOND, {"msg": "third", "message": "second", "log": 1}))
    assert (event.message, event.fields) == ("second", {"msg": "third", "log": 1})
    event = one(entry(SECOND, {"text": "x", "log": "y"}), message_keys=("text",), event_type="app")
    assert (event.message, event.fields, event.type) == ("x", {"log": "y"}, "app")
    assert one(entry(SECOND, {"log": "y"}), message_keys=()).fields == {"log": "y"}
    assert one(entry(SECOND, {})).message == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("text", "text"), (b"bin", "bin"), ("ä".encode(), "ä"), (2**63 - 1, 2**63 - 1), (2**63, "9223372036854775808"),
     (-(2**63), -(2**63)), (1.5, 1.5), (float("nan"), None), (float("-inf"), None), (None, None), (True, True),
     (event_time(SECOND, 5000), "2023-11-14T22:13:20.000005Z"), (AT, "2023-11-14T22:13:20Z"),
     (msgspec.msgpack.Ext(5, b"ab"), {"ext": 5, "data": "YWI="}),
     (msgspec.msgpack.Ext(-2, b""), {"ext": -2, "data": ""}),
     (msgspec.msgpack.Ext(-1, b"\xff" * 8), {"ext": -1, "data": "//////////8="}),
     ([b"a", {"k": b"b"}], ["a", {"k": "b"}]), ({1: "a", None: 3}, {"1": "a", "null": 3})],
)  # fmt: skip
def test_values_that_json_has_not(value: Any, expected: Any) -> None:
    assert record(value) == expected


@pytest.mark.parametrize("head", [b"\xa2", b"\xd9\x02", b"\xda\0\2", b"\xdb\0\0\0\2", b"\xc4\x02", b"\xc5\0\2"])
def test_texts_that_are_not_utf_8_keep_the_frame(head: bytes) -> None:
    frame = b"\x92\x01\x82\xa3log\xa2ok\xa1v" + head + b"\xffx"
    event = one(frame)
    assert (event.message, event.fields) == ("ok", {"v": "\ufffdx"})
    assert event.raw_bytes == frame


def test_a_key_twice_means_the_last_one() -> None:
    assert one(b"\x92\x01\x82\xa1a\x01\xa1a\x02").fields == {"a": 2}
    assert one(b"\x92\x01\x82\xa1a\x01\xc4\x01a\x02").fields == {"a": 2}


@pytest.mark.parametrize(
    ("frame", "why"),
    [(b"", "cut off"), (b"\xc1", "0xc1"), (b"\x92\x01", "cut off"), (b"\x92\x01\x80\x80", "bytes behind"),
     (b"\x01", "no entry"), (b"\x91\x01", "no entry"), (b"\x93\x01\x80\x80", "no entry"),
     (b"\x92\x01\xa1x", "no entry"),
     (b"\x92\x01\x81\xa1a\xc6\xff\xff\xff\xff", "cut off"), (b"\x92\x01\xdf\xff\xff\xff\xff", "more than 1000 keys"),
     (b"\x92\x01\xdd\xff\xff\xff\xff", "cut off"), (b"\x92\x01\x81\x90\x01", "a key that is no text")],
)  # fmt: skip
def test_what_is_no_entry_is_undecodable(frame: bytes, why: str) -> None:
    assert why in reason(frame)


def nested(depth: int) -> bytes:
    return b"\x92\x01" + b"\x81\xa1a" * depth + b"\x01"


@pytest.mark.parametrize("most", [1, 3, 8, 9, 64])
def test_depth_is_limited(most: int) -> None:
    assert one(nested(most), max_depth=most).type == "fluent"
    assert f"deeper than {most + 1}" in reason(nested(most + 1), max_depth=most)


def test_depth_beyond_any_stack_is_only_undecodable() -> None:
    for frame in (nested(100_000), b"\x92" + b"\x91" * 100_000 + b"\xc0\x80", b"\x92\x01\x81\xa1a" + b"\x91" * 100_000):
        assert "deeper" in reason(frame)


@pytest.mark.parametrize("shape", [lambda n: {f"{i}": i for i in range(n)}, lambda n: {"a": [{"b": 1}] * (n - 1)}])
def test_keys_are_limited(shape: Any) -> None:
    assert one(entry(SECOND, shape(50)), max_keys=50).type == "fluent"
    assert "more than 50 keys" in reason(entry(SECOND, shape(51)), max_keys=50)


def test_usual_entries_do_not_need_the_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Docker, fluentd and Fluent Bit mostly send is read by compiled code."""
    monkeypatch.setattr(FluentDecoder, "_unusual", lambda *_: pytest.fail("a usual entry took the slow way"))
    for time in (SECOND, event_time(SECOND, 5)):
        one(entry(time, {"log": "x" * 5000, "k": {"labels": {"a": "b"}}, "n": [1, 2.5, None]}))


def test_events_can_be_written_as_json() -> None:
    frame = encode([struct.pack(">I", 1), {"a": float("nan"), "b": b"\xff", "c": 2**64 - 1}])
    assert msgspec.json.decode(msgspec.json.encode(one(frame)))["fields"] == {
        "a": None,
        "b": "\ufffd",
        "c": "18446744073709551615",
    }
