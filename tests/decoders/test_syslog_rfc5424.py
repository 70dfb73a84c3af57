"""The decoder `syslog` on RFC 5424."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from eventserver.decoders._memo import Memo
from eventserver.decoders._severity import FACILITIES, SEVERITIES
from eventserver.decoders.syslog import SyslogDecoder, SyslogOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

HEAD = "<165>1 2026-11-22T10:00:00Z h a p m"


class TestSyslogConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> SyslogDecoder:
        return SyslogDecoder()

    def samples(self) -> list[bytes]:
        return [
            b'<165>1 2026-11-22T10:00:00.123456Z host app 12 ID47 [ex@32473 iut="3"][b@1 c="d"] An entry',
            b"<34>1 2026-11-22T11:00:00+01:00 host su - - - \xef\xbb\xbf'su root' failed",
            b"<13>Nov 22 10:00:00 host sshd[12]: Accepted",
            b"<189>29: *Nov 22 10:00:00.1: %SYS-5-CONFIG_I: Configured",
            b"<14>a message",
        ]


def decode(line: str | bytes, **settings: Any) -> Event:
    data = line.encode() if isinstance(line, str) else line
    [event] = SyslogDecoder(SyslogOptions(**settings)).decode(batch(data))
    return event


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def test_every_part_of_a_message_has_its_place() -> None:
    """RFC 5424 section 6.5, example 3."""
    event = decode(
        '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" '
        'eventSource="Application" eventID="1011"] \ufeffAn application event log entry...'
    )
    assert (event.type, event.message) == ("syslog", "An application event log entry...")
    assert event.time == at("2003-10-11T22:14:15.003Z")
    assert event.fields == {
        "facility": "local4",
        "facility_code": 20,
        "severity": "notice",
        "severity_code": 5,
        "hostname": "mymachine.example.com",
        "app_name": "evntslog",
        "msgid": "ID47",
        "structured_data": {"exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"}},
    }
    assert event.raw is UNSET
    assert event.raw_base64 is UNSET


@pytest.mark.parametrize("priority", range(192))
def test_each_priority_is_a_facility_and_a_severity(priority: int) -> None:
    fields = decode(f"<{priority}>1 - - - - - - x").fields
    assert (fields["facility_code"], fields["severity_code"]) == divmod(priority, 8)
    assert fields["facility"] == FACILITIES[priority // 8]
    assert fields["severity"] == SEVERITIES[priority % 8]


def test_nil_values_are_left_out_and_the_time_is_then_the_one_of_receipt() -> None:
    event = decode("<0>1 - - - - - -")
    assert (event.message, event.time) == ("", RECEIVED)
    assert set(event.fields) == {"facility", "facility_code", "severity", "severity_code"}


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000+00:00"),
        ("1985-04-12T19:20:50.52-04:00", "1985-04-12T23:20:50.520000+00:00"),
        ("2003-08-24T05:14:15.000003-07:00", "2003-08-24T12:14:15.000003+00:00"),
        ("2003-08-24T05:14:15.000003999-07:00", "2003-08-24T12:14:15.000003+00:00"),
        ("2026-11-22T10:00:00.5Z", "2026-11-22T10:00:00.500000+00:00"),
        ("2026-11-22T10:00:00-00:00", "2026-11-22T10:00:00+00:00"),
        ("2026-11-22T10:00:00+05:45", "2026-11-22T04:15:00+00:00"),
        ("2026-11-22t10:00:00z", "2026-11-22T10:00:00+00:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00"),
    ],
)
def test_time_stamps_have_fractions_and_offsets(stamp: str, time: str) -> None:
    """RFC 5424 section 6.2.3; more than six digits are cut, a leap second is the one before it."""
    event = decode(f"<13>1 {stamp} h a p m - x")
    assert event.time.isoformat() == time
    assert event.time.tzinfo is dt.UTC
    assert "error" not in event.fields


def test_a_time_stamp_without_offset_is_of_the_time_zone_setting() -> None:
    event = decode("<13>1 2026-07-22T10:00:00 h a p m - x", time_zone="Europe/Paris")
    assert event.time == at("2026-07-22T08:00:00Z")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("[a]", {"a": {}}),
        ('[a b=""]', {"a": {"b": ""}}),
        ('[a b="1"][c d="2" e="3"]', {"a": {"b": "1"}, "c": {"d": "2", "e": "3"}}),
        (r'[a b="\"" c="\\" d="\]"]', {"a": {"b": '"', "c": "\\", "d": "]"}}),
        (r'[a b="\n\x"]', {"a": {"b": r"\n\x"}}),
        (r'[a b="\\\"x\\"]', {"a": {"b": '\\"x\\'}}),
        ('[a b="] [c] "]', {"a": {"b": "] [c] "}}),
        (r'[a b="\] "][c]', {"a": {"b": "] "}, "c": {}}),
        ('[a ip="1" ip="2" ip="3" b="4"]', {"a": {"ip": ["1", "2", "3"], "b": "4"}}),
        ('[a b="1"][a c="2"]', {"a": {"b": "1", "c": "2"}}),
        ('[a b="grüße 😀"]', {"a": {"b": "grüße 😀"}}),
        ('[a  b="1" ]', {"a": {"b": "1"}}),
        ('[a b="two\nlines"]', {"a": {"b": "two\nlines"}}),
    ],
)
@pytest.mark.parametrize("message", [None, "", "text", "] [x] "])
def test_structured_data_is_read_with_its_escapes(text: str, data: dict[str, Any], message: str | None) -> None:
    """RFC 5424 section 6.3; what stands behind it is the message, brackets and all."""
    event = decode(f"{HEAD} {text}" if message is None else f"{HEAD} {text} {message}")
    assert event.fields["structured_data"] == data
    assert event.message == (message or "")


@pytest.mark.parametrize(
    ("rest", "message"),
    [("-", ""), ("- ", ""), ("-  two", " two"), ("- \ufeffüber", "über"), ("- a\nb", "a\nb"), ("- [no] d", "[no] d")],
)
def test_the_message_is_all_that_follows_less_its_byte_order_mark(rest: str, message: str) -> None:
    event = decode(f"{HEAD} {rest}")
    assert (event.message, "error" in event.fields) == (message, False)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0", "\n\0"])
@pytest.mark.parametrize("company", [[], [b"<13>1 - - - - - - other"]])
def test_lf_cr_and_nul_at_the_end_are_dropped(end: str, company: list[bytes]) -> None:
    event = SyslogDecoder().decode(batch(f"{HEAD} - text{end}".encode(), *company))[0]
    assert event.message == "text"


def test_names_longer_than_the_grammar_allows_are_taken() -> None:
    event = decode(f"<13>1 - {'h' * 300} {'a' * 300} {'p' * 300} {'m' * 300} - x")
    assert [len(event.fields[key]) for key in ("hostname", "app_name", "procid", "msgid")] == [300] * 4


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("<13>1 2026-11-22T10:00:00Z host", "RFC 5424: the header ends early"),
        ("<13>1 - h a p m", "RFC 5424: the header ends early"),
        ("<13>1 -  a p m - x", "RFC 5424: a header field is empty"),
        ("<13>1 2026-13-22T10:00:00Z h a p m - x", "RFC 5424: timestamp: '2026-13-22T10:00:00Z' cannot be read"),
        ("<13>1 2026-11-22 h a p m - x", "RFC 5424: timestamp: '2026-11-22' cannot be read"),
        (f"{HEAD} text", 'RFC 5424: structured data: neither "-" nor "["'),
        (f"{HEAD} -text", 'RFC 5424: structured data: neither "-" nor "["'),
        (f"{HEAD} [] x", "RFC 5424: structured data: an element has no name"),
        (f'{HEAD} [a b="c] x', "RFC 5424: structured data: element 'a' is not closed"),
        (f'{HEAD} [a b="c"', "RFC 5424: structured data: element 'a' is not closed"),
        (f"{HEAD} [a b=c] x", "RFC 5424: structured data: element 'a' is not closed"),
        (f'{HEAD} [a b="c"]x', "RFC 5424: structured data: no space behind it"),
        ("<13>2 2026-11-22T10:00:00Z h a p m - x", "RFC 5424: version 2 is not known"),
        ("<192>1 - h a p m - x", "the priority <192> is not one from <0> to <191>"),
    ],
)
def test_what_cannot_be_read_is_an_event_with_the_line_and_the_error(line: str, error: str) -> None:
    event = decode(line)
    assert (event.type, event.message, event.fields["error"], event.raw) == ("syslog", line, error, line)


def test_what_was_read_before_a_fault_is_kept() -> None:
    event = decode(f"{HEAD} text")
    assert event.time == at("2026-11-22T10:00:00Z")
    assert (event.fields["severity"], event.fields["hostname"], event.fields["msgid"]) == ("notice", "h", "m")


def test_a_version_with_neither_time_nor_nil_behind_it_is_text() -> None:
    """Messages begin with numbers too: only a date or nil behind `1 ` makes it RFC 5424."""
    event = decode("<134>1 1795341600.774247467 MX84 ids-alerts signature=1:29708:4")
    assert event.message == "1 1795341600.774247467 MX84 ids-alerts signature=1:29708:4"
    assert "error" not in event.fields


def test_bytes_that_are_not_utf8_are_replaced_and_kept_raw() -> None:
    line = f'{HEAD} [a b="caf'.encode() + b'\xe9"] na\xefve'
    event = decode(line)
    assert event.message == "na�ve"
    assert event.fields["structured_data"] == {"a": {"b": "caf�"}}
    assert event.raw_base64 == line
    assert decode(line, encoding="latin-1").message == "naïve"


def test_one_broken_line_leaves_the_others_alone() -> None:
    good = f"{HEAD} - text".encode()
    events = SyslogDecoder().decode(batch(good, b"\xff", good))
    assert [event.message for event in events] == ["text", "�", "text"]
    assert [event.raw_base64 for event in events] == [UNSET, b"\xff", UNSET]


def test_events_with_the_same_header_have_fields_of_their_own() -> None:
    """What is remembered is copied: a handler that breaks the rule spoils one event, not all to come."""
    decoder = SyslogDecoder()
    first, second = decoder.decode(batch(f"{HEAD} - a".encode(), f"{HEAD} - b".encode()))
    first.fields["hostname"] = "changed"
    assert second.fields["hostname"] == "h"
    assert decoder.decode(batch(f"{HEAD} - c".encode()))[0].fields["hostname"] == "h"


def test_the_memories_are_bounded_whatever_is_sent() -> None:
    decoder = SyslogDecoder()
    for start in range(0, 12_000, 1000):
        lines = [f'<13>1 - h{n} a p m [a b="{n}"] x'.encode() for n in range(start, start + 1000)]
        lines += [
            f"<13>Nov 22 10:{n // 60 % 60:02}:{n % 60:02} h{n} app: x".encode() for n in range(start, start + 1000)
        ]
        lines += [f'<13>1 - {"h" * 9000}{start} a p m [a b="{"c" * 9000}{start}"] x'.encode()]
        decoder.decode(batch(*lines))
        decoder.json_lines(batch(*lines))
    forms = [
        vars(reader)[form] for reader in (decoder._reader, decoder._json_reader) for form in ("_rfc5424", "_rfc3164")
    ]
    memos = [memo for form in forms for memo in vars(form).values() if isinstance(memo, Memo)]
    assert len(memos) == 12
    assert all(0 < memo.held <= 8192 for memo in memos)
    assert all(max(map(len, memo)) <= 1024 for memo in memos)


_word = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).filter(lambda w: w != "-")
_sd_name = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='=]"'), min_size=1, max_size=8)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_data = st.dictionaries(
    _sd_name, st.dictionaries(_sd_name, _text | st.lists(_text, min_size=2, max_size=3), max_size=3), max_size=3
)
_zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-3.5))])
_times = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2100, 1, 1), timezones=_zones)


def build(priority: int, time: dt.datetime | None, names: list[str | None], data: dict[str, Any], message: str) -> str:
    """A message by the grammar of RFC 5424 section 6."""
    stamp = time.isoformat() if time else "-"
    elements = []
    for name, params in data.items():
        pairs = [(key, v) for key, value in params.items() for v in (value if isinstance(value, list) else [value])]
        elements.append(
            "".join([f"[{name}", *(f' {key}="' + re.sub(r'(["\\\]])', r"\\\1", v) + '"' for key, v in pairs), "]"])
        )
    return f"<{priority}>1 {stamp} {' '.join(name or '-' for name in names)} {''.join(elements) or '-'} {message}"


@given(
    st.integers(0, 191),
    st.none() | _times,
    st.lists(st.none() | _word, min_size=4, max_size=4),
    _data,
    _text.map(lambda text: text.rstrip("\r\n\0").removeprefix("\ufeff")),
    st.booleans(),
)
def test_a_message_that_is_built_comes_back_in_its_parts(
    priority: int, time: dt.datetime | None, names: list[str | None], data: dict[str, Any], message: str, bom: bool
) -> None:
    """The round trip, for whatever the grammar allows."""
    event = decode(build(priority, time, names, data, ("\ufeff" if bom and message else "") + message))
    fields = dict(event.fields)
    assert (event.message.removeprefix("\ufeff"), event.time) == (message.removeprefix("\ufeff"), time or RECEIVED)
    assert fields.pop("facility_code") * 8 + fields.pop("severity_code") == priority
    del fields["facility"], fields["severity"]
    keys = ("hostname", "app_name", "procid", "msgid")
    expected: dict[str, Any] = {key: name for key, name in zip(keys, names, strict=True) if name}
    assert fields == expected | ({"structured_data": data} if data else {})
