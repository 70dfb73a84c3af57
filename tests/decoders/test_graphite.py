"""The decoder `graphite`: lines, tags, times and numbers as carbon reads them. Pickles: test_graphite_pickle.py."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from eventserver import options
from eventserver.decoders.graphite import GraphiteDecoder, GraphiteOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

NEW_YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def decode(*frames: bytes, marks: dict[int, tuple[str, ...]] | None = None, **given: Any) -> list[Event]:
    return GraphiteDecoder(GraphiteOptions(**given)).decode(batch(*frames, marks=marks or {}))


class TestGraphiteConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> GraphiteDecoder:
        return GraphiteDecoder()

    def samples(self) -> list[bytes]:
        return [b"servers.web1.load 0.42 1767225600", b"cpu;dc=fra;host=web1 12 1767225601.5", b"errors 3 -1"]


def test_a_line_is_a_path_a_value_and_a_time_stamp() -> None:
    [event] = decode(b"servers.web1.load 0.42 1767225600")
    assert (event.type, event.message, event.time) == ("graphite", "servers.web1.load 0.42", NEW_YEAR)
    assert event.fields == {"name": "servers.web1.load", "value": 0.42}
    assert event.raw is UNSET


@pytest.mark.parametrize(
    "line", [b" a 1 1767225600", b"a\t1\t1767225600", b"a  1  1767225600 ", b"a 1 1767225600\r", b"a 1 1767225600\n"]
)
def test_any_white_space_separates(line: bytes) -> None:
    """As with carbon, which splits at white space."""
    [event] = decode(line)
    assert (event.fields, event.time) == ({"name": "a", "value": 1.0}, NEW_YEAR)


@pytest.mark.parametrize(
    ("number", "value"),
    [("1", 1.0), ("-1.5", -1.5), ("+3", 3.0), ("1e3", 1000.0), ("1E-3", 0.001), (".5", 0.5), ("9" * 30, 1e30),
     ("1" + "0" * 308, 1e308)],
)  # fmt: skip
def test_values_are_doubles(number: str, value: float) -> None:
    """And the message has them as they were written, in a frame of its own and among several lines alike."""
    line = f"a {number} 1767225600".encode()
    for event in decode(line) + decode(line + b"\n" + line):
        assert (event.fields["value"], event.message) == (value, f"a {number}")
        assert isinstance(event.fields["value"], float)


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("1767225600", NEW_YEAR),
        ("1767225600.25", NEW_YEAR.replace(microsecond=250000)),
        ("1.7672256e9", NEW_YEAR),
        ("0", dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        ("-60", dt.datetime(1969, 12, 31, 23, 59, tzinfo=dt.UTC)),
        ("-1", RECEIVED),
        ("-1.0", RECEIVED),
    ],
)
def test_times(stamp: str, time: dt.datetime) -> None:
    """Seconds since 1970; -1 is now, which is when it was received."""
    [event] = decode(f"a 1 {stamp}".encode())
    assert event.time == time


def test_a_nan_is_no_datapoint() -> None:
    """As with carbon. Neighbours and ids of other frames are as they were."""
    events = decode(b"a 1 1767225600", b"b NaN 1767225600", b"c -nan 1767225600", b"d 1 1767225600")
    assert [(event.id[-2:], event.fields["name"]) for event in events] == [("-0", "a"), ("-3", "d")]


def test_a_nan_can_be_kept_as_a_null() -> None:
    [event] = decode(b"b NaN 1767225600", nan="keep")
    assert (event.message, event.fields) == ("b NaN", {"name": "b", "value": None})


@pytest.mark.parametrize("frame", [b"", b" ", b"\r", b"\n", b"\n\n \r\n"])
def test_an_empty_line_is_no_event(frame: bytes) -> None:
    assert decode(frame) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "a line is a path, a value and a time stamp"),
        (b"a 1", "a line is a path, a value and a time stamp"),
        (b"a 1 1767225600 x", "a line is a path, a value and a time stamp"),
        (b"a one 1767225600", "the value is no number"),
        (b"a 0x10 1767225600", "the value is no number"),
        (b"a 1 now", "the time stamp is no number"),
        (b"a 1 nan", "the time stamp nan is out of range"),
        (b"a 1 inf", "the time stamp inf is out of range"),
        (b"a 1 1767225600000", "the time stamp 1767225600000.0 is out of range"),
        (b"a inf 1767225600", "the value is infinite"),
        (b"a 1e999 1767225600", "the value is infinite"),
        (b"caf\xe9 1 1767225600", "it is not UTF-8"),
        (b"\x80\x02]q\x00.", 'a pickle: write `protocol = "pickle"` and `framing = "length"`'),
    ],
)
def test_what_cannot_be_read(line: bytes, reason: str) -> None:
    """The reason and the bytes are in the event, and its neighbours are not touched."""
    before, wrong, after = decode(b"x 1 1767225600", line, b"y 2 1767225600")
    assert (wrong.type, wrong.fields, wrong.raw_bytes) == ("undecodable", {"error": reason}, line)
    assert (before.fields["name"], after.fields["name"]) == ("x", "y")


def test_a_datagram_is_several_lines() -> None:
    """Ids count the events of the frame; a CR before the LF, empty lines and a missing last LF do no harm."""
    events = decode(b"x 0 1767225600", b"a 1 1767225600\r\n\nb nan 1767225600\nc;d=e 3 1767225600")
    assert [event.id.rpartition("-")[2] for event in events] == ["0", "1", "1.1"]
    assert [event.message for event in events] == ["x 0", "a 1", "c;d=e 3"]


def test_what_cannot_be_read_of_a_datagram_is_one_event() -> None:
    """However many lines they are: a datagram of nonsense must not become thousands of copies of itself."""
    frame = b"a 1 1767225600\nnonsense\nb 2 1767225600\n\xff 1 1\n"
    first, second, wrong = decode(frame)
    assert (first.message, second.message) == ("a 1", "b 2")
    assert (wrong.type, wrong.raw_bytes, wrong.id[-4:]) == ("undecodable", frame, "-0.2")
    assert wrong.fields["error"] == (
        "2 of 4 lines cannot be read; line 2: a line is a path, a value and a time stamp"
    )  # fmt: skip


def test_half_a_line_is_no_datapoint() -> None:
    """Its time stamp, or its value, would be a wrong one."""
    events = decode(b"a 1 176722", b"a 1 1767225600\nb 2 17", marks={0: ("truncated",), 1: ("truncated",)})
    assert [(event.type, event.context) for event in events] == [
        ("undecodable", {"truncated": True}), ("graphite", {"truncated": True}), ("undecodable", {"truncated": True}),
    ]  # fmt: skip
    assert events[0].fields["error"] == "it was cut short"
    assert decode(b"a 1 1767225600\n", marks={0: ("truncated",)})[0].message == "a 1"


# Tags


@pytest.mark.parametrize(
    ("path", "name", "tags"),
    [
        ("disk.used;datacenter=dc1;rack=a1;server=web01", "disk.used",
         {"datacenter": "dc1", "rack": "a1", "server": "web01"}),
        ("a;k=v=w", "a", {"k": "v=w"}),
        ("a;k=1;k=2", "a", {"k": "2"}),
        ("größe;straße=hauptstraße", "größe", {"straße": "hauptstraße"}),
        ('disk_used{datacenter="dc1",server="web01"}', "disk_used", {"datacenter": "dc1", "server": "web01"}),
        (r'a{k="say\"\\"}', "a", {"k": 'say"\\'}),
    ],
)  # fmt: skip
def test_tags(path: str, name: str, tags: dict[str, str]) -> None:
    """In Graphite's form, and in that of OpenMetrics, which carbon reads too. The message has the path as it came."""
    [event] = decode(f"{path} 1 1767225600".encode())
    assert event.fields == {"name": name, "value": 1.0, "tags": tags}
    assert event.message == f"{path} 1"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("a;", "a tag without `=`: ''"),
        ("a;k", "a tag without `=`: 'k'"),
        ("a;=v", "a tag without a name"),
        ("a;k=", "the tag 'k' has no value"),
        ("a;k=~v", "the value of the tag 'k' begins with `~` or has a `;`"),
        ("a;k!=v", "the name of a tag has one of `;!^=`: 'k!'"),
        (";k=v", "there is no name before the tags"),
        ('{k="v"}', "there is no name before the tags"),
        ('a{k=v"}', "a tag that cannot be read: 'k=v\"'"),
        ('a"}', 'it ends with `"}`, but has no `{`'),
    ],
)
def test_wrong_tags_leave_the_path_whole(path: str, error: str) -> None:
    """Carbon keeps such a series under the path that it came with; here `error` says so."""
    [event] = decode(f"{path} 1 1767225600".encode())
    assert (event.type, event.fields) == ("graphite", {"name": path, "value": 1.0, "error": error})


def test_more_tags_than_allowed() -> None:
    tags = "".join(f";k{number}=v" for number in range(5))
    [allowed] = decode(f"a{tags} 1 1767225600".encode(), max_tags=5)
    [refused] = decode(f"a{tags} 1 1767225600".encode(), max_tags=4)
    assert len(allowed.fields["tags"]) == 5
    assert refused.fields == {"name": f"a{tags}", "value": 1.0, "error": "more than 4 tags"}


def test_what_is_remembered_of_paths_is_bounded() -> None:
    """A peer that makes up paths, long ones among them, fills no memory."""
    decoder = GraphiteDecoder()
    for start in range(0, 20000, 1000):
        decoder.decode(batch(*[b"a%d;k=v 1 -1" % number for number in range(start, start + 1000)]))
    decoder.decode(batch(b"a;k=%s 1 -1" % (b"v" * 600)))
    remembered = decoder._points._remembered.cache_info()
    assert remembered.currsize == remembered.maxsize == 8192
    assert remembered.misses == 20000


# Settings


def test_the_type_of_the_events_is_a_setting() -> None:
    [event] = decode(b"a 1 -1", event_type="metric")
    assert event.type == "metric"


@pytest.mark.parametrize(
    ("key", "value"), [("protocol", "amqp"), ("nan", "zero"), ("max_tags", -1), ("max_datapoints", 0)]
)
def test_wrong_settings(key: str, value: Any) -> None:
    made, problems = options.parse(GraphiteOptions, {key: value})
    assert made is None
    assert [name for name, _ in problems] == [key]


# What carbon makes of it


def carbon(line: str) -> tuple[str, float, float | None] | None:
    """Path, value and time of a line as carbon's receiver has them (None: now); None if it drops the line."""
    try:
        path, number, stamp = line.strip().split()
        value, seconds = float(number), float(stamp)
        if math.isnan(value) or math.isnan(seconds):
            return None
        return path, value, None if int(seconds) == -1 else seconds
    except (ValueError, OverflowError):
        return None


_parts = st.one_of(
    st.sampled_from(
        ["a.b", "-1", "nan", "inf", "1.5", "1767225600", "1e3", "0", "", "1_0", "\u0661", "\u00a0", "\x1c"]
    ),
    st.floats(-1e9, 1e9).map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n;}"), max_size=4),
)


@given(st.lists(_parts, min_size=1, max_size=4), st.sampled_from([" ", "\t", "  "]))
def test_a_line_means_what_it_means_to_carbon(parts: list[str], space: str) -> None:
    """But for what no event can carry: infinite values, and times beyond the calendar."""
    line = space.join(parts)
    events = decode(line.encode())
    expected = carbon(line)
    read = [event for event in events if event.type == "graphite"]
    if expected is None or math.isinf(expected[1]):
        assert read == []
        return
    path, value, seconds = expected
    if seconds is not None and not -6e10 < seconds < 2.5e11:
        assert [event.type for event in events] == ["undecodable"]
        return
    [event] = read
    assert (event.fields["name"], event.fields["value"]) == (path, value)
    assert event.time == (RECEIVED if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC))
