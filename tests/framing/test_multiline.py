"""Lines joined to events."""

from __future__ import annotations

import traceback

import pytest

from eventserver.framing.auto import AutoFramer
from eventserver.framing.counted import OctetFramer
from eventserver.framing.lines import LinesFramer
from eventserver.framing.multiline import MultilineFramer
from eventserver.interfaces import Fault
from eventserver.testing.framers import cuts, outcome
from tests.framing.building import build, multiline, problems_of


def lines(**table: object) -> MultilineFramer:
    """Multiline round lines."""
    return multiline(build(LinesFramer), **table)


def events(text: str, **table: object) -> list[str]:
    """The events in a text, which must be the same however it comes."""
    data = text.encode()
    whole = outcome(lines(**table), [data])
    assert whole[1] == []
    for size in (1, 3, 50):
        assert outcome(lines(**table), cuts(data, size)) == whole
    return [frame.decode() for frame in whole[0]]


def test_a_line_that_matches_start_begins_an_event() -> None:
    text = "2026-01-01 one\nmore\n\n  still\n2026-01-02 two\n2026-01-03 three\nx"
    assert events(text, start=r"^\d{4}-") == [
        "2026-01-01 one\nmore\n\n  still",
        "2026-01-02 two",
        "2026-01-03 three\nx",
    ]


def test_lines_before_the_first_start_are_an_event() -> None:
    assert events("a\nb\n# c\nd\n", start="^#") == ["a\nb", "# c\nd"]


def test_only_the_first_kilobyte_of_a_line_is_looked_at() -> None:
    near, far = "x" * 1023 + "#", "x" * 1024 + "#"
    assert events(f"#a\n{near}\n", start="#") == ["#a", near]
    assert events(f"#a\n{far}\n", start="#") == [f"#a\n{far}"]


def test_indented_lines_go_on() -> None:
    assert events("a\n b\n\tc\n\nd\n  e\n", mode="indented") == ["a\n b\n\tc", "", "d\n  e"]


JAVA = """\
java.lang.IllegalStateException: outer
\tat com.example.Main.run(Main.java:10)
\tat com.example.Main.main(Main.java:4)
\tSuppressed: java.io.IOException: while closing
\t\tat com.example.Res.close(Res.java:9)
\t\t... 1 more
Caused by: java.lang.NullPointerException: inner
\tat com.example.Deep.go(Deep.java:77)
\t... 2 more"""


def test_java_stack_traces_are_one_event() -> None:
    assert events(f"INFO start\n{JAVA}\nINFO next\n indented\n", mode="java") == [
        "INFO start",
        JAVA,
        "INFO next",
        " indented",
    ]


TRACEBACK = """\
Traceback (most recent call last):
  File "app.py", line 3, in run
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero"""
CHAINED = f"""\
ERROR:root:it failed
{TRACEBACK}

During handling of the above exception, another exception occurred:

{TRACEBACK}

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "app.py", line 9, in main
    raise KeyError("x") from error
KeyError: 'x'
  a note"""


def test_python_tracebacks_go_on_with_the_line_before_them() -> None:
    assert events(f"INFO start\n{CHAINED}\nINFO next\n  not one\n{TRACEBACK}\n", mode="python") == [
        "INFO start",
        CHAINED,
        "INFO next",
        f"  not one\n{TRACEBACK}",
    ]


def test_python_tracebacks_one_after_the_other_are_events_of_their_own() -> None:
    assert events(f"{TRACEBACK}\n{TRACEBACK}\n", mode="python") == [TRACEBACK, TRACEBACK]


def test_python_chains_are_known_without_empty_lines_too() -> None:
    """The framing `auto` skips empty lines."""
    text = CHAINED.replace("\n\n", "\n")
    assert outcome(multiline(build(AutoFramer), mode="python"), [CHAINED.encode() + b"\nx\n"])[0] == [
        text.encode(),
        b"x",
    ]


def test_python_syntax_errors_are_one_event() -> None:
    syntax = 'x\n  File "a.py", line 1\n    foo(\n       ^\nSyntaxError: unclosed'
    assert events(f"{syntax}\nnext\n", mode="python") == [syntax, "next"]


def nested_groups() -> ExceptionGroup[Exception]:
    """Two levels of exceptions, with tracebacks."""
    errors: list[Exception] = []
    for text in ("one", "two"):
        try:
            raise ValueError(text)
        except ValueError as error:
            errors.append(error)
    try:
        raise ExceptionGroup("inner", errors)
    except ExceptionGroup as inner:
        errors = [inner, KeyError("three")]
    try:
        raise ExceptionGroup("outer", errors)
    except ExceptionGroup as outer:
        return outer


def test_python_exception_groups_are_one_event() -> None:
    group = "".join(traceback.format_exception(nested_groups())).rstrip("\n")
    assert events(f"y\n{group}\nnext\n{group}\n{group}\n", mode="python") == [f"y\n{group}", f"next\n{group}", group]


def test_what_python_itself_writes_is_one_event() -> None:
    try:
        try:
            [].index(1)
        except ValueError:
            {}["x"]
    except KeyError as error:
        error.add_note("a note\n  of two lines")
        text = "failed\n" + "".join(traceback.format_exception(error)).rstrip("\n")
    text = text.replace("\na note", "\n a note")  # a note that is not indented cannot be told from a new line
    assert events(f"{text}\nnext\n", mode="python") == [text, "next"]


def test_an_event_ends_after_max_lines_and_nothing_is_lost() -> None:
    framer = lines(mode="indented", max_lines=2)
    assert outcome(framer, [b"a\n b\n c\n d\n e\nf\n"]) == (
        [b"a\n b", b" c\n d", b" e", b"f"],
        [("too_many_lines", 0, False), ("too_many_lines", 1, False)],
    )


def test_the_default_bounds() -> None:
    options = MultilineFramer.Options(mode="indented")
    assert (options.max_lines, options.flush_after, options.max_frame) == (500, 1.0, 65536)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_an_event_over_the_limit_is_cut_and_the_next_survives(size: int) -> None:
    data = b"a\n123\n 45678\n 9\n x\nb\n c\n"
    assert outcome(lines(mode="indented", max_frame=8), cuts(data, size)) == (
        [b"a", b"123\n 456", b"b\n c"],
        [("oversize", 1, False)],
    )
    assert outcome(lines(mode="indented", max_frame=8, oversize="drop"), cuts(data, size)) == (
        [b"a", b"b\n c"],
        [("oversize", -1, False)],
    )
    assert outcome(lines(mode="indented", max_frame=8, oversize="close"), cuts(data, size)) == (
        [b"a"],
        [("oversize", -1, True)],
    )


def test_an_event_of_exactly_the_limit_is_whole() -> None:
    assert outcome(lines(mode="indented", max_frame=5), [b"12\n 4\n"]) == ([b"12\n 4"], [])


def test_faults_of_lines_become_faults_of_their_events() -> None:
    framer = multiline(build(LinesFramer, max_frame=4), mode="indented")
    assert framer.feed(b"a\nb\n long\n x\nc\n") == [b"a", b"b\n lon\n x"]
    assert list(framer.faults) == [Fault("oversize", 1, False)]


def test_an_event_over_the_limit_is_reported_once_whatever_its_lines_were() -> None:
    for policy, faults in (("truncate", [("oversize", 0, False)]), ("drop", [("oversize", -1, False)])):
        framer = multiline(build(LinesFramer, max_frame=4), mode="indented", max_frame=6, oversize=policy)
        assert outcome(framer, [b"a long\n b\n"])[1] == faults


def test_a_refused_event_takes_the_faults_of_its_lines_with_it() -> None:
    faults = [("incomplete", 0, False), ("oversize", 0, False)]
    framer = multiline(build(OctetFramer), mode="indented", max_frame=2)
    assert outcome(framer, [b"9 abc"]) == ([b"ab"], faults)
    framer = multiline(build(OctetFramer), mode="indented", max_frame=2, oversize="drop")
    assert outcome(framer, [b"9 abc"]) == ([], [("oversize", -1, False)])


def test_a_fault_waits_for_its_event() -> None:
    framer = multiline(build(LinesFramer, max_frame=4), mode="indented")
    assert (framer.feed(b"a\nb long\n"), list(framer.faults)) == ([b"a"], [])
    assert (framer.feed(b" long too\n"), list(framer.faults)) == ([], [])
    assert (framer.feed(b"c\n"), list(framer.faults)) == ([b"b lo\n lon"], [Fault("oversize", 0, False)])


def test_refused_lines_are_reported_at_once() -> None:
    framer = multiline(build(LinesFramer, max_frame=4, oversize="drop"), mode="indented")
    assert (framer.feed(b"a\n long\n b\n"), list(framer.faults)) == ([], [Fault("oversize", None, False)])
    assert framer.finish() == [b"a\n b"]


def test_a_fatal_fault_of_the_inner_framer_flushes_and_ends_the_stream() -> None:
    framer = multiline(build(OctetFramer), mode="indented")
    assert framer.feed(b"1 a2  b1 c2  dx") == [b"a\n b", b"c\n d"]
    assert list(framer.faults) == [Fault("bad_count", None, True)]
    assert (framer.feed(b"1 a"), framer.finish(), framer.expire(9.0)) == ([], [], [])


def test_the_end_of_the_stream_flushes_and_keeps_the_inner_faults() -> None:
    framer = multiline(build(OctetFramer), mode="indented")
    framer.feed(b"1 a9  b")
    assert (framer.finish(), list(framer.faults)) == ([b"a\n b"], [Fault("incomplete", 0, False)])


def test_an_event_is_flushed_when_nothing_came_for_a_while() -> None:
    framer = lines(mode="indented", flush_after="2 s")
    framer.feed(b"a\n")
    assert [framer.expire(now) for now in (100.0, 101.0, 101.9)] == [[], [], []]
    framer.feed(b" b\n")
    assert [framer.expire(now) for now in (102.5, 104.4, 104.5, 105.5)] == [[], [], [b"a\n b"], []]
    assert framer.feed(b" c\nd\n") == [b" c"]


def test_a_flushed_event_has_its_faults() -> None:
    framer = multiline(build(LinesFramer, max_frame=2), mode="indented", flush_after="1 s")
    framer.feed(b"abc\n")
    assert framer.expire(5.0) == []
    assert (framer.expire(6.0), list(framer.faults)) == ([b"ab"], [Fault("oversize", 0, False)])


def test_a_held_event_is_not_a_frame_that_is_stuck() -> None:
    framer = lines(mode="indented")
    framer.feed(b"a\n b\n")
    assert (framer.partial, framer.held) == (False, 4)
    framer.feed(b" c")
    assert framer.partial


def test_rest_hands_over_the_event_in_progress() -> None:
    framer = lines(mode="indented")
    framer.feed(b"a\n b\n c")
    assert framer.rest() == b"a\n b\n c"
    assert (framer.rest(), framer.finish()) == (b"", [])


def test_it_wraps_as_the_inner_framer() -> None:
    assert multiline(build(OctetFramer), mode="java").wrap(b"ok") == b"2 ok"


def test_either_start_or_mode_is_needed() -> None:
    for table in ({}, {"start": "x", "mode": "java"}):
        assert problems_of(MultilineFramer, **table) == [("start", "give either `start` or `mode`")]
        with pytest.raises(ValueError, match="give either"):
            MultilineFramer(MultilineFramer.Options(**table), build(LinesFramer))


@pytest.mark.usefixtures("without_re2")
@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a*)*", "(?:a|b*)+", "(a|ab)*", r"(\w+\s?)+:", "((a{1,9}b)?)*", "(a?){50}", "(?:a+){10}b",
        "(?=(a+)+b)", "(?P<x>a)(?P=x)", r"(.)\1", ".*.*x", "x.*y.*z.*", "^.*.*.*x", r"[^a]+\S+b", "(", "a{2,1}", "*",
    ],
)  # fmt: skip
def test_expressions_that_could_take_too_long_are_refused(pattern: str) -> None:
    assert [key for key, _ in problems_of(MultilineFramer, start=pattern)] == ["start"]
    with pytest.raises(ValueError, match=r"multiline\.start: "):
        MultilineFramer(MultilineFramer.Options(start=pattern), build(LinesFramer))


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\S", r"^\d{4}-\d\d-\d\d[ T]\d\d:", r"^<\d{1,3}>", "^(Jan|Feb|Mar) +[0-9]+ ", r"^\[[^\]]+\] .*ERROR",
        r"^(\d{1,3}\.){3}\d{1,3} ", "(?i)^error|^warn", "[A-Z]+:", "^$", "é", r"^\w+ \w+ \w+",
    ],
)  # fmt: skip
def test_usual_expressions_are_good(pattern: str) -> None:
    assert problems_of(MultilineFramer, start=pattern) == []
