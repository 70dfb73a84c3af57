"""Where a relay sends to: reading `to`, and making the endpoint for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from OpenSSL import SSL, crypto
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IProtocolFactory, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from eventserver import options
from eventserver.options import Doc

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


class TlsOptions(options.Options, frozen=True, kw_only=True):
    """How a `tls:` destination is checked, and who we are to it."""

    ca: Annotated[
        str | None, Doc("A file of CA certificates (PEM) to trust instead of the system's.", "/etc/ssl/ca.pem")
    ] = None
    cert: Annotated[str | None, Doc("Our certificate and its chain (PEM).", "/etc/ssl/client.pem")] = None
    key: Annotated[str | None, Doc("The private key of our certificate (PEM).", "/etc/ssl/client.key")] = None
    server_name: Annotated[
        str | None,
        Doc("The name that the certificate must have, and that SNI says. Default: the host.", "logs.example"),
    ] = None
    verify: Annotated[
        bool, Doc("Check the certificate. Without it, anybody on the way can read and answer.", False)
    ] = True

    def problems(self) -> Iterable[tuple[str, str]]:
        """One of certificate and key without the other."""
        if (self.cert is None) != (self.key is None):
            yield "key" if self.key is None else "cert", "is missing: a certificate and its key go together"


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
    return _TlsEndpoint(endpoint, _creator(host, tls), reactor) if kind == "tls" else endpoint


class _ImmediateTlsFactory(TLSMemoryBIOFactory):
    """TLS that passes on at once what is written: Twisted's default collects small writes for a turn of the reactor.

    We write once a pile, and want to know when that is out.
    """

    protocol = TLSMemoryBIOProtocol


@implementer(IStreamClientEndpoint)
class _TlsEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, creator: Any, reactor: Any) -> None:
        self._endpoint = endpoint
        self._creator = creator
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect; the Deferred has the protocol above TLS. The handshake follows."""
        factory = _ImmediateTlsFactory(self._creator, True, protocolFactory, self._reactor)
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def _creator(host: str, tls: TlsOptions) -> Any:
    try:
        extra = _own_certificate(tls)
        name = tls.server_name or host
        if not tls.verify:
            return _Unverified(ssl.CertificateOptions(**extra), name)
        trust = None if tls.ca is None else ssl.trustRootFromCertificates(_certificates(tls.ca))
        return ssl.optionsForClientTLS(name, trust, extraCertificateOptions=extra)
    except OSError as error:
        raise ValueError(f"tls: {error.filename}: {error.strerror}") from error
    except (SSL.Error, crypto.Error, ValueError) as error:
        raise ValueError(f"tls: the certificate or key cannot be used: {error}") from error


def _own_certificate(tls: TlsOptions) -> dict[str, Any]:
    if tls.cert is None or tls.key is None:
        return {}
    own, *chain = [certificate.original for certificate in _certificates(tls.cert)]
    key = crypto.load_privatekey(crypto.FILETYPE_PEM, Path(tls.key).read_bytes())
    return {"privateKey": key, "certificate": own, "extraCertChain": chain}


def _certificates(path: str) -> list[ssl.Certificate]:
    end = b"-----END CERTIFICATE-----"
    pems = Path(path).read_bytes().split(end)[:-1]
    if not pems:
        raise ValueError(f"{path} holds no certificate")
    return [ssl.Certificate.loadPEM(pem + end) for pem in pems]


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS without a look at the certificate, for `verify = false`; the name is for SNI alone."""

    def __init__(self, contextFactory: ssl.CertificateOptions, name: str) -> None:
        self._context = contextFactory.getContext()
        self._name = None if isIPAddress(name) or isIPv6Address(name) else name.encode("idna")

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """A connection that offers the name and checks nothing."""
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection
