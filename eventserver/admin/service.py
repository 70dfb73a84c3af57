"""The admin endpoint as a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.admin.access import parse_endpoint

if TYPE_CHECKING:
    from eventserver.admin.web import AdminSite

_log = Logger()


class AdminService(Service):
    """Serves `/live`, `/ready` and `/metrics` on an endpoint of Twisted's syntax, about a `status` (`IStatus`).

    With a `control` (`eventserver.admin.control.Control`) it serves the control API as well, below `/v1`.

    `startService` raises what the endpoint raises where that is known at once, such as `CannotListenError` for a port
    in use. `token` is checked by `problems_of_admin` before; None means that everything is open to whoever connects.
    """

    def __init__(self, endpoint: str, token: str | None, status: Any, reactor: Any, control: Any = None) -> None:
        self._endpoint = endpoint
        self._token = token
        self._status = status
        self._reactor = reactor
        self._control = control
        self._site: AdminSite | None = None
        self._port: IListeningPort | None = None
        self._listening: defer.Deferred[None] | None = None

    def startService(self) -> None:
        # twisted.web and prometheus_client cost 15 MB and 0.2 s: only those who ask for this endpoint pay.
        import eventserver.admin.metrics  # noqa: F401  # now, and not when somebody asks for the first time
        from eventserver.admin.web import AdminSite

        super().startService()
        self._site = AdminSite(self._status, self._token, allowed_hosts(self._endpoint), self._reactor, self._control)
        failed: list[Failure] = []
        listening = serverFromString(self._reactor, self._endpoint).listen(self._site)
        listening.addCallbacks(self._listens, failed.append)
        if failed:
            failed[0].raiseException()
        listening.addErrback(lambda failure: _log.failure("the admin endpoint does not listen", failure))
        self._listening = listening

    def stopService(self) -> defer.Deferred[None]:
        """Stops listening, and ends the connections that are open."""
        super().stopService()
        return defer.ensureDeferred(self._stop())

    def addresses(self) -> list[str]:
        """Where it listens, with the real port: `"http://127.0.0.1:9514"`; empty before it is started."""
        return [_url(self._port.getHost())] if self._port is not None else []

    def _listens(self, port: IListeningPort) -> None:
        self._port = port

    async def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if self._port is not None:
            port, self._port = self._port, None
            await defer.maybeDeferred(port.stopListening)
        if self._site is not None:
            self._site.abort()
            self._site = None


def allowed_hosts(endpoint: str) -> frozenset[str] | None:
    """The `Host` names that a request to a loopback endpoint may carry; None (any) for every other endpoint.

    A browser cannot reach a unix socket, and elsewhere the token keeps strangers out.
    """
    parsed = parse_endpoint(endpoint)
    if not parsed.local or parsed.kind == "unix":
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", parsed.interface.lower()})


def _url(address: Any) -> str:
    if isinstance(address, IPv6Address):
        return f"http://[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"http://{address.host}:{address.port}"
    if isinstance(address, UNIXAddress):
        return f"unix:{(address.name or b'').decode(errors='replace')}"
    return str(address)
