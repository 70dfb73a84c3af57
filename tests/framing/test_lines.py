"""Framing by delimiter: LF, CR LF, NUL, and delimiters of one's own."""

from __future__ import annotations

import pytest

from eventserver.blocks import Lines
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.interfaces import Fault
from eventserver.options import Size
from eventserver.testing.framers import cuts, outcome
from tests.framing.building import build, problems_of


def test_lines_end_with_lf_or_with_cr_lf() -> None:
    assert build(LinesFramer).feed(b"one\r\ntwo\nthree\r\nfo") == [b"one", b"two", b"three"]


def test_only_one_cr_and_only_before_lf_is_stripped() -> None:
    assert build(LinesFramer).feed(b"a\rb\r\r\n\r\n\rc\n") == [b"a\rb\r", b"", b"\rc"]


def test_empty_lines_are_frames() -> None:
    assert build(LinesFramer).feed(b"\n\nx\n\n") == [b"", b"", b"x", b""]


def test_a_line_is_joined_over_several_reads() -> None:
    framer = build(LinesFramer)
    assert [framer.feed(part) for part in (b"on", b"e", b"\r", b"\ntwo")] == [[], [], [], [b"one"]]
    assert framer.finish() == [b"two"]


def test_the_unterminated_last_line_is_a_frame_without_a_fault() -> None:
    """`echo -n x | nc` loses nothing."""
    framer = build(LinesFramer)
    framer.feed(b"one\nx")
    assert (framer.finish(), list(framer.faults)) == ([b"x"], [])


def test_nothing_after_the_last_lf_is_no_frame() -> None:
    framer = build(LinesFramer)
    framer.feed(b"one\n")
    assert framer.finish() == []


def test_a_cr_at_the_end_of_the_stream_stays() -> None:
    assert outcome(build(LinesFramer), [b"one\r"]) == ([b"one\r"], [])


def test_an_oversized_line_is_counted_and_the_next_line_survives() -> None:
    framer = build(LinesFramer, max_frame=5)
    assert framer.feed(b"ok\n123456789\nnext\n") == [b"ok", b"12345", b"next"]
    assert list(framer.faults) == [Fault("oversize", 1, False)]


def test_the_head_of_an_endless_line_comes_at_once_and_nothing_is_held_after_it() -> None:
    framer = build(LinesFramer, max_frame=5)
    assert framer.feed(b"123") == []
    assert framer.feed(b"456") == [b"12345"]
    assert list(framer.faults) == [Fault("oversize", 0, False)]
    for _ in range(5):
        assert (framer.feed(b"7" * 1000), framer.held, framer.partial) == ([], 0, True)
    assert list(framer.faults) == []
    assert framer.feed(b"8\nnext\n") == [b"next"]


def test_the_end_of_a_skipped_line_at_the_end_of_the_stream_is_no_frame() -> None:
    assert outcome(build(LinesFramer, max_frame=3), [b"12345", b"678"]) == ([b"123"], [("oversize", 0, False)])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_a_cr_lf_behind_exactly_the_limit_is_no_content_wherever_it_is_cut(size: int) -> None:
    framer = build(LinesFramer, max_frame=5)
    frames: list[bytes] = []
    for chunk in cuts(b"12345\r\n12345\n1234\r\n", size):
        frames += framer.feed(chunk)
        assert (framer.held <= 5, list(framer.faults)) == (True, [])
    assert frames == [b"12345", b"12345", b"1234"]


def test_a_cr_behind_exactly_the_limit_is_content_if_no_lf_follows() -> None:
    for rest in (b"6\nnext\n", b"\r\nnext\n"):
        framer = build(LinesFramer, max_frame=5)
        assert (framer.feed(b"12345\r"), framer.held) == ([], 5)
        assert framer.feed(rest) == [b"12345", b"next"]
        assert list(framer.faults) == [Fault("oversize", 0, False)]


def test_a_cr_behind_exactly_the_limit_is_content_at_the_end_of_the_stream() -> None:
    assert outcome(build(LinesFramer, max_frame=5), [b"12345\r"]) == ([b"12345"], [("oversize", 0, False)])


def test_rest_hands_over_a_cr_behind_exactly_the_limit_too() -> None:
    framer = build(LinesFramer, max_frame=5)
    framer.feed(b"12345\r")
    assert framer.rest() == b"12345\r"


def test_dropped_lines_are_reported_without_a_frame() -> None:
    framer = build(LinesFramer, max_frame=2, oversize="drop")
    assert framer.feed(b"a\nbbb\nc\nddd\n") == [b"a", b"c"]
    assert list(framer.faults) == [Fault("oversize", None, False)] * 2


def test_close_returns_the_lines_before_and_eats_the_rest() -> None:
    framer = build(LinesFramer, max_frame=2, oversize="close")
    assert framer.feed(b"a\nbbb\nc\nddd") == [b"a"]
    assert list(framer.faults) == [Fault("oversize", None, True)]
    assert (framer.feed(b"\ne\n"), list(framer.faults), framer.partial) == ([], [], False)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_delimiter_of_several_bytes_is_found_wherever_it_is_cut(size: int) -> None:
    framer = build(LinesFramer, delimiter="<end>")
    assert outcome(framer, cuts(b"one<end>two<en<end><<end>x\r\n<end>las<en", size))[0] == [
        b"one",
        b"two<en",
        b"<",
        b"x\r\n",
        b"las<en",
    ]


def test_a_custom_delimiter_is_taken_literally() -> None:
    assert build(LinesFramer, delimiter="\r\n").feed(b"a\nb\r\nc\r\r\n") == [b"a\nb", b"c\r"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_delimiter_that_overlaps_itself_is_cut_from_the_left(size: int) -> None:
    assert outcome(build(LinesFramer, delimiter="aa"), cuts(b"aaaxaaaa", size))[0] == [b"", b"ax", b""]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_part_of_a_delimiter_is_not_held_beyond_the_limit(size: int) -> None:
    framer = build(LinesFramer, delimiter="0123456789", max_frame=2)
    frames = []
    for chunk in cuts(b"ab0123456789cd01234567x0123456789ef0123456789", size):
        frames += framer.feed(chunk)
        assert framer.held <= 2
    assert frames == [b"ab", b"cd", b"ef"]


def test_delimiters_have_1_to_16_bytes() -> None:
    assert problems_of(LinesFramer, delimiter="") == [("delimiter", "a delimiter has 1 to 16 bytes")]
    assert problems_of(LinesFramer, delimiter="ü" * 9) == [("delimiter", "a delimiter has 1 to 16 bytes")]
    assert problems_of(LinesFramer, delimiter="x" * 16) == []


def test_replies_end_with_the_delimiter() -> None:
    assert build(LinesFramer).wrap(b"ok") == b"ok\n"
    assert build(LinesFramer, delimiter="||").wrap(b"ok") == b"ok||"
    assert build(NulFramer).wrap(b"ok") == b"ok\0"


def test_frames_that_end_with_nul_may_hold_cr_and_lf() -> None:
    assert outcome(build(NulFramer), [b"a\r\n\0\0b", b"\0c"])[0] == [b"a\r\n", b"", b"b", b"c"]


def test_the_default_limit_is_64_kib() -> None:
    assert LinesFramer.Options().max_frame == Size(65536)
    frames, faults = outcome(build(LinesFramer), [b"x" * 65537 + b"\n" + b"y" * 65536 + b"\n"])
    assert ([len(frame) for frame in frames], faults) == ([65536, 65536], [("oversize", 0, False)])


def test_a_limit_is_at_least_one_byte() -> None:
    assert [key for key, _ in problems_of(LinesFramer, max_frame=0)] == ["max_frame"]
    assert [key for key, _ in problems_of(LinesFramer, oversize="explode")] == ["oversize"]


def test_large_reads_are_not_cut_before_somebody_looks() -> None:
    """Where each line is a frame as it is; else the frames are the same, and a list."""
    block = b"a line of some length\n" * 200
    framer = build(LinesFramer)
    found = framer.lines(block + b"and the be")
    assert isinstance(found, Lines)
    assert (found.block, framer.partial) == (block, True)
    found = framer.lines(b"ginning\n" + block)
    assert isinstance(found, Lines)
    assert found.block == b"and the beginning\n" + block
    assert not framer.partial
    for odd in (b"small\n", block + b"\r\n", b"\r" + block, b"no end" * 1000):
        assert isinstance(build(LinesFramer).lines(odd), list)
    for settings in ({"delimiter": "\r\n"}, {"delimiter": "||"}, {"max_frame": 21}):
        assert isinstance(build(LinesFramer, **settings).lines(block), list)


@pytest.mark.parametrize("oversize", ["truncate", "drop", "close"])
def test_a_read_of_more_than_the_limit_is_not_cut_where_its_lines_are_seen_to_be_short(oversize: str) -> None:
    short, limit = b"a line of some length\n", 4096
    for middle, whole in [(b"", True), (b"x" * 2040 + b"\n", True), (b"x" * limit + b"\n", False)]:
        for more in (b"", b"x" * limit + b"\n", b"x" * (limit + 1) + b"\n", b"z" * (limit + 1)):
            data = short * 200 + middle + short * 200 + more
            framer = build(LinesFramer, max_frame=limit, oversize=oversize)
            assert isinstance(framer.lines(data), Lines) is (whole and not more)
            by_feed = outcome(build(LinesFramer, max_frame=limit, oversize=oversize), [data, short])
            assert outcome(build(LinesFramer, max_frame=limit, oversize=oversize), [data, short], lines=True) == by_feed


@pytest.mark.parametrize("oversize", ["truncate", "drop", "close"])
def test_a_long_line_in_a_large_read_is_what_it_always_is(oversize: str) -> None:
    block = b"a line of some length\n" * 100
    for start in (b"x" * 3000, b"x" * 4096, b"x" * 4096 + b"\r"):
        for rest in (b"", b"y", b"y" * 1096, b"y" * 1097, b"\r"):
            chunks = [start, rest + b"\n" + block, b"next\n"]
            by_feed = outcome(build(LinesFramer, max_frame=4096, oversize=oversize), chunks)
            assert outcome(build(LinesFramer, max_frame=4096, oversize=oversize), chunks, lines=True) == by_feed


def test_a_framer_of_ones_own_has_its_own_way_with_large_reads_too() -> None:
    class Upper(LinesFramer):
        def feed(self, data: bytes) -> list[bytes]:
            return [frame.upper() for frame in super().feed(data)]

    assert build(Upper).lines(b"a line of some length\n" * 200)[0] == b"A LINE OF SOME LENGTH"
