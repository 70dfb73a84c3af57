"""The handshake of the Forward protocol: both sides show that they know the shared key. Sans-I/O.

Forward Protocol Specification v1, "Authorization": the server speaks first.

    server  ["HELO", {"nonce": bytes, "auth": salt or "", "keepalive": true}]
    client  ["PING", host, salt, proof, user, hex(sha512(auth + user + password))]
    server  ["PONG", true, "", host, proof], or ["PONG", false, reason, "", ""]

A proof is hex(sha512(salt + host + nonce + shared key)), with the client's salt and the host of whoever gives it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha512

import msgspec

from eventserver.framing._msgpack import content_of

#: The most bytes of a PING: before it, nobody is known.
MAX_PING = 4096
SALT = 16

_encode = msgspec.msgpack.Encoder().encode
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Key:
    """What the server knows: the shared key, and the users' passwords, if there are users."""

    def __init__(self, shared_key: str, users: Mapping[str, str], hostname: str) -> None:
        self.shared_key = shared_key.encode()
        self.users = {name.encode(): password.encode() for name, password in users.items()}
        self.hostname = hostname.encode()


class Handshake:
    """The server's side for one connection. `random_bytes(n)` gives bytes that nobody can guess.

    After `answer`, `done` says whether the client may send, `user` who it is (empty without users), and `refusal` is
    a word for a counter's label if it may not.
    """

    def __init__(self, key: Key, random_bytes: Callable[[int], bytes]) -> None:
        self._key = key
        self._nonce = random_bytes(SALT)
        self._auth = random_bytes(SALT) if key.users else b""
        self.done = False
        self.user = ""
        self.refusal: str | None = None

    def hello(self) -> bytes:
        """What the server says first."""
        return _encode(["HELO", {"nonce": self._nonce, "auth": self._auth, "keepalive": True}])

    def answer(self, data: bytes) -> bytes:
        """The PONG for what should be a PING; b"" where it is none."""
        fields = _strings(data)
        if len(fields) != 6 or fields[0] != b"PING":
            self.refusal = "not_authorized"
            return b""
        _, host, salt, digest, user, password = fields
        if not _same(digest, salt, host, self._nonce, self._key.shared_key):
            return self._refuse("shared_key mismatch")
        if self._auth:
            # Computed for names that nobody has, too, so that an answer takes as long for these.
            known = self._key.users.get(user)
            if not _same(password, self._auth, user, known or b"") or known is None:
                return self._refuse("username/password mismatch")
            self.user = user.decode(errors="replace")
        self.done = True
        hostname = self._key.hostname
        proof = _digest(salt, hostname, self._nonce, self._key.shared_key)
        return _encode(["PONG", True, "", hostname.decode(), proof.decode()])

    def _refuse(self, reason: str) -> bytes:
        self.refusal = "not_authorized"
        return _encode(["PONG", False, reason, "", ""])


def _strings(data: bytes) -> list[bytes]:
    """The elements of an array that are str or bin; empty if it is none."""
    try:
        contents = [content_of(bytes(part)) for part in _raws.decode(data)]
    except (ValueError, RecursionError):
        return []
    return [content for content in contents if content is not None]


def _digest(*parts: bytes) -> bytes:
    return sha512(b"".join(parts)).hexdigest().encode()


def _same(given: bytes, *parts: bytes) -> bool:
    return hmac.compare_digest(given.lower(), _digest(*parts))
