"""The decoders `cef` and `leef`; the corpus has what devices send."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.decoders.cef import CefDecoder, CefOptions
from eventserver.decoders.leef import LeefDecoder, LeefOptions, strptime_format
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

CEF = "CEF:0|V|P|1|id|name|5|"
LEEF = "LEEF:2.0|V|P|1|id|^|"


class TestCefConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> CefDecoder:
        return CefDecoder()

    def samples(self) -> list[bytes]:
        return [
            f"{CEF}src=10.0.0.1 msg=grüße".encode(),
            b"<134>Jan  2 03:04:03 fw CEF:0|V|P|1|id|b\\|c|9|",
            f"{CEF}rt=1767323044125".encode(),
        ]


class TestLeefConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> LeefDecoder:
        return LeefDecoder()

    def samples(self) -> list[bytes]:
        return [f"{LEEF}a=1^b=ü".encode(), b"<13>Jan  2 03:04:03 h LEEF:1.0|V|P|1|id|a=1\tb=2", b"LEEF:1.0|V|P|1|x"]


def cef(text: str, **chosen: Any) -> Event:
    [event] = CefDecoder(CefOptions(**chosen)).decode(batch(text.encode()))
    return event


def leef(text: str, **chosen: Any) -> Event:
    [event] = LeefDecoder(LeefOptions(**chosen)).decode(batch(text.encode()))
    return event


@pytest.mark.parametrize(
    ("severity", "code"),
    [("0", 6), ("3", 6), ("4", 4), ("6", 4), ("7", 3), ("8", 3), ("9", 2), ("10", 2), ("low", 6), ("Very-High", 2)],
)
def test_severities_of_cef_are_those_of_syslog(severity: str, code: int) -> None:
    fields = cef(f"CEF:0|V|P|1|id|n|{severity}|").fields
    assert (fields["severity_code"], fields["deviceSeverity"]) == (code, severity)


@pytest.mark.parametrize("severity", ["", "11", "-1", "Unknown", "1" * 5000, "²"])
def test_a_severity_that_is_none_is_left_to_the_syslog_header(severity: str) -> None:
    assert "severity_code" not in cef(f"CEF:0|V|P|1|id|n|{severity}|").fields
    fields = cef(f"<131>Jan  2 03:04:03 fw CEF:0|V|P|1|id|n|{severity}|").fields
    assert (fields["severity"], fields["severity_code"], fields["facility"]) == ("err", 3, "local0")


def test_what_stands_before_and_is_no_syslog_is_passed_over() -> None:
    event = cef(f"\ufeff garbage {CEF}a=1")
    assert (event.type, event.time, event.fields["a"], "hostname" in event.fields) == ("cef", RECEIVED, "1", False)


def test_the_time_is_that_of_the_device_before_that_of_the_header() -> None:
    header = "<131>1 2026-01-02T03:04:03Z h - - - - "
    assert cef(f"{header}{CEF}").time == dt.datetime(2026, 1, 2, 3, 4, 3, tzinfo=dt.UTC)
    assert cef(f"{header}{CEF}rt=1767323044000").time == dt.datetime(2026, 1, 2, 3, 4, 4, tzinfo=dt.UTC)


def test_a_zone_is_that_of_times_without_one() -> None:
    for event in (
        cef(f"{CEF}rt=Jul 02 2026 03:04:04", time_zone="Europe/Paris"),
        leef(f"{LEEF}devTime=Jul 02 2026 03:04:04", time_zone="Europe/Paris"),
        leef(f"{LEEF}devTimeFormat=yyyy/MM/dd HH:mm:ss^devTime=2026/07/02 03:04:04", time_zone="Europe/Paris"),
    ):
        assert event.time == dt.datetime(2026, 7, 2, 1, 4, 4, tzinfo=dt.UTC)


def test_more_than_max_keys_is_undecodable() -> None:
    many = [f"k{number}=1" for number in range(20)]
    assert cef(CEF + " ".join(many), max_keys=20).fields == {"error": "more than 20 keys"}
    assert leef(LEEF + "^".join(many), max_keys=20).fields == {"error": "more than 20 keys"}


_values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10).map(str.strip).filter(bool)


@given(name=_values, values=st.dictionaries(st.text("abcXYZ09", min_size=1, max_size=6), _values, max_size=5))
def test_what_is_escaped_as_the_standard_says_comes_back(name: str, values: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        value = value.replace("\\", "\\\\").replace("=", "\\=")
        return value.replace("\n", "\\n").replace("\r", "\\r")

    header = name.replace("\\", "\\\\").replace("|", "\\|")
    extension = " ".join(f"x{key}={escaped(value)}" for key, value in values.items())
    fields = cef(f"CEF:0|V|P|1|id|{header}|5|{extension}|end").fields
    assert fields["name"] == name
    assert {key: fields[f"x{key}"] for key in list(values)[:-1]} == {key: values[key] for key in list(values)[:-1]}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "%Y-%m-%dT%H:%M:%S.%f%z"),
        ("MMM dd yyyy HH:mm:ss", "%b %d %Y %H:%M:%S"),
        ("EEE, d MMM yy h:mm:ss a zzz", "%a, %d %b %y %I:%M:%S %p %Z"),
        ("yyyy'%'''%MM", "%Y%%'%%%m"),
        ("HH:mm:ss", None),
        ("yyyy QQ", None),
        ("", None),
    ],
)
def test_javas_patterns_as_those_of_python(pattern: str, expected: str | None) -> None:
    assert strptime_format(pattern) == expected


@given(st.text("yMdHhmsSaEZXz'%. :-Q", max_size=30), st.text("0123456789JanFeb :.-+%", max_size=30))
def test_any_pattern_of_a_peer_is_harmless(pattern: str, time: str) -> None:
    assert leef(f"{LEEF}devTimeFormat={pattern}^devTime={time}").type == "leef"


def test_a_separator_in_a_value_belongs_to_it() -> None:
    assert leef("LEEF:2.0|V|P|1|id|x7C|a=1|2|b=3").fields["a"] == "1|2"
