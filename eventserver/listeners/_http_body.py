"""The body of one request while it comes: unpacked as it comes, and never more of it than the limits allow."""

from __future__ import annotations

from eventserver.decompression import BadCompression, Decompressor, TooLarge, encodings
from eventserver.listeners._http_gelf import Unpacker, is_vague
from eventserver.listeners._http_options import HttpOptions
from eventserver.listeners._http_refusals import Refusal, busy, malformed, oversize


class Budget:
    """Bytes of bodies that are held, of all requests of a listener."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Body:
    """Collects a body in memory. Raises `Refusal` from every method but `release`."""

    def __init__(
        self, encoding: str, length: int | None, options: HttpOptions, budget: Budget, *, gelf: bool = False
    ) -> None:
        """`encoding` is the header Content-Encoding, `length` the Content-Length, None if the body is chunked.

        Whether the body of a request with `gelf` is compressed, it says itself where the header does not.
        """
        self.came = 0
        """Bytes that came, packed as they are."""
        self._options = options
        self._budget = budget
        self._first = b""
        self._rest = bytearray()
        self._size = 0
        if length is not None and length > options.max_body:
            raise self._too_large()
        self._unpack = self._unpacker(encoding, gelf)

    def _unpacker(self, encoding: str, gelf: bool) -> Decompressor | Unpacker | None:
        encoding = encoding.strip().lower()
        if gelf and is_vague(encoding):
            return Unpacker(self._options.max_body, self._options.max_ratio)
        if encoding in ("", "identity"):
            return None
        try:
            return Decompressor(encoding, self._options.max_body, self._options.max_ratio)
        except LookupError:
            known = ", ".join(encodings())
            raise Refusal(
                415,
                "unsupported",
                f"Content-Encoding {encoding[:40]!r} is not read here; one of {known} is",
                headers=[("Accept-Encoding", known)],
            ) from None

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self.came += len(data)
        if self.came > self._options.max_body:
            raise self._too_large()
        if self._unpack is not None:
            try:
                data = self._unpack.feed(data)
            except BadCompression as error:
                raise malformed(str(error)) from None
            except TooLarge as error:
                raise oversize(f"{error} (max_ratio)" if error.ratio else f"{error} (max_body)") from None
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._budget.used + len(data) > self._budget.limit:
            raise busy("too much is being received at once (max_bodies)", "busy", self._options.retry_after, status=429)
        self._budget.used += len(data)
        self._size += len(data)
        if self._first or self._rest:
            self._rest += data
        else:
            self._first = data

    def finish(self) -> bytes:
        """The whole body."""
        if self._unpack is not None and self.came:
            try:
                self._take(self._unpack.finish() or b"")
            except BadCompression as error:
                raise malformed(str(error)) from None
        if not self._rest:
            return self._first
        rest, self._rest = self._rest, bytearray()
        return b"".join((self._first, rest))

    def release(self) -> None:
        """It is needed no more: room for others."""
        self._budget.used -= self._size
        self._size = 0
        self._first, self._rest = b"", bytearray()

    def _too_large(self) -> Refusal:
        return oversize(f"the body has more than {int(self._options.max_body)} bytes (max_body)")
