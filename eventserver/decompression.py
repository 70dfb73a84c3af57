"""Compressed bodies, unpacked step by step within limits. Sans-I/O: bytes in, bytes out.

A few hundred bytes can unpack to gigabytes, so nothing here unpacks more than a step at a time, and it stops at
`max_bytes`, or where the output is far larger than any honest body's: more than `max_ratio` times its input.

One layer only: what comes out is never unpacked again. Concatenated gzip members and zstd frames are one stream
(RFC 1952, section 2.2; RFC 8878, section 3.1).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from eventserver.errors import EventServerError

#: Bytes that are unpacked at a time.
STEP = 64 << 10
#: Below this many bytes of output no ratio is looked at: short bodies of one letter are honest.
RATIO_AFTER = 64 << 10
#: Bytes of gzip and deflate that are unpacked at a time: the library copies what is behind the end of each member, and
#: twenty bytes can be one.
_ZLIB_STEP = 4 << 10
#: Bytes of zstd that are unpacked at a time. Four bytes can be a block of 128 KiB (RFC 8878, section 3.1.1.2), and the
#: library has no limit for its output: so this is 4 MiB at most.
_ZSTD_STEP = 128
#: The largest window of zstd that is accepted: RFC 8878, section 3.1.1.1.2, recommends that decoders support 8 MiB.
_ZSTD_WINDOW = 8 << 20


class BadCompression(EventServerError, ValueError):
    """The bytes are not what their encoding says, or end too early."""


class TooLarge(EventServerError, ValueError):
    """Unpacked it is larger than the limit; `ratio` says that it was the ratio of output to input."""

    def __init__(self, message: str, *, ratio: bool = False) -> None:
        super().__init__(message)
        self.ratio = ratio


class _Unpacker(Protocol):
    """One compressed stream: gives its output in steps of a bounded size."""

    @property
    def left(self) -> int:
        """How many of the bytes that it was given last have not been looked at yet."""

    @property
    def ended(self) -> int:
        """How many members (gzip) or frames (zstd) came before the one that is read."""

    def steps(self, data: bytes) -> Iterator[bytes]:
        """What `data` brings. Raises `BadCompression`."""

    def complete(self) -> bool:
        """Whether the stream may end here."""


class _Zlib:
    """gzip or deflate: `members` says whether another one may follow."""

    def __init__(self, wbits: int, *, members: bool) -> None:
        self._wbits = wbits
        self._members = members
        self._inner = zlib.decompressobj(wbits)
        self._begun = False
        self.left = self.ended = 0

    def steps(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZLIB_STEP):
            piece = data[start : start + _ZLIB_STEP]
            yield from self._steps(piece, len(data) - start - len(piece))

    def _steps(self, data: bytes, behind: int) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                if not self._members:
                    raise BadCompression("there are bytes behind the end of the compressed body")
                self._inner = zlib.decompressobj(self._wbits)
                self.ended += 1
            self._begun = True
            try:
                piece = self._inner.decompress(data, STEP)
            except zlib.error as error:
                raise BadCompression(f"the body cannot be unpacked: {error}") from None
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            self.left = behind + len(data)
            yield piece

    def complete(self) -> bool:
        return self._inner.eof if self._begun else True


class _Deflate:
    """`deflate` is zlib's format (RFC 9110, section 8.4.1.2); some clients leave out its two bytes of header."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Zlib | None = None

    @property
    def left(self) -> int:
        return 0 if self._inner is None else self._inner.left

    @property
    def ended(self) -> int:
        return 0

    def steps(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, head = self._head, self._head[:2]
            # RFC 1950, section 2.2: the method is 8, and both bytes as a number are a multiple of 31.
            wrapped = head[0] & 0x0F == 8 and int.from_bytes(head, "big") % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS, members=False)
        yield from self._inner.steps(data)

    def complete(self) -> bool:
        return not self._head if self._inner is None else self._inner.complete()


class _Zstd:
    """zstd, by the package `zstandard`."""

    def __init__(self, module: Any) -> None:
        self._error = module.ZstdError
        self._new: Callable[[], Any] = module.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj
        self._inner: Any = None
        self.left = self.ended = 0

    def steps(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_STEP):
            piece = data[start : start + _ZSTD_STEP]
            self.left = len(data) - start - len(piece)
            while piece:
                if self._inner is None:
                    self._inner = self._new()
                try:
                    yield self._inner.decompress(piece)
                except self._error as error:
                    raise BadCompression(f"the body cannot be unpacked: {error}") from None
                piece = b""
                if self._inner.eof:
                    piece, self._inner = self._inner.unused_data, None
                    self.ended += 1

    def complete(self) -> bool:
        return self._inner is None


def _unpacker(encoding: str) -> _Unpacker:
    if encoding in ("gzip", "x-gzip"):
        return _Zlib(zlib.MAX_WBITS | 16, members=True)
    if encoding == "deflate":
        return _Deflate()
    if encoding == "zstd" and (module := zstandard()) is not None:
        return _Zstd(module)
    raise LookupError(encoding)


def zstandard() -> Any:
    """The package `zstandard`, or None where it is not installed (the extra `zstd`)."""
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard


def encodings() -> tuple[str, ...]:
    """The encodings that can be unpacked here, by their names in HTTP."""
    return ("gzip", "deflate", "zstd") if zstandard() is not None else ("gzip", "deflate")


class Decompressor:
    """Unpacks one body as it comes.

    `max_members` is for bodies that come in one piece: however little members unpack to, each takes its time.
    """

    def __init__(self, encoding: str, max_bytes: int, max_ratio: float = 200, *, max_members: float = math.inf) -> None:
        """Raises `LookupError` for an encoding that is not among `encodings()` (`x-gzip` is gzip)."""
        self._unpacker = _unpacker(encoding)
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._max_members = max_members
        self._read = self._written = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` unpacks to. Raises `TooLarge` or `BadCompression`; then nothing more can be fed."""
        self._read += len(data)
        out = []
        for piece in self._unpacker.steps(data):
            self._written += len(piece)
            if self._written > self._max_bytes:
                raise TooLarge(f"the body unpacks to more than {self._max_bytes} bytes")
            if self._unpacker.ended >= self._max_members:
                raise TooLarge(f"the body has more than {self._max_members:g} members")
            read = self._read - self._unpacker.left
            if self._written > RATIO_AFTER and self._written > self._max_ratio * read:
                raise TooLarge(f"the body unpacks to more than {self._max_ratio:g} times its size", ratio=True)
            out.append(piece)
        return out[0] if len(out) == 1 else b"".join(out)

    def finish(self) -> None:
        """The body has ended. Raises `BadCompression` if the compressed stream has not."""
        if not self._unpacker.complete():
            raise BadCompression("the compressed body ends too early")
