"""Events in HTTP requests, the client's side of one connection, without I/O.

A parcel is one POST, and the next one waits for its response. With an `Idempotency-Key` a request that has to be sent
again is recognised by a server that knows such keys.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from eventserver.sending._responses import Response, Responses
from eventserver.sending.parcels import Heard, NoAdmission, Parcel

#: Statuses after which the same request may be good later.
_LATER = (408, 425, 429, 500, 502, 503, 504)
#: Statuses that say that we may not send.
_NEVER = (401, 403, 404, 405)
#: Seconds to wait where the server names none, and the longest wait that is kept.
_WAIT = 1.0
_LONGEST_WAIT = 60.0


class Http:
    """Requests on one connection. `media` says how payloads are put together; `headers` are sent with each."""

    acknowledges = True
    ready = True
    max_parcels = 1
    max_payloads = 1 << 30

    def __init__(self, host: str, path: str, media: str, headers: Mapping[str, str], compress: str | None) -> None:
        self.over = False
        self._media = media
        self._gzip = compress == "gzip"
        lines = {"Host": host, "User-Agent": "eventserver", "Content-Type": media, **headers}
        if compress == "gzip":
            lines["Content-Encoding"] = "gzip"
        self._head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._responses = Responses()
        self._waiting = 0  # payloads of the request that has no response yet

    def begin(self) -> bytes:
        """Nothing: the first request is the first word."""
        return b""

    def send(self, parcel: Parcel) -> bytes:
        """One request."""
        payloads = parcel.payloads[parcel.settled :]
        self._waiting = len(payloads)
        if self._media.endswith("-batch+json"):
            body = b"[" + b",".join(payloads) + b"]"
        elif "ndjson" in self._media:
            body = b"\n".join(payloads) + b"\n"
        else:
            body = b"".join(payloads)
        if self._gzip:
            body = gzip.compress(body, 6, mtime=0)
        return (
            f"{self._head}Idempotency-Key: {parcel.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
        )

    def receive(self, data: bytes) -> list[Heard]:
        """Responses."""
        heard = []
        for response in self._responses.feed(data):
            self.over = self.over or response.close
            heard.append(self._answered(response))
        return heard

    def lost(self) -> list[Heard]:
        """The end of a response whose body goes on until then."""
        response = self._responses.finish()
        self.over = self.over or response is not None
        return [self._answered(response)] if response is not None and self._waiting else []

    def end(self) -> bytes:
        """Nothing: the connection is closed."""
        self.over = True
        return b""

    def _answered(self, response: Response) -> Heard:
        status, count = response.status, self._waiting
        self._waiting = 0
        if 200 <= status < 300:
            return Heard(acknowledged=count)
        said = response.body.decode(errors="replace").strip().partition("\n")[0]
        reason = f"{status}{': ' + said if said else ''}"
        if status in _LATER:
            return Heard(wait=_wait(response.headers.get("retry-after", "")), reason=reason)
        if status in _NEVER:
            raise NoAdmission(f"the server answered {reason}")
        return Heard(refused=count, reason=reason)


def _wait(text: str) -> float:
    """Seconds, from `Retry-After`; a date there is not read."""
    return min(float(text), _LONGEST_WAIT) if text.isascii() and text.isdigit() else _WAIT
