"""Certificates and keys in PEM files (RFC 7468).

They are read so that a file that is still being written is not taken for whole.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_BEGIN, _END = b"-----BEGIN ", b"-----END "


def read_file(path: str) -> bytes:
    """What is in a file. Raises `ValueError` with a sentence."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def read_certificates(path: str) -> list[x509.Certificate]:
    """The certificates in a file, at least one. Raises `ValueError` with a sentence, also if it ends within one."""
    data = read_file(path)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM") from None
    # The parser passes over a block without an end. What comes behind the last end may be a comment, but no dashes.
    begun = data.count(_BEGIN + b"CERTIFICATE-----") + data.count(_BEGIN + b"X509 CERTIFICATE-----")
    behind = data[data.rfind(_END) + len(_END) :].partition(b"-----")[2]
    cut = data.count(_BEGIN) != data.count(_END) or b"--" in behind or behind.endswith(b"-")
    if cut or begun != len(found):
        raise ValueError(f"{path} is not whole: it ends within a certificate")
    return found


def read_private_key(path: str) -> Any:
    """The private key in a file. Raises `ValueError` with a sentence."""
    data = read_file(path)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise ValueError(f"the key in {path} is protected by a password, and nobody is there to type it") from None
    except ValueError:
        raise ValueError(f"{path} holds no private key in PEM") from None


def said(error: Exception) -> str:
    """What OpenSSL says of a file, for people: pyOpenSSL's errors hold tuples."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(reason[-1]) for reason in reasons if reason) or "OpenSSL refuses it"


def check_time(certificate: x509.Certificate, path: str, now: dt.datetime) -> None:
    """Raises `ValueError` with a sentence if the certificate has ended, or is for later (RFC 5280, section 4.1.2.5)."""
    if certificate.not_valid_after_utc < now:
        raise ValueError(f"the certificate in {path} ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        raise ValueError(f"the certificate in {path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
