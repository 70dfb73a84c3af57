"""One page over HTTP, for Prometheus to scrape: `GET /metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from eventserver.web_site import OneRequest, SmallSite

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


class _Channel(OneRequest):
    """One connection."""

    head_timeout = _TIMEOUT


class PageSite(SmallSite):
    """The factory that serves what `make()` gives, for each request anew."""

    def __init__(self, make: Make, content_type: str, reactor: Any) -> None:
        super().__init__(_Page(make, content_type), _Channel, MAX_CONNECTIONS, reactor)
