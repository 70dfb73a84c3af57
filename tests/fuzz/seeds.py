"""Where fuzzing begins: real messages of each kind, and short runs of what parsers trip over."""

from __future__ import annotations

import gzip
import random
import struct
import zlib

import msgspec

from tests.corpus import cases

_pack = msgspec.msgpack.encode


def _lumberjack() -> list[bytes]:
    data = b"2J" + struct.pack(">II", 1, 13) + b'{"message":1}'
    pair = b"1D" + struct.pack(">II", 1, 1) + struct.pack(">I", 4) + b"line" + struct.pack(">I", 2) + b"hi"
    packed = zlib.compress(data)
    window = struct.pack(">I", 1)
    return [
        b"2W" + window + data,
        b"1W" + window + pair,
        b"2W" + window + b"2C" + struct.pack(">I", len(packed)) + packed,
        b"1W" + window + b"1C" + struct.pack(">I", len(zlib.compress(pair))) + zlib.compress(pair),
        b"2W" + struct.pack(">I", 0) + b"2A" + window,
    ]


def _fluent() -> list[bytes]:
    time = msgspec.msgpack.Ext(0, struct.pack(">II", 1767323044, 5))
    entries = _pack([time, {"log": "a"}]) + _pack([[1767323044, {}], {"log": "b"}])
    return [
        *(
            _pack(["tag", 1767323044, {"log": "a"}, {"chunk": "c"}]),
            _pack(["tag", [[time, {"log": "a"}]]]),
            _pack(None),
        ),
        *(
            _pack(["tag", entries, {"chunk": "d"}]),
            _pack(["t", gzip.compress(entries, mtime=0), {"compressed": "gzip"}]),
        ),
        _pack(["t", 1, {"log": "a", "partial_message": "true", "partial_id": "x", "partial_ordinal": "1"}]),
        _pack(["PING", "host", b"salt", "0" * 128, "anna", "0" * 128]),
        b'["t",1,{"log":"a"},{"chunk":["c"]}]',
        _pack(["t", [[time, {"log": [[[{}]]], "b": msgspec.msgpack.Ext(1, b"c")}]] * 2, {"size": 3}]),
        _pack(["t", gzip.compress(entries, mtime=0) * 2, {"compressed": "gzip", "chunk": "e"}]),
    ]


_REQUESTS = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\nc",
    b"POST /gelf HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
    b"GET /health HTTP/1.0\r\n\r\n",
]
_RELP = [b"1 open 30 relp_version=0\ncommands=syslog\n", b"2 syslog 9 <13>hello\n", b"3 close 0\n"]
_PROXY = [
    b"PROXY TCP4 192.0.2.7 192.0.2.8 51123 514\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\2\7\xc0\0\2\x08\xc7\xb3\2\2\4\0\0",
]
_GELF = b'{"version":"1.1","host":"h","short_message":"m","level":4,"_a":1}'
_DATAGRAMS = [
    _GELF,
    zlib.compress(_GELF),
    gzip.compress(_GELF, mtime=0),
    b"\x1e\x0f12345678\0\2{",
    b"\x1e\x0f12345678\1\2}",
]
_STREAMS = [
    b"<13>one\n",
    b"7 <13>two",
    b"\0\0\0\5hello",
    b"\5\0\0\0hello",
    b"5:hello,",
    b"a\0b\0",
    b"a\r\nb\n c\n",
    _GELF + b"\0",
]
_TLS = [b"\x16\x03\x01\0\x05\1\0\0\1\3"]

#: By the beginning of a target's name; what has no entry begins with all of them.
_SEEDS: dict[str, list[bytes]] = {
    "framer:": [*_STREAMS, _GELF],
    "listener:relp": _RELP,
    "listener:http": _REQUESTS,
    "listener:lumberjack": _lumberjack(),
    "listener:fluent": _fluent(),
    "datagrams:gelf": _DATAGRAMS,
    "datagrams:proxy": _PROXY,
    "decompression:": [zlib.compress(_GELF), gzip.compress(_GELF, mtime=0)],
}

#: What parsers trip over, one after the other, and many times.
AWKWARD = [
    *(b'"', b"'", b"\\", b'\\"', b"=", b"|", b"\\|", b"#", b"%", b":", b";", b",", b"[", b"]", b"{", b"(", b"<", b">"),
    *(b" ", b"\t", b"\n", b"\r\n", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x1b", "\u2028".encode(), b"1", b"a"),
    *(b"a ", b"a=", b'a="', b"a='", b'a="b" ', b'a="b"c ', b" =", b'="', b"a,", b'"a",', b'"",', b",=", b"a=b,"),
    *(b"a b=1\n", b'a b="\n', b"a\\ ", b"a,b=c d=1 1\n", b'a b="c",', b"a:1|c\n", b"a.b 1 2\n", b"a;b=c;", b"1:2:"),
    *(b"<13>", b"[a", b'[a b="', b'\\"]', b"CEF:0|", b" k=", b"\\=", b"LEEF:2.0|", b"a=\t", b"\t=", b"[1,", b'{"a":'),
    *(
        b'{"a":1,',
        b"{},",
        b'{"a":1},',
        b'["',
        b"\\u0061",
        b"\\ud800",
        b"1e9",
        b"9",
        b"-",
        b"0x",
        b"_e{1,1}:",
        b"_sc|",
        b"|#a,",
        b"|@",
        b"|c:",
    ),
    *(b"\x80", b"\x90", b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xdf\0\0\0\1", b"\xd9\xff", b"\x1e\x0f"),
    *(b"2J", b"2C\0\0\0\1", b"1 syslog 1 a\n", b"0\r\n", b"a:b\r\n", b"]q\0(", b"K\1", b"\x8a\xff", b"U\1", b"t."),
]


def bombs(target: str) -> list[bytes]:
    """What is small, or one message, and would take very long if what is done for it were not bounded."""
    if target.startswith("listener:lumberjack"):
        pairs = b"1D" + struct.pack(">II", 1, 1000) + bytes(8000)
        noise = random.Random(1).randbytes(30_000)  # without it there would be too much in too little
        noise = b"1D" + struct.pack(">III", 1, 1, 0) + struct.pack(">I", len(noise)) + noise
        packed = zlib.compress(noise + pairs * 800)
        bomb = b"1W" + struct.pack(">I", 65536) + b"1C" + struct.pack(">I", len(packed)) + packed
        return [bomb, bomb * 8]
    if target.startswith("listener:fluent"):
        deep, tiny = b"\x91" * (6 << 20) + b"\x90", b"\x80" * (6 << 20)
        wide = b"\xdd" + struct.pack(">I", len(tiny)) + tiny
        blobs = [deep, tiny, wide, b"\xd4\1\1" * (2 << 20)]
        members = gzip.compress(b"", mtime=0) * (200 << 10)
        return [
            *(b"\x92\xa1t\xc6" + struct.pack(">I", len(blob)) + blob for blob in blobs),
            _pack(["t", members, {"compressed": "gzip"}]),
            b"\x92\xa1t\xdd" + struct.pack(">I", 1) + deep,
        ]
    return []


def seeds(target: str) -> list[bytes]:
    """Messages that the target is made for."""
    kind, _, name = target.partition(":")
    if kind == "decoder":
        decoder = name.partition("/")[0]
        own = [frame for case in cases(decoder) for frame in case.frames()]
        return own or [frame for case in cases() for frame in case.frames()][::7]
    for beginning, found in _SEEDS.items():
        if target.startswith(beginning):
            return [*found, *(_PROXY if target.endswith("/other") else [])]
    return [*_STREAMS, *_RELP, *_REQUESTS, *_lumberjack(), *_fluent(), *_PROXY, *_TLS]
