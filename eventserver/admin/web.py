"""The admin endpoint's HTTP: three pages for GET and HEAD, and the control API; one request a connection.

What protects it, besides the token: a `Host` that is this machine (on loopback; against DNS rebinding, where a web page
makes the visitor's browser ask), an `Origin` that is this very server where something is changed, deadlines for the
request and for the whole exchange that no trickle of bytes moves, bodies of at most 64 KiB and only where they are
used, and a bound for connections. Twisted bounds the request line (16 KiB) and the headers (16 KiB together).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from eventserver.admin.control import MAX_BODY, VERSION, Control, Reply
from eventserver.web_site import OneRequest, SmallSite

#: Seconds from the connection to the end of the headers, and from there to the end of the answer.
HEAD_TIMEOUT = 10
ANSWER_TIMEOUT = 60
#: More connections at once are closed unanswered.
MAX_CONNECTIONS = 100

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")
_PLAIN = "text/plain; charset=utf-8"
_JSON = "application/json"
_API = f"/{VERSION}".encode()
_log = Logger()

#: Status code, content type and body of a page.
Answer = tuple[int, str, bytes]


class _Pages(Resource):
    """The root of the site: checks the request, and renders one of the pages."""

    isLeaf = True

    def __init__(
        self, status: Any, token: str | None, hosts: Collection[str] | None, control: Control | None = None
    ) -> None:
        super().__init__()
        self._status = status
        self._token = token
        self._hosts = hosts
        self._control = control
        self._metrics: Any = None
        self._pages: dict[bytes, Callable[[], Answer]] = {
            b"/live": self._live,
            b"/ready": self._ready,
            b"/metrics": self._metrics_page,
        }

    def render(self, request: Request) -> Any:
        """The answer to one request; for HEAD the server leaves the body out."""
        try:
            answer = self._refusal(request)
            if answer is None and _is_api(_path(request)):
                return self._ask_control(request)
            answer = answer or self._pages[_path(request)]()
        except Exception:
            answer = _broken(request)
        return self._with_headers(request, answer)

    def _with_headers(self, request: Request, answer: Answer) -> bytes:
        code, content_type, body = answer
        # RFC 9110, section 15.5.20; Twisted has no words for it.
        request.setResponseCode(code, b"Misdirected Request" if code == 421 else None)
        headers = request.responseHeaders
        headers.setRawHeaders("server", ["eventserver"])
        headers.setRawHeaders("content-type", [content_type])
        headers.setRawHeaders("content-length", [str(len(body))])
        headers.setRawHeaders("cache-control", ["no-store"])
        headers.setRawHeaders("x-content-type-options", ["nosniff"])
        headers.setRawHeaders("content-security-policy", ["default-src 'none'; frame-ancestors 'none'"])
        return body

    def _ask_control(self, request: Request) -> Any:
        assert self._control is not None
        assert request.content is not None
        # The first of two values wins nowhere: a request that can be read in two ways is refused.
        pairs = parse_qsl(_query(request), keep_blank_values=True)
        if len({key for key, _ in pairs}) < len(pairs):
            return self._with_headers(request, (400, _PLAIN, b"a key of the query is given twice\n"))
        path = _path(request).decode("ascii", "replace")
        result = self._control.answer(
            request.method.decode("ascii", "replace"), path, dict(pairs), request.content.read()
        )
        if isinstance(result, Reply):
            return self._with_headers(request, _as_json(request, result))
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        waits: Deferred[Any] = result

        def finish(answer: Answer) -> None:
            if not gone:
                request.write(self._with_headers(request, answer))
                request.finish()

        waits.addCallback(lambda reply: _as_json(request, reply)).addErrback(lambda failure: _broken(request, failure))
        waits.addCallback(finish).addErrback(lambda failure: _log.failure("an answer could not be sent", failure))
        return NOT_DONE_YET

    def _refusal(self, request: Request) -> Answer | None:
        """The answer to a request that gets no page, or None."""
        hosts = request.requestHeaders.getRawHeaders("host", [])
        if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
            return 400, _PLAIN, b"one Host header is needed\n"
        if hosts and not self._is_ours(hosts[0]):
            return 421, _PLAIN, b"this Host is not served here\n"
        path = _path(request)
        api = self._control is not None and _is_api(path)
        if path not in self._pages and not api:
            return 404, _PLAIN, b"not found; there are /live, /ready and /metrics\n"
        if request.method not in (b"GET", b"HEAD", *([b"POST"] if api else [])):
            request.responseHeaders.setRawHeaders("allow", ["GET, HEAD, POST" if api else "GET, HEAD"])
            return 405, _PLAIN, b"only GET, HEAD and POST\n" if api else b"only GET and HEAD\n"
        if path != b"/live" and not self._is_allowed(request):
            request.responseHeaders.setRawHeaders("www-authenticate", ['Bearer realm="eventserver"'])
            return 401, _PLAIN, b"a token is needed\n"
        return _refused_change(request, hosts) if request.method == b"POST" else None

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

    def _metrics_page(self) -> Answer:
        if self._metrics is None:
            # prometheus_client takes 5 MB: only where somebody asks.
            from eventserver.admin.metrics import Page

            self._metrics = Page(self._status)
        return 200, self._metrics.content_type, self._metrics.text()

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


def _query(request: Request) -> str:
    return bytes(request.uri).partition(b"?")[2].decode("ascii", "replace")


def _is_api(path: bytes) -> bool:
    return path == _API or path.startswith(_API + b"/")


def _refused_change(request: Request, hosts: Collection[str]) -> Answer | None:
    """A page of another site must not change anything here, by whatever way it gets a browser to send."""
    origins = request.requestHeaders.getRawHeaders("origin", [])
    sites = request.requestHeaders.getRawHeaders("sec-fetch-site", [])
    ours = {host.lower() for host in hosts}
    if any(_netloc(origin) not in ours for origin in origins) or any(site != "same-origin" for site in sites):
        return 403, _PLAIN, b"refused: the request comes from another site\n"
    content_type = request.requestHeaders.getRawHeaders("content-type", [""])[0]
    if content_type.partition(";")[0].strip().lower() != _JSON:
        return 415, _PLAIN, b"a POST has the Content-Type application/json\n"
    return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _as_json(request: Request, reply: Reply) -> Answer:
    for name, value in reply.headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    return reply.code, _JSON, msgspec.json.encode(reply.content, enc_hook=str) + b"\n"


def _broken(request: Request, failure: Failure | None = None) -> Answer:
    _log.failure("the admin page {path} failed", failure, path=_path(request))
    return 500, _PLAIN, b"internal error; see the log\n"


class _Channel(OneRequest):
    """One connection: a body is used by the control API alone, and is a small one."""

    head_timeout = HEAD_TIMEOUT
    answer_timeout = ANSWER_TIMEOUT

    def wants_body(self) -> bool:
        """Whether it is for the control API, and not too large."""
        length: int | None = self.length
        wanted = self.factory.takes_bodies and self._command == b"POST" and _is_api(self._path)
        return bool(wanted) and length is not None and length <= MAX_BODY


class AdminSite(SmallSite):
    """The factory of the admin endpoint.

    `hosts` are the names that a `Host` header may have (lower case, without port and brackets); None allows all.
    """

    def __init__(
        self,
        status: Any,
        token: str | None,
        hosts: Collection[str] | None,
        reactor: Any,
        control: Control | None = None,
    ) -> None:
        super().__init__(_Pages(status, token, hosts, control), _Channel, MAX_CONNECTIONS, reactor)
        self.takes_bodies = control is not None
