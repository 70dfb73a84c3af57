"""What is checked of a request before its body is read. Pure: headers in, a path or a refusal out."""

from __future__ import annotations

import hmac
from typing import Protocol
from urllib.parse import urlsplit

from eventserver.listeners import _http_cloudevents as cloudevents
from eventserver.listeners._http_bodies import media_type_of
from eventserver.listeners._http_options import HttpOptions
from eventserver.listeners._http_refusals import Refusal, busy, malformed

#: Headers that make no sense twice.
_SINGLE = frozenset({"host", "content-type", "content-encoding", "authorization", "idempotency-key", "expect"})
_MAX_PATH = 1024
_MAX_KEY = 255


class Fields(dict[str, str]):
    """The headers of a request by lower-case name, as Twisted's channel hands them over; repeated ones joined."""

    repeated: str | None = None

    def addRawHeader(self, name: bytes, value: bytes) -> None:
        """Called by the channel; the name is a token, the value without CR, LF and NUL."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self:
            if key in _SINGLE or key.startswith("ce-"):
                self.repeated = key
            text = f"{self[key]}, {text}"
        self[key] = text


class Gate(Protocol):
    """What the checks know of the listener."""

    options: HttpOptions

    def unavailable(self) -> tuple[str, str] | None:
        """Why nothing can be taken now: a word for the counters and a sentence; or None."""


def check(headers: Fields, method: bytes, target: bytes, version: bytes, gate: Gate) -> str:
    """The path of a request whose body may come. Raises `Refusal`."""
    options = gate.options
    if headers.repeated is not None:
        raise malformed(f"there are several headers {headers.repeated}")
    if version == b"HTTP/1.1" and "host" not in headers:
        raise malformed("one Host header is needed")
    if unavailable := gate.unavailable():
        word, reason = unavailable
        raise busy(reason, word, options.retry_after)
    if options.token is not None and not _names(headers.get("authorization", ""), options.token):
        challenge = [("WWW-Authenticate", 'Bearer realm="eventserver"')]
        raise Refusal(401, "unauthorized", "a token is needed", headers=challenge)
    path = _path_of(target)
    if options.paths and path not in options.paths:
        raise Refusal(404, "not_found", "no events are taken at this path")
    if method != b"POST":
        raise Refusal(405, "method", "events are sent with POST", headers=[("Allow", "POST")])
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise Refusal(417, "expectation", "the only expectation that is met is 100-continue")
    if not 0 < len(headers.get("idempotency-key", "-")) <= _MAX_KEY:
        raise malformed(f"an Idempotency-Key has 1 to {_MAX_KEY} characters")
    media_type = media_type_of(headers.get("content-type", ""))
    if cloudevents.is_other_format(media_type):
        raise cloudevents.refuse_other_format(media_type)
    return path


def _names(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _path_of(target: bytes) -> str:
    """The path of a request's target, without query, as it was sent. Raises `Refusal`."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        # The absolute form, as proxies get it (RFC 9112, section 3.2.2).
        try:
            text = urlsplit(text).path or "/"
        except ValueError:
            raise malformed("the request's target cannot be read") from None
    path = text.partition("?")[0]
    if len(path) > _MAX_PATH:
        raise Refusal(414, "malformed", f"a path has at most {_MAX_PATH} characters")
    return path
