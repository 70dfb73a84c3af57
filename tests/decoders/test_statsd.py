"""statsd and DogStatsD: what `tests/corpus/statsd` does not show."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.decoders.statsd import StatsdDecoder, StatsdOptions
from eventserver.event import Event
from eventserver.options import Size
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

SAMPLES = [
    b"page.views:1|c",
    b"load:0.75|g|#host:web-1,env:prod",
    b"load:-2|g",
    b"api.time:12|ms|@0.1",
    b"users:anna|s",
    b"size:1.5e3|d|c:ci-83c0|T1656581400",
    b"_e{4,5}:Disk|is on|t:error",
    b"_sc|db|1|m:slow",
]


class TestConformance(DecoderConformance):
    def make(self) -> Any:
        return StatsdDecoder()

    def samples(self) -> list[bytes]:
        return SAMPLES


def decode(*frames: bytes, **options: Any) -> list[Event]:
    return StatsdDecoder(StatsdOptions(**options)).decode(batch(*frames))


def one(frame: bytes, **options: Any) -> Event:
    [event] = decode(frame, **options)
    return event


def test_the_lines_of_a_frame_are_numbered_events() -> None:
    """The ids of one frame do not depend on another, and an empty line has no event."""
    events = decode(b"a:1|c\n\nb:2|c\r\nc:x|c\n", b"d:1:2|h")
    prefix = batch().id
    assert [event.id.removeprefix(prefix) for event in events] == ["-0", "-0.1", "-0.2", "-1", "-1.1"]
    assert [event.fields.get("name") for event in events] == ["a", "b", None, "d", "d"]
    assert events[1].message == "b:2|c"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("007", 7), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), (" 3 ", 3), ("9" * 20, 1e20)],
)
def test_numbers_are_decimal(text: str, value: float) -> None:
    found = one(f"n:{text}|ms".encode()).fields["value"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "x", "1_0", "0x1f", "1e", "--1", "+-1", "nan", "inf", "1e999", "9" * 400, "1,5"])
def test_what_is_no_number_is_undecodable(text: str) -> None:
    event = one(f"n:{text}|ms".encode())
    assert (event.type, event.fields) == ("undecodable", {"error": "the value is not a number"})
    assert event.raw == f"n:{text}|ms"


def test_only_a_gauge_with_a_sign_is_a_change() -> None:
    values = {kind: one(f"n:-2|{kind}".encode()).fields for kind in ("g", "c", "ms", "h")}
    assert {kind: (fields["value"], fields.get("delta")) for kind, fields in values.items()} == {
        "g": (-2, True), "c": (-2, None), "ms": (-2, None), "h": (-2, None),
    }  # fmt: skip
    assert one(b"n:2|g").fields == {"name": "n", "value": 2, "metric_type": "gauge"}


def test_what_follows_the_type_comes_in_any_order_and_may_be_unknown() -> None:
    """Protocol 1.6's parts turned round, with one of tomorrow between."""
    event = one(b"n:1|c|card:low|T1656581400|e:it-false|x:new|c:ci-1|#a:b:c,d|@0.5")
    assert event.fields == {
        "name": "n", "value": 1, "metric_type": "counter", "cardinality": "low", "timestamp": 1656581400,
        "external_data": "it-false", "container_id": "ci-1", "tags": {"a": "b:c", "d": ""}, "sample_rate": 0.5,
    }  # fmt: skip
    assert event.time == dt.datetime(2022, 6, 30, 9, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("stamp", ["", "-1", "1.5", "x", "9" * 12, "²"])
def test_a_time_stamp_that_is_none_makes_the_line_undecodable(stamp: str) -> None:
    assert one(f"n:1|c|T{stamp}".encode()).fields == {"error": "the time stamp is not a number of seconds"}


def test_a_set_keeps_its_text_colons_included() -> None:
    assert one(b"users:a:b:7|s").fields == {"name": "users", "value": "a:b:7", "metric_type": "set"}
    assert one(b"users:12|s").fields["value"] == "12"


def test_statsds_and_dogstatsds_ways_of_several_values_mix() -> None:
    events = decode(b"n:1:2|c|@0.5:-3|g:4|ms|#env:prod|c:ci-1")
    assert [event.message for event in events] == [
        "n:1|c|@0.5|#env:prod",
        "n:2|c|@0.5|#env:prod",
        "n:-3|g|#env:prod",
        "n:4|ms|#env:prod|c:ci-1",
    ]
    assert [event.fields["tags"] for event in events] == [{"env": "prod"}] * 4


def test_a_container_id_is_no_second_value() -> None:
    assert one(b"n:1|c|c:12").fields == {"name": "n", "value": 1, "metric_type": "counter", "container_id": "12"}


def test_values_beyond_max_unpacked_are_undecodable_and_counted_as_one_line() -> None:
    """64 KiB could otherwise become gigabytes: each of many values with thousands of bytes of tags."""
    line = b"n" + b":1" * 1000 + b"|c|#" + b"t" * 10_000
    events = decode(line)
    assert len(events) == 1 + (1 << 20) // (1 + 1 + 10_003 + 128)
    assert events[-1].fields == {"error": "more values than `max_unpacked` has room for"}
    assert events[-1].raw == line.decode()
    assert len(decode(line, max_unpacked=Size(64 << 20))) == 1000
    statsd = b"n" + b":1|c" * 10_000 + b"|#" + b"t" * 10_000
    assert len(decode(statsd)) == len(events)
    assert one(b"n:1|c|#" + b"t" * 100, max_unpacked=Size(0)).fields["value"] == 1, "one value always has room"


def test_many_wrong_values_of_a_line_are_one_event() -> None:
    """Its raw bytes are the whole line: one for each value would be quadratic."""
    events = decode(b"n" + b":x" * 30_000 + b"|c")
    assert len(events) == 1
    events = decode(b"n" + b":1" * 30_000 + b"|c")
    assert sum(len(event.message) for event in events) < 200_000
    assert [event.type for event in events] == ["statsd"] * ((1 << 20) // 131) + ["undecodable"]


def test_the_line_that_a_limit_cut_is_undecodable_and_those_before_it_are_not() -> None:
    """Half a value is a wrong value."""
    marks = {0: ("truncated",), 2: ("truncated",)}
    events = StatsdDecoder().decode(batch(b"a:1|c\nb:1000|c", b"c:1|c", b"d:1|g\n", marks=marks))
    assert [(event.type, event.message) for event in events] == [
        ("statsd", "a:1|c"), ("undecodable", "b:1000|c"), ("statsd", "c:1|c"), ("statsd", "d:1|g"),
    ]  # fmt: skip
    assert events[1].fields == {"error": "the line was cut off"}


def test_the_texts_of_events_count_bytes() -> None:
    event = one("_e{6,5}:Größ|a|b|c|h:web|t:success".encode())
    assert (event.type, event.message, event.fields["title"]) == ("statsd_event", "a|b|c", "Größ")
    assert (event.fields["alert_type"], event.fields["severity_code"]) == ("success", 6)
    assert event.time == RECEIVED


@pytest.mark.parametrize("line", [b"_e{", b"_e{1}:a|b", b"_e{1,1}:a", b"_e{1,1}:ab|c", b"_e{1,9}:a|b", b"_e{1,1}:a|bc"])
def test_an_event_with_wrong_lengths_is_undecodable(line: bytes) -> None:
    assert one(line).type == "undecodable"


def test_the_type_can_be_named() -> None:
    events = decode(b"n:1|c\n_e{1,1}:a|b\n_sc|x|0\nn", event_type="metric")
    assert [event.type for event in events] == ["metric", "metric_event", "metric_service_check", "undecodable"]


@given(
    st.lists(
        st.lists(
            st.sampled_from([b"n", b":", b"|", b"1", b"-", b"c", b"ms", b"s", b"@", b"#", b",", b"T", b"\n", b"\r",
                             b"_e{1,1}:a|b", b"_sc|", b"m:", b"\xff", b"\0", b"x", b"e:", b"card:"]),
            max_size=16,
        ).map(b"".join),
        max_size=6,
    )
)  # fmt: skip
def test_frames_do_not_touch_each_other_and_what_is_remembered_changes_nothing(frames: list[bytes]) -> None:
    used = StatsdDecoder()
    together = used.decode(batch(*frames))
    assert together == used.decode(batch(*frames))
    alone = [StatsdDecoder().decode(batch(*frames).part(index, index + 1)) for index in range(len(frames))]
    assert together == [event for events in alone for event in events]
    for event in together:
        if event.type == "statsd":
            again = one(event.message.encode())
            assert again.fields == event.fields or "\ufffd" in event.message
