"""Templates over events."""

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver._escaping import escape_path, escape_text
from eventserver._template import CACHED, Template
from eventserver.testing.encoders import awkward_events, sample_event
from tests.test_escaping import anything


def render(template: str, **changes: Any) -> str:
    return Template(template, escape_text).render(sample_event(**changes))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain 100% %s %(x)s", "plain 100% %s %(x)s"),
        ("{{braces}}", "{braces}"),
        ("{message}|{peer}|{listener}|{type}|{id}", "message 0|192.0.2.7:51123|lines|text|01BATCH-0"),
        ("{time}", "2026-11-22T15:03:00.123456Z"),
        ("{time:%Y-%m-%d} {received:%H:%M:%S.%f}", "2026-11-22 15:03:00.123456"),
        ("{time:%Y/%m/%d}", "2026/11/22"),
        ("{time:}", ""),
        ("{hostname} {fields[app_name]}", "web1 sshd"),
        ("{missing} {fields[missing]} {context[labels][site]}", "- - -"),
        ("{severity_code}", "3"),
    ],
)
def test_places_are_filled_with_the_values_of_the_event(template: str, text: str) -> None:
    assert render(template) == text


def test_values_of_other_kinds_are_written_as_json() -> None:
    fields = {"a": True, "b": [1, "x"], "c": {"d": None}, "e": 1.5, "f": None, "g": ""}
    assert render("{a} {b} {c} {e} {f} {g}.", fields=fields) == 'true [1,"x"] {"d":null} 1.5 - .'
    assert render("{fields}", fields={"a": 1}) == '{"a":1}'


def test_entries_of_tables_are_found_by_their_keys() -> None:
    context = {"labels": {"site": "hq"}, "odd key!": 1}
    assert render("{context[labels][site]} {context[odd key!]} {context[labels][x][y]}", context=context) == "hq 1 -"
    assert render("{fields[time]} {time:%Y}", fields={"time": "mine"}) == "mine 2026"


def test_values_are_quoted_and_the_template_is_not() -> None:
    template = Template("/{hostname}/{time:%Y/%m}/{missing}", escape_path)
    assert template.render(sample_event(fields={"hostname": "../x"})) == "/%2E.%2Fx/2026/11/-"


def test_names_are_what_the_template_looks_at() -> None:
    assert Template("{listener}-{time:%Y}.{hostname}{fields[x]}", str).names == {
        "listener",
        "time",
        "hostname",
        "fields",
    }
    assert Template("nothing", str).names == set()


def test_a_day_is_remembered_by_its_date_and_finer_formats_are_not_mixed_up() -> None:
    day, second = Template("{time:%d}", str), Template("{time:%H:%M:%S}", str)
    for hour in (0, 15, 23):
        for date in (1, 2):
            event = sample_event(time=dt.datetime(2026, 11, date, hour, 30, 5, tzinfo=dt.UTC))
            assert day.render(event) == f"{date:02}"
            assert second.render(event) == f"{hour:02}:30:05"


def test_the_memory_of_times_is_bounded() -> None:
    template = Template("{time:%S}", str)
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for second in range(2 * CACHED + 10):
        event = sample_event(time=start + dt.timedelta(seconds=second))
        assert template.render(event) == f"{second % 60:02}"
    (part,) = template._parts
    assert 0 < len(part.known) <= CACHED  # type: ignore[attr-defined]  # only formatted times remember


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("{", "alone"),
        ("a } b", "column 3"),
        ("{}", "not understood"),
        ("{a.b}", "not understood"),
        ("{message!r}", "not understood"),
        ("{0}", "not understood"),
        ("{message:>10}", "only `time` and `received`"),
        ("{fields[time]:%Y}", "not understood|only `time`"),
        ("{message[x]}", "not a table"),
        ("{time[x]}", "not a table"),
        ("{fields[]}", "not understood"),
        ("{fields[a}", "not understood"),
        ("{time:%Q}", "%Q"),
        ("{time:%}", "%"),
        ("{time:%-d}", "%-"),
        ("{time:%c}", "%c"),
        ("{time:\ud800}", "cannot be used"),
    ],
)
def test_what_is_not_understood_is_named(template: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Template(template, str)


@settings(max_examples=200, deadline=None)
@given(anything | st.from_regex(re.compile(r"(\{[a-z]{0,4}[\[\]:.%a-zA-Z{}!]{0,6}\}?){1,3}"), fullmatch=True))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    try:
        template = Template(text, escape_text)
    except ValueError:
        return
    assert isinstance(template.render(sample_event()), str)


def test_rendering_never_raises() -> None:
    template = Template(
        "{x} {hostname} {fields} {context} {message} {time} {time:%Y} {fields[x][y]} {type}", escape_text
    )
    for event in [*awkward_events(), sample_event(time="now"), sample_event(time=None)]:
        line = template.render(event)
        assert line == escape_text(line)
