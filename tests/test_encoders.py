"""Events back to bytes."""

import base64
import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from eventserver import options
from eventserver.encoders import JsonEncoder, RawEncoder, SyslogEncoder, TemplateEncoder, TextEncoder
from eventserver.event import Event
from eventserver.testing.encoders import AWKWARD_VALUES, EncoderConformance, awkward_events, sample_event
from tests.test_escaping import anything


def make(cls: Any, **table: Any) -> Any:
    parsed, problems = options.parse(cls.Options, table)
    assert problems == []
    return cls(parsed)


def line(cls: Any, event: Event, **table: Any) -> str:
    (payload,) = make(cls, **table).encode([event])
    text: str = payload.decode()
    return text


class TestJsonConformance(EncoderConformance):
    def make(self) -> Any:
        return make(JsonEncoder)


class TestRawConformance(EncoderConformance):
    lines = False

    def make(self) -> Any:
        return make(RawEncoder)


class TestTextConformance(EncoderConformance):
    def make(self) -> Any:
        return make(TextEncoder)


class TestColourConformance(EncoderConformance):
    def make(self) -> Any:
        return make(TextEncoder, colour=True)


class TestTemplateConformance(EncoderConformance):
    def make(self) -> Any:
        return make(TemplateEncoder, template="{time:%H:%M:%S} {x} {hostname} {message} {type} {fields} {context}")


class TestSyslogConformance(EncoderConformance):
    def make(self) -> Any:
        return make(SyslogEncoder)


# JSON


def test_json_is_the_public_form_of_an_event() -> None:
    encoded = json.loads(line(JsonEncoder, sample_event(context={"labels": {}})))
    assert list(encoded) == [
        "id",
        "time",
        "received",
        "listener",
        "peer",
        "type",
        "message",
        "fields",
        "context",
        "raw",
    ]
    assert encoded["time"] == "2026-11-22T15:03:00.123456Z"
    assert "context" not in json.loads(line(JsonEncoder, sample_event()))


def test_json_values_that_msgspec_refuses_become_texts_and_the_rest_stays() -> None:
    event = sample_event(
        fields={"bad": "\ud800\n", "\udfff": 1, "object": 1j, "n": float("nan"), "b": b"\xff", "ok": [1]}
    )
    encoded = json.loads(line(JsonEncoder, event))
    expected = {"bad": "\\ud800\\x0a", "\\udfff": 1, "object": "1j", "n": None, "b": "/w==", "ok": [1]}
    assert encoded["fields"] == expected
    plain = json.loads(line(JsonEncoder, sample_event()))
    assert list(encoded) == list(plain)
    assert {**encoded, "fields": None} == {**plain, "fields": None}


def test_json_of_a_huge_number_or_a_circle_is_bounded() -> None:
    for value in AWKWARD_VALUES:
        encoded = line(JsonEncoder, sample_event(fields={"v": value}))
        json.loads(encoded)
        assert len(encoded) < 1_000_000


def test_json_keeps_raw_bytes_as_base64() -> None:
    encoded = json.loads(line(JsonEncoder, sample_event(raw=UNSET, raw_base64=b"\xff\n")))
    assert base64.b64decode(encoded["raw_base64"]) == b"\xff\n"


# Raw


def test_raw_is_the_frame_as_it_came_and_the_message_where_it_is_lost() -> None:
    events = [sample_event(0), sample_event(1, raw=UNSET, raw_base64=b"\xff\n\x00"), sample_event(2, raw=UNSET)]
    assert make(RawEncoder).encode(events) == [b"message 0", b"\xff\n\x00", b"message 2"]
    assert make(RawEncoder).encode_lines(events) == b"message 0\n\xff\n\x00\nmessage 2\n"
    assert (RawEncoder.wants, RawEncoder.wants_raw) == ("frames", True)


# Text


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "web1 sshd err message 0"),
        ({"fields": {}}, "lines 192.0.2.7:51123 message 0"),
        ({"fields": {"hostname": "web1"}}, "web1 - message 0"),
        ({"fields": {"app_name": "sshd", "procid": "812"}}, "- sshd[812] message 0"),
        ({"fields": {"severity_code": 4}}, "lines 192.0.2.7:51123 warning message 0"),
        ({"fields": {"severity": "ERROR"}}, "lines 192.0.2.7:51123 ERROR message 0"),
        ({"fields": {"a": 1}, "message": ""}, 'lines 192.0.2.7:51123 {"a":1}'),
        ({"fields": {}, "message": "a\n\x1b[2Jb"}, "lines 192.0.2.7:51123 a\\x0a\\x1b[2Jb"),
        ({"fields": {"hostname": "\x1b[2J"}}, "\\x1b[2J - message 0"),
        ({"type": "undecodable", "fields": {"error": "bad"}}, "lines 192.0.2.7:51123 undecodable (bad): message 0"),
    ],
)
def test_text_shows_time_source_severity_and_message(changes: dict[str, Any], shown: str) -> None:
    assert line(TextEncoder, sample_event(**changes)) == f"2026-11-22T15:03:00.123Z {shown}"


def test_text_shows_times_in_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    event = sample_event(time=dt.datetime(2026, 11, 22, 15, 3, tzinfo=zone))
    assert line(TextEncoder, event).startswith("2026-11-22T13:03:00.000Z ")


def test_colour_is_on_the_severity_alone_and_only_where_it_is_known() -> None:
    assert "\x1b[31merr\x1b[0m message 0" in line(TextEncoder, sample_event(), colour=True)
    assert "\x1b[31mError\x1b[0m " in line(TextEncoder, sample_event(fields={"severity": "Error"}), colour=True)
    assert "\x1b" not in line(
        TextEncoder, sample_event(fields={"severity": "\x1b[5m", "hostname": "\x1b"}), colour=True
    )
    assert "\x1b" not in line(TextEncoder, sample_event())


# Template


def test_a_template_writes_a_line_of_ones_own() -> None:
    template = "{{{time:%Y}}} {hostname} {fields[missing]} {message} 100%"
    assert line(TemplateEncoder, sample_event(message="a\nb"), template=template) == "{2026} web1 - a\\x0ab 100%"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{a.b}", "not understood"),
        ("{", "alone"),
        ("a\nb", "one line"),
        ("{time:\r}", "one line"),
        ("{time:%Q}", "%Q"),
        ("\ud800", "surrogates"),
    ],
)
def test_a_wrong_template_is_a_problem_of_its_option(template: str, sentence: str) -> None:
    parsed, problems = options.parse(TemplateEncoder.Options, {"template": template})
    assert parsed is None
    assert [key for key, _ in problems] == ["template"]
    assert sentence in problems[0][1]


def test_a_template_is_required() -> None:
    assert options.parse(TemplateEncoder.Options, {}) == (None, [("template", "is missing")])


# Syslog


def test_syslog_is_the_message_of_rfc_5424() -> None:
    event = sample_event(
        message="it's over",
        fields={
            "facility_code": 4,
            "severity_code": 2,
            "hostname": "web1.example",
            "app_name": "su",
            "procid": 812,
            "msgid": "ID47",
            "structured_data": {"ex@32473": {"iut": "3", "src": ["a", "b"]}, "origin": {}},
        },
    )
    expected = '<34>1 2026-11-22T15:03:00.123456Z web1.example su 812 ID47 [ex@32473 iut="3" src="a" src="b"][origin] '
    assert line(SyslogEncoder, event) == expected + "it's over"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "<14>1 2026-11-22T15:03:00.123456Z 192.0.2.7 - - - - message 0"),
        ({"message": ""}, "<14>1 2026-11-22T15:03:00.123456Z 192.0.2.7 - - - -"),
        ({"peer": "[2001:db8::7]:5"}, "<14>1 2026-11-22T15:03:00.123456Z 2001:db8::7 - - - - message 0"),
        ({"peer": "unix:pid=1"}, "<14>1 2026-11-22T15:03:00.123456Z - - - - - message 0"),
        ({"time": dt.datetime(2026, 1, 1)}, "<14>1 - 192.0.2.7 - - - - message 0"),
        ({"message": "a\nb\0"}, "<14>1 2026-11-22T15:03:00.123456Z 192.0.2.7 - - - - a\\x0ab\\x00"),
    ],
)
def test_syslog_of_an_event_without_syslog_fields(changes: dict[str, Any], message: str) -> None:
    assert line(SyslogEncoder, sample_event(**{"fields": {}, **changes})) == message


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({"facility": "local7", "severity": "debug"}, 191),
        ({"facility": "local7", "facility_code": 0, "severity_code": 0}, 0),
        ({"facility_code": 24, "severity_code": 8}, 8 * 16 + 5),
        ({"facility_code": True, "severity_code": "3"}, 8 * 16 + 5),
        ({"facility": "nope", "severity": ["x"]}, 8 * 16 + 5),
        ({"severity_code": 2}, 8 * 16 + 2),
    ],
)
def test_syslog_priority_comes_from_codes_then_keywords_then_options(fields: dict[str, Any], priority: int) -> None:
    written = line(SyslogEncoder, sample_event(fields=fields), facility="local0", severity="notice")
    assert written.startswith(f"<{priority}>1 ")


def test_syslog_header_fields_are_printable_ascii_of_limited_length() -> None:
    fields = {"hostname": "wéb 1", "app_name": "x" * 60, "procid": "\n", "msgid": "y" * 40}
    header = line(SyslogEncoder, sample_event(fields=fields)).split(" ")
    assert header[2:6] == ["w_b_1", "x" * 48, "_", "y" * 32]


def test_syslog_structured_data_is_escaped_and_its_names_made_valid() -> None:
    data = {"a b": {'x="]': 'q"b\\s]e\n', "": 1}, "a_b": {"lost": "twice"}, "z" * 40: {"p" * 40: None}}
    written = line(SyslogEncoder, sample_event(fields={"structured_data": data}, message=""))
    assert written.endswith(f' [a_b x___="q\\"b\\\\s\\]e\\\\x0a" _="1"][{"z" * 32} {"p" * 32}="None"]')
    assert line(SyslogEncoder, sample_event(fields={"structured_data": "[x]"}, message="")).endswith(" -")


def test_an_unknown_facility_or_severity_is_a_problem_of_its_option() -> None:
    _, problems = options.parse(SyslogEncoder.Options, {"facility": "locl0", "severity": "error"})
    assert [key for key, _ in problems] == ["facility", "severity"]
    assert "local0" in problems[0][1]


# All

ENCODERS = [
    make(JsonEncoder),
    make(TextEncoder),
    make(TextEncoder, colour=True),
    make(SyslogEncoder),
    make(TemplateEncoder, template="{x} {message} {hostname} {fields} {context}"),
]
#: By index, for some of the values cannot be shown.
awkward = st.integers(0, len(AWKWARD_VALUES) - 1).map(lambda place: AWKWARD_VALUES[place])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything | st.binary() | awkward
names = (
    st.sampled_from(["hostname", "app_name", "procid", "severity", "severity_code", "structured_data", "x"]) | anything
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(anything, st.dictionaries(names, values, max_size=4)), max_size=4))
def test_every_event_is_one_line_that_can_be_decoded(parts: list[tuple[str, dict[str, Any]]]) -> None:
    """No encoder raises, and none lets an event be two lines."""
    events = [sample_event(n, message=message, fields=fields) for n, (message, fields) in enumerate(parts)]
    for encoder in ENCODERS:
        encoded = encoder.encode_lines(events)
        assert encoded.count(b"\n") == len(events)
        assert len(encoded.decode().splitlines()) == len(events) or isinstance(encoder, JsonEncoder)
    assert len(make(RawEncoder).encode(events)) == len(events)
    for written in ENCODERS[0].encode(events):
        msgspec.json.decode(written)


def test_an_encoder_of_events_says_so_when_it_is_given_frames() -> None:
    for encoder in ENCODERS:
        assert encoder.wants == "events"
        with pytest.raises(TypeError, match="encodes events"):
            encoder.encode_frames([])


def test_awkward_events_are_decodable_json() -> None:
    for written in ENCODERS[0].encode(awkward_events()):
        assert json.loads(written)["id"]
