"""The decoder `logfmt`, and what it shares with `kv`, `csv` and `regex`: times, levels, numbers and limits."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver import options
from eventserver.decoders._levels import severity_of
from eventserver.decoders._named import number_of
from eventserver.decoders._text_times import DeviceTimes, TextTimes, format_problem
from eventserver.decoders.logfmt import LogfmtDecoder, LogfmtOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch


class TestConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> LogfmtDecoder:
        return LogfmtDecoder()

    def samples(self) -> list[bytes]:
        return [b'level=info msg="a b" n=1', "msg=grüße".encode(), b"a=1 b"]


class TestWithOptions(TestConformance):
    """The contract, with another encoding and numbers."""

    def make(self) -> LogfmtDecoder:
        return LogfmtDecoder(LogfmtOptions(encoding="latin-1", numbers=True, time_format="%Y", max_keys=5))


def decode(line: str, **chosen: Any) -> Event:
    [event] = LogfmtDecoder(LogfmtOptions(**chosen)).decode(batch(line.encode()))
    return event


def test_keys_are_chosen_by_options() -> None:
    event = decode("text=hello when=2026-01-02T00:00:00Z how=WARN msg=x", message_key="text", time_key="when",
                   level_key="how", event_type="app")  # fmt: skip
    assert (event.type, event.message, event.time) == ("app", "hello", dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert event.fields == {"how": "WARN", "msg": "x", "severity": "warning", "severity_code": 4}


def test_a_time_that_cannot_be_read_stays_and_the_next_one_counts() -> None:
    event = decode("time=soon ts=2026-01-02T03:04:05+01:00")
    assert (event.fields, event.time.isoformat()) == ({"time": "soon"}, "2026-01-02T02:04:05+00:00")
    assert decode("time=12.5").fields == {"time": "12.5"}, "a duration is no time"
    assert decode("time", max_keys=1).type == "undecodable"
    assert decode("time a=1").time == RECEIVED


def test_a_level_is_a_severity_besides() -> None:
    assert decode("level=fatal").fields == {"level": "fatal", "severity": "crit", "severity_code": 2}
    assert decode("severity=ERROR").fields == {"severity": "err", "severity_code": 3}
    assert decode("level=loud").fields == {"level": "loud"}
    assert severity_of("x" * 10_000) is None


def test_more_than_max_keys_is_undecodable() -> None:
    assert decode("a=1 b=2", max_keys=2).type == "logfmt"
    event = decode("a=1 b=2 c=3", max_keys=2)
    assert (event.type, event.fields, event.raw) == ("undecodable", {"error": "more than 2 keys"}, "a=1 b=2 c=3")


def test_bytes_that_are_not_utf8_are_kept() -> None:
    [event] = LogfmtDecoder().decode(batch(b"msg=caf\xe9"))
    assert (event.message, event.raw_base64) == ("caf\ufffd", b"msg=caf\xe9")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-1", -1), ("200", 200), ("1.5", 1.5), ("999999999999999999", 10**18 - 1)]
    + [(text, text) for text in ("", "-", "007", "1.10", "1e5", "+1", "-0", "1.", ".5", "0x1f", "\u0661", "1" * 19)],
)
def test_only_what_would_be_written_again_so_becomes_a_number(text: str, number: object) -> None:
    assert number_of(text) == number
    assert type(number_of(text)) is type(number)


@given(st.text(alphabet="-0123456789.", max_size=25))
def test_a_number_is_its_text(text: str) -> None:
    assert str(number_of(text)) == text


# Times

AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02T04:04:05+01:00", "2026-01-02 03:04:05 UTC",
     "2026-01-02 03:04:05,000", "1767323045", "1767323045000", "1767323045000000", "1767323045000000000"],
)  # fmt: skip
def test_times_as_programs_write_them(text: str) -> None:
    assert TextTimes().read(text) == AT


def test_a_format_is_used_alone() -> None:
    times = TextTimes("%d/%b/%Y:%H:%M:%S %z")
    assert times.read("02/Jan/2026:04:04:05 +0100") == AT
    assert times.read("2026-01-02T03:04:05Z") is None


def test_a_zone_is_that_of_times_without_one() -> None:
    assert TextTimes(time_zone="Europe/Paris").read("2026-01-02 04:04:05") == AT
    assert TextTimes("%Y-%m-%d %H:%M:%S", "Europe/Paris").read("2026-01-02 04:04:05") == AT


@pytest.mark.parametrize("text", ["", "x" * 1000, "9" * 19, "99999999999999999999", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_is_none(text: str) -> None:
    for times in (TextTimes(), TextTimes("%Y"), DeviceTimes()):
        found = times.read(text)
        assert found is None or found.tzinfo is dt.UTC
    assert TextTimes().read("x" * 1000) is None


@pytest.mark.parametrize("time_format", ["%H:%M", "%Y %q", "%Y %", "%Y %Y", "%Y" + "x" * 100])
def test_formats_that_cannot_be_used_are_wrong_settings(time_format: str) -> None:
    assert format_problem(time_format)
    _, problems = options.parse(LogfmtOptions, {"time_format": time_format})
    assert [key for key, _ in problems] == ["time_format"]


def test_device_times_take_their_year_from_the_day_of_receipt() -> None:
    times = DeviceTimes()
    times.begin(AT)
    assert times.read("Dec 31 23:59:59") == dt.datetime(2025, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    times.begin(AT.replace(year=2027))
    assert times.read("Dec 31 23:59:59") == dt.datetime(2026, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text",
    ["Jan 02 2026 03:04:05", "Jan  2 2026 03:04:05.000 UTC", "Jan 02 2026 04:04:05 GMT+01:00", "Jan 2 03:04:05 CST",
     "Jan 02 2026 01:34:05 -0130", "1767323045000"],
)  # fmt: skip
def test_times_as_devices_write_them(text: str) -> None:
    times = DeviceTimes()
    times.begin(AT)
    assert times.read(text) == AT


@pytest.mark.parametrize("text", ["Foo 02 2026 03:04:05", "Feb 30 2026 03:04:05", "Jan 02 2026 03:04:05 +99:99"])
def test_times_of_devices_that_are_none(text: str) -> None:
    times = DeviceTimes()
    times.begin(AT)
    assert times.read(text) is None


@pytest.mark.parametrize("key", ["time_zone", "encoding"])
def test_wrong_zones_and_encodings_are_wrong_settings(key: str) -> None:
    _, problems = options.parse(LogfmtOptions, {key: "nowhere"})
    assert [problem for problem, _ in problems] == [key]
