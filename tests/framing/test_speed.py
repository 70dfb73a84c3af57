"""The framers stay linear, whatever comes, and keep up with hostile input.

Times are the best of several runs and compared with work done in the same process, so a busy machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from eventserver.framing.auto import AutoFramer
from eventserver.framing.counted import LengthFramer, NetstringFramer, OctetFramer
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.testing.framers import cuts
from tests.framing.building import build, multiline

CHUNK = 65536
LINE = b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8"


def seconds(work: Callable[[], object]) -> float:
    """The CPU time that some work takes at best."""
    best = float("inf")
    for _ in range(4):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


def feeding(framer: Callable[[], Any], data: bytes, size: int = CHUNK) -> Callable[[], object]:
    """Work: a fresh framer takes a stream in chunks of `size` bytes."""
    chunks = list(cuts(data, size))

    def work() -> None:
        feed = framer().feed
        for chunk in chunks:
            feed(chunk)

    return work


HOSTILE = {
    "empty lines": (LinesFramer, {}, b"\n", CHUNK),
    "empty CR LF lines": (LinesFramer, {}, b"\r\n", CHUNK),
    "empty lines, auto": (AutoFramer, {}, b"\n\0", CHUNK),
    "strays after a count, auto": (AutoFramer, {}, b"5 <13>x\n\0 ", CHUNK),
    "strays after each usual count, auto": (AutoFramer, {}, b"12 <13>abcdefgh\n\0 ", CHUNK),
    "strays after each usual count, octet": (OctetFramer, {}, b"12 <13>abcdefgh\n\0 ", CHUNK),
    "usual counts and lines, auto": (AutoFramer, {}, b"12 <13>abcdefghx\n", CHUNK),
    "usual counts without a priority, auto": (AutoFramer, {}, b"12 <13>abcdefgh100 x\n", CHUNK),
    "usual counts, over the limit": (OctetFramer, {"max_frame": 998}, b"12 <13>abcdefgh999 " + b"x" * 999, CHUNK),
    "lines and counts, auto": (AutoFramer, {}, b"5 <13>xab\n", CHUNK),
    "NUL lines and counts, auto": (AutoFramer, {}, b"5 <13>xab\0", CHUNK),
    "almost headers, auto": (AutoFramer, {}, b"\n12 \n1234567 x <", CHUNK),
    "strays, octet": (OctetFramer, {}, b"\n", CHUNK),
    "tiny frames, octet": (OctetFramer, {}, b"1 x\n", CHUNK),
    "empty frames, length": (LengthFramer, {}, b"\0", CHUNK),
    "empty frames, netstring": (NetstringFramer, {}, b"0:,", CHUNK),
    "all over the limit": (LinesFramer, {"max_frame": 1}, b"ab\n", CHUNK),
    "all over the limit, octet": (OctetFramer, {"max_frame": 1}, b"2 ab", CHUNK),
    "byte by byte": (LinesFramer, {}, LINE + b"\n", 1),
    "byte by byte without an end": (LinesFramer, {"max_frame": 1 << 30}, b"x", 1),
    "byte by byte without an end, nul": (NulFramer, {"max_frame": 1 << 30}, b"x", 1),
    "byte by byte, a delimiter that never ends": (LinesFramer, {"delimiter": "x" * 15 + "y"}, b"x", 1),
    "byte by byte, auto": (AutoFramer, {"max_frame": 1 << 30}, b"x", 1),
    "byte by byte in one counted frame": (OctetFramer, {"max_frame": 1 << 30}, b"9000000 x", 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_bytes_take_twice_the_time(name: str) -> None:
    """Four times the bytes take about four times as long; in quadratic time they would take sixteen times."""
    framer, table, piece, size = HOSTILE[name]
    once = (1 << 13) if size == 1 else (1 << 17)
    data = piece + (piece * once if b"9000000" not in piece else b"x" * 4 * once)
    short = seconds(feeding(lambda: build(framer, **table), data[:once], size))
    long = seconds(feeding(lambda: build(framer, **table), data[: 4 * once], size))
    assert long < 10 * short + 0.002


@pytest.mark.parametrize("framer", [LinesFramer, AutoFramer, OctetFramer, NulFramer])
def test_one_large_read_is_linear_too(framer: Any) -> None:
    """Cutting a chunk does not copy what is left of it for every frame."""
    data = b"5 <13>x\0\n" * 60_000 if framer is not OctetFramer else b"1 x" * 180_000
    short = seconds(feeding(lambda: build(framer), data[: len(data) // 8], 1 << 30))
    long = seconds(feeding(lambda: build(framer), data, 1 << 30))
    assert long < 20 * short + 0.002


def test_all_empty_lines_are_cut_at_10_megabytes_a_second_at_least() -> None:
    data = b"\n" * 1_000_000
    for framer in (LinesFramer, AutoFramer):
        assert seconds(feeding(lambda framer=framer: build(framer), data)) < 0.1


def test_ordinary_lines_cost_little_more_than_splitting_them() -> None:
    data = (LINE + b"\n") * 30_000
    chunks = list(cuts(data, CHUNK))
    reference = seconds(lambda: [chunk.split(b"\n") for chunk in chunks])
    assert seconds(feeding(lambda: build(LinesFramer), data)) < 4 * reference + 0.001
    assert seconds(feeding(lambda: build(AutoFramer), data)) < 4 * reference + 0.001


def test_counted_frames_cost_little_more_than_cutting_them_out() -> None:
    """Headers of two and three digits are looked up, not read."""
    frames = [LINE * times for times in (1, 2, 3)] * 10_000
    data = b"".join(b"%d %b" % (len(frame), frame) for frame in frames)
    chunks = list(cuts(data, CHUNK))

    def cut_out() -> None:
        for chunk in chunks:
            position, cut = 0, []
            for frame in frames[:400]:
                stop = position + len(frame)
                cut.append(chunk[position:stop])
                position = stop

    reference = seconds(cut_out)
    assert seconds(feeding(lambda: build(OctetFramer), data)) < 4 * reference + 0.001
    assert seconds(feeding(lambda: build(AutoFramer), data)) < 5 * reference + 0.001


def test_a_run_of_strays_is_skipped_in_one_go() -> None:
    data = b"12 <13>abcdefgh" + b"\n" * 1_000_000
    for framer in (OctetFramer, AutoFramer):
        assert seconds(feeding(lambda framer=framer: build(framer), data, 1 << 30)) < 0.05


def test_multiline_is_linear_in_the_lines_of_one_event() -> None:
    def make() -> Any:
        return multiline(build(LinesFramer), mode="indented", max_lines=1 << 30, max_frame=1 << 30)

    short = seconds(feeding(make, b" x\n" * 10_000))
    long = seconds(feeding(make, b" x\n" * 40_000))
    assert long < 10 * short + 0.002


def test_the_slowest_expression_that_is_allowed_takes_milliseconds_for_a_hostile_line() -> None:
    framer = multiline(build(LinesFramer), start="x.*y$")
    assert seconds(lambda: framer.feed(b"x" * 60_000 + b"\n")) < 0.1
