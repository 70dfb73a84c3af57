"""Where a relay sends to: reading `to`, and making the endpoint for it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, NamedTuple

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from eventserver.contexts import HandlerContext
from eventserver.handlers._tls_client import TlsClient, TlsOptions
from eventserver.pem import check_time

Kind = Literal["tcp", "tls", "udp", "unix", "unix-datagram"]
_WITH_PORT = ("tcp", "tls", "udp")
_WITH_PATH = ("unix", "unix-datagram")


class Destination(NamedTuple):
    """What `to` says; `host` is a path for the unix kinds."""

    kind: Kind
    host: str
    port: int = 0


def parse_destination(text: str) -> Destination:
    """`"tcp:host:port"`, with an IPv6 address in brackets or not, or `"unix:/path"`. Raises `ValueError`."""
    kind, _, rest = text.partition(":")
    if kind in _WITH_PATH and rest:
        return Destination(kind, rest)  # type: ignore[arg-type]  # it is one of the kinds
    host, _, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    plain = bool(host) and (":" not in host or isIPv6Address(host))
    if kind not in _WITH_PORT or not plain or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            f"`{text}` is no destination; write tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT, unix:/PATH"
            " or unix-datagram:/PATH"
        )
    return Destination(kind, host, int(port))  # type: ignore[arg-type]  # it is one of the kinds


def make_endpoint(destination: Destination, tls: TlsOptions, timeout: float, reactor: Any) -> IStreamClientEndpoint:
    """The endpoint of a stream destination. Raises `ValueError` if a certificate or key cannot be used."""
    kind, host, port = destination
    if kind == "unix":
        return UNIXClientEndpoint(reactor, host, timeout=timeout)
    endpoint: IStreamClientEndpoint
    if isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
    return _TlsEndpoint(endpoint, host, tls, reactor) if kind == "tls" else endpoint


def renew(endpoint: IStreamClientEndpoint | None, context: HandlerContext) -> None:
    """Read certificates and keys again, for the connections to come, where the endpoint has some.

    Raises `ValueError` if they cannot be used, and keeps what there was: also if ours has ended.
    """
    if isinstance(endpoint, _TlsEndpoint):
        endpoint.renew(context.now())
        context.log.info("{handler}: TLS files read again", handler=context.name)


class _ImmediateTlsFactory(TLSMemoryBIOFactory):
    """TLS that passes on at once what is written: Twisted's default collects small writes for a turn of the reactor.

    We write once a pile, and want to know when that is out.
    """

    protocol = TLSMemoryBIOProtocol


@implementer(IStreamClientEndpoint)
class _TlsEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, host: str, tls: TlsOptions, reactor: Any) -> None:
        self._endpoint = endpoint
        self._host = host
        self._tls = tls
        self._reactor = reactor
        self._creator = TlsClient(host, tls)

    def renew(self, now: dt.datetime) -> None:
        creator = TlsClient(self._host, self._tls)
        if creator.own is not None and self._tls.cert is not None:
            check_time(creator.own, self._tls.cert, now)
        self._creator = creator

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect; the Deferred has the protocol above TLS. The handshake follows."""
        factory = _ImmediateTlsFactory(self._creator, True, protocolFactory, self._reactor)
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)
