"""The decoders `kv`, `csv` and `regex`; what they share with `logfmt` is tested there."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver import _patterns, options
from eventserver.decoders.csv import CsvDecoder, CsvOptions
from eventserver.decoders.kv import KvDecoder, KvOptions
from eventserver.decoders.regex import RegexDecoder, RegexOptions
from eventserver.testing.decoders import DecoderConformance, batch
from tests.corpus import cases, line_of


class TestKvConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> KvDecoder:
        return KvDecoder()

    def samples(self) -> list[bytes]:
        return [b'a=1 b="x y"', "word ü=ä".encode(), b"date=2026-01-02 time=03:04:05 c='d'"]


class TestKvWithSeparators(TestKvConformance):
    """The contract, with separators of two characters."""

    def make(self) -> KvDecoder:
        return KvDecoder(KvOptions(pair_separator=", ", value_separator=": "))

    def samples(self) -> list[bytes]:
        return [b"a: 1, b: two words", b'c: "x, y", d: ']


class TestCsvConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> CsvDecoder:
        return CsvDecoder(CsvOptions(columns=["time", "message"]))

    def samples(self) -> list[bytes]:
        return [b"2026-01-02T03:04:05Z,a", 'x,"grüße, ""b"""'.encode(), b"1,2,3"]


class TestRegexConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> RegexDecoder:
        return RegexDecoder(RegexOptions(pattern=[r"^(?P<a>\d+) (?P<b>\w+)?", "(?P<message>.+)"]))

    def samples(self) -> list[bytes]:
        return [b"1 a", "grüße".encode(), b"22 "]


@pytest.mark.usefixtures("without_re2")
class TestRegexWithoutRe2(TestRegexConformance):
    """The contract, with Python's own expressions."""


# kv


def kv(line: str, **chosen: Any) -> tuple[str, dict[str, Any]]:
    [event] = KvDecoder(KvOptions(**chosen)).decode(batch(line.encode()))
    return event.message, event.fields


def test_words_that_are_no_pair_are_the_message() -> None:
    assert kv("login  failed user=anna msg=x") == ("login failed", {"user": "anna", "msg": "x"})


def test_a_separator_may_have_several_characters() -> None:
    assert kv("a -> 1 || b -> x y", pair_separator=" || ", value_separator=" -> ") == ("", {"a": "1", "b": "x y"})
    assert kv("user: anna ip: 10.0.0.1 failed", value_separator=": ") == ("failed", {"user": "anna", "ip": "10.0.0.1"})


def test_date_and_time_stay_apart_where_they_are_none_together() -> None:
    assert kv("date=today time=now")[1] == {"date": "today", "time": "now"}
    assert kv("date=2026-01-02 time=03:04:05", time_key="when")[1] == {"date": "2026-01-02", "time": "03:04:05"}


@pytest.mark.parametrize(
    ("chosen", "key"),
    [
        ({"value_separator": " "}, "value_separator"),
        ({"value_separator": ""}, "value_separator"),
        ({"pair_separator": "=", "value_separator": "="}, "value_separator"),
        ({"pair_separator": ",", "value_separator": ",:"}, "value_separator"),
        ({"pair_separator": '"'}, "pair_separator"),
        ({"value_separator": "\\"}, "value_separator"),
    ],
)
def test_separators_that_cannot_be_told_apart_are_wrong_settings(chosen: dict[str, str], key: str) -> None:
    _, problems = options.parse(KvOptions, chosen)
    assert [problem for problem, _ in problems] == [key]


_words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
_values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(st.dictionaries(_words, _values, min_size=1, max_size=6))
def test_what_is_quoted_comes_back(values: dict[str, str]) -> None:
    """With separators of any kind, whatever a value holds."""
    quoted = {key: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for key, value in values.items()}
    # Names of the usual keys would be taken out.
    keys = {"message_key": "-", "time_key": "-", "level_key": "-"}
    for pair, equals in ((" ", "="), (";", ":"), (", ", " = ")):
        line = pair.join(f"{key}{equals}{value}" for key, value in quoted.items())
        assert kv(line, pair_separator=pair, value_separator=equals, **keys) == ("", values)


# csv


def rows(*lines: bytes, **chosen: Any) -> list[dict[str, Any]]:
    return [event.fields for event in CsvDecoder(CsvOptions(**chosen)).decode(batch(*lines))]


def test_a_header_and_empty_records_give_no_event() -> None:
    assert rows(b"a,b", b"1,2", b"", b" \r", b"a,b", columns=["a", "b"]) == [{"a": "1", "b": "2"}]


def test_a_quote_that_is_open_takes_nothing_of_the_next_record() -> None:
    first, second = rows(b'"1', b'2"')
    assert (first, second) == ({"error": "CSV: unexpected end of data"}, {"column_1": '2"'})


def test_a_value_in_quotes_may_have_lines() -> None:
    assert rows(b'1,"two\nlines\r\nof it",3') == [{"column_1": "1", "column_2": "two\nlines\r\nof it", "column_3": "3"}]


@pytest.mark.parametrize("frame", [b"a\nb", b'"a"\nb', b'a,"b"\r\n"c"'])
def test_two_records_in_a_frame_are_undecodable(frame: bytes) -> None:
    [fields] = rows(frame)
    assert fields == {"error": "CSV: the end of a line that is not within quotes"}


def test_more_than_max_keys_values_are_undecodable() -> None:
    assert rows(b"1,2,3", max_keys=2) == [{"error": "more than 2 values"}]
    assert rows(b'1,2,"3"', max_keys=2) == [{"error": "more than 2 values"}]


@pytest.mark.parametrize(
    ("chosen", "key"),
    [
        ({"columns": ["a", "b", "a"]}, "columns"),
        ({"separator": ""}, "separator"),
        ({"separator": "ab"}, "separator"),
        ({"separator": "\r"}, "separator"),
        ({"separator": '"'}, "quote"),
        ({"quote": "\0"}, "quote"),
    ],
)
def test_characters_that_cannot_separate_are_wrong_settings(chosen: dict[str, Any], key: str) -> None:
    _, problems = options.parse(CsvOptions, chosen)
    assert [problem for problem, _ in problems] == [key]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), min_size=2),
    st.sampled_from(",;\t|"),
)
def test_what_pythons_writer_writes_comes_back(values: list[str], separator: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator="", quoting=csv.QUOTE_ALL).writerow(values)
    expected = {f"column_{number}": value for number, value in enumerate(values, 1)}
    assert rows(out.getvalue().encode(), separator=separator) == [expected]


# regex


def test_groups_that_took_no_part_are_left_out() -> None:
    decoder = RegexDecoder(RegexOptions(pattern="(?P<a>x)|(?P<b>y)", event_type="t"))
    [event] = decoder.decode(batch(b"a y\r\n"))
    assert (event.type, event.message, event.fields) == ("t", "a y", {"b": "y"})


@pytest.mark.parametrize(
    "pattern", [[], r"\d+", "(", r"(?P<a>x)(?P=a)", "(?P<a>" + "x" * 2000 + ")", [r"(?P<a>x)", "(?P<1>x)"]]
)
def test_patterns_that_cannot_be_used_are_wrong_settings(pattern: Any) -> None:
    made, problems = options.parse(RegexOptions, {"pattern": pattern})
    assert made is None
    assert [key for key, _ in problems] == ["pattern"]


@pytest.mark.usefixtures("without_re2")
def test_without_re2_patterns_that_could_take_long_are_refused() -> None:
    _, problems = options.parse(RegexOptions, {"pattern": "(?P<a>(a+)+)$"})
    assert "repeat inside a repeat" in problems[0][1]


@pytest.mark.usefixtures("without_re2")
def test_without_re2_long_lines_are_undecodable_and_never_cut() -> None:
    """A value whose end was not looked at would be a wrong value."""
    decoder = RegexDecoder(RegexOptions(pattern="^(?P<a>x+)"))
    fits, long = decoder.decode(batch(b"x" * _patterns.MAX_TEXT, b"x" * (_patterns.MAX_TEXT + 1)))
    assert (len(fits.fields["a"]), long.type) == (_patterns.MAX_TEXT, "undecodable")
    assert "google-re2" in long.fields["error"]


def test_with_re2_long_lines_and_all_patterns_take_time_in_proportion() -> None:
    pytest.importorskip("re2")
    decoder = RegexDecoder(RegexOptions(pattern="(?P<a>(a+)+)$"))
    whole, none = decoder.decode(batch(b"a" * 60_000, b"a" * 60_000 + b"b"))
    assert (len(whole.fields["a"]), none.type) == (60_000, "undecodable")


@pytest.mark.usefixtures("without_re2")
def test_a_set_that_excludes_what_follows_is_bounded() -> None:
    r"""`[^"]*"` has one way to end, as the log of a web server needs it; `[^"]*x` has many."""
    line = r'^(?P<a>\S+) "(?P<b>[^"]*)" "(?P<c>[^"]*)" (?P<d>\d+)$'
    assert _patterns.compile_groups(line).names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="too many open repeats"):
        _patterns.compile_groups(r'^(?P<a>[^"]*)x(?P<b>[^"]*)x(?P<c>[^"]*)x')


@pytest.mark.usefixtures("without_re2")
def test_without_re2_the_corpus_is_the_same() -> None:
    for case in cases("regex"):
        events = case.make_decoder().decode(case.batch())
        assert [line_of(event) for event in events] == case.expected()
