"""GELF over HTTP, as Graylog takes it: what differs from other requests. Pure: bytes in, bytes out.

- The answer is 202 without a body.
- Senders compress as they do over UDP and name it in several ways: graypy and pygelf say `Content-Encoding:
  gzip,deflate` of a body that is zlib's, which HTTP would read as two layers (RFC 9110, section 8.4); some say nothing.
  So what the first two bytes say is believed, unless the header names one encoding.
- A body may hold several messages, one a line.
"""

from __future__ import annotations

from collections.abc import Mapping

from eventserver.decompression import Decompressor
from eventserver.framing.gelf_datagrams import encoding_of
from eventserver.listeners._http_bodies import Cut, Limits, cut

PATH = "/gelf"
_SPACE = b" \t\r\n\0"
#: Encodings in the header that do not say what a body is.
_VAGUE = ("", "identity", "gzip,deflate")


def is_gelf(decoder: str, path: str) -> bool:
    """Whether requests are GELF: all of them with its decoder, and those to its path where the decoder is found out."""
    return decoder == "gelf" or (decoder == "auto" and path == PATH)


def is_vague(encoding: str) -> bool:
    """Whether a header Content-Encoding leaves it to the body what it is."""
    return encoding.replace(" ", "").lower() in _VAGUE


class Unpacker:
    """Unpacks a body as it comes, if its first two bytes say that it is compressed; as `Decompressor`."""

    def __init__(self, max_bytes: int, max_ratio: float) -> None:
        self._limits = max_bytes, max_ratio
        self._head: bytes | None = b""
        self._inner: Decompressor | None = None

    def feed(self, data: bytes) -> bytes:
        """What `data` unpacks to. Raises `TooLarge` or `BadCompression`."""
        if self._head is not None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            self._head = None
            encoding = encoding_of(data)
            self._inner = None if encoding is None else Decompressor(encoding, *self._limits)
        return data if self._inner is None else self._inner.feed(data)

    def finish(self) -> bytes:
        """The body has ended: what was held back. Raises `BadCompression` if a compressed stream has not ended."""
        if self._inner is not None:
            self._inner.finish()
        return self._head or b""


def cut_gelf(body: bytes, content_type: str, headers: Mapping[str, str], limits: Limits) -> Cut:
    """The messages of a request: one a line where each line is an object, else as of other requests.

    Raises `Refusal`.
    """
    body = body.strip(_SPACE)
    if b"\n" in body and all(line[:1] == b"{" and line[-1:] == b"}" for line in map(bytes.strip, body.split(b"\n"))):
        content_type = "application/x-ndjson"
    return cut(body, content_type, headers, limits)
