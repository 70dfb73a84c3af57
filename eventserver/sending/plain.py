"""Protocols without answers: framed streams, and Graphite's pickles."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from eventserver.sending.parcels import Heard, Parcel


class Plain:
    """Payloads, each as `wrap` frames it. What the server says is not looked at."""

    acknowledges = False
    ready = True
    over = False
    max_parcels = 2
    max_payloads = 1 << 30

    def __init__(self, wrap: Callable[[bytes], bytes]) -> None:
        self._wrap = wrap

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def send(self, parcel: Parcel) -> bytes:
        """One behind the other."""
        return b"".join(map(self._wrap, parcel.payloads[parcel.settled :]))

    def receive(self, data: bytes) -> list[Heard]:
        """Nothing that matters."""
        return []

    def lost(self) -> list[Heard]:
        """Nothing more."""
        return []

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Pickles(Plain):
    """Graphite's pickle protocol: a parcel of plaintext metrics is one list `[(path, (time, value)), ...]`.

    Each is a pickle of protocol 2 behind its length, 32 bits, big endian (Graphite's "Feeding in your data").
    """

    def __init__(self) -> None:
        super().__init__(bytes)

    def send(self, parcel: Parcel) -> bytes:
        """One message. Raises `ValueError` for a line that is no metric."""
        data = pickle.dumps([_metric(line) for line in parcel.payloads[parcel.settled :]], protocol=2)
        return len(data).to_bytes(4, "big") + data


def _metric(line: bytes) -> tuple[str, tuple[float, float]]:
    words = line.decode(errors="replace").split()
    try:
        path, value, time = words
        return path, (int(time) if time.lstrip("-").isdigit() else float(time), float(value))
    except ValueError:
        raise ValueError("a metric is `path value timestamp`") from None


def length_prefixed(payload: bytes) -> bytes:
    """A DogStatsD payload on a unix stream: behind its length, 32 bits, little endian."""
    return len(payload).to_bytes(4, "little") + payload
