"""What holds for every decoder and any bytes at all."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.decoders.cef import CefDecoder
from eventserver.decoders.csv import CsvDecoder
from eventserver.decoders.function import FunctionDecoder
from eventserver.decoders.influx import InfluxDecoder
from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.kv import KvDecoder
from eventserver.decoders.leef import LeefDecoder
from eventserver.decoders.logfmt import LogfmtDecoder
from eventserver.decoders.regex import RegexDecoder, RegexOptions
from eventserver.decoders.syslog import SyslogDecoder
from eventserver.decoders.text import TextDecoder
from eventserver.event import frame_index
from eventserver.interfaces import IJsonLines
from eventserver.testing.decoders import batch, check_json_lines

#: One of each, kept for all examples: what one batch leaves behind must not harm the next.
DECODERS: list[Any] = [
    # Chosen by hypothesis, not by `parametrize`: pytest-twisted does not bear both on one test.
    TextDecoder(),
    JsonDecoder(),
    SyslogDecoder(),
    FunctionDecoder(lambda frame: msgspec.json.decode(frame), "loads"),
    LogfmtDecoder(),
    KvDecoder(),
    CsvDecoder(),
    RegexDecoder(RegexOptions(pattern=r"(?P<a>\w+) (?P<b>\d+)?")),
    CefDecoder(),
    LeefDecoder(),
    InfluxDecoder(),
]

_starts = st.sampled_from(
    [b"", b"<13>", b"<13>1 ", b"<13>1 2026-11-22T10:00:00Z ", b"<13>1 - h a p m [a b=", b"<13>Nov 22 10:00:00 ",
     b"<189>1: ", b"{", b"[{", b'a=1 b="', b"a,b=", b"m,a=b c=1 ", b"<13>Jan  1 00:00:00 h CEF:0|a|b|c|d|e|5|f=",
     b"LEEF:2.0|a|b|c|d|^|e="]
)  # fmt: skip
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_frames = st.lists(st.tuples(_starts, st.binary(max_size=30)).map(b"".join), max_size=6)


@settings(max_examples=200)
@given(decoder=st.sampled_from(DECODERS), frames=_frames, truncated=st.sets(st.integers(0, 5)))
def test_any_bytes_become_events_that_can_be_written(decoder: Any, frames: list[bytes], truncated: set[int]) -> None:
    """Nothing raises; ids are unique and in the order of the frames; JSON takes every event."""
    marks = {index: ("truncated",) for index in truncated if index < len(frames)}
    events = decoder.decode(batch(*frames, marks=marks))
    assert len({event.id for event in events}) == len(events)
    indexes = [frame_index(event.id) for event in events]
    assert indexes == sorted(indexes)
    assert all(event.context.get("truncated", False) is (frame_index(event.id) in marks) for event in events)
    for event in events:
        assert msgspec.json.decode(msgspec.json.encode(event))["id"] == event.id


@given(decoder=st.sampled_from(DECODERS), frames=_frames)
def test_a_frame_decodes_in_company_as_it_does_alone(decoder: Any, frames: list[bytes]) -> None:
    """No frame, and no peer, has a say in the events of another."""
    alone = [event.replace(id="") for frame in frames for event in decoder.decode(batch(frame))]
    assert [event.replace(id="") for event in decoder.decode(batch(*frames))] == alone


@settings(max_examples=300)
@given(
    decoder=st.sampled_from([one for one in DECODERS if IJsonLines.providedBy(one)]),
    frames=st.lists(_frames.map(b"".join) | st.text(max_size=12).map(str.encode), min_size=1, max_size=6),
    peers=st.lists(_texts, min_size=6, max_size=6) | st.just(["192.0.2.7:1"]),
    labels=st.dictionaries(_texts, st.just("a"), max_size=2),
    truncated=st.sets(st.integers(0, 3)),
    start=st.integers(0, 2),
)
def test_json_lines_are_what_the_encoder_writes(
    decoder: Any, frames: list[bytes], peers: list[str], labels: dict[str, str], truncated: set[int], start: int
) -> None:
    """The short way from frames to JSON and the long one give the same bytes, also for a part of a batch."""
    whole = batch(
        *frames,
        peers=peers[: len(frames)] if len(peers) > 1 else peers,
        context=labels,
        marks={index: ("truncated",) for index in truncated if index < len(frames)},
    )
    check_json_lines(decoder, whole)
    check_json_lines(decoder, whole.part(min(start, len(frames) - 1), len(frames)))
