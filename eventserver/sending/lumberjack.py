"""Lumberjack v1 and v2, the client's side of one connection, without I/O.

A parcel is a window: `W` with its number of events, then a data frame for each, `J` with JSON (v2) or `D` with pairs
(v1), numbered from 1 on; all of them may be packed into one `C`. The server answers `A` with the last number that it
has (logstash-input-beats, PROTOCOL.md). All integers are 32 bits, big endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Literal

from eventserver.sending.parcels import BadAnswer, Heard, Parcel

_ACK = struct.Struct(">ccI")
_HEAD = struct.Struct(">II")


class Lumberjack:
    """One connection; one window at a time, as the protocol's description has it."""

    acknowledges = True
    ready = True
    max_parcels = 1
    max_payloads = 1 << 30

    def __init__(self, version: Literal[1, 2], compress: str | None) -> None:
        self.over = False
        self._version = b"%d" % version
        self._compress = compress is not None
        self._window = 0  # events of the window that is under way
        self._acknowledged = 0  # and how many of them the server has
        self._rest = b""

    def begin(self) -> bytes:
        """Nothing: the first window is the first word."""
        return b""

    def send(self, parcel: Parcel) -> bytes:
        """One window. Raises `ValueError` for a payload that is no JSON object (v1)."""
        payloads = parcel.payloads[parcel.settled :]
        self._window, self._acknowledged = len(payloads), 0
        one = self._json if self._version == b"2" else self._pairs
        frames = b"".join([one(number, payload) for number, payload in enumerate(payloads, 1)])
        window = self._version + b"W" + len(payloads).to_bytes(4, "big")
        if self._compress:
            packed = zlib.compress(frames)
            frames = self._version + b"C" + len(packed).to_bytes(4, "big") + packed
        return window + frames

    def receive(self, data: bytes) -> list[Heard]:
        """Acknowledgements: of a part of the window, of all of it, or of nothing yet (the server is busy)."""
        data = self._rest + data
        heard = []
        for position in range(0, len(data) - 5, 6):
            version, kind, number = _ACK.unpack_from(data, position)
            if kind != b"A" or version not in (b"1", b"2"):
                raise BadAnswer("this is no Lumberjack")
            if number > self._window:
                raise BadAnswer(f"{number} events are acknowledged of {self._window}")
            heard.append(Heard(acknowledged=max(0, number - self._acknowledged)))
            self._acknowledged = max(self._acknowledged, number)
        self._rest = data[len(data) - len(data) % 6 :]
        return heard

    def lost(self) -> list[Heard]:
        """Nothing more."""
        return []

    def end(self) -> bytes:
        """Nothing: the connection is closed."""
        self.over = True
        return b""

    def _json(self, number: int, payload: bytes) -> bytes:
        return b"2J" + _HEAD.pack(number, len(payload)) + payload

    def _pairs(self, number: int, payload: bytes) -> bytes:
        record = json.loads(payload)
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        parts = [b"1D", _HEAD.pack(number, len(record))]
        for name, value in record.items():
            text = value if isinstance(value, str) else json.dumps(value)
            for part in (name.encode(errors="replace"), text.encode(errors="replace")):
                parts += [len(part).to_bytes(4, "big"), part]
        return b"".join(parts)
