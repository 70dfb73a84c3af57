"""TLS for stream listeners: certificates that can be renewed, and the names of clients."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple, TypeVar

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from eventserver import options
from eventserver.listeners._tls_tickets import QuietConnection
from eventserver.options import Doc
from eventserver.pem import check_time, read_certificates, read_private_key, said

T = TypeVar("T")

# Only ciphers with forward secrecy and authenticated encryption (RFC 9325, section 4.2); those of TLS 1.3 all are, and
# OpenSSL keeps them apart. RFC 9662 asks TLS syslog for ECDHE with AES-128-GCM.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
# SSL.OP_NO_RENEGOTIATION, which the type stubs of pyOpenSSL lack; the value is OpenSSL's.
_NO_RENEGOTIATION = 1 << 30
_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE | _NO_RENEGOTIATION


class TlsOptions(options.Options, frozen=True, kw_only=True):
    """What a TLS endpoint shows to its clients, and asks of them."""

    cert: Annotated[
        str, Doc("The server's certificate in PEM, followed by those between it and the root.", "/etc/ssl/es.pem")
    ]
    key: Annotated[
        str, Doc("Its private key in PEM, without a password; default: the file of `cert`.", "/etc/ssl/es.key")
    ] = ""
    client_ca: Annotated[
        str,
        Doc(
            "Certificates in PEM; a client must show one that these signed. Default: clients need none.",
            "/etc/ssl/ca.pem",
        ),
    ] = ""
    client_names: Annotated[
        tuple[str, ...],
        Doc(
            "Names of clients that may connect, as in their certificates; default: all that `client_ca` signed.",
            ["web1"],
        ),
    ] = ()

    def problems(self) -> Iterable[tuple[str, str]]:
        """Files that cannot be read, and a key that does not fit."""
        if self.client_names and not self.client_ca:
            yield "client_names", "needs `client_ca`: nobody else vouches for the names"
        try:
            load(self)
        except TlsProblem as problem:
            yield problem.key, str(problem)


class TlsProblem(ValueError):
    """A certificate or key that cannot be used; `key` names the setting."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Loaded(NamedTuple):
    """What the files of `TlsOptions` make: the context for connections, and the server's certificate."""

    context: SSL.Context
    certificate: x509.Certificate


def load(settings: TlsOptions) -> Loaded:
    """Read the files. The context has TLS 1.2 or later, AEAD ciphers, no renegotiation, no compression.

    Raises `TlsProblem`.
    """
    chain = _from_file("cert", read_certificates, settings.cert)
    # Not Twisted's CertificateOptions: it leaves renegotiation on, with which a client makes the server work at no cost
    # of its own, and wants pyOpenSSL's deprecated classes of certificates and keys.
    # Any, because the type stubs of pyOpenSSL know only those classes.
    context: Any = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection costs 34 KiB less
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    try:
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
    except SSL.Error as error:
        raise TlsProblem("cert", f"the certificate in {settings.cert} cannot be used: {said(error)}") from None
    path = settings.key or settings.cert
    try:
        context.use_privatekey(_from_file("key", read_private_key, path))
        context.check_privatekey()
    except (SSL.Error, TypeError):
        raise TlsProblem("key", f"{path} is not the key of {settings.cert}") from None
    if settings.client_ca:
        _from_file("client_ca", read_certificates, settings.client_ca)
        try:
            context.load_verify_locations(settings.client_ca)
            context.load_client_ca(os.fsencode(settings.client_ca))  # clients are told whose certificates are good
        except SSL.Error as error:
            raise TlsProblem("client_ca", f"{settings.client_ca} cannot be used: {said(error)}") from None
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE)
    context.set_cipher_list(_CIPHERS)
    return Loaded(context, chain[0])


def _from_file(key: str, read: Callable[[str], T], path: str) -> T:
    try:
        return read(path)
    except ValueError as error:
        raise TlsProblem(key, str(error)) from None


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """Makes the TLS side of each new connection from the certificate that was read last.

    `ends` is the last moment at which clients take that certificate (RFC 5280, section 4.1.2.5).
    """

    def __init__(self, settings: TlsOptions) -> None:
        self._settings = settings
        self._context, certificate = load(settings)
        self.ends = certificate.not_valid_after_utc

    def renew(self, now: dt.datetime) -> None:
        """Read the files again, for the connections to come.

        Raises `ValueError`, and then keeps what there was: also for a certificate that is not valid `now`.
        """
        context, certificate = load(self._settings)
        check_time(certificate, self._settings.cert, now)
        self._context, self.ends = context, certificate.not_valid_after_utc

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh TLS connection."""
        return QuietConnection(self._context, None)


class TlsFactory(TLSMemoryBIOFactory):
    """Twisted's factory, for a wrapped one that may refuse a connection."""

    def buildProtocol(self, addr: Any) -> Any:
        """The protocol, or None where the wrapped factory gives None."""
        inner: IProtocol | None = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


def client_names(certificate: crypto.X509) -> list[str]:
    """The names in a client's certificate: the subject alternative names, or if there are none the common name.

    RFC 6125, section 6.4.4: where there are alternative names, the common name does not count.
    """
    made = certificate.to_cryptography()
    try:
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [str(name.value) for name in names if not isinstance(name, (x509.OtherName, x509.DirectoryName))]
    except (x509.ExtensionNotFound, ValueError):
        found = []
    if found:
        return found
    return [str(attribute.value) for attribute in made.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
