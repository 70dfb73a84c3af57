"""Twisted's parser of HTTP/1.1, made stricter: what two servers would read differently is no request.

Where a server and the proxy before it do not agree on where a request ends, one sender can put words into the mouth of
another (request smuggling).
"""

from __future__ import annotations

from twisted.web.http import HTTPChannel

from eventserver.listeners._http_refusals import Refusal, malformed

#: The digits of a Content-Length, at most.
_MAX_DIGITS = 15


class StrictChannel(HTTPChannel):
    """Calls `fail` for whatever is wrong with a request's envelope; nothing behind it must be looked at then."""

    def __init__(self, max_bytes: int, max_headers: int) -> None:
        super().__init__()
        self.head_bytes = 0
        """Bytes of the request line and headers so far; to be set to 0 before each request."""
        self.MAX_LENGTH = self.totalHeadersSize = max_bytes
        self.maxHeaders = max_headers

    def fail(self, refusal: Refusal) -> bool:
        """Answer what is no request, and close. Always False."""
        raise NotImplementedError

    def look_for_bare_lf(self) -> None:
        """After each read, while headers come.

        What is left then is a line without its end, CR LF: so an LF in it stands alone, and others take that for one.
        """
        if self.line_mode and b"\n" in self._buffer:
            self.fail(malformed("a line of the request ends with LF alone"))

    def lineReceived(self, line: bytes) -> None:
        self.head_bytes += len(line) + 2
        if self.head_bytes > self.totalHeadersSize:
            self.fail(self._too_long())
        elif line[:1] in (b" ", b"\t"):
            # RFC 9112, section 5.2: a line may no more be folded; where it is read differently, requests are smuggled.
            self.fail(malformed("a header is folded over several lines"))
        elif b"\n" in line or b"\r" in line:
            self.fail(malformed("a line of the request has CR or LF inside"))
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.fail(self._too_long())

    def headerReceived(self, line: bytes) -> bool:
        """Refuse what decides where a request ends and may be read in two ways; the parser does the rest."""
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if self._receivedHeaderCount >= self.maxHeaders:
            return self.fail(Refusal(431, "headers", f"more than {self.maxHeaders} headers (max_headers)"))
        if name == b"content-length" and not (value.isdigit() and len(value) <= _MAX_DIGITS):
            return self.fail(malformed("Content-Length is no number, or too large"))
        if name == b"transfer-encoding" and (value.lower() != b"chunked" or self._version != b"HTTP/1.1"):
            return self.fail(malformed("the only Transfer-Encoding that is read is chunked, in HTTP/1.1"))
        return bool(super().headerReceived(line))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.fail(malformed("the request is no HTTP/1.1"))

    def _too_long(self) -> Refusal:
        return Refusal(431, "headers", f"more than {self.totalHeadersSize} bytes of headers (max_header_bytes)")
