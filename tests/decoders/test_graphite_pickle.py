"""Graphite's pickle protocol: read as data by a reader of our own, which can execute nothing."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.decoders import _graphite_pickle
from eventserver.decoders._graphite_pickle import NotPlainData, read_pickle
from eventserver.decoders.graphite import GraphiteDecoder, GraphiteOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch
from tests.realprograms import ROOT

NEW_YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
#: Opcodes of a pickle with nothing but data in it, by the names of `pickletools`.
DATA = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1",
    "BININT2", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET",
    "BINGET", "LONG_BINGET",
}  # fmt: skip


def decode(*frames: bytes, marks: dict[int, tuple[str, ...]] | None = None, **given: Any) -> list[Event]:
    decoder = GraphiteDecoder(GraphiteOptions(protocol="pickle", **given))
    return decoder.decode(batch(*frames, marks=marks or {}))


def undecodable(frame: bytes, **given: Any) -> str:
    """The reason why the frame cannot be read at all."""
    [event] = decode(frame, **given)
    assert (event.type, event.raw_bytes) == ("undecodable", frame)
    reason: str = event.fields["error"]
    return reason


class TestGraphitePickleConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> GraphiteDecoder:
        return GraphiteDecoder(GraphiteOptions(protocol="pickle"))

    def samples(self) -> list[bytes]:
        return [
            pickle.dumps([("servers.web1.load", (1767225600, 0.42))], protocol=2),
            pickle.dumps([("cpu;dc=fra", (1767225601.5, 12))], protocol=4),
            pickle.dumps([("errors", (-1, 3))], protocol=0),
        ]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_a_list_of_datapoints(protocol: int) -> None:
    """In every protocol that Python writes; carbon's relay writes 2."""
    frame = pickle.dumps(
        [("a.b", (1767225600, 1.5)), ("c;dc=fra", (1767225600.25, 2)), ["größe", ["1767225600", "-3"]]],
        protocol=protocol,
    )
    events = decode(frame)
    assert [event.id.rpartition("-")[2] for event in events] == ["0", "0.1", "0.2"]
    assert [(event.message, event.fields) for event in events] == [
        ("a.b 1.5", {"name": "a.b", "value": 1.5}),
        ("c;dc=fra 2.0", {"name": "c", "value": 2.0, "tags": {"dc": "fra"}}),
        ("größe -3.0", {"name": "größe", "value": -3.0}),
    ]
    assert [event.time for event in events] == [NEW_YEAR, NEW_YEAR.replace(microsecond=250000), NEW_YEAR]


def test_what_python_2_wrote() -> None:
    """Its texts were bytes, quoted in protocol 0 and counted in protocol 2."""
    protocol_0 = b"(lp0\n(S'a.b'\np1\n(I1767225600\nF1.5\ntp2\ntp3\na(S\"it\\\\x\\x41's\"\np4\n(L-1L\nI01\nttp5\na."
    protocol_2 = b"\x80\x02]q\x00U\x03a.bq\x01J\x00\xb9UiG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03a."
    assert [(event.message, event.time) for event in decode(protocol_0, protocol_2)] == [
        ("a.b 1.5", NEW_YEAR), ("it\\xA's 1.0", RECEIVED), ("a.b 1.5", NEW_YEAR),
    ]  # fmt: skip


def test_no_value_is_no_datapoint() -> None:
    """NaN, as with carbon; and None, of which carbon can make no number."""
    frame = pickle.dumps([("a", (1767225600, float("nan"))), ("b", (1767225600, None)), ("c", (1767225600, 1))])
    assert [event.message for event in decode(frame)] == ["c 1.0"]
    assert [event.fields["value"] for event in decode(frame, nan="keep")] == [None, None, 1.0]
    assert decode(pickle.dumps([])) == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (("a", 1, 2), "it is not `(path, (timestamp, value))`"),
        (("a", (1, 2, 3)), "it is not `(path, (timestamp, value))`"),
        (("", (1, 2)), "it is not `(path, (timestamp, value))`"),
        ((7, (1, 2)), "it is not `(path, (timestamp, value))`"),
        (None, "it is not `(path, (timestamp, value))`"),
        ("ab", "it is not `(path, (timestamp, value))`"),
        (("a", (1, "one")), "the value is no number"),
        (("a", (1, ())), "the value is no number"),
        (("a", (1, 10**35 * 10**4)), None),
        (("a", (1, float("inf"))), "the value is infinite"),
        (("a", (1, "9" * 401)), "a number that is too long"),
        (("a", (None, 1)), "the time stamp is no number"),
        (("a", (1e300, 1)), "the time stamp 1e+300 is out of range"),
    ],
)
def test_a_datapoint_that_cannot_be_read_harms_no_other(item: Any, reason: str | None) -> None:
    """As with carbon, which leaves it out; here one event stands for all of them, and has the pickle's bytes."""
    good = ("x", (1767225600, 1))
    frame = pickle.dumps([good, item, good, item], protocol=2)
    events = decode(frame)
    assert [event.message for event in events[:2]] == ["x 1.0", "x 1.0" if reason else "a 1e+39"]
    if reason:
        wrong = events[2]
        assert (wrong.type, wrong.raw_bytes, wrong.id[-4:]) == ("undecodable", frame, "-0.2")
        assert wrong.fields["error"] == f"2 of 4 datapoints cannot be read; datapoint 2: {reason}"


def test_a_path_that_is_not_utf8() -> None:
    [event] = decode(b"\x80\x02]U\x01\xe9K\x01K\x01\x86\x86a.")
    assert event.fields == {"error": "its path is not UTF-8"}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "the pickle is not whole"),
        (b"a.b 1 1767225600", "byte 0 of the pickle: "),
        (b"servers.web1 1 1767225600", "byte 0 of the pickle is 0x73, which is no opcode of data"),
        (pickle.dumps([("a", (1, 2))])[:-1], "the pickle is not whole"),
        (pickle.dumps([("a", (1, 2))]) + b"x", ": 1 bytes follow its end"),
        (pickle.dumps("a"), "a pickle that is no list of datapoints"),
        (pickle.dumps({"a": 1}), "which is no opcode of data"),
        (b"\x80\x06].", "protocol 6 is not known"),
        (b"(.", "not exactly one value is left"),
        (b"]].", "not exactly one value is left"),
        (b"].]", "1 bytes follow its end"),
        (b"](", "the pickle is not whole"),
        (b"]h\x00a.", "nothing was kept under 0"),
        (b"K\x01K\x02a.", "values for a list, and no list"),
        (b"]K\x01e.", "there is no mark"),
        (b"K\x01\x86.", "too few values for a tuple"),
        (b"(K\x01\x86.", "too few values for a tuple"),
        (b"(q\x00.", "a mark where a value should be"),
        (b"V\\ud800\n.", "surrogates not allowed"),
        (b"X\x01\x00\x00\x00\xff.", "invalid start byte"),
        (b"S'a\n.", "a text without its quotes"),
        (b"S'a\\q'\n.", "an escape that is not known"),
        (b"I" + b"9" * 5000 + b"\n.", "a number that is too long"),
        (b"\x8a\xff" + b"\x01" * 255 + b".", "a number that is too long"),
        (b"X\xff\xff\xff\xffab.", "the pickle is not whole"),
        (b"\x8d" + b"\xff" * 8 + b"ab.", "the pickle is not whole"),
    ],
)
def test_what_is_no_pickle_of_datapoints(frame: bytes, reason: str) -> None:
    assert reason in undecodable(frame)


def test_a_pickle_over_max_frame_says_so() -> None:
    [event] = decode(pickle.dumps([("a", (1, 2))])[:-9], marks={0: ("truncated",)})
    assert event.fields["error"] == "the pickle is not whole, since it is longer than `max_frame`"


# It can do nothing


class Call:
    """Its pickle calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_call_something_calls_nothing(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "made"
    for call in (Call(os.mkdir, str(path)), Call(eval, f"__import__('os').mkdir({str(path)!r})")):
        frame = pickle.dumps([("a", (1767225600, call))], protocol=protocol)
        assert "which is more than data" in undecodable(frame)
        assert not path.exists()
    pickle.loads(pickle.dumps(Call(os.mkdir, str(path)), protocol=protocol))
    assert path.exists(), "the frame was not what it claimed to be"


def test_the_reader_knows_the_opcodes_of_data_and_no_others() -> None:
    """The list is here as well, so that nobody adds one by the way."""
    known = {*_graphite_pickle._VALUES, *_graphite_pickle._ACTIONS, _graphite_pickle._STOP}
    assert {opcode.name for opcode in pickletools.opcodes if ord(opcode.code) in known} == DATA
    assert len(known) == len(DATA)
    for name in ("GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "PERSID"):
        assert name not in DATA


@pytest.mark.parametrize("opcode", [code for code in pickletools.opcodes if code.name not in DATA])
def test_every_other_opcode_ends_the_reading(opcode: Any) -> None:
    with pytest.raises(NotPlainData, match="byte 4 of the pickle is"):
        read_pickle(b"\x80\x02K\x01" + opcode.code.encode("latin-1") + b"\0" * 20 + b".", 100)


def test_the_package_never_unpickles() -> None:
    for path in (ROOT / "eventserver").rglob("*.py"):
        text = path.read_text()
        for word in ("pickle.load", "Unpickler", "from pickle", " _pickle", "marshal.load", "shelve"):
            assert word not in text, path


# Bombs


def bomb_of_repeats(path: int, count: int) -> bytes:
    """One datapoint with a long path, and a list of references to it, two bytes each."""
    return (
        b"\x80\x02](X" + struct.pack("<I", path) + b"a" * path + b"K\x01K\x02\x86\x86q\x00" + b"h\x00" * count + b"e."
    )


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (bomb_of_repeats(10, 500_000), "more than 320064 opcodes"),
        (bomb_of_repeats(10, 20_000), "20001 datapoints, and 20000 are allowed"),
        (bomb_of_repeats(900_000, 19_000), "the paths of a pickle are too long together"),
        (b"]" * (1 << 20), "more than 320064 opcodes"),
        (b"](" + b"]q\x00(h\x00h\x00e" * 100_000 + b"e.", "more than 320064 opcodes"),
        (b"](" + b"K\x01\x85" * 300_000 + b"e.", "more than 320064 opcodes"),
        (b"]" + b"\x8a\x28" + b"\x7f" * 40 + b"a.", None),
        (b"V" + b"\\u00e4" * 170_000 + b"\n.", "a pickle that is no list of datapoints"),
        (b"S'" + b"\\x41" * 250_000 + b"'\n.", "a pickle that is no list of datapoints"),
    ],
    ids=range(9),
)
def test_a_bomb_stays_small(frame: bytes, reason: str | None) -> None:
    """No pickle of a megabyte makes more than 64 MiB of it, in memory or in events."""
    decoder = GraphiteDecoder(GraphiteOptions(protocol="pickle"))
    tracemalloc.start()
    try:
        events = decoder.decode(batch(frame))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert [event.type for event in events] == ["undecodable"]
    assert reason is None or reason in events[0].fields["error"]


def test_the_largest_pickle_of_datapoints_stays_small() -> None:
    """As many as are allowed, the worst kind of them."""
    frame = bomb_of_repeats(255, 19_999)
    tracemalloc.start()
    try:
        events = decode(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(events) == 20_000
    assert peak < 64 << 20


def test_how_many_datapoints_a_pickle_may_have_is_a_setting() -> None:
    frame = pickle.dumps([("a", (1, 2))] * 5, protocol=2)
    assert len(decode(frame, max_datapoints=5)) == 5
    assert undecodable(frame, max_datapoints=4) == "5 datapoints, and 4 are allowed in a pickle"


def test_a_list_that_holds_itself() -> None:
    """Nothing follows it down."""
    assert undecodable(b"]q\x00h\x00a.") == "it is not `(path, (timestamp, value))`"
    assert undecodable(b"\x80\x02]X\x01\0\0\0aK\x01]q\x00h\x00a\x86\x86a.") == "the value is no number"


# Any bytes

_numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.booleans() | st.none()
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_values = st.recursive(
    _numbers | _texts, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple), max_leaves=12
)


@given(_values, st.integers(0, 5))
def test_data_is_read_as_python_reads_it(value: Any, protocol: int) -> None:
    """Unpickling is the reference, for what is known to be data."""
    assert read_pickle(pickle.dumps(value, protocol=protocol), 10_000) == value


@given(st.binary(max_size=40), st.binary(max_size=8), st.integers(0, 5), st.integers(0, 200))
def test_any_bytes_are_data_or_refused(junk: bytes, more: bytes, protocol: int, position: int) -> None:
    """Random bytes, and pickles with some of them in their middle."""
    frame = pickle.dumps([("a.b", (1767225600, 1.5)), ("c", (1, 2**80))], protocol=protocol)
    position %= len(frame)
    for data in (junk, more + junk + b".", frame[:position] + more + frame[position + len(more) :], frame[position:]):
        try:
            read_pickle(data, 1000)
        except NotPlainData:
            [event] = decode(data)
            assert len(event.fields["error"]) < 300
        else:
            decode(data)
