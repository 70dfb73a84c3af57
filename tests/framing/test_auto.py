"""Framing that is decided for every frame."""

from __future__ import annotations

import pytest

from eventserver.framing.auto import AutoFramer
from eventserver.interfaces import Fault
from eventserver.testing.framers import cuts, outcome
from tests.framing.building import build

SIZES = pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])


@SIZES
def test_lines_and_counted_frames_mix(size: int) -> None:
    data = b"<13>line\n7 <13>one9 <13>t\nwo\n<14>line\r\n7 <13>one\n\n<15>nul\x005 <1>xx2 <a4 <nex"
    assert outcome(build(AutoFramer), cuts(data, size)) == (
        [b"<13>line", b"<13>one", b"<13>t\nwo\n", b"<14>line", b"<13>one", b"<15>nul", b"<1>xx", b"<a", b"<nex"],
        [],
    )


@SIZES
@pytest.mark.parametrize(
    "line",
    [
        b"2026 Jan  1 00:00:00 a line with a year",
        b"12: a sequence number",
        b"12 with a number",
        b"12  <two spaces",
        b"12",
        b"12 ",
        b"1234567",
        b"12345678 <13>eight digits",
        b"012 <13>a leading zero",
        b"0 <",
        b"-1 <13>a sign",
        b" 12 <13>indented",
        b"x 12 <13>in the middle",
        b"<13>x 5 <13>x",
    ],
)
def test_other_lines_that_begin_with_digits_stay_lines(line: bytes, size: int) -> None:
    assert outcome(build(AutoFramer), cuts(line + b"\n" + line + b"\0" + line, size)) == ([line] * 3, [])


@SIZES
def test_no_new_start_is_looked_for_inside_a_counted_frame(size: int) -> None:
    data = b"20 <13>x\n5 <13>evil\n\0\n!\n6 <13>ok"
    assert outcome(build(AutoFramer), cuts(data, size)) == ([b"<13>x\n5 <13>evil\n\0\n!", b"<13>ok"], [])


@SIZES
def test_empty_frames_are_skipped(size: int) -> None:
    data = b"\n\r\n\0<13>a\n\n\0\r\n<13>b\n5 <13>c\n \0\n5 <13>d\r\n 5 <13>e  <13>f\n"
    assert outcome(build(AutoFramer), cuts(data, size)) == (
        [b"<13>a", b"<13>b", b"<13>c", b"<13>d", b" 5 <13>e  <13>f"],
        [],
    )


@SIZES
def test_spaces_after_a_counted_frame_are_skipped_and_after_a_line_kept(size: int) -> None:
    data = b"5 <13>a  x\n  y\n"
    assert outcome(build(AutoFramer), cuts(data, size)) == ([b"<13>a", b"x", b"  y"], [])


def test_spaces_at_the_start_of_a_read_are_kept_after_a_line() -> None:
    assert outcome(build(AutoFramer), [b"5 <13>a", b"x\n", b"  y\n"]) == ([b"<13>a", b"x", b"  y"], [])
    assert outcome(build(AutoFramer), [b"5 <13>a", b"x\ny", b"  z\n"]) == ([b"<13>a", b"x", b"y  z"], [])


@SIZES
def test_a_count_that_no_priority_follows_is_a_line_among_counted_frames_too(size: int) -> None:
    line = b"100 x" + b"<" * 99
    data = b"12 <13>abcdefgh" * 2 + line + b"\n12 <13>abcdefgh"
    frame = b"<13>abcdefgh"
    assert outcome(build(AutoFramer), cuts(data, size)) == ([frame, frame, line, frame], [])


@SIZES
def test_the_limit_holds_among_counted_frames_of_usual_sizes_too(size: int) -> None:
    data = b"12 <13>abcdefgh999 <" + b"x" * 998 + b"12 <13>abcdefgh"
    frame = b"<13>abcdefgh"
    assert outcome(build(AutoFramer, max_frame=998), cuts(data, size)) == (
        [frame, b"<" + b"x" * 997, frame],
        [("oversize", 1, False)],
    )


def test_a_cr_is_stripped_before_lf_only() -> None:
    assert build(AutoFramer).feed(b"a\r\nb\r\0c\r\r\n") == [b"a", b"b\r", b"c\r"]


def test_digits_at_the_end_of_a_read_are_undecided() -> None:
    framer = build(AutoFramer)
    assert (framer.feed(b"<13>x\n5"), framer.partial) == ([b"<13>x"], True)
    assert framer.feed(b" ") == []
    assert framer.feed(b"<13>y") == [b"<13>y"]
    assert framer.partial is False


def test_a_count_of_seven_digits_is_good_wherever_it_is_cut() -> None:
    data = b"\n1000000 <" + b"x" * 999_999 + b"4 <1>"
    for at in range(1, 11):
        framer = build(AutoFramer, max_frame=10)
        assert outcome(framer, [data[:at], data[at:], b"a"]) == ([b"<xxxxxxxxx", b"<1>a"], [("oversize", 0, False)])


@pytest.mark.parametrize("undecided", [b"12", b"12 ", b"1234567 "])
def test_undecided_digits_are_a_line_at_the_end(undecided: bytes) -> None:
    assert outcome(build(AutoFramer), [undecided]) == ([undecided], [])
    assert outcome(build(AutoFramer), [b"5 <13>a" + undecided]) == ([b"<13>a", undecided], [])
    assert outcome(build(AutoFramer, max_frame=1), [undecided]) == ([b"1"], [("oversize", 0, False)])


@SIZES
def test_oversized_frames_of_both_kinds_are_cut_and_the_next_ones_survive(size: int) -> None:
    data = b"<13>too long\n<1>ok\n12 <13>too\n2 <x<2>ok\n<13>too long\x004 <3>a"
    assert outcome(build(AutoFramer, max_frame=5), cuts(data, size)) == (
        [b"<13>t", b"<1>ok", b"<13>t", b"<2>ok", b"<13>t", b"<3>a"],
        [("oversize", 0, False), ("oversize", 2, False), ("oversize", 4, False)],
    )


@SIZES
def test_a_cr_behind_exactly_the_limit_is_no_content_before_lf_only(size: int) -> None:
    assert outcome(build(AutoFramer, max_frame=5), cuts(b"12345\r\nabcde\r\0abcde\r\n", size)) == (
        [b"12345", b"abcde", b"abcde"],
        [("oversize", 1, False)],
    )


def test_the_rest_of_a_counted_frame_is_kept_at_the_end() -> None:
    framer = build(AutoFramer)
    framer.feed(b"<13>x\n20 <13>y")
    assert (framer.finish(), list(framer.faults)) == ([b"<13>y"], [Fault("incomplete", 0, False)])


def test_the_unterminated_last_line_is_a_frame() -> None:
    assert outcome(build(AutoFramer), [b"<13>x\n", b"<13>y"]) == ([b"<13>x", b"<13>y"], [])


def test_replies_are_framed_as_the_latest_frame_was() -> None:
    framer = build(AutoFramer)
    assert framer.wrap(b"ok") == b"ok\n"
    for data, wrapped in (
        (b"4 <1>a", b"2 ok"),
        (b"\n", b"2 ok"),
        (b"a\n", b"ok\n"),
        (b"b\0", b"ok\0"),
        (b"\r\n", b"ok\0"),
        (b"c\0d\n\0", b"ok\n"),
        (b"c\ne\0f", b"ok\0"),
        (b"\n4 <1>a", b"2 ok"),
    ):
        framer.feed(data)
        assert framer.wrap(b"ok") == wrapped
    assert framer.wrap(b"") == b"\n"


def test_rest_hands_over_any_unfinished_frame_as_it_came() -> None:
    for unread in (b"12", b"12 ", b"line", b"line\r", b"20 <13>par"):
        framer = build(AutoFramer)
        framer.feed(b"<13>x\n" + unread)
        assert (framer.rest(), framer.partial) == (unread, False)
