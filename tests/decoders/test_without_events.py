"""Which frames give no event: only those that say nothing, as docs/event-schema.md lists them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventserver.decoders.auto import AutoDecoder
from eventserver.decoders.cef import CefDecoder
from eventserver.decoders.cloudevents import CloudEventsDecoder
from eventserver.decoders.csv import CsvDecoder, CsvOptions
from eventserver.decoders.fluent import FluentDecoder
from eventserver.decoders.function import FunctionDecoder
from eventserver.decoders.gelf import GelfDecoder
from eventserver.decoders.graphite import GraphiteDecoder, GraphiteOptions
from eventserver.decoders.influx import InfluxDecoder
from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.kv import KvDecoder
from eventserver.decoders.leef import LeefDecoder
from eventserver.decoders.logfmt import LogfmtDecoder
from eventserver.decoders.msgpack import MsgpackDecoder
from eventserver.decoders.regex import RegexDecoder, RegexOptions
from eventserver.decoders.statsd import StatsdDecoder
from eventserver.decoders.syslog import SyslogDecoder
from eventserver.decoders.text import TextDecoder
from eventserver.testing.decoders import batch

BOM = b"\xef\xbb\xbf"
PICKLES = GraphiteDecoder(GraphiteOptions(protocol="pickle"))

#: Decoders for which each frame is an event.
ALWAYS: list[Any] = [
    TextDecoder(), SyslogDecoder(), CefDecoder(), LeefDecoder(), FluentDecoder(),
]  # fmt: skip
#: Those that pass over what says nothing; `auto` is one of the others for each frame.
TEXTS: list[Any] = [
    JsonDecoder(), GelfDecoder(), CloudEventsDecoder(), LogfmtDecoder(), KvDecoder(), StatsdDecoder(),
    CsvDecoder(CsvOptions(columns=["time", "host"])), RegexDecoder(RegexOptions(pattern=r"(?P<a>\w+)")),
    InfluxDecoder(), GraphiteDecoder(), AutoDecoder(),
]  # fmt: skip

_words = st.sampled_from(
    [b"a", b"=", b":", b"|c", b"|", b"1", b"nan", b"#", b"[", b"]", b"{", b"}", b",", b'"', b"\n", b"\r", b"\0", b" ",
     b"\t", BOM, b"\xff", b"1767225600", b"time,host", b";", b"@", b"_e{1,1}:", b"_sc|", b"<13>"]
)  # fmt: skip
_frames = st.lists(_words, max_size=12).map(b"".join)


def says_nothing(frame: bytes) -> bool:
    """Whether a frame of text is one of those that the documentation lists, in any format."""
    lines = [line.replace(BOM, b"").strip(b" \t\r\n\0\v\f\x1c\x1d\x1e\x1f") for line in frame.split(b"\n")]
    return all(
        not line.replace(b" ", b"")
        or line.startswith(b"#")
        or line == b"time,host"
        or b"".join(line.split()) == b"[]"
        or line.split()[1:2] == [b"nan"]
        for line in lines
    )


@settings(max_examples=1000)
@given(decoder=st.sampled_from(TEXTS), frame=_frames)
@example(TEXTS[0], b"[\n]")
def test_only_what_says_nothing_gives_no_event(decoder: Any, frame: bytes) -> None:
    if not decoder.decode(batch(frame)):
        assert says_nothing(frame) or b"".join(frame.removeprefix(BOM).split()).strip(b"\0") == b"[]"


@given(decoder=st.sampled_from(ALWAYS), frame=_frames | st.binary(max_size=20))
def test_some_decoders_have_an_event_for_every_frame(decoder: Any, frame: bytes) -> None:
    assert decoder.decode(batch(frame))


@given(frame=st.binary(max_size=20))
def test_every_frame_of_messagepack_but_empty_ones_is_an_event(frame: bytes) -> None:
    arrays = (b"", b"\x90", b"\xdc\0\0", b"\xdd\0\0\0\0")
    assert MsgpackDecoder().decode(batch(frame)) or frame.strip(b"\r\n\0 \t") in arrays or frame in arrays


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_pickle_without_values_gives_no_event(value: float | None) -> None:
    assert PICKLES.decode(batch(pickle.dumps([]))) == []
    assert PICKLES.decode(batch(pickle.dumps([("a.b", (1767225600, value))]))) == []
    [event] = PICKLES.decode(batch(b""))
    assert event.type == "undecodable"


@pytest.mark.parametrize("found", [None, []])
def test_a_function_may_have_nothing_to_say(found: Any) -> None:
    assert FunctionDecoder(lambda frame: found, "nothing").decode(batch(b"x")) == []
