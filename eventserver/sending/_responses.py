"""HTTP/1.1 responses, without I/O: bytes in, status, headers and body out (RFC 9112)."""

from __future__ import annotations

import re
from typing import NamedTuple

from eventserver.sending.parcels import BadAnswer

#: The most bytes of a response's head, and of a body that is kept; the rest of a body is passed over.
MAX_HEAD = 64 << 10
KEPT = 1000
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


class Response(NamedTuple):
    """One response; the names of `headers` are in lower case, and `body` is the head of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    close: bool


class Responses:
    """The responses of one connection, in order; informational ones (1xx) are left out."""

    __slots__ = ("_body", "_chunked", "_data", "_head", "_missing", "_until_end")

    def __init__(self) -> None:
        self._data = b""
        self._head: Response | None = None
        self._body = bytearray()
        self._missing = 0
        self._chunked = self._until_end = False

    def feed(self, data: bytes) -> list[Response]:
        """The responses that `data` completes. Raises `BadAnswer`."""
        self._data += data
        found: list[Response] = []
        while True:
            if self._head is None and not self._take_head():
                return found
            if not self._take_body():
                return found
            assert self._head is not None
            if self._head.status >= 200:
                found.append(self._head._replace(body=bytes(self._body)))
            self._head = None
            self._body.clear()

    def finish(self) -> Response | None:
        """The connection has ended: the response that says that its body goes on till then."""
        if self._head is None or not self._until_end:
            return None
        return self._head._replace(body=bytes(self._body))

    def _take_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_HEAD or not b"HTTP/1.".startswith(self._data[:7]):
                raise BadAnswer("this is no HTTP/1.1")
            return False
        status, *lines = self._data[:end].split(b"\r\n")
        self._data = self._data[end + 4 :]
        match = _STATUS.fullmatch(status)
        if match is None:
            raise BadAnswer("this is no HTTP/1.1")
        pairs = (line.decode("latin-1").partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        said = headers.get("connection", "").lower()
        close = "close" in said or (match[1] == b"0" and "keep-alive" not in said)
        self._head = Response(int(match[2]), headers, b"", close)
        self._measure(headers, int(match[2]))
        return True

    def _measure(self, headers: dict[str, str], status: int) -> None:
        """How long the body is (RFC 9112, section 6.3)."""
        self._missing, self._chunked, self._until_end = 0, False, False
        if status < 200 or status in (204, 304):
            return
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise BadAnswer("a transfer coding that is not known")
            self._chunked = True
        elif "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise BadAnswer("a wrong content-length")
            self._missing = int(length)
        else:
            self._until_end = True

    def _take_body(self) -> bool:
        """True when the whole body has come."""
        if self._until_end:
            self._keep(self._data)
            self._data = b""
            return False
        while self._chunked and not self._missing:
            if not self._take_chunk_head():
                return False
        part = self._data[: self._missing]
        self._keep(part)
        self._data = self._data[len(part) :]
        self._missing -= len(part)
        if self._missing:
            return False
        return not self._chunked or self._take_body()

    def _take_chunk_head(self) -> bool:
        """Begin the next chunk; the last one ends the body. False for more bytes that are needed."""
        data = self._data.removeprefix(b"\r\n") if self._body or self._chunked else self._data
        match = _CHUNK.match(data)
        if match is None:
            if len(data) > 1000:
                raise BadAnswer("a chunk without a size")
            return False
        size = int(match[1], 16)
        if size:
            self._data = data[match.end() :]
            self._missing = size
            return True
        end = data.find(b"\r\n\r\n", match.end() - 2)
        if end < 0:
            if len(data) > MAX_HEAD:
                raise BadAnswer("trailers without an end")
            return False
        self._data = data[end + 4 :]
        self._chunked = False
        return True

    def _keep(self, data: bytes) -> None:
        self._body += data[: max(0, KEPT - len(self._body))]
