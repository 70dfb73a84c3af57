"""TLS towards a peer: whom to trust, who we are, and the connections that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from cryptography import x509
from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver import options
from eventserver.options import Doc
from eventserver.pem import read_certificates, read_private_key, said


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


@implementer(IOpenSSLClientConnectionCreator)
class TlsClient:
    """Makes client connections to `host` (a name or an address), as the options say. `own` is our certificate.

    Raises `ValueError`, with a sentence that names the file, if a certificate or key cannot be used.
    """

    def __init__(self, host: str, tls: TlsOptions) -> None:
        self._name = tls.server_name or host
        self._is_address = isIPAddress(self._name) or isIPv6Address(self._name)
        self._verify = tls.verify
        self._sni = b"" if self._is_address else self._name.encode("idna")
        self._context = _context()
        self.own: x509.Certificate | None = None
        if tls.cert is not None and tls.key is not None:
            self.own = self._use_chain(tls.cert)
            self._use_key(tls.key, tls.cert)
        if not tls.verify:
            self._context.set_verify(SSL.VERIFY_NONE)
            return
        self._context.set_verify(SSL.VERIFY_PEER)
        self._context.set_info_callback(self._shaken_hands)
        if tls.ca is None:
            self._context.set_default_verify_paths()
        else:
            read_certificates(tls.ca)
            try:
                self._context.load_verify_locations(tls.ca)
            except SSL.Error as error:
                raise ValueError(f"{tls.ca} cannot be used: {said(error)}") from None

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection for one protocol; the name is said to the peer (SNI, RFC 6066 section 3)."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if self._sni:
            connection.set_tlsext_host_name(self._sni)
        return connection

    def _use_chain(self, path: str) -> x509.Certificate:
        own, *chain = read_certificates(path)
        try:
            self._context.use_certificate(own)
            for certificate in chain:
                self._context.add_extra_chain_cert(certificate)
        except SSL.Error as error:
            raise ValueError(f"the certificate in {path} cannot be used: {said(error)}") from None
        return own

    def _use_key(self, path: str, certificate: str) -> None:
        key = read_private_key(path)
        try:
            self._context.use_privatekey(key)
            self._context.check_privatekey()
        except (SSL.Error, TypeError):
            raise ValueError(f"{path} is not the key of {certificate}") from None

    def _shaken_hands(self, connection: SSL.Connection, where: int, _: int) -> None:
        """The chain is good; now the name."""
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        try:
            (verify_ip_address if self._is_address else verify_hostname)(connection, self._name)
        except VerificationError:
            error = ValueError(f"the peer's certificate is not for {self._name}")
            connection.get_app_data().failVerification(Failure(error))
        except Exception:
            connection.get_app_data().failVerification(Failure())


def _context() -> Any:
    # Twisted's choice of protocol versions and ciphers. Certificates are added later, as Twisted takes only pyOpenSSL's
    # deprecated classes. Any, because the type stubs know only those, too.
    return ssl.CertificateOptions().getContext()
