"""The Forward protocol without I/O: modes, options, handshake, and what is none of it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eventserver.listeners._fluent import Reply, Session, acknowledge
from eventserver.listeners._fluent_handshake import Handshake, Key
from eventserver.listeners._fluent_messages import Limits, Message
from tests.fluent_client import (
    decode,
    encode,
    entry,
    event_time,
    forward,
    message,
    packed,
    packed_blob,
    ping,
    proves,
)

LIMITS = Limits(message=100_000, unpacked=200_000, ratio=200, frame=50_000, entries=1000)
ENTRIES = [entry(event_time(1700000000, 5), {"log": "a"}), entry(7, {"log": "b"}), entry([event_time(7), {}], {})]
BLOB = b"".join(ENTRIES)


def read(data: bytes, **limits: Any) -> list[Message]:
    """The messages of a stream that has no fault."""
    session = Session(LIMITS._replace(**limits))
    steps = session.feed(data)
    assert session.fault is None
    assert not session.partial
    return [step for step in steps if isinstance(step, Message)]


def fault(data: bytes, **limits: Any) -> str | None:
    session = Session(LIMITS._replace(**limits))
    assert session.feed(data + message("late", 1, {})) == []
    return session.fault


# Modes


@pytest.mark.parametrize(
    "time", [1, 2**32, event_time(1, 2), None, 1.5], ids=["seconds", "later", "event time", "none", "float"]
)
def test_message_mode(time: Any) -> None:
    record = {"log": "x"}
    assert read(message("app", time, record)) == [Message("app", [entry(time, record)], [], None)]
    assert read(encode(["app", time, record, None])) == [Message("app", [entry(time, record)], [], None)]
    [found] = read(message("app", time, record, chunk="c"))
    assert (found.frames, found.chunk) == ([entry(time, record)], encode("c"))


@pytest.mark.parametrize("option", [{}, {"size": 3}, {"size": 2}, {"size": 99}, {"size": -1}, {"size": "x"}])
@pytest.mark.parametrize("make", [forward, packed, lambda *a, **k: packed(*a, as_str=True, **k)])
def test_forward_and_packed_forward_mode(make: Any, option: dict[str, Any]) -> None:
    """With and without the number of entries, right or wrong: what is there counts."""
    assert read(make("app", ENTRIES, **option)) == [Message("app", ENTRIES, [], None)]
    [found] = read(make("app", ENTRIES, chunk=b"\0\1", fluent_signal=0, **option))
    assert (found.frames, found.chunk) == (ENTRIES, encode(b"\0\1"))


@pytest.mark.parametrize("as_str", [False, True])
@pytest.mark.parametrize(
    ("compressed", "blob"),
    [("gzip", gzip.compress(BLOB)), ("zstd", zstandard.compress(BLOB)), ("text", BLOB),
     ("gzip", gzip.compress(BLOB[:9]) + gzip.compress(BLOB[9:])),
     ("zstd", zstandard.compress(BLOB[:9]) + zstandard.compress(BLOB[9:]))],
    ids=["gzip", "zstd", "text", "members", "frames"],
)  # fmt: skip
def test_compressed_packed_forward_mode(compressed: str, blob: bytes, as_str: bool) -> None:
    for option in ({}, {"size": 3}):
        data = packed_blob("app", blob, as_str=as_str, compressed=compressed, **option)
        assert read(data) == [Message("app", ENTRIES, [], None)]


def test_short_blobs_and_small_arrays_are_the_same() -> None:
    """Clients write the shortest header there is."""
    assert read(encode(["app", BLOB]))[0].frames == ENTRIES
    assert read(encode(["app", [decode(frame) for frame in ENTRIES[1:2]]]))[0].frames == ENTRIES[1:2]
    assert read(encode(["app", []])) == read(encode(["app", b""])) == [Message("app", [], [], None)]


def test_a_tag_is_text() -> None:
    assert read(encode([b"app", 1, {}]))[0].tag == "app"
    assert read(b"\x93\xa1\xff\x01\x80")[0].tag == "\ufffd"


def test_heartbeats_are_skipped() -> None:
    assert [found.tag for found in read(b"\xc0" + message("a", 1, {}) + b"\xc0\xc0" + message("b", 1, {}))] == [
        "a",
        "b",
    ]


def test_entries_are_not_looked_into() -> None:
    """Whatever they are, they are frames; a decoder says what is wrong."""
    odd = [b"\x01", b"\x91" * 5000 + b"\xc0", b"\xa1\xff", b"\x92\x01\x81\xa1a\xcf" + b"\xff" * 8]
    assert read(forward("app", odd))[0].frames == odd
    assert read(b"\x93\xa1a\x01" + odd[1])[0].frames == [b"\x92\x01" + odd[1]]
    assert read(packed("app", odd, size=4))[0].frames == odd


def test_what_is_cut_off_in_a_blob_is_kept() -> None:
    assert read(packed_blob("app", BLOB[:-1], size=3))[0].frames == [*ENTRIES[:2], ENTRIES[2][:-1]]
    assert read(packed_blob("app", ENTRIES[0] + b"\xc1\x01"))[0].frames == [ENTRIES[0], b"\xc1\x01"]


def test_the_ack_is_the_chunk_as_it_came() -> None:
    for chunk in ("p8n9gmxTQVC8/nh2wlKKeQ==", b"\0\xff", 7, None, ["x"], {"y": 1}):
        [found] = read(packed("app", ENTRIES, chunk=chunk))
        assert found.chunk is not None
        assert decode(acknowledge(found.chunk)) == {"ack": chunk}


def test_a_key_names_tag_chunk_and_content() -> None:
    messages = [
        *read(packed("a", ENTRIES, chunk="1")), *read(packed("b", ENTRIES, chunk="1")),
        *read(packed("a", ENTRIES, chunk="2")), *read(packed("a", ENTRIES[:2], chunk="1")),
    ]  # fmt: skip
    assert len({found.key("a") for found in messages}) == 4
    assert messages[0].key("b") != messages[0].key("a")
    [again] = read(packed("a", ENTRIES, chunk="1", compressed="gzip"))
    assert again.key("a") == messages[0].key("a")


# JSON


def test_messages_may_be_json() -> None:
    """As fluentd takes them, and as its library for PHP sends them: one after another, with nothing between."""
    first, second = ["app", 1700000000, {"log": 'a "]" \\'}], ["app", [[1, {"log": "é"}], [2, {}]], {"chunk": "c"}]
    data = json.dumps(first).encode() + json.dumps(second).encode() + b"\r\n " + json.dumps(first).encode() + b"\n"
    records = [entry(*first[1:]), entry(1, {"log": "é"}), entry(2, {}), entry(*first[1:])]
    found = read(data + message("b", 1, {}))
    assert [frame for one in found for frame in one.frames] == [*records, entry(1, {})]
    assert [one.json for one in found] == [True, True, True, False]
    assert found[1].chunk == encode("c")
    assert acknowledge(found[1].chunk, json=True) == b'{"ack":"c"}'


@pytest.mark.parametrize("depth", [1, 100, 900, 940])
@pytest.mark.parametrize("brackets", ["[]", '{"a":1}'], ids=["array", "map"])
def test_the_chunk_of_a_message_in_json_has_nothing_inside(depth: int, brackets: str) -> None:
    """The ack is made when the promise is kept, of all messages together: what cannot be made then is not taken."""
    chunk = "[" * depth + brackets + "]" * depth
    assert fault(b'["app",1,{},{"chunk":%b}]' % chunk.encode()) == "bad_message"


@pytest.mark.parametrize("chunk", ["c", "", 7, -1, 1.5, True, "é" * 500])
def test_the_ack_of_a_message_in_json_is_json(chunk: Any) -> None:
    [found] = read(json.dumps(["app", 1, {}, {"chunk": chunk}]).encode())
    assert found.chunk is not None
    assert json.loads(acknowledge(found.chunk, json=True)) == {"ack": chunk}


@given(cuts=st.lists(st.integers(1, 9), max_size=30))
def test_json_may_come_in_pieces(cuts: list[int]) -> None:
    data = b'["a",1,{"l\\"]":"\\\\"}]["b",[[2,{"x":[[]]}]]]' * 2
    session, steps, position = Session(LIMITS), [], 0
    for cut in [*cuts, len(data)]:
        steps += session.feed(data[position : position + cut])
        position += cut
    assert steps == read(data)
    assert len(steps) == 4


@pytest.mark.parametrize(
    "data", [b"[]", b"[1]", b'["a",1]', b"[[", b'["a",1,{}}', b'["a",1e999,{}]', b'["a",1,{"b":%d}]' % 2**70]
)
def test_json_that_is_no_message_breaks_the_stream(data: bytes) -> None:
    session = Session(LIMITS)
    assert session.feed(data + b"]" * 10) == []
    assert session.fault == "bad_message"


def test_limits_hold_for_json() -> None:
    assert fault(b'["a",1,{"log":"' + b"x" * 100_000) == "too_long"
    assert fault(b"[" * 60_000) == "too_long"
    assert fault(b"[" * 20_000 + b"]" * 20_000) == "bad_message"
    assert fault(json.dumps(["a", 1, {"log": "x" * 50_000}]).encode()) == "too_long", "as one entry"
    assert fault(json.dumps(["a", [[1, {}]] * 1001]).encode()) == "too_many"
    session, _ = shaking()
    assert session.feed(b'["a",1,{}]') == []
    assert session.fault == "not_authorized"


# Faults


@pytest.mark.parametrize(
    "data",
    [b"\x01", b"{", b"\x80", b"\x90", b"\x91\xa1a", b"\x92\xa1a\x01", b"\x93\x01\x01\x80", b"\xc1", b"\x93\xa1a\xc1",
     b"\x95\xa1a\x01\x80\x80\x80", b"\x94\xa1a\x01\x80\x01", b"\x93\xa1a\x90\x90", b"\x94\xa1a\x90\x80\x80",
     encode(["a" * 1025, 1, {}]), encode(["a", 1, {}, {"x": "y" * 4096}]), encode(["a", 1, {}, {1: 2}]),
     b"\xa5hello", b"\xd6\0abcd"],
    ids=lambda data: data[:8].hex(),
)  # fmt: skip
def test_what_is_no_message_breaks_the_stream(data: bytes) -> None:
    assert fault(data) == "bad_message"


def test_limits_break_the_stream() -> None:
    blob = BLOB * 1000
    assert fault(message("a", 1, {"log": "x" * 100_000})) == "too_long"
    assert fault(packed("a", ENTRIES[1:2] * 1001)) == "too_many"
    assert fault(packed("a", ENTRIES[1:2] * 1001, size=1001)) == "too_many"
    assert fault(forward("a", ENTRIES[1:2] * 1001)) == "too_many"
    assert fault(packed_blob("a", gzip.compress(blob), compressed="gzip"), unpacked=len(blob) - 1) == "oversize"
    assert fault(packed_blob("a", gzip.compress(bytes(100_000)), compressed="gzip")) == "oversize", "by its ratio"
    assert fault(packed_blob("a", BLOB, compressed="lzma")) == "unsupported"
    assert fault(packed_blob("a", BLOB, compressed="gzip")) == "bad_compression"
    assert fault(packed_blob("a", gzip.compress(BLOB)[:-1], compressed="gzip")) == "bad_compression"


@pytest.mark.parametrize("option", [{}, {"size": 3}])
def test_values_that_are_looked_at_one_by_one_are_bounded(option: dict[str, Any]) -> None:
    """Where compiled code cannot: very deep inside, or without the number of entries. All of a message counts."""
    deep = b"\x92\1" + b"\x91" * 2000 + b"\x90"
    flat = b"\x92\1\xdc\7\xd0" + b"\1" * 2000
    for make in (forward, packed):
        [found] = read(make("t", [deep], **option), values=5000)
        assert found.frames == [deep]
        assert fault(make("t", [deep], **option), values=1500) == "too_complex"
    assert fault(b"\x93\xa1t\1" + deep[2:], values=1500) == "too_complex"
    assert len(read(packed("t", [flat] * 2, **option), values=5000)[0].frames) == 2
    assert fault(packed("t", [flat] * 3, **{**option, "size": 4}), values=5000) == "too_complex"
    assert len(read(packed("t", [flat] * 3, size=3), values=1000)[0].frames) == 3
    assert len(read(forward("t", [flat] * 3), values=1000)[0].frames) == 3


@pytest.mark.parametrize(("compressed", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_there_are_no_more_members_than_entries(compressed: str, pack: Any) -> None:
    """Fluentd packs each entry, or several, and puts one behind the other."""
    member = pack(ENTRIES[1])
    [found] = read(packed_blob("t", member * 10, compressed=compressed), entries=10)
    assert found.frames == [ENTRIES[1]] * 10
    assert fault(packed_blob("t", pack(b"") * 20, compressed=compressed), entries=10) == "oversize"


def test_what_cannot_come_is_not_waited_for() -> None:
    """A header that announces more than a message may have is enough."""
    for head in (b"\xdd\xff\xff\xff\xff", b"\x93\xa1a\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\0\2\0\0"):
        session = Session(LIMITS)
        assert session.feed(head) == []
        assert session.fault == "too_long"
        assert session.buffered == 0


def test_a_large_entry_is_cut() -> None:
    big = entry(1, {"log": "x" * 60_000})
    [found] = read(forward("a", [ENTRIES[0], big, ENTRIES[1]]))
    assert found.frames == [ENTRIES[0], big[:50_000], ENTRIES[1]]
    assert found.truncated == [1]


def test_what_came_before_a_fault_is_kept() -> None:
    session = Session(LIMITS)
    assert len(session.feed(message("a", 1, {}) + b"\xc1")) == 1
    assert session.fault == "bad_message"


# Bytes in pieces


@given(cuts=st.lists(st.integers(1, 60), max_size=30))
def test_how_the_bytes_come_changes_nothing(cuts: list[int]) -> None:
    data = b"\xc0".join([
        message("a", 1, {"log": "x" * 300}, chunk="1"), packed("b", ENTRIES, size=3), forward("c", ENTRIES),
        packed("d", ENTRIES * 20, compressed="gzip", chunk="2"), message("e", event_time(1), {}),
    ])  # fmt: skip
    session, steps, position = Session(LIMITS), [], 0
    for cut in [*cuts, len(data)]:
        steps += session.feed(data[position : position + cut])
        position += cut
    assert steps == read(data)
    assert not session.partial


@given(
    data=st.lists(st.sampled_from([*ENTRIES, BLOB, message("a", 1, {}), packed("a", ENTRIES)]) | st.binary(max_size=9))
)
def test_no_bytes_raise(data: list[bytes]) -> None:
    session = Session(LIMITS)
    for part in data:
        session.feed(part)
        assert session.buffered <= LIMITS.message


def test_a_message_that_comes_byte_by_byte_is_scanned_once() -> None:
    """Not once for each byte: that would be a second of work for every megabyte."""
    data = forward("a", [entry(1, {"a": list(range(20))})] * 900)
    session = Session(LIMITS)
    steps, positions = 0, []
    for index in range(len(data)):
        steps += len(session.feed(data[index : index + 1]))
        positions.append(session._scan.position)
    assert steps == 1
    assert positions == sorted(positions)


# Handshake

USERS = {"web": "secret", "db": "other"}


def shaking(users: dict[str, str] | None = None, shared_key: str = "key") -> tuple[Session, bytes]:
    salts = iter([b"n" * 16, b"a" * 16])
    session = Session(LIMITS, Handshake(Key(shared_key, users or {}, "server"), lambda count: next(salts)))
    return session, session.greeting()


def test_without_a_key_the_server_waits() -> None:
    session = Session(LIMITS)
    assert (session.greeting(), session.authorized, session.user) == (b"", True, "")


def test_both_sides_show_that_they_know_the_key() -> None:
    session, hello = shaking()
    assert decode(hello) == ["HELO", {"nonce": b"n" * 16, "auth": b"", "keepalive": True}]
    assert not session.authorized
    pong, found = session.feed(ping(hello, "key") + message("a", 1, {}))
    assert isinstance(pong, Reply)
    assert proves(hello, pong.data, "key")
    assert decode(pong.data)[3] == "server"
    assert not pong.last
    assert isinstance(found, Message)
    assert (session.authorized, session.user, session.fault) == (True, "", None)


def test_users_have_passwords() -> None:
    session, hello = shaking(USERS)
    assert decode(hello)[1]["auth"] == b"a" * 16
    [pong] = session.feed(ping(hello, "key", user="web", password="secret"))
    assert isinstance(pong, Reply)
    assert proves(hello, pong.data, "key")
    assert session.user == "web"


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"shared_key": "wrong"}, "shared_key mismatch"), ({"user": "nobody"}, "username/password mismatch"),
     ({"password": "wrong"}, "username/password mismatch"), ({"user": "db"}, "username/password mismatch"),
     ({"user": "", "password": ""}, "username/password mismatch")],
)  # fmt: skip
def test_who_does_not_know_is_refused(changes: dict[str, str], why: str) -> None:
    session, hello = shaking(USERS)
    known = {"shared_key": "key", "user": "web", "password": "secret"}
    [pong] = session.feed(ping(hello, **{**known, **changes}) + message("a", 1, {}))
    assert isinstance(pong, Reply)
    assert pong.last
    assert decode(pong.data) == ["PONG", False, why, "", ""]
    assert (session.fault, session.user) == ("not_authorized", "")


@pytest.mark.parametrize(
    "data",
    [message("a", 1, {}), b"\xc0", b"\xc1", encode(["PING"] + [""] * 4), encode(["PONG"] + [""] * 5),
     encode(["PING", 1, 2, 3, 4, 5]), encode(["PING"] + [""] * 6), b"\xc6\0\1\0\0"],
    ids=lambda data: data[:8].hex(),
)  # fmt: skip
def test_nothing_but_a_ping_is_taken_first(data: bytes) -> None:
    session, _ = shaking()
    assert session.feed(data) == []
    assert session.fault in ("not_authorized", "bad_message")
    assert not session.authorized


def test_an_answer_cannot_be_used_again() -> None:
    """The nonce is new for each connection."""
    _, hello = shaking()
    other = Session(LIMITS, Handshake(Key("key", {}, "server"), lambda count: b"m" * count))
    other.greeting()
    [pong] = other.feed(ping(hello, "key"))
    assert isinstance(pong, Reply)
    assert pong.last
