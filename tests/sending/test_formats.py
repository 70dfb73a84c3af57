"""Every format: what is written is what the decoder of that name reads."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.event import Batch, Event
from eventserver.registry import Registry
from eventserver.sending.formats import FORMATS, RECORDS, Moment, Origin, format_of
from eventserver.sending.sources import AHEAD, Lines, Made

ORIGIN = Origin("gate", "door", 42, "run1", 4)
NOW = 1_700_000_000.25
#: The decoder that reads a format, with its options.
READERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rfc3164": ("syslog", {}),
    "csv": ("csv", {"columns": ("time", "host", "number", "message")}),
}
#: Formats that are not made of a text.
METRICS = ("statsd", "graphite")
TEXT = 'it\'s "open" = yes, 100% | \\ ünï'


def decode(name: str, payload: bytes) -> list[Event]:
    reader, options = READERS.get(name, (name, {}))
    decoder = Registry.from_entry_points().get("decoders", reader)
    made = decoder(decoder.Options(**options))
    received = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    batch = Batch(id="01B", listener="l", decoder=reader, received=received, peers=["192.0.2.1:1"], frames=[payload])
    found: list[Event] = made.decode(batch)
    return found


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in METRICS])
@pytest.mark.parametrize("number", [None, 7])
def test_a_decoder_reads_what_was_written(name: str, number: int | None) -> None:
    [event] = decode(name, FORMATS[name].render(ORIGIN, TEXT, number, Moment(NOW)))
    assert event.type != "undecodable", event
    assert TEXT in (event.message, event.fields.get("values", event.fields).get("message"))
    if name not in ("text", "rfc3164", "csv", "kv"):
        assert abs(event.time.timestamp() - NOW) < 0.001, event.time


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("number", range(4))
def test_metrics_are_metrics(name: str, number: int) -> None:
    [event] = decode(name, FORMATS[name].render(ORIGIN, "", number, Moment(NOW)))
    assert event.type != "undecodable"
    assert str(event.fields["name"]).startswith("eventserver.send.")


@given(raw=st.binary(), number=st.none() | st.integers(0, 10**9))
def test_any_bytes_of_a_line_can_be_written_in_any_format(raw: bytes, number: int | None) -> None:
    for format in (*FORMATS.values(), *RECORDS.values()):
        format.render(ORIGIN, raw.decode(errors="surrogateescape"), number, Moment(NOW))


@pytest.mark.parametrize("line", [
    b'{"a": 123456789012345678901234567890}', b'{"a": "\\ud800"}', b'{"a": "\xff"}', b'{"a":' * 900 + b"1" + b"}" * 900,
])  # fmt: skip
def test_an_object_that_messagepack_cannot_hold_is_a_message(line: bytes) -> None:
    for format in (RECORDS["fluent"], FORMATS["msgpack"]):
        packed = format.render(ORIGIN, line.decode(errors="surrogateescape"), None, Moment(NOW))
        assert b"a" in packed
        assert msgspec.msgpack.decode(packed)


@pytest.mark.parametrize("name", ["json", "gelf", "cloudevents"])
def test_a_line_that_is_an_object_already_is_sent_as_it_is(name: str) -> None:
    line = '{"short_message": "x", "specversion": "1.0"}'
    assert FORMATS[name].render(ORIGIN, line, None, Moment(NOW)) == line.encode()
    for other in ("[1]", "{", '{"a": 1', "1", '"x"', "{" * 100_000):
        assert FORMATS[name].render(ORIGIN, other, None, Moment(NOW)) != other.encode()


def test_bytes_that_are_no_utf8_arrive_as_they_are_where_the_format_carries_bytes() -> None:
    line = b"caf\xe9".decode(errors="surrogateescape")
    assert FORMATS["text"].render(ORIGIN, line, None, Moment(NOW)) == b"caf\xe9"
    assert FORMATS["syslog"].render(ORIGIN, line, None, Moment(NOW)).endswith(b" caf\xe9")
    assert b"caf\xef\xbf\xbd" in FORMATS["json"].render(ORIGIN, line, None, Moment(NOW))


def test_formats_that_a_protocol_cannot_carry_are_refused() -> None:
    assert format_of("relp", None).name == "syslog"
    assert format_of("plain", None).name == "text"
    assert format_of("gelf", "text").name == "text"
    for protocol, name in (
        ("fluent", "syslog"),
        ("lumberjack", "text"),
        ("gelf", "json"),
        ("statsd", "graphite"),
        ("relp", "x"),
    ):
        with pytest.raises(ValueError, match=r"format|carries"):
            format_of(protocol, name)


# Sources


def test_made_up_events_are_numbered_and_end_with_their_count() -> None:
    source = Made(FORMATS["text"], ORIGIN, 5)
    assert source.take(2, NOW) + source.take(9, NOW) == [b"message %d" % n for n in range(5)]
    assert source.done()
    assert source.take(1, NOW) == []


def test_texts_can_be_made_longer() -> None:
    source = Made(FORMATS["text"], ORIGIN, 3, size=100)
    assert {len(payload) for payload in source.take(3, NOW)} == {100}


def test_a_message_is_repeated_as_it_is() -> None:
    assert Made(FORMATS["text"], ORIGIN, 2, text="x").take(9, NOW) == [b"x", b"x"]


def test_lines_are_cut_whatever_the_pieces_and_asked_for_as_they_are_used() -> None:
    asked: list[None] = []
    source = Lines(FORMATS["text"], ORIGIN, None, lambda: asked.append(None))
    source.ask()
    source.ask()
    assert len(asked) == 1, "one read at a time"
    source.feed(b"on")
    assert source.take(9, NOW) == []
    source.feed(b"e\n\r\n\ntwo\r\nthr")
    assert source.take(1, NOW) == [b"one"]
    source.feed(b"")
    assert not source.done()
    assert source.take(9, NOW) == [b"two", b"thr"]
    assert source.done()
    source.ask()
    assert len(asked) == 1, "nothing is read behind the end"


def test_only_so_many_lines_are_read_ahead() -> None:
    asked: list[None] = []
    source = Lines(FORMATS["text"], ORIGIN, 3, lambda: asked.append(None))
    source.feed(b"x\n" * AHEAD)
    source.ask()
    assert not asked
    assert len(source.take(9, NOW)) == 3
    assert source.done(), "no more were wanted"
