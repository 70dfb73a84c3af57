"""Framing by length: octet counting, a 32 bit length, netstrings."""

from __future__ import annotations

import pytest

from eventserver.framing.counted import LengthFramer, NetstringFramer, OctetFramer
from eventserver.interfaces import Fault
from eventserver.testing.framers import cuts, outcome
from tests.framing.building import build


def test_octet_counted_frames_may_hold_anything() -> None:
    data = b"3 a\nb11 5 <13>\0\r\n x6 <1>\r\n 1 5"
    assert build(OctetFramer).feed(data) == [b"a\nb", b"5 <13>\0\r\n x", b"<1>\r\n ", b"5"]


def test_strays_between_octet_counted_frames_are_skipped() -> None:
    assert outcome(build(OctetFramer), [b"\n 1 a\n", b"\0\n", b" 1 b \0"]) == ([b"a", b"b"], [])


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_octet_counted_frames_of_any_usual_sizes_follow_each_other(size: int) -> None:
    frames = [b"<" * count for count in (10, 99, 100, 999, 1000, 9, 50, 180)] + [b"x" * 12, b"x" * 120]
    data = b"".join(b"%d %b" % (len(frame), frame) for frame in frames)
    assert outcome(build(OctetFramer), cuts(data * 2, size)) == (frames * 2, [])


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_the_limit_holds_among_octet_counted_frames_of_usual_sizes(size: int) -> None:
    data = b"12 <13>abcdefgh999 <" + b"x" * 998 + b"12 <13>abcdefgh"
    assert outcome(build(OctetFramer, max_frame=998), cuts(data, size)) == (
        [b"<13>abcdefgh", b"<" + b"x" * 997, b"<13>abcdefgh"],
        [("oversize", 1, False)],
    )


@pytest.mark.parametrize(
    "bad",
    [b"0 ", b"01 a", b"-1 a", b"+1 a", b"12345678 a", b"a", b"1a 1", b"<13>x\n", b"\r", b"1\n", b"\xb2 a", b"1\t"],
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_bad_count_is_fatal_and_what_came_before_is_kept(bad: bytes, size: int) -> None:
    framer = build(OctetFramer)
    assert outcome(framer, cuts(b"2 ok" + bad + b" 2 no", size)) == ([b"ok"], [("bad_count", -1, True)])
    assert (framer.feed(b"2 no"), framer.held, framer.partial) == ([], 0, False)


def test_a_count_of_seven_digits_is_good() -> None:
    data = b"9999999 " + b"x" * 9_999_999 + b"2 ok"
    framer = build(OctetFramer, max_frame=10)
    assert outcome(framer, cuts(data, 65536)) == ([b"x" * 10, b"ok"], [("oversize", 0, False)])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_exactly_the_counted_octets_are_skipped(size: int) -> None:
    """No new start is looked for inside the content."""
    framer = build(OctetFramer, max_frame=5)
    frames = []
    faults = []
    for chunk in cuts(b"20 1 a2 bc\n\n\n12 <13>evi2 ok", size):
        frames += framer.feed(chunk)
        faults += framer.faults
        assert framer.held <= 5
    assert frames == [b"1 a2 ", b"ok"]
    assert [(fault.reason, fault.fatal) for fault in faults] == [("oversize", False)]


def test_a_skipped_frame_is_not_held() -> None:
    framer = build(OctetFramer, max_frame=1000)
    assert framer.feed(b"9000000 " + b"x" * 999) == []
    assert framer.feed(b"xy") == [b"x" * 1000]
    assert (framer.feed(b"x" * 100_000), framer.held, framer.partial) == ([], 0, True)


def test_a_dropped_frame_is_reported_when_its_count_is_known() -> None:
    framer = build(OctetFramer, max_frame=3, oversize="drop")
    assert (framer.feed(b"1 a9 "), list(framer.faults)) == ([b"a"], [Fault("oversize", None, False)])
    assert (framer.feed(b"123456789" + b"1 b"), list(framer.faults)) == ([b"b"], [])


def test_a_dropped_frame_that_the_end_cuts_is_one_fault() -> None:
    framer = build(OctetFramer, max_frame=3, oversize="drop")
    assert outcome(framer, [b"9 1234"]) == ([], [("oversize", -1, False)])


@pytest.mark.parametrize("size", [1, 100])
def test_close_acts_on_the_count(size: int) -> None:
    framer = build(OctetFramer, max_frame=3, oversize="close")
    assert outcome(framer, cuts(b"1 a9 1234567891 b", size)) == ([b"a"], [("oversize", -1, True)])


@pytest.mark.parametrize(
    ("framer", "data"),
    [
        (OctetFramer, b"9 123"),
        (NetstringFramer, b"9:123"),
        (NetstringFramer, b"3:123"),
        (LengthFramer, b"\0\0\0\x09123"),
    ],
)
def test_the_rest_of_a_counted_frame_is_kept_at_the_end(framer: type, data: bytes) -> None:
    instance = build(framer)
    assert instance.feed(data) == []
    assert (instance.finish(), list(instance.faults)) == ([b"123"], [Fault("incomplete", 0, False)])


@pytest.mark.parametrize(
    ("framer", "data"),
    [
        (OctetFramer, b"12"),
        (OctetFramer, b"12 "),
        (NetstringFramer, b"12"),
        (NetstringFramer, b"0:"),
        (LengthFramer, b"\0"),
        (LengthFramer, b"\0\0\0\1"),
    ],
)
def test_a_header_alone_is_reported_at_the_end(framer: type, data: bytes) -> None:
    instance = build(framer)
    assert instance.feed(data) == []
    assert instance.partial
    assert (instance.finish(), list(instance.faults)) == ([], [Fault("incomplete", None, False)])


def test_a_truncated_frame_that_the_end_cuts_is_one_fault() -> None:
    framer = build(OctetFramer, max_frame=3)
    assert outcome(framer, [b"9 1234"]) == ([b"123"], [("oversize", 0, False)])
    assert outcome(build(OctetFramer, max_frame=3), [b"9 12"]) == ([b"12"], [("incomplete", 0, False)])


def test_strays_at_the_end_are_nothing() -> None:
    assert outcome(build(OctetFramer), [b"1 a\n"]) == ([b"a"], [])


def test_octet_counting_cannot_say_empty() -> None:
    assert build(OctetFramer).wrap(b"") == b""
    assert build(OctetFramer).wrap(b"<13>x") == b"5 <13>x"


def test_lengths_are_big_endian_unless_told() -> None:
    assert build(LengthFramer).feed(b"\0\0\0\2hi\0\0\0\0\0\0\0\1!") == [b"hi", b"", b"!"]
    assert build(LengthFramer, byte_order="little").feed(b"\2\0\0\0hi\0\0\0\0") == [b"hi", b""]
    assert build(LengthFramer).wrap(b"hi") == b"\0\0\0\2hi"
    assert build(LengthFramer, byte_order="little").wrap(b"hi") == b"\2\0\0\0hi"


def test_a_length_of_four_gigabytes_is_skipped_and_not_held() -> None:
    framer = build(LengthFramer, max_frame=4)
    assert framer.feed(b"\xff\xff\xff\xffabcd") == [b"abcd"]
    assert (framer.feed(b"x" * 100_000), framer.held, framer.partial) == ([], 0, True)


def test_netstrings() -> None:
    """The examples of https://cr.yp.to/proto/netstrings.txt, and more."""
    assert build(NetstringFramer).feed(b"12:hello world!,0:,3:a,b,") == [b"hello world!", b"", b"a,b"]
    assert build(NetstringFramer).wrap(b"hello world!") == b"12:hello world!,"


@pytest.mark.parametrize("bad", [b"01:a,", b"00:,", b":,", b"-1:", b" 1:a,", b"1a:", b"1234567890:", b"\n", b"1\n"])
@pytest.mark.parametrize("size", [1, 100])
def test_a_bad_netstring_length_is_fatal(bad: bytes, size: int) -> None:
    assert outcome(build(NetstringFramer), cuts(b"2:ok," + bad, size)) == ([b"ok"], [("bad_count", -1, True)])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_netstring_without_its_comma_is_fatal_and_refused(size: int) -> None:
    assert outcome(build(NetstringFramer), cuts(b"2:ok,2:no;1:x,", size)) == ([b"ok"], [("bad_terminator", -1, True)])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_comma_of_a_skipped_netstring_counts_too(size: int) -> None:
    framer = build(NetstringFramer, max_frame=2)
    assert outcome(framer, cuts(b"4:abcd,1:x,", size)) == ([b"ab", b"x"], [("oversize", 0, False)])
    framer = build(NetstringFramer, max_frame=2)
    assert outcome(framer, cuts(b"4:abcd;1:x,", size)) == (
        [b"ab"],
        [("bad_terminator", -1, True), ("oversize", 0, False)],
    )
