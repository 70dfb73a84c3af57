"""What each protocol's client says and understands, byte by byte; and that no bytes of a server make it stumble."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.listeners._relp import Messages, acknowledge
from eventserver.listeners._relp import Session as RelpServer
from eventserver.sending._msgpack import end_of
from eventserver.sending._responses import Response, Responses
from eventserver.sending.datagrams import GelfDatagrams
from eventserver.sending.fluent import Fluent, Login
from eventserver.sending.http import Http
from eventserver.sending.lumberjack import Lumberjack
from eventserver.sending.parcels import BadAnswer, Heard, NoAdmission, Parcel, Session
from eventserver.sending.plain import Pickles, Plain, length_prefixed
from eventserver.sending.relp import LAST_TXNR, Relp

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


def parcel(*payloads: bytes, key: str = "run-1") -> Parcel:
    return Parcel(key, list(payloads), 0.0)


def http(**changes: Any) -> Http:
    return Http(
        **{"host": "h:1", "path": "/p", "media": "application/x-ndjson", "headers": {}, "compress": None} | changes
    )


def fluent(**changes: Any) -> Fluent:
    return Fluent(**{"tag": "t", "mode": "packed", "compress": None, "pack": None, "login": None} | changes)


LOGIN = Login("key", "ann", "secret", "client", b"s" * 16)
SESSIONS: dict[str, Callable[[], Session]] = {
    "relp": lambda: Relp(10, "x,1,none"),
    "http": http,
    "fluent": fluent,
    "fluent with a key": lambda: fluent(login=LOGIN),
    "lumberjack": lambda: Lumberjack(2, None),
}


@pytest.mark.parametrize("name", [*SESSIONS])
def test_no_bytes_make_a_session_stumble(name: str) -> None:
    """Whatever a server says, and however it is cut: it means something, or is a bad answer."""
    words = st.sampled_from([
        b"1 rsp 6 200 OK\n", b"0 serverclose 0\n", b"2 rsp 3 500\n", b"HTTP/1.1 200 OK\r\n\r\n",
        b"Content-Length: 2\r\n", b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n", b"2A\0\0\0\1", b"2A\0\0\0\0", pack({"ack": "x"}), pack(["HELO", {}]),
        pack(["HELO", {"nonce": b"1", "auth": ""}]), pack(["PONG", True, "", "h", "d"]), pack(["HELO"]),
        pack(["HELO", 1]), pack(["HELO", {"nonce": 2**60}]),
        pack(["HELO", {"nonce": 1}]), b"\xdd\xff\xff\xff\xff", b"\x91" * 20, b"\xc1",
    ])  # fmt: skip

    @given(said=st.lists(words | st.binary(max_size=20), max_size=6), cut=st.integers(1, 30))
    def check(said: list[bytes], cut: int) -> None:
        session = SESSIONS[name]()
        session.begin()
        session.send(parcel(b"{}", b"{}"))
        data = b"".join(said)
        try:
            for start in range(0, len(data), cut):
                for heard in session.receive(data[start : start + cut]):
                    assert isinstance(heard, Heard)
            session.lost()
        except (BadAnswer, NoAdmission):
            return

    check()


# RELP


def test_relp_is_what_a_server_of_it_understands() -> None:
    server, client = RelpServer(65536, 65536, "s"), Relp(10, "x,1,none")
    [opened] = server.feed(client.begin())
    assert not client.ready
    assert client.receive(opened.data[:5]) == []  # type: ignore[union-attr]
    assert client.receive(opened.data[5:]) == []  # type: ignore[union-attr]
    assert client.ready
    [messages] = server.feed(client.send(parcel(b"one", b"two\nlines", b"")))[:1]
    assert isinstance(messages, Messages)
    assert messages.frames[:2] == [b"one", b"two\nlines"]
    assert client.receive(acknowledge(2, 2)) == [Heard(acknowledged=2)]
    assert client.receive(b"4 rsp 9 500 wrong\n") == [Heard(0), Heard(refused=1, reason="500 wrong")]
    [closed] = server.feed(client.end())
    assert client.receive(closed.data) == []  # type: ignore[union-attr]
    assert client.over


def test_relp_answers_out_of_order_or_to_nothing_are_bad() -> None:
    for said in (
        b"2 rsp 6 200 OK\n",
        b"1 rsp 6 200 OKx",
        b"1 syslog 1 x\n",
        b"1 rsp 99999 ",
        b"x" * 60,
        b"HTTP/1.1 400 Bad\r\n" * 4,
    ):
        client = Relp(10, "x")
        client.begin()
        with pytest.raises(BadAnswer):
            client.receive(said)


@pytest.mark.parametrize(
    "said", [b"H", b"HTTP/1.1 400 Bad Request\r\n", b"220 mail.example\r\n", b"1 rsp x", b"1  ", b"\n"]
)
def test_another_protocol_is_no_relp_from_its_first_bytes_on(said: bytes) -> None:
    """Its server waits for more, so nobody would ever find out."""
    session = Relp(10, "x")
    session.begin()
    with pytest.raises(BadAnswer, match="no RELP"):
        session.receive(said)


def test_relp_may_come_byte_by_byte() -> None:
    session = Relp(10, "x")
    session.begin()
    said = b"1 rsp 6 200 OK\n"
    assert not any(session.receive(bytes((byte,))) for byte in said)
    assert session.ready


def test_relp_numbers_begin_anew_after_the_largest() -> None:
    client = Relp(10, "x")
    client.begin()
    client.receive(b"1 rsp 6 200 OK\n")
    client._next = client._expected = LAST_TXNR
    assert client.send(parcel(b"a", b"b")) == b"999999999 syslog 1 a\n1 syslog 1 b\n"
    assert client.receive(acknowledge(LAST_TXNR, 2)) == [Heard(acknowledged=2)]


def test_relp_that_is_not_opened_is_no_admission() -> None:
    client = Relp(10, "x")
    client.begin()
    with pytest.raises(NoAdmission, match="500 no"):
        client.receive(b"1 rsp 6 500 no\n")


def test_relp_sends_only_what_is_not_settled() -> None:
    client, half = Relp(10, "x"), parcel(b"a", b"b")
    half.settled = 1
    assert client.send(half) == b"1 syslog 1 b\n"


# HTTP


def test_a_request() -> None:
    client = http(headers={"X": "y"})
    head, _, body = client.send(parcel(b"1", b"2", key="k-1")).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /p HTTP/1.1", b"Host: h:1", b"User-Agent: eventserver", b"Content-Type: application/x-ndjson", b"X: y",
        b"Idempotency-Key: k-1", b"Content-Length: 4",
    ]  # fmt: skip
    assert body == b"1\n2\n"
    assert client.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == [Heard(acknowledged=2)]


def test_what_is_sent_again_has_the_same_name_and_bytes() -> None:
    assert http(compress="gzip").send(parcel(b"1")) == http(compress="gzip").send(parcel(b"1"))
    assert gzip.decompress(http(compress="gzip").send(parcel(b"1")).partition(b"\r\n\r\n")[2]) == b"1\n"


def test_cloudevents_are_one_array_and_gelf_is_alone() -> None:
    assert http(media="application/cloudevents-batch+json").send(parcel(b"{}", b"{}")).endswith(b"\r\n\r\n[{},{}]")
    assert http(media="application/json").send(parcel(b"{}")).endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(("answer", "heard"), [
    (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Heard(acknowledged=1)),
    (b"HTTP/1.1 204 No Content\r\n\r\n", Heard(acknowledged=1)),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nA: b\r\n\r\n",
     Heard(acknowledged=1)),
    (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno", Heard(wait=7.0, reason="503: no")),
    (b"HTTP/1.1 429 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
     Heard(wait=1.0, reason="429")),
    (b"HTTP/1.1 503 Busy\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n", Heard(wait=60.0, reason="503")),
    (b"HTTP/1.1 400 Bad\r\nContent-Length: 7\r\n\r\nno json", Heard(refused=1, reason="400: no json")),
])  # fmt: skip
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_what_answers_mean(answer: bytes, heard: Heard, cut: int) -> None:
    client = http()
    client.send(parcel(b"1"))
    found = [one for start in range(0, len(answer), cut) for one in client.receive(answer[start : start + cut])]
    assert found == [heard]


def test_a_server_that_closes_after_each_answer_is_followed() -> None:
    client = http()
    client.send(parcel(b"1"))
    assert client.receive(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nfine") == []
    assert client.lost() == [Heard(acknowledged=1)]
    client = http()
    client.send(parcel(b"1"))
    client.receive(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert client.over


def test_a_wrong_token_is_no_admission() -> None:
    client = http()
    client.send(parcel(b"1"))
    with pytest.raises(NoAdmission, match="401"):
        client.receive(b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n")


@given(bodies=st.lists(st.binary(max_size=30), max_size=4), cut=st.integers(1, 50), chunked=st.booleans())
def test_responses_are_the_same_however_the_network_cuts_them(bodies: list[bytes], cut: int, chunked: bool) -> None:
    def written(body: bytes) -> bytes:
        if not chunked:
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n%b0\r\n\r\n" % chunks

    data = b"".join(map(written, bodies))
    reader = Responses()
    found: list[Response] = []
    for start in range(0, len(data), cut):
        found += reader.feed(data[start : start + cut])
    assert [response.body for response in found] == bodies


# Forward


def test_a_chunk_is_packed_and_named_and_its_ack_settles_it() -> None:
    client = fluent()
    entries = [pack([1, {"n": n}]) for n in range(2)]
    [tag, blob, option] = unpack(client.send(parcel(*entries)))
    assert (tag, blob, option["size"]) == ("t", b"".join(entries), 2)
    assert len(option["chunk"]) == 24, "128 bits in base64"
    assert unpack(fluent().send(parcel(*entries)))[2] == option, "sent again, it has the same name"
    other = unpack(client.send(parcel(entries[0], key="run-2")))[2]["chunk"]
    answer = pack({"ack": option["chunk"]})
    assert client.receive(pack({"ack": other}) + answer[:7]) == [], "settled in the order of sending"
    assert client.receive(answer[7:]) == [Heard(acknowledged=2), Heard(acknowledged=1)]
    with pytest.raises(BadAnswer, match="was not sent"):
        client.receive(answer)


def test_the_other_modes() -> None:
    entries = [pack([1, {"n": n}]) for n in range(20)]
    [_, array, option] = unpack(fluent(mode="forward").send(parcel(*entries)))
    assert array == [[1, {"n": n}] for n in range(20)]
    assert option["size"] == 20
    assert unpack(fluent(mode="forward").send(parcel(entries[0])))[1] == [[1, {"n": 0}]]
    data = fluent(mode="message").send(parcel(*entries[:2]))
    middle = end_of(data, 0)
    assert unpack(data[:middle])[:3] == ["t", 1, {"n": 0}]
    assert unpack(data[middle:])[:3] == ["t", 1, {"n": 1}]
    [_, blob, option] = unpack(fluent(compress="gzip").send(parcel(*entries)))
    assert gzip.decompress(blob) == b"".join(entries)
    assert option["compressed"] == "gzip"


def hexed(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def test_the_handshake_is_that_of_the_specification() -> None:
    client = fluent(login=LOGIN)
    assert not client.ready
    [heard] = client.receive(pack(["HELO", {"nonce": b"n" * 16, "auth": b"a" * 16, "keepalive": True}]))
    assert unpack(heard.reply) == [
        "PING", "client", b"s" * 16, hexed(b"s" * 16, b"client", b"n" * 16, b"key"), "ann",
        hexed(b"a" * 16, b"ann", b"secret"),
    ]  # fmt: skip
    client.receive(pack(["PONG", True, "", "server", hexed(b"s" * 16, b"server", b"n" * 16, b"key")]))
    assert client.ready


@pytest.mark.parametrize(("pong", "said"), [
    (["PONG", False, "wrong password", "", ""], "wrong password"),
    (["PONG", True, "", "server", hexed(b"another")], "does not know the shared key"),
])  # fmt: skip
def test_who_is_not_let_in_says_why(pong: list[Any], said: str) -> None:
    client = fluent(login=LOGIN)
    client.receive(pack(["HELO", {"nonce": b"n", "auth": b""}]))
    with pytest.raises(NoAdmission, match=said):
        client.receive(pack(pong))


def test_a_server_that_asks_for_a_key_that_we_do_not_have() -> None:
    with pytest.raises(NoAdmission, match="asks for a shared key"):
        fluent().receive(pack(["HELO", {"nonce": b"n", "auth": b""}]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20), max_leaves=20,
)  # fmt: skip


@given(value=VALUES, more=st.binary())
def test_where_a_value_ends_is_known_and_that_it_is_not_whole(value: Any, more: bytes) -> None:
    data = pack(value)
    try:
        assert end_of(data + more, 0) == len(data)
    except BadAnswer:
        return  # deeper than any answer is
    for cut in range(0, len(data), max(1, len(data) // 20)):
        assert end_of(data[:cut], 0) == -1


# Lumberjack


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def test_windows_of_version_2() -> None:
    client = Lumberjack(2, None)
    assert client.send(parcel(b"{}", b'{"a":1}')) == (
        b"2W" + number(2) + b"2J" + number(1) + number(2) + b"{}" + b"2J" + number(2) + number(7) + b'{"a":1}'
    )
    assert client.receive(b"2A" + number(0)) == [Heard()], "it is there, and busy"
    assert client.receive(b"2A" + number(1) + b"2A\0") == [Heard(acknowledged=1)]
    assert client.receive(b"\0\0\2") == [Heard(acknowledged=1)]
    with pytest.raises(BadAnswer, match="3 events are acknowledged of 2"):
        client.receive(b"2A" + number(3))


def test_a_packed_window_has_its_frames_in_one() -> None:
    plain, packed = Lumberjack(2, None).send(parcel(b"{}")), Lumberjack(2, "zlib").send(parcel(b"{}"))
    assert packed[:8] == plain[:6] + b"2C"
    assert zlib.decompress(packed[12:]) == plain[6:]


def test_version_1_has_pairs() -> None:
    sent = Lumberjack(1, None).send(parcel(json.dumps({"line": "x", "n": 1}).encode()))
    strings = b"".join(number(len(one)) + one for one in (b"line", b"x", b"n", b"1"))
    assert sent == b"1W" + number(1) + b"1D" + number(1) + number(2) + strings
    with pytest.raises(ValueError, match="JSON"):
        Lumberjack(1, None).send(parcel(b"[1]"))


# Without answers


def test_plain_streams_and_pickles() -> None:
    assert Plain(length_prefixed).send(parcel(b"abc")) == b"\3\0\0\0abc"
    sent = Pickles().send(parcel(b"a.b 1.5 1700000000", b"c -2 -1"))
    assert int.from_bytes(sent[:4], "big") == len(sent) - 4
    assert sent[4:6] == b"\x80\x02", "protocol 2"
    assert pickle.loads(sent[4:]) == [("a.b", (1700000000, 1.5)), ("c", (-1, -2.0))]
    for wrong in (b"a.b 1.5", b"a b c", b"a 1 x", b""):
        with pytest.raises(ValueError, match="path value timestamp"):
            Pickles().send(parcel(wrong))


def test_gelf_is_cut_into_chunks_where_it_is_too_long() -> None:
    cut = GelfDatagrams(None, lambda count: b"i" * count, 100)
    assert cut(b"x" * 100) == [b"x" * 100]
    chunks = cut(b"x" * 250)
    assert [chunk[:12] for chunk in chunks] == [b"\x1e\x0f" + b"i" * 8 + bytes([n, 3]) for n in range(3)]
    assert b"".join(chunk[12:] for chunk in chunks) == b"x" * 250
    assert len(cut(b"x" * 12_800)) == 128
    with pytest.raises(ValueError, match="do not fit into 128 chunks"):
        cut(b"x" * 12_801)
    assert zlib.decompress(GelfDatagrams("zlib", lambda count: b"", 100)(b"x" * 250)[0]) == b"x" * 250
    assert gzip.decompress(GelfDatagrams("gzip", lambda count: b"", 100)(b"x" * 250)[0]) == b"x" * 250
