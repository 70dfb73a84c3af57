"""However the network slices a stream, the frames and the faults are the same, and they are the right ones.

The right ones are those of a second implementation, which sees the whole stream at once and is written for reading.

Each example is tried on every framer in a loop: pytest-twisted wraps the function of `@given` once for each parameter
of `@pytest.mark.parametrize`, one round the other, which fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.framing.auto import AutoFramer
from eventserver.framing.counted import LengthFramer, NetstringFramer, OctetFramer
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.testing.framers import Outcome, outcome
from tests.framing.building import build, multiline

PIECES = [
    b"\n", b"\r", b"\r\n", b"\0", b" ", b"<", b" <", b"1", b"2 ", b"3 <", b"12", b"0", b"7 <13>xx", b"5 <1>a",
    b"20 <13>", b"a", b"aa", b"b", b"abc", b"<13>line\n", b"1 a", b"2:ab,", b"0:,", b"3:", b",", b":", b"\0\0\0\2ab",
    b"\0\0\0", b"\1", b"\0\0\0\0", b"12345678", b"Traceback (most recent call last):\n", b"\tat x\n", b" in\n", b"#",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=40).map(b"".join)
LIMITS = st.sampled_from([1, 2, 3, 5, 8, 20, 65536])
POLICIES = st.sampled_from(["truncate", "drop", "close"])
CUTS = st.lists(st.integers(0, 60), max_size=30)

MULTILINE: dict[str, dict[str, Any]] = {
    "start": {"start": "^#"},
    "indented": {"mode": "indented", "max_lines": 3},
    "python": {"mode": "python"},
    "java": {"mode": "java"},
}
MAKERS: dict[str, Callable[..., Any]] = {
    "lines": lambda **table: build(LinesFramer, **table),
    "lines aab": lambda **table: build(LinesFramer, delimiter="aab", **table),
    "lines aa": lambda **table: build(LinesFramer, delimiter="aa", **table),
    "nul": lambda **table: build(NulFramer, **table),
    "octet": lambda **table: build(OctetFramer, **table),
    "length": lambda **table: build(LengthFramer, **table),
    "little": lambda **table: build(LengthFramer, byte_order="little", **table),
    "netstring": lambda **table: build(NetstringFramer, **table),
    "auto": lambda **table: build(AutoFramer, **table),
    **{
        f"{mode} round {inner.__name__}": lambda mode=mode, inner=inner, **table: multiline(
            build(inner, **table), **MULTILINE[mode], **table
        )
        for mode in MULTILINE
        for inner in (LinesFramer, AutoFramer)
    },
}


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """A stream cut into chunks of these sizes, and what is left."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@settings(max_examples=200, deadline=None)
@given(data=STREAMS, sizes=CUTS, limit=LIMITS, policy=POLICIES)
def test_no_cut_of_the_stream_changes_frames_or_faults(data: bytes, sizes: list[int], limit: int, policy: str) -> None:
    for name, make in MAKERS.items():
        whole = outcome(make(max_frame=limit, oversize=policy), [data])
        assert outcome(make(max_frame=limit, oversize=policy), pieces(data, sizes)) == whole, name
        assert outcome(make(max_frame=limit, oversize=policy), pieces(data, [1] * len(data))) == whole, name
        assert all(len(frame) <= limit for frame in whole[0]), name


@settings(max_examples=150, deadline=None)
@given(data=STREAMS, sizes=CUTS, limit=LIMITS)
def test_never_more_than_the_limit_is_held(data: bytes, sizes: list[int], limit: int) -> None:
    """A header has at most nine bytes and is never held beside content: it matters for tiny limits only."""
    for name, make in MAKERS.items():
        framer = make(max_frame=limit)
        header = 0 if name.startswith(("lines", "nul")) else 9
        for chunk in pieces(data, sizes):
            framer.feed(chunk)
            assert framer.held <= max(limit, header), name
        framer.finish()
        assert (framer.held, framer.partial) == (0, False), name


PLAIN = st.lists(st.binary(max_size=50), max_size=10)


def expressible(name: str, payload: bytes) -> bytes:
    """The payload, changed where the framing cannot express it."""
    if name == "nul":
        return payload.replace(b"\0", b".")
    if name in ("lines", "auto"):
        payload = re.sub(rb"[\r\n\0]", b".", payload)
    return b"<" + payload if name in ("auto", "octet") else payload


@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(st.binary(max_size=50), max_size=10), sizes=CUTS)
def test_what_is_wrapped_comes_back(payloads: list[bytes], sizes: list[int]) -> None:
    for name in ("lines", "nul", "octet", "length", "little", "netstring", "auto"):
        sent = [expressible(name, payload) for payload in payloads]
        wire = b"".join(map(MAKERS[name]().wrap, sent))
        assert outcome(MAKERS[name](), pieces(wire, sizes)) == (sent, []), name


class Reference:
    """Frames and faults, as the documentation says, for a stream that is there as a whole."""

    def __init__(self, limit: int, policy: str) -> None:
        self.limit, self.policy = limit, policy
        self.frames: list[bytes] = []
        self.faults: list[tuple[str, int, bool]] = []
        self.dead = False

    def fault(self, reason: str, frame: int, fatal: bool = False) -> None:
        self.faults.append((reason, frame, fatal))
        self.dead = self.dead or fatal

    def line(self, content: bytes) -> None:
        if len(content) <= self.limit:
            self.frames.append(content)
        else:
            self.over(content)

    def over(self, content: bytes) -> None:
        if self.policy == "truncate":
            self.fault("oversize", len(self.frames))
            self.frames.append(content[: self.limit])
        else:
            self.fault("oversize", -1, self.policy == "close")

    def counted(self, count: int, rest: bytes) -> bytes:
        """What comes behind the frame."""
        if count > self.limit and (self.policy != "truncate" or len(rest) >= self.limit):
            self.over(rest)
        elif len(rest) < count:
            self.fault("incomplete", len(self.frames) if rest else -1)
            if rest:
                self.frames.append(rest)
        else:
            self.frames.append(rest[:count])
        return rest[count:]

    def octet(self, data: bytes) -> None:
        while not self.dead and (data := data.lstrip(b"\n\0 ")):
            if header := re.match(rb"([1-9][0-9]{0,6}) ", data):
                data = self.counted(int(header[1]), data[header.end() :])
            elif re.fullmatch(rb"[1-9][0-9]{0,6}", data):
                self.fault("incomplete", -1)
                return
            else:
                self.fault("bad_count", -1, True)

    def auto(self, data: bytes) -> None:
        while not self.dead and data:
            if header := re.match(rb"([1-9][0-9]{0,6}) (?=<)", data):
                data = self.counted(int(header[1]), data[header.end() :]).lstrip(b"\n\0 ")
                continue
            line = re.match(rb"[^\n\0]*", data)
            assert line is not None
            content, end, data = line[0], data[line.end() : line.end() + 1], data[line.end() + 1 :]
            if content := content.removesuffix(b"\r") if end == b"\n" else content:
                self.line(content)

    def lines(self, data: bytes) -> None:
        *whole, last = data.split(b"\n")
        for content in (*(line.removesuffix(b"\r") for line in whole), *([last] if last else [])):
            if not self.dead:
                self.line(content)

    def outcome(self) -> Outcome:
        return self.frames, sorted(self.faults)


@settings(max_examples=200, deadline=None)
@given(data=STREAMS, sizes=CUTS, limit=LIMITS, policy=POLICIES)
def test_frames_and_faults_are_those_of_the_reference(data: bytes, sizes: list[int], limit: int, policy: str) -> None:
    for name in ("lines", "octet", "auto"):
        reference = Reference(limit, policy)
        getattr(reference, name)(data)
        found = outcome(MAKERS[name](max_frame=limit, oversize=policy), pieces(data, sizes))
        assert found == reference.outcome(), name


#: What most counted streams consist of, and what may come between.
COUNTED = [
    b"12 <13>abcdefgh", b"10 abcdefghij", b"99 <" + b"x" * 98, b"100 <" + b"x" * 99, b"100 x" + b"<" * 99,
    b"180 <13>" + b"12 <13>abcdefgh" * 11 + b"<<<<<<<<<<<", b"999 <" + b"x" * 998, b"1000 <" + b"x" * 999,
    b"5 <1>a", b"\n", b"\n\n", b" ", b"\0", b"x\n", b"012 <13>abcdefgh", b"100 ", b"<13>line\n", b"13 <13>ab\ncd\0f",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(st.sampled_from(COUNTED), max_size=12).map(b"".join),
    sizes=st.lists(st.integers(0, 300), max_size=8),
    end=st.integers(0, 120),
    limit=st.sampled_from([11, 50, 998, 999, 65536]),
    policy=POLICIES,
)
def test_counted_frames_are_those_of_the_reference(
    data: bytes, sizes: list[int], end: int, limit: int, policy: str
) -> None:
    """Streams of usual counts, which are cut in bulk, and their ends at any place."""
    data = data[: len(data) - end]
    for name in ("octet", "auto"):
        reference = Reference(limit, policy)
        getattr(reference, name)(data)
        found = outcome(MAKERS[name](max_frame=limit, oversize=policy), pieces(data, sizes))
        assert found == reference.outcome(), name
