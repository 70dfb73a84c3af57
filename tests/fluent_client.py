"""What a sender of the Forward protocol says, without I/O, for tests: bytes out, and the server's answers read.

data = message("app", 1700000000, {"log": "hello"}, chunk="c1")
data += packed("app", [entry(event_time(1700000000, 5), {"log": "hello"})], chunk="c2", compressed="gzip")
acks(transport.value()) == ["c1", "c2"]
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from hashlib import sha512
from typing import Any

import msgspec

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode
Time = int | msgspec.msgpack.Ext


def event_time(seconds: int, nanoseconds: int = 0) -> msgspec.msgpack.Ext:
    """An EventTime."""
    return msgspec.msgpack.Ext(0, struct.pack(">II", seconds, nanoseconds))


def entry(time: Any, record: Any) -> bytes:
    """One `[time, record]`."""
    return encode([time, record])


def message(tag: str, time: Any, record: Any, **option: Any) -> bytes:
    """Message mode."""
    return encode([tag, time, record, option] if option else [tag, time, record])


def forward(tag: str, entries: Sequence[bytes], **option: Any) -> bytes:
    """Forward mode."""
    head = b"\x93" if option else b"\x92"
    count = b"\xdd" + len(entries).to_bytes(4, "big")
    return head + encode(tag) + count + b"".join(entries) + (encode(option) if option else b"")


def packed(tag: str, entries: Sequence[bytes], *, as_str: bool = False, **option: Any) -> bytes:
    """PackedForward mode; compressed with gzip if the option says so. With `as_str` as old senders have it."""
    blob = b"".join(entries)
    if option.get("compressed") == "gzip":
        blob = gzip.compress(blob)
    return packed_blob(tag, blob, as_str=as_str, **option)


def packed_blob(tag: str, blob: bytes, *, as_str: bool = False, **option: Any) -> bytes:
    """PackedForward mode with a blob of the test's."""
    head = (b"\xdb" if as_str else b"\xc6") + len(blob).to_bytes(4, "big")
    return (b"\x93" if option else b"\x92") + encode(tag) + head + blob + (encode(option) if option else b"")


def docker(text: str, *, part: str = "", ordinal: int = 0, last: bool = False) -> dict[str, str]:
    """A record as Docker's log driver makes it; with `part`, of a part of a line."""
    record = {"container_id": "4f66ad9c", "container_name": "/web", "source": "stdout", "log": text}
    if part:
        about = {"partial_message": "true", "partial_id": part, "partial_ordinal": str(ordinal)}
        record |= {**about, "partial_last": "true" if last else "false"}
    return record


def values(data: bytes) -> list[Any]:
    """The values that follow each other in what the server sent."""
    found = []
    while data:
        try:
            found.append(decode(data))
            break
        except msgspec.DecodeError as error:
            end = int(str(error).rpartition("byte ")[2].rstrip(")"))
            found.append(decode(data[:end]))
            data = data[end:]
    return found


def acks(data: bytes) -> list[Any]:
    """The chunk ids that the server acknowledged."""
    found = values(data)
    assert all(list(value) == ["ack"] for value in found), found
    return [value["ack"] for value in found]


def ping(hello: bytes, shared_key: str, *, host: str = "web1", user: str = "", password: str = "") -> bytes:
    """The client's answer to HELO."""
    name, options = decode(hello)
    assert name == "HELO"
    salt = b"\x01" * 16
    digest = sha512(salt + host.encode() + options["nonce"] + shared_key.encode()).hexdigest()
    secret = sha512(options["auth"] + user.encode() + password.encode()).hexdigest() if options["auth"] else ""
    return encode(["PING", host, salt, digest, user, secret])


def proves(hello: bytes, pong: bytes, shared_key: str) -> bool:
    """Whether the server's PONG shows that it knows the key."""
    _, options = decode(hello)
    name, ok, _reason, host, digest = decode(pong)
    wanted = sha512(b"\x01" * 16 + host.encode() + options["nonce"] + shared_key.encode()).hexdigest()
    return name == "PONG" and ok is True and digest == wanted
