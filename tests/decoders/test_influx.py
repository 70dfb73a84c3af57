"""The decoder `influx`; the corpus has what Telegraf sends."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.decoders.influx import InfluxDecoder, InfluxOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch


class TestConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> InfluxDecoder:
        return InfluxDecoder()

    def samples(self) -> list[bytes]:
        return [b"cpu,host=a usage=1.5 1767323044000000000", 'm,k=ü t="a b"'.encode(), b"m a=1i,b=t"]


def decode(data: bytes, **chosen: Any) -> list[Event]:
    return InfluxDecoder(InfluxOptions(**chosen)).decode(batch(data))


def test_each_line_of_a_frame_is_an_event_with_an_id_of_its_own() -> None:
    events = decode(b"a v=1\n\n# no\nbroken\nb v=2\r\n")
    assert [event.id.rpartition("-")[2] for event in events] == ["0", "0.1", "0.2"]
    assert [(event.type, event.message) for event in events] == [
        ("influx", "a"), ("undecodable", "broken"), ("influx", "b")
    ]  # fmt: skip
    assert events[1].raw == "broken"


def test_a_broken_line_keeps_its_own_bytes_and_not_the_frame() -> None:
    """Else a datagram of broken lines would be kept as often as it has lines."""
    first, good, last = decode(b"caf\xe9\nm v=1\nm t=\xff")
    assert (first.raw_base64, last.raw_base64) == (b"caf\xe9", b"m t=\xff")
    assert (good.type, good.raw_bytes) == ("influx", None)


def test_a_line_with_bytes_that_are_not_utf8_is_read_and_kept() -> None:
    other, event = decode(b'm v=1\nm t="caf\xe9"\n')
    assert (event.fields["values"], event.raw_base64) == ({"t": "caf\ufffd"}, b'm t="caf\xe9"\n')
    assert other.raw_bytes is None


@pytest.mark.parametrize(("precision", "stamp"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_precision_is_the_unit_of_time_stamps(precision: str, stamp: int) -> None:
    [event] = decode(b"m v=1 %d" % stamp, precision=precision)
    assert event.time == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)


def test_a_time_out_of_range_is_undecodable() -> None:
    [event] = decode(b"m v=1 9223372036854775807", precision="s")
    assert (event.time, event.fields) == (RECEIVED, {"error": "the time is out of range"})


def test_more_than_max_keys_is_undecodable() -> None:
    assert [event.type for event in decode(b"m,a=1,b=2 c=3\nm,a=1 c=3", max_keys=2)] == ["undecodable", "influx"]


@pytest.mark.parametrize("end", [b"", b"\xff"])
def test_what_is_behind_max_lines_is_one_event(end: bytes) -> None:
    """Two bytes of a line would else become hundreds of an event."""
    *events, rest = decode(b"a v=1\n\n# no\nb v=2\nc v=3\nd" + end, max_lines=2)
    assert [event.message for event in events] == ["a", "b"]
    assert (rest.fields, rest.raw_bytes, rest.id[-2:]) == ({"error": "more than 2 lines"}, b"c v=3\nd" + end, ".2")
    assert [event.message for event in decode(b"a v=1\nb v=2\n# end\n", max_lines=2)] == ["a", "b"]


_names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=6)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_whole = st.integers(-(2**63), 2**63 - 1)
_values = _texts | _whole | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)


def name(text: str) -> str:
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def value(given: Any) -> str:
    if isinstance(given, str):
        return '"' + given.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{given}i" if type(given) is int else repr(given)


@given(
    measurement=_names.filter(lambda text: text[0] not in "#"),
    tags=st.dictionaries(_names, _names, max_size=3),
    values=st.dictionaries(_names, _values, min_size=1, max_size=4),
    micros=st.integers(-(10**15), 10**15),
)
def test_what_is_written_as_the_specification_says_comes_back(
    measurement: str, tags: dict[str, str], values: dict[str, Any], micros: int
) -> None:
    head = ",".join([name(measurement).replace("\\=", "="), *(f"{name(k)}={name(v)}" for k, v in tags.items())])
    line = f"{head} {','.join(f'{name(k)}={value(v)}' for k, v in values.items())} {micros * 1000}"
    [event] = decode(line.encode())
    expected = {"measurement": measurement, "values": values} | ({"tags": tags} if tags else {})
    assert event.fields == expected
    assert event.time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC) == dt.timedelta(microseconds=micros)
