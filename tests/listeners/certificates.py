"""Certificates for the tests, made on the spot."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _pem(key: Key, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _signs_certificates() -> x509.KeyUsage:
    allowed = {"key_cert_sign", "crl_sign"}
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in allowed for name in names})


class Authority:
    """A certificate authority in a folder: `ca` is its certificate's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority")
        self.ca = str(folder / "ca.pem")
        Path(self.ca).write_bytes(self._sign(self._name, self._key, [], ca=True))

    def issue(
        self,
        common: str,
        names: Sequence[x509.GeneralName] = (),
        password: bytes = b"",
        days: float = 1,
        key: Key | None = None,
    ) -> tuple[str, str]:
        """The paths of a new certificate, which ends so many days from now, and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        stem = self.folder / common
        stem.with_suffix(".pem").write_bytes(self._sign(_name(common), key, names, days=days))
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        stem.with_suffix(".key").write_bytes(_pem(key, encryption))
        return str(stem.with_suffix(".pem")), str(stem.with_suffix(".key"))

    def server(self, common: str = "server", days: float = 1) -> tuple[str, str]:
        """A certificate for this machine."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return self.issue(common, names, days=days)

    def _sign(
        self,
        name: x509.Name,
        key: Key,
        names: Sequence[x509.GeneralName],
        *,
        ca: bool = False,
        days: float = 1,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=100))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            # RFC 5280 wants these (4.2.1.1 to 4.2.1.3); Python 3.13 and later insist.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if ca:
            builder = builder.add_extension(_signs_certificates(), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
