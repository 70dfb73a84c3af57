"""One page over HTTP, for Prometheus to scrape: `GET /metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

#: Seconds from the connection to the end of the answer.
_TIMEOUT = 30
#: More connections at once are closed unanswered.
MAX_CONNECTIONS = 50

_log = Logger()


#: Makes the page.
Make = Callable[[], Deferred[bytes]]


class _Page(Resource):
    isLeaf = True

    def __init__(self, make: Make, content_type: str) -> None:
        super().__init__()
        self._make = make
        self._content_type = content_type

    def render(self, request: Request) -> Any:
        """The page; for HEAD the server leaves the body out."""
        if request.path != b"/metrics":
            return _answer(request, b"not found; there is /metrics\n", code=404)
        if request.method not in (b"GET", b"HEAD"):
            request.responseHeaders.setRawHeaders("allow", ["GET, HEAD"])
            return _answer(request, b"only GET and HEAD\n", code=405)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def finish(page: bytes) -> None:
            if not gone:
                request.write(_answer(request, page, self._content_type))
                request.finish()

        self._make().addCallback(finish).addErrback(self._broken, request, gone)
        return NOT_DONE_YET

    def _broken(self, failure: Failure, request: Request, gone: list[object]) -> None:
        _log.failure("the page of metrics failed", failure)
        if not gone:
            request.write(_answer(request, b"internal error; see the log\n", code=500))
            request.finish()


def _answer(request: Request, body: bytes, content_type: str = "text/plain; charset=utf-8", code: int = 200) -> bytes:
    request.setResponseCode(code)
    request.responseHeaders.setRawHeaders("server", ["eventserver"])
    request.responseHeaders.setRawHeaders("content-type", [content_type])
    request.responseHeaders.setRawHeaders("content-length", [str(len(body))])
    return b"" if request.method == b"HEAD" else body


class _Channel(HTTPChannel):
    """One connection: one request without a body, within a deadline that no trickle of bytes moves."""

    maxHeaders = 100
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._deadline = self.factory.reactor.callLater(_TIMEOUT, self.forceAbortClient)

    def allHeadersReceived(self) -> None:
        if self.length == 0:
            super().allHeadersReceived()
            return
        # A body is not read. (Twisted would keep it in memory, or in a temporary file.)
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """What comes after the headers is dropped."""

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Every connection ends with its answer."""
        request.responseHeaders.setRawHeaders("connection", ["close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)
        self.factory.open_channels.discard(self)


class PageSite(Site):
    """The factory that serves what `make()` gives, for each request anew."""

    protocol = _Channel  # type: ignore[assignment]  # Twisted's own default there is a wrapper that adds HTTP/2
    displayTracebacks = False
    noisy = False

    def __init__(self, make: Make, content_type: str, reactor: Any) -> None:
        super().__init__(_Page(make, content_type), timeout=None, reactor=reactor)
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
        """A scrape is not worth a line."""

    def abort(self) -> None:
        """Closes every connection now."""
        for channel in list(self.open_channels):
            channel.forceAbortClient()
