"""Certificates and keys in files: what is whole, what is valid, and what people are told."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from OpenSSL import SSL

from eventserver.pem import check_time, read_certificates, said
from tests.listeners.certificates import Authority

DAY = dt.timedelta(days=1)


@pytest.fixture
def chain(tmp_path: Path) -> bytes:
    """A server's certificate and that of its authority."""
    authority = Authority(tmp_path)
    cert, _ = authority.server()
    return Path(cert).read_bytes() + Path(authority.ca).read_bytes()


def read(tmp_path: Path, data: bytes) -> int:
    path = tmp_path / "chain.pem"
    path.write_bytes(data)
    return len(read_certificates(str(path)))


def test_a_chain_may_have_comments_and_a_key(tmp_path: Path, chain: bytes) -> None:
    key = (tmp_path / "server.key").read_bytes()
    for data in (chain, chain.rstrip(), b"# of 2026-11\n" + chain + b"# self-signed\n", key + chain, chain + key):
        assert read(tmp_path, data) == 2


def test_one_that_is_still_being_written_is_refused_wherever_it_is_cut(tmp_path: Path, chain: bytes) -> None:
    """But where it is cut between two certificates: nothing shows that."""
    end = chain.index(b"-----END") + len(b"-----END CERTIFICATE-----")
    for size in range(len(chain.rstrip())):
        if size in (end, end + 1):
            assert read(tmp_path, chain[:size]) == 1
        else:
            with pytest.raises(ValueError, match=r"chain\.pem (is not whole|holds no certificate)"):
                read(tmp_path, chain[:size])


def test_a_certificate_has_its_time(tmp_path: Path, chain: bytes) -> None:
    path = tmp_path / "chain.pem"
    path.write_bytes(chain)
    certificate = read_certificates(str(path))[0]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    for now in (begins, ends):
        check_time(certificate, "a.pem", now)
    with pytest.raises(ValueError, match=rf"^the certificate in a\.pem ended on {ends:%Y-%m-%d}$"):
        check_time(certificate, "a.pem", ends + DAY)
    with pytest.raises(ValueError, match=rf"^the certificate in a\.pem is not valid before {begins:%Y-%m-%d}$"):
        check_time(certificate, "a.pem", begins - DAY)


def test_openssl_is_quoted_in_its_own_words() -> None:
    assert said(SSL.Error([("PEM routines", "", "bad end line"), ("x", "", "other")])) == "bad end line, other"
    assert said(SSL.Error()) == "OpenSSL refuses it"
