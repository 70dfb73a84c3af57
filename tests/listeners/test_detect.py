"""What a stream speaks, by its first bytes."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.listeners._detect import MOST, MOST_OF_OBJECT, PROTOCOLS, choose, detect
from tests.lumberjack_client import compressed, json_frame, window
from tests.relp_client import OFFERS, frame

GELF = b'{"version":"1.1","host":"web1","short_message":"hello"}'

#: The beginnings of streams, each with what it is.
SAMPLES = [
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00"),
    ("relp", frame(1, "open", OFFERS)),
    ("lumberjack", window(10) + json_frame(1, b"{}")),
    ("lumberjack", window(1, b"1")),
    ("lumberjack", compressed(window(1))),
    ("fluent", msgspec.msgpack.encode(["app.access", 1700000000, {"message": "x"}])),
    ("fluent", msgspec.msgpack.encode(["app", [[1700000000, {}]], {"size": 1}])),
    ("fluent", msgspec.msgpack.encode(["t" * 40, b"\x92\x00\x80"])),
    ("fluent", msgspec.msgpack.encode(["t" * 300, b""])),
    ("fluent", msgspec.msgpack.encode([b"bytes", 1, {}])),
    ("fluent", b"\xdc\x00\x03\xa3tag\x01\x80"),
    ("fluent", b"\xc0"),
    ("http", b"POST /events HTTP/1.1\r\nHost: x\r\n"),
    ("http", b"GET /?q=1 HTTP/1.0\n"),
    ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("gelf", GELF + b"\0"),
    ("gelf", GELF + b"\n" + b"more"),
    ("gelf", GELF.replace(b",", b",\n  ") + b"\0"),
    ("json", b'{"message":"hello"}\n'),
    ("json", b'{"message":"hello"}\0'),
    ("json", b'[ {"message":"hello"}]\n'),
    ("json", b"{}\n"),
    ("lines", b"{not really}\n"),
    ("syslog", b"<13>Nov 22 10:00:00 web1 app: hello\n"),
    ("syslog", b"<165>1 2026-11-22T10:00:00Z web1 app - - - hello\n"),
    ("syslog", b"54 <165>1 2026-11-22T10:00:00Z web1 app - - - hello"),
    ("lines", b"hello\n"),
    ("lines", b"\n"),
    ("lines", b"\0\0"),
    ("lines", b"<html>\n"),
    ("lines", b"<1234>\n"),
    ("lines", b"2026-11-22 10:00:00 hello\n"),
    ("lines", b"1 opened door\n"),
    ("lines", b"12 monkeys\n"),
    ("lines", b"0 <13>x\n"),
    ("lines", b"12345678 <13>x\n"),
    ("lines", b"2Words\n"),
    ("lines", b"2Cats\n"),
    ("lines", b"GET /index.html\n"),
    ("lines", b"POSTMAN rings\n"),
    ("lines", b"[info] hello\n"),
    ("lines", b"[1,2]\n"),
    ("lines", "\u00fcn\u00efc\u00f6d\u00e9\n".encode()),
    ("lines", b"\xff\xfe"),
    ("lines", b"\x16\x00"),
    ("lines", b"\x93\x01\x02"),
    ("lines", b"\xdc\x00\x09\xa1x"),
]


@pytest.mark.parametrize(("protocol", "data"), SAMPLES)
def test_first_bytes_tell(protocol: str, data: bytes) -> None:
    assert detect(data) == protocol


@pytest.mark.parametrize(("protocol", "data"), SAMPLES)
def test_it_does_not_matter_how_they_come(protocol: str, data: bytes) -> None:
    """Byte by byte there is no other answer than in one read, and none is taken back."""
    answers = [detect(data[:size]) for size in range(1, len(data) + 1)]
    first = next(index for index, answer in enumerate(answers) if answer is not None)
    assert set(answers[first:]) == {protocol}
    assert [detect(data[:size], seen=size - 1) for size in range(1, first + 2)] == answers[: first + 1]


#: Messages whose keys say late what they are.
LATE = [
    ("gelf", b'{"full_message":"%b","version":"1.1","host":"h","short_message":"x"}\0' % (b"x" * 20000)),
    ("gelf", b'{"full_message":"%b","host":"h","short_message":"x"}\r\n' % (b"x" * 60000)),
    ("json", b'{"full_message":"%b","host":"h"}\0' % (b"x" * 20000)),
    ("json", b'{"full_message":"%b","host":"h","short_message":"x"}\0' % (b"x" * MOST_OF_OBJECT)),
    ("lines", b"{" + b" " * MOST + b'"a":1}\n'),
    ("json", b"{" + b" " * (MOST - 2) + b'"a":1}\n'),
]


@pytest.mark.parametrize(("protocol", "data"), LATE)
@pytest.mark.parametrize("size", [1 << 20, 8192, 1460, 8191, 3])
def test_the_keys_of_gelf_may_stand_behind_a_long_text(protocol: str, data: bytes, size: int) -> None:
    answer, seen = None, 0
    while answer is None:
        end = min(seen + size, len(data))
        assert seen < end
        answer, seen = detect(data[:end], seen=seen), end
    assert answer == protocol


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"{", "json"),
        (GELF, "gelf"),
        (GELF[:40], "json"),
        (b"12", "lines"),
        (b"<1", "lines"),
        (b"GET /index.html", "lines"),
        (b"2W", "lines"),
        (b"\x16", "lines"),
        (b"\x93", "lines"),
        (b"[", "lines"),
    ],
)
def test_what_is_open_is_decided_when_no_more_comes(data: bytes, protocol: str) -> None:
    assert detect(data) is None
    assert detect(data, whole=True) == protocol


@given(st.binary(min_size=1, max_size=64), st.booleans())
def test_anything_may_come(data: bytes, whole: bool) -> None:
    found = detect(data, whole=whole)
    assert found in (None, "tls", *PROTOCOLS)
    assert found is not None or not whole


@pytest.mark.parametrize("head", [b"{", b'{"a": "', b"GET /", b"[ ", b"{" + b" " * 10])
def test_it_is_decided_within_a_bound(head: bytes) -> None:
    """However long a line or a message is, and however it comes."""
    data = head
    started = time.thread_time()
    while detect(data, seen=len(data) - 1) is None:
        data += b" "
        assert len(data) <= (MOST_OF_OBJECT if b'"' in head else MOST + 1)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize(
    ("found", "allowed", "chosen"),
    [
        ("gelf", ["gelf", "json"], "gelf"),
        ("gelf", ["json", "lines"], "json"),
        ("gelf", ["lines"], "lines"),
        ("gelf", ["syslog"], None),
        ("syslog", ["lines"], "lines"),
        ("lines", ["syslog"], None),
        ("relp", ["lines"], None),
        ("http", ["lines"], None),
        ("tls", PROTOCOLS, None),
    ],
)
def test_objects_and_syslog_are_lines_too(found: str, allowed: list[str], chosen: str | None) -> None:
    """The others are not: a client of theirs would wait for an answer for ever."""
    assert choose(found, allowed) == chosen
