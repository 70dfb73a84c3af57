"""What a payload becomes as datagrams: one, or for GELF up to 128 chunks. Without I/O."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

#: Graylog's limits: a chunk is an IP packet of 1,500 bytes at most, and a message has no more of them.
CHUNK = 1420
MAX_CHUNKS = 128
_MAGIC = b"\x1e\x0f"

Pack = Callable[[bytes], list[bytes]]


def alone(payload: bytes) -> list[bytes]:
    """One payload, one datagram."""
    return [payload]


class GelfDatagrams:
    """GELF over UDP: packed with `compress`, and over `size` bytes cut into chunks.

    A chunk is `1e 0f`, the 8 bytes of the message's id, its index, the number of chunks, and a part of the payload
    (docs.graylog.org, "GELF via UDP"). `random_bytes(8)` gives ids.
    """

    def __init__(self, compress: str | None, random_bytes: Callable[[int], bytes], size: int = CHUNK) -> None:
        self._compress = {"gzip": lambda data: gzip.compress(data, 6, mtime=0), "zlib": zlib.compress}.get(
            compress or ""
        )
        self._random_bytes = random_bytes
        self._size = size

    def __call__(self, payload: bytes) -> list[bytes]:
        """The datagrams of a payload. Raises `ValueError` for one that is too large."""
        if self._compress is not None:
            payload = self._compress(payload)
        size = self._size
        if len(payload) <= size:
            return [payload]
        count = -(-len(payload) // size)
        if count > MAX_CHUNKS:
            raise ValueError(f"{len(payload)} bytes do not fit into {MAX_CHUNKS} chunks")
        head = _MAGIC + self._random_bytes(8)
        return [head + bytes([index, count]) + payload[index * size : (index + 1) * size] for index in range(count)]
