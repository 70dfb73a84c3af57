"""The admin endpoint's HTTP: three pages for GET and HEAD, one request a connection, no request bodies.

What protects it, besides the token: a `Host` that is this machine (on loopback; against DNS rebinding, where a web page
makes the visitor's browser ask), deadlines for the request and for the whole exchange that no trickle of bytes moves,
and a bound for connections. Twisted bounds the request line (16 KiB) and the headers (16 KiB together).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from eventserver.admin.metrics import Page

#: Seconds from the connection to the end of the headers, and from there to the end of the answer.
HEAD_TIMEOUT = 10
ANSWER_TIMEOUT = 60
#: More connections at once are closed unanswered.
MAX_CONNECTIONS = 100

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")
_PLAIN = "text/plain; charset=utf-8"
_log = Logger()

#: Status code, content type and body of a page.
Answer = tuple[int, str, bytes]


class _Pages(Resource):
    """The root of the site: checks the request, and renders one of the pages."""

    isLeaf = True

    def __init__(self, status: Any, token: str | None, hosts: Collection[str] | None) -> None:
        super().__init__()
        self._status = status
        self._token = token
        self._hosts = hosts
        self._metrics = Page(status)
        self._pages: dict[bytes, Callable[[], Answer]] = {
            b"/live": self._live,
            b"/ready": self._ready,
            b"/metrics": lambda: (200, self._metrics.content_type, self._metrics.text()),
        }

    def render(self, request: Request) -> bytes:
        """The answer to one request; for HEAD the server leaves the body out."""
        try:
            code, content_type, body = self._refusal(request) or self._pages[_path(request)]()
        except Exception:
            _log.failure("the admin page {path} failed", path=_path(request))
            code, content_type, body = 500, _PLAIN, b"internal error; see the log\n"
        request.setResponseCode(code)
        headers = request.responseHeaders
        headers.setRawHeaders("server", ["eventserver"])
        headers.setRawHeaders("content-type", [content_type])
        headers.setRawHeaders("content-length", [str(len(body))])
        headers.setRawHeaders("cache-control", ["no-store"])
        headers.setRawHeaders("x-content-type-options", ["nosniff"])
        headers.setRawHeaders("content-security-policy", ["default-src 'none'; frame-ancestors 'none'"])
        return body

    def _refusal(self, request: Request) -> Answer | None:
        """The answer to a request that gets no page, or None."""
        hosts = request.requestHeaders.getRawHeaders("host", [])
        if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
            return 400, _PLAIN, b"one Host header is needed\n"
        if hosts and not self._is_ours(hosts[0]):
            return 421, _PLAIN, b"this Host is not served here\n"
        path = _path(request)
        if path not in self._pages:
            return 404, _PLAIN, b"not found; there are /live, /ready and /metrics\n"
        if request.method not in (b"GET", b"HEAD"):
            request.responseHeaders.setRawHeaders("allow", ["GET, HEAD"])
            return 405, _PLAIN, b"only GET and HEAD\n"
        if path != b"/live" and not self._is_allowed(request):
            request.responseHeaders.setRawHeaders("www-authenticate", ['Bearer realm="eventserver"'])
            return 401, _PLAIN, b"a token is needed\n"
        return None

    def _is_ours(self, host: str) -> bool:
        if self._hosts is None:
            return True
        found = _HOST.fullmatch(host.encode())
        return found is not None and found[1].decode().strip("[]").lower() in self._hosts

    def _is_allowed(self, request: Request) -> bool:
        if self._token is None:
            return True
        given = request.requestHeaders.getRawHeaders("authorization", [""])[0]
        scheme, _, token = given.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token.encode())

    def _live(self) -> Answer:
        return 200, _PLAIN, b"live\n"

    def _ready(self) -> Answer:
        reasons = self._status.ready()
        if not reasons:
            return 200, _PLAIN, b"ready\n"
        # One reason a line: an error's text may hold anything, and is shown to people.
        lines = [re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", reason) for reason in reasons]
        return 503, _PLAIN, ("\n".join(lines) + "\n").encode(errors="replace")


def _path(request: Request) -> bytes:
    return bytes(request.path)


class _Channel(HTTPChannel):
    """One connection: one request without a body, within its deadlines."""

    maxHeaders = 100
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._set_deadline(HEAD_TIMEOUT)

    def allHeadersReceived(self) -> None:
        self._set_deadline(ANSWER_TIMEOUT)
        if self.length == 0:
            super().allHeadersReceived()
            return
        # A body is neither read nor kept. (Twisted would put it into memory, or into a temporary file.)
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """What comes after the headers is dropped."""

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Every connection ends with its answer: who asks every 15 s gains nothing by keeping it."""
        request.responseHeaders.setRawHeaders("connection", ["close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)
        self.factory.open_channels.discard(self)

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.factory.reactor.callLater(seconds, self.forceAbortClient)


class AdminSite(Site):
    """The factory of the admin endpoint.

    `hosts` are the names that a `Host` header may have (lower case, without port and brackets); None allows all.
    """

    protocol = _Channel  # type: ignore[assignment]  # Twisted's own default there is a wrapper that adds HTTP/2
    displayTracebacks = False
    noisy = False

    def __init__(self, status: Any, token: str | None, hosts: Collection[str] | None, reactor: Any) -> None:
        super().__init__(_Pages(status, token, hosts), timeout=None, reactor=reactor)
        self.open_channels: set[_Channel] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.open_channels) >= MAX_CONNECTIONS:
            return None
        channel = super().buildProtocol(addr)
        self.open_channels.add(channel)
        return channel

    def startFactory(self) -> None:
        """No access log, and so no clock for its time stamps."""

    def stopFactory(self) -> None:
        """Nothing to close."""

    def log(self, request: Request) -> None:
        """Health checks are not worth a line each."""

    def abort(self) -> None:
        """Closes every connection now."""
        for channel in list(self.open_channels):
            channel.forceAbortClient()
