"""Datagrams to GELF messages: chunks put together, compressed payloads unpacked. Sans-I/O.

What comes out is the JSON text that the sender had, one a message: that is what the journal keeps, whatever way it
came. Unpacking belongs here and not to the decoder, since only here it can be bounded: a batch of small frames that a
decoder unpacks could take any amount of memory, while what is put into the intake is counted.

Which form a payload has, its first bytes say (GELF specification; Graylog reads it in the same way): 1F 8B is gzip
(RFC 1952), 78 and a byte that makes both a multiple of 31 is zlib (RFC 1950) if it asks for no dictionary, anything
else is not compressed. Chunks carry pieces of the compressed payload. One layer only: what comes out is never unpacked
again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Hashable
from operator import itemgetter
from typing import Any, NamedTuple

from eventserver.decompression import STEP, BadCompression, Decompressor, TooLarge
from eventserver.framing.gelf_chunks import MAGIC, OVERSIZE, ChunkLimits, Chunks

#: Reasons of rejected frames: a payload that cannot be unpacked, and one more than is unpacked in a second.
BAD_COMPRESSION = "bad_compression"
BUSY = "unpack_rate"

_GZIP = b"\x1f\x8b"
#: The heads of zlib's format with a window of 32 KiB and without a dictionary.
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
#: What the first byte of a datagram may be that is not the message itself.
_HEADS = frozenset((MAGIC[:1], _GZIP[:1], b"\x78"))
#: What may stand behind a message that is a datagram, and is no part of it.
_ENDS = b"\r\n\0"
_FIRST = itemgetter(slice(0, 1))
#: zlib or gzip, by the first bytes.
_EITHER = zlib.MAX_WBITS | 32


class GelfLimits(NamedTuple):
    """`chunks`: of messages in chunks; its `message` is that of unpacked ones as well. `ratio`: how many times its size
    a payload may have unpacked, once that is over 64 KiB. `rate`: bytes that are unpacked between two calls of
    `expire`. `plain`: bytes of a datagram that is a message as it is; of a larger one the head is kept."""

    chunks: ChunkLimits
    ratio: float
    rate: int
    plain: int = 65535


def encoding_of(payload: bytes) -> str | None:
    """`"gzip"` or `"deflate"` where the first two bytes of a payload say so; None where it is not compressed."""
    if payload.startswith(_GZIP):
        return "gzip"
    return "deflate" if payload.startswith(_ZLIB) else None


def unpack(payload: bytes, encoding: str, max_bytes: int, max_ratio: float) -> bytes:
    """A compressed payload, unpacked. Raises `TooLarge` or `BadCompression`."""
    inner = zlib.decompressobj(_EITHER)
    try:
        message = inner.decompress(payload, STEP)
    except zlib.error as error:
        raise BadCompression(str(error)) from None
    if inner.eof and not inner.unused_data and len(message) <= max_bytes:
        return message
    # Larger than a step, or in several parts, or broken: step by step, with all limits.
    careful = Decompressor(encoding, max_bytes, max_ratio)
    message = careful.feed(payload)
    careful.finish()
    return message


class GelfDatagrams:
    """The messages of one socket. `reject(reason)` is called for each message and chunk that goes nowhere."""

    def __init__(
        self, limits: GelfLimits, reject: Callable[[str], None], source_of: Callable[[Any], Hashable] | None = None
    ) -> None:
        """`source_of` a sender is what the bound for one source counts; it is called for chunks only."""
        self._limits = limits
        self._reject = reject
        self._source_of = source_of or (lambda sender: sender)
        self._chunks = Chunks(limits.chunks, reject)
        self._unpacked = 0

    @staticmethod
    def are_plain(datas: list[bytes]) -> bool:
        """Whether each datagram is a message as it is."""
        return _HEADS.isdisjoint(map(_FIRST, datas))

    def take(
        self, datas: list[bytes], senders: list[Any], cut: Collection[int], now: float
    ) -> tuple[list[bytes], list[Any], list[int]]:
        """The messages that the datagrams are or complete, the sender of each, and the indices of those that are cut.

        `cut` are the indices of datagrams that came without their end. `now` in seconds of a monotonic clock.
        """
        messages: list[bytes] = []
        kept: list[Any] = []
        still_cut: list[int] = []
        for index, (data, sender) in enumerate(zip(datas, senders, strict=True)):
            message: bytes | None = data
            if data[:2] == MAGIC or encoding_of(data) is not None:
                message = self._whole(data, sender, index in cut, now)
            elif index in cut or self._is_long(data):
                still_cut.append(len(messages))
                message = data[: self._limits.plain]
            if message is not None:
                messages.append(message)
                kept.append(sender)
        return messages, kept, still_cut

    def expire(self, now: float) -> None:
        """A second has passed, about: messages whose chunks did not come in time are given up."""
        self._unpacked = 0
        self._chunks.expire(now)

    def finish(self) -> None:
        """Nothing more comes."""
        self._chunks.finish()

    def _is_long(self, data: bytes) -> bool:
        return len(data) > self._limits.plain and len(data.rstrip(_ENDS)) > self._limits.plain

    def _whole(self, data: bytes, sender: Any, cut: bool, now: float) -> bytes | None:
        """The message that a chunk completes, or that a compressed datagram holds."""
        if cut:
            self._reject(OVERSIZE)
            return None
        payload: bytes | None = data
        if data[:2] == MAGIC:
            payload = self._chunks.add(data, sender, self._source_of(sender), now)
        encoding = None if payload is None else encoding_of(payload)
        return payload if payload is None or encoding is None else self._unpack(payload, encoding)

    def _unpack(self, payload: bytes, encoding: str) -> bytes | None:
        limits = self._limits
        if self._unpacked >= limits.rate:
            self._reject(BUSY)
            return None
        try:
            message = unpack(payload, encoding, limits.chunks.message, limits.ratio)
        except TooLarge:
            self._unpacked += limits.chunks.message
            self._reject(OVERSIZE)
        except BadCompression:
            self._unpacked += STEP
            self._reject(BAD_COMPRESSION)
        else:
            self._unpacked += len(message)
            return message
        return None
