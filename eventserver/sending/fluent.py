"""Fluent Forward v1, the client's side of one connection, without I/O.

The source is fluentd's wiki, "Forward Protocol Specification v1". A parcel is a chunk: its payloads are entries,
`[time, record]`, and its key names it, so that a server can tell that it comes again. The server answers
`{"ack": name}`.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from eventserver.sending._msgpack import end_of
from eventserver.sending.parcels import BadAnswer, Heard, NoAdmission, Parcel

Mode = Literal["packed", "forward", "message"]
_encode = msgspec.msgpack.encode


class Login(NamedTuple):
    """What a server with a shared key asks for. `salt` is made of chance, for each connection."""

    shared_key: str
    user: str
    password: str
    hostname: str
    salt: bytes


class Fluent:
    """One connection, with at most four chunks unanswered."""

    acknowledges = True
    max_parcels = 4
    max_payloads = 1 << 30

    def __init__(
        self, tag: str, mode: Mode, compress: str | None, pack: Callable[[bytes], bytes] | None, login: Login | None
    ) -> None:
        self.ready = login is None
        self.over = False
        self._tag = _encode(tag)
        self._mode = mode
        self._compress = compress
        self._pack = pack or gzip.compress
        self._login = login
        self._nonce = b""
        self._rest = b""
        #: The chunks on their way: the name of each, and its entries. In message mode every event is one.
        self._chunks: deque[tuple[str, int]] = deque()
        self._answered: set[str] = set()

    def begin(self) -> bytes:
        """Nothing: with a shared key the server speaks first, else the first chunk is the first word."""
        return b""

    def send(self, parcel: Parcel) -> bytes:
        """One chunk. What is settled of it is sent with it: it is known by its name as a whole."""
        payloads = parcel.payloads
        if self._mode == "message":
            return b"".join(
                [self._message(f"{parcel.key}.{at}", payloads[at]) for at in range(parcel.settled, len(payloads))]
            )
        name = _name(parcel.key)
        self._chunks.append((name, parcel.left))
        option: dict[str, Any] = {"chunk": name, "size": len(payloads)}
        entries = b"".join(payloads)
        if self._mode == "forward":
            count = len(payloads)
            head = bytes([0x90 + count]) if count < 16 else b"\xdd" + count.to_bytes(4, "big")
            return b"\x93" + self._tag + head + entries + _encode(option)
        if self._compress is not None:
            option["compressed"] = self._compress
            entries = self._pack(entries)
        return b"\x93" + self._tag + _encode(entries) + _encode(option)

    def receive(self, data: bytes) -> list[Heard]:
        """Acknowledgements, and before them what is said for a shared key."""
        data, position = self._rest + data, 0
        heard: list[Heard] = []
        while (end := end_of(data, position)) >= 0:
            try:
                value = msgspec.msgpack.decode(data[position:end])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise BadAnswer("this is no Forward protocol") from error
            position = end
            if isinstance(value, list):
                heard.append(Heard(reply=self._greeted(value)))
            elif isinstance(value, dict) and isinstance(value.get("ack"), str):
                self._answered.add(value["ack"])
            else:
                raise BadAnswer("this is no Forward protocol")
        self._rest = data[position:]
        return heard + self._settle()

    def lost(self) -> list[Heard]:
        """Nothing more."""
        return []

    def end(self) -> bytes:
        """Nothing: the connection is closed."""
        self.over = True
        return b""

    def _settle(self) -> list[Heard]:
        """The chunks that are answered, in the order in which they were sent."""
        heard = []
        while self._chunks and self._chunks[0][0] in self._answered:
            name, count = self._chunks.popleft()
            self._answered.discard(name)
            heard.append(Heard(acknowledged=count))
        if len(self._answered) > len(self._chunks):
            raise BadAnswer("a chunk is acknowledged that was not sent")
        return heard

    def _message(self, key: str, entry: bytes) -> bytes:
        """`[tag, time, record, option]`: time and record are the bytes of an entry less the head of its array."""
        name = _name(key)
        self._chunks.append((name, 1))
        return b"\x94" + self._tag + entry[1:] + _encode({"chunk": name})

    # Shared key

    def _greeted(self, value: list[Any]) -> bytes:
        login = self._login
        if login is None:
            raise NoAdmission("the server asks for a shared key")
        try:
            if value[0] == "HELO" and not self._nonce:
                return self._ping(login, value[1])
            if value[0] == "PONG" and self._nonce and not self.ready:
                return self._pong(login, *value[1:5])
        except (TypeError, LookupError, AttributeError) as error:
            raise BadAnswer("this is no Forward protocol") from error
        raise BadAnswer("this is no Forward protocol")

    def _ping(self, login: Login, options: dict[str, Any]) -> bytes:
        self._nonce, auth = _bytes(options["nonce"]), _bytes(options.get("auth") or b"")
        digest = _hex(login.salt, login.hostname.encode(), self._nonce, login.shared_key.encode())
        user = password = ""
        if auth:
            user = login.user
            password = _hex(auth, login.user.encode(), login.password.encode())
        return _encode(["PING", login.hostname, login.salt, digest, user, password])

    def _pong(self, login: Login, good: bool, reason: str, hostname: str, digest: str) -> bytes:
        if not good:
            raise NoAdmission(f"the server does not let us in: {reason}")
        ours = _hex(login.salt, hostname.encode(), self._nonce, login.shared_key.encode())
        if not hmac.compare_digest(ours.encode(), str(digest).encode(errors="replace")):
            raise NoAdmission("the server does not know the shared key")
        self.ready = True
        return b""


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise TypeError("neither text nor bytes")
    return value


def _hex(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def _name(key: str) -> str:
    """128 bits in base64, as the specification asks of a chunk's name."""
    return b64encode(hashlib.sha256(key.encode()).digest()[:16]).decode()
