"""Lumberjack without I/O: frames of both versions, windows, compressed frames, and what breaks a session."""

from __future__ import annotations

import itertools
import json
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.listeners._lumberjack import Session
from eventserver.listeners._lumberjack_frames import Limits
from tests.lumberjack_client import acks, compressed, json_frame, pairs_frame, window

LIMITS = Limits(20, 1000, 100, 5, 1 << 20, 200.0)


def read(session: Session, *chunks: bytes) -> tuple[list[bytes], list[int], list[int]]:
    """All payloads, the indexes of those that were cut, and the acknowledgements."""
    frames: list[bytes] = []
    truncated: list[int] = []
    said: list[int] = []
    for chunk in chunks:
        received = session.feed(chunk)
        if received is not None:
            truncated += [len(frames) + index for index in received.truncated]
            frames += received.frames
            said += acks(received.acks)
    return frames, truncated, said


def numbered(*payloads: bytes) -> bytes:
    return b"".join(json_frame(number, payload) for number, payload in enumerate(payloads, 1))


# Windows


def test_a_window_is_acknowledged_with_its_last_number() -> None:
    session = Session(LIMITS)
    assert read(session, window(3) + numbered(b"a", b"b", b"c")) == ([b"a", b"b", b"c"], [], [3])
    assert not session.partial
    assert not session.waiting
    assert session.fault is None


def test_a_part_of_a_window_is_progress() -> None:
    session = Session(LIMITS)
    data = numbered(b"a", b"b", b"c")
    assert read(session, window(3) + data[:22]) == ([b"a", b"b"], [], [2])
    assert session.waiting
    assert read(session, data[22:]) == ([b"c"], [], [3])


def test_windows_that_come_in_one_read_are_acknowledged_each() -> None:
    data = window(2) + numbered(b"a", b"b") + window(1) + numbered(b"c") + window(5) + numbered(b"d")
    assert read(Session(LIMITS), data) == ([b"a", b"b", b"c", b"d"], [], [2, 1, 1])


def test_numbers_that_go_on_are_echoed() -> None:
    """Some clients do not begin at 1 in each window: they wait for the number that they sent."""
    session = Session(LIMITS)
    assert read(session, window(1) + json_frame(7, b"a"), window(1) + json_frame(8, b"b"))[2] == [7, 8]


def test_an_empty_window_is_acknowledged_with_nothing() -> None:
    assert read(Session(LIMITS), window(0) + window(1) + numbered(b"a")) == ([b"a"], [], [0, 1])


def test_version_1_is_told_of_whole_windows_only() -> None:
    """logstash-forwarder takes any six bytes for the acknowledgement of all that it sent."""
    session = Session(LIMITS)
    first, second = pairs_frame(41, {b"line": b"x"}), pairs_frame(42, {b"line": b"y"})
    received = session.feed(window(2, b"1") + first)
    assert received == ([b'{"line":"x"}'], [], b"")
    assert not session.waiting
    received = session.feed(second)
    assert received == ([b'{"line":"y"}'], [], b"1A" + struct.pack(">I", 42))


def test_clients_of_version_1_may_announce_a_window_once() -> None:
    """As the most that they send without an acknowledgement: each time as much as that has come, it is due."""
    session = Session(LIMITS)
    frames = b"".join(pairs_frame(number, {}) for number in range(1, 8))
    assert read(session, window(3, b"1") + frames) == ([b"{}"] * 7, [], [3, 6])
    assert session.fault is None
    read(session, pairs_frame(8, {}), pairs_frame(9, {}), window(1) + numbered(b"x"))
    assert session.fault is None
    read(session, numbered(b"y"))
    assert session.fault == "no_window", "those of version 2 say so each time"


# Data frames


def test_pairs_become_the_object_that_says_the_same() -> None:
    pairs = {b"file": b"/var/log/syslog", b"host": b"web1", b"line": 'caf\u00e9 "\\'.encode(), b"": b""}
    limits = Limits(100, 1000, 100, 5, 1 << 20, 200.0)
    [frame], _, said = read(Session(limits), window(1, b"1") + pairs_frame(1, pairs))
    assert json.loads(frame) == {key.decode(): value.decode() for key, value in pairs.items()}
    assert said == [1]


def test_pairs_that_are_no_text_are_read_all_the_same() -> None:
    [frame], _, _ = read(Session(LIMITS), window(1, b"1") + pairs_frame(1, {b"line": b"a\xffb"}))
    assert json.loads(frame) == {"line": "a\ufffdb"}


def test_pairs_over_the_limit_are_cut_and_the_next_event_survives() -> None:
    data = window(2, b"1") + pairs_frame(1, {b"a": b"x" * 15, b"b": b"y" * 9, b"c": b"z"}) + pairs_frame(2, {})
    frames, truncated, said = read(Session(LIMITS), data)
    assert [json.loads(frame) for frame in frames] == [{"a": "x" * 15, "b": "yyy"}, {}]
    assert truncated == [0]
    assert said == [2]


_texts = st.binary(max_size=3) | st.sampled_from([b"a", b"caf\xc3\xa9", b"x" * 9])


@given(
    maps=st.lists(st.dictionaries(_texts, _texts, max_size=5), max_size=6),
    cuts=st.lists(st.integers(1, 40), max_size=20),
    inside=st.booleans(),
)
def test_pairs_are_the_same_however_they_come(maps: list[dict[bytes, bytes]], cuts: list[int], inside: bool) -> None:
    """As a whole they are read in one loop, otherwise piece by piece."""
    data = b"".join(pairs_frame(number, pairs) for number, pairs in enumerate(maps, 1))
    data = window(len(maps), b"1") + (compressed(data, b"1") if inside else data)
    positions = list(itertools.accumulate(cuts, initial=0))
    pieces = [data[start:stop] for start, stop in itertools.pairwise([*positions, max(len(data), positions[-1])])]
    session = Session(LIMITS)
    assert read(session, *pieces) == read(Session(LIMITS), data)
    assert session.fault is None
    assert not session.partial


@pytest.mark.parametrize("length", [400, 1001])
def test_whole_pairs_are_limited_together_too(length: int) -> None:
    """As those that come in pieces: what is cut is skipped, up to what is read at all."""
    pairs = {b"a": b"x" * length, b"b": b"y" * length}
    session = Session(LIMITS)
    frames, truncated, _ = read(session, window(2, b"1") + pairs_frame(1, pairs) + pairs_frame(2, {b"c": b""}))
    if length == 400:
        assert ([json.loads(frame) for frame in frames], truncated) == ([{"a": "x" * 19}, {"c": ""}], [0])
    else:
        assert (frames, session.fault) == ([], "too_long")


@pytest.mark.parametrize("whole", [True, False])
def test_a_read_does_not_unpack_to_pairs_without_end(whole: bool) -> None:
    """64 KiB can unpack to millions of them, which took seconds."""
    session = Session(Limits(1 << 16, 1 << 20, 5000, 1000, 1 << 24, 1e9))
    frame = b"1D" + struct.pack(">II", 1, 1000) + bytes(8000)
    if whole:
        received = session.feed(window(5000, b"1") + compressed(frame * 1000, b"1"))
    else:
        session.feed(window(5000, b"1") + b"1D" + struct.pack(">II", 1, 1000))
        received = session.feed(bytes(8000) + compressed(frame * 1000, b"1"))
    assert session.fault == "bad_ratio"
    assert received is not None
    assert 100 <= len(received.frames) <= 132


def test_an_event_over_the_limit_is_cut_and_the_next_survives() -> None:
    data = window(4) + numbered(b"x" * 20, b"y" * 21, b"z" * 900, b"last")
    frames, truncated, said = read(Session(LIMITS), data)
    assert frames == [b"x" * 20, b"y" * 20, b"z" * 20, b"last"]
    assert truncated == [1, 2]
    assert said == [4]


def test_what_is_skipped_is_not_held() -> None:
    session = Session(Limits(20, 1 << 30, 100, 5, 1 << 20, 200.0))
    session.feed(window(1) + b"2J" + struct.pack(">II", 1, 1 << 30))
    piece = bytes(1 << 16)
    started = time.thread_time()
    for _ in range(1 << 14):
        session.feed(piece)
    assert time.thread_time() - started < 5
    assert len(session._outer._body) == 0


def test_an_empty_event_is_an_event() -> None:
    assert read(Session(LIMITS), window(2) + numbered(b"", b"x"))[0] == [b"", b"x"]


# Compressed frames


def test_what_is_compressed_is_read_as_if_it_were_not() -> None:
    data = numbered(b"a", b"b")
    assert read(Session(LIMITS), window(2) + compressed(data)) == ([b"a", b"b"], [], [2])
    assert read(Session(LIMITS), compressed(window(2) + data)) == ([b"a", b"b"], [], [2])
    half = len(data) // 2
    both = window(2) + compressed(data[:half]) + compressed(data[half:])
    assert read(Session(LIMITS), both) == ([b"a", b"b"], [], [2])


def test_an_empty_compressed_frame_says_nothing() -> None:
    session = Session(LIMITS)
    assert read(session, window(0) + compressed(b"") + window(1) + numbered(b"a")) == ([b"a"], [], [0, 1])


def test_what_comes_in_pieces_is_unpacked_as_it_comes() -> None:
    payloads = [b"event %d" % number for number in range(100)]
    data = window(100) + compressed(numbered(*payloads))
    session = Session(LIMITS)
    seen = 0
    for position in range(0, len(data), 64):
        received = session.feed(data[position : position + 64])
        seen += len(received.frames) if received else 0
        if position == 256:
            assert 0 < seen < 100
    assert seen == 100


# What breaks a session

FAULTS = {
    "bad_version": b"3W\0\0\0\1",
    "bad_type": b"2X",
    "no_window": json_frame(1, b"x"),
    "bad_window": window(2) + numbered(b"x") + window(1),
    "window_too_large": window(101),
    "too_many_pairs": window(1, b"1") + pairs_frame(1, {b"%d" % n: b"" for n in range(6)}),
    "too_long": window(1) + b"2J" + struct.pack(">II", 1, 1001),
    "nested": compressed(compressed(window(0))),
    "bad_compression": b"2C\0\0\0\4abcd",
    "incomplete_inside": compressed(window(1) + b"2J\0\0"),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_breaks_a_session(reason: str) -> None:
    """What came before stays, and nothing that follows is looked at."""
    session = Session(LIMITS)
    good = window(1) + numbered(b"good")
    frames, _, said = read(session, good + FAULTS[reason] + window(1) + numbered(b"bad"), good)
    assert session.fault == reason
    assert frames[0] == b"good"
    assert b"bad" not in frames
    assert said[0] == 1


@pytest.mark.parametrize("length", [4, 100, 1 << 31])
def test_lengths_of_pairs_are_limited_together(length: int) -> None:
    session = Session(LIMITS)
    session.feed(window(1, b"1") + b"1D" + struct.pack(">III", 1, 2, 997) + b"k" * 997 + struct.pack(">I", length))
    assert session.fault == "too_long"


@pytest.mark.parametrize(("size", "ratio", "reason"), [(1 << 19, 1e9, "inflated_size"), (1 << 30, 200.0, "bad_ratio")])
def test_a_bomb_is_stopped_early(size: int, ratio: float, reason: str) -> None:
    """Unpacked a step at a time: by the size that is allowed, or by how much larger it is than what was sent."""
    session = Session(Limits(20, 1 << 30, 100, 5, size, ratio))
    bomb = window(1) + b"2J" + struct.pack(">II", 1, 100 << 20) + bytes(8 << 20)
    session.feed(compressed(bomb))
    assert session.fault == reason


def test_a_compressed_frame_is_no_longer_than_what_it_may_hold() -> None:
    session = Session(LIMITS)
    session.feed(b"2C" + struct.pack(">I", (1 << 20) + 1))
    assert session.fault == "too_long"


# Whatever comes, however it is cut

GOOD = window(3) + numbered(b"a", b"b" * 30, b"c") + window(2) + compressed(numbered(b"d", b"")) + window(0)
GOOD += window(1, b"1") + compressed(pairs_frame(9, {b"k": b"v" * 30}), b"1")


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=20))
def test_chunking_changes_neither_frames_nor_final_acknowledgements(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(GOOD)]
    chunks = [GOOD[start:end] for start, end in itertools.pairwise(edges)]
    session = Session(LIMITS)
    frames, truncated, said = read(session, *chunks)
    assert session.fault is None
    assert (frames, truncated) == read(Session(LIMITS), GOOD)[:2]
    final = iter(said)
    assert all(number in final for number in (3, 2, 0, 9)), said


@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([*FAULTS.values(), GOOD, GOOD[:40]]))))
def test_anything_may_come(chunks: list[bytes]) -> None:
    session = Session(LIMITS)
    for chunk in chunks:
        received = session.feed(chunk)
        if received is not None:
            assert all(len(frame) <= 200 for frame in received.frames)
            acks(received.acks)
    assert len(session._outer._body) <= 20


@pytest.mark.parametrize("small", [
    compressed(window(5000) + json_frame(0, b"") * 5000),
    compressed((window(1) + json_frame(0, b"")) * 2000),
    compressed(window(0) * 5000),
    compressed(b"1W" + struct.pack(">I", 5000) + (b"1D" + bytes(8)) * 5000),
], ids=["frames", "small windows", "empty windows", "pairs"])  # fmt: skip
def test_a_read_does_not_unpack_to_frames_without_end(small: bytes) -> None:
    session = Session(Limits(20, 1000, 5000, 5, 1 << 20, 200.0))
    received = session.feed((small * (60_000 // len(small)))[:65536])
    assert session.fault == "bad_ratio"
    assert received is not None
    assert len(received.frames) <= 65537


@given(st.binary(max_size=300))
def test_anything_may_be_compressed(inside: bytes) -> None:
    Session(LIMITS).feed(compressed(inside) + b"2C" + struct.pack(">I", len(inside)) + inside)
    Session(LIMITS).feed(b"2C" + struct.pack(">I", 500) + zlib.compress(inside)[:-1] + inside)


def test_many_small_events_are_read_fast() -> None:
    """Cut in one loop, not one by one."""
    data = window(100_000) + numbered(*[b"0123456789"] * 100_000)
    session = Session(Limits(100, 1000, 1 << 20, 5, 1 << 20, 200.0))
    started = time.thread_time()
    assert len(read(session, data)[0]) == 100_000
    assert time.thread_time() - started < 1
