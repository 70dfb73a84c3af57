"""The relay handler's TLS: certificates that cannot be used, and the peer's that is checked."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import endpoints
from twisted.internet.task import Clock

from eventserver.errors import TemporaryFailure
from eventserver.handlers._tls_client import TlsClient, TlsOptions
from tests.handlers.fakes import Log, make_batch, until
from tests.handlers.relayworld import Server, Sinks, certificate, deliver, locked, make, stop


class TestTls:
    def test_certificates_that_cannot_be_used_are_told_at_start(self, tmp_path: Path) -> None:
        cert, key = certificate(tmp_path)
        (tmp_path / "other").mkdir()
        _, other_key = certificate(tmp_path / "other")
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing")
        wrong = {
            "empty.pem holds no certificate": TlsOptions(ca=str(empty)),
            "cannot read .*missing.pem: No such file": TlsOptions(ca=str(tmp_path / "missing.pem")),
            "holds no certificate in": TlsOptions(cert=str(empty), key=str(key)),
            "empty.pem holds no private key": TlsOptions(cert=str(cert), key=str(empty)),
            "key.pem is not the key of": TlsOptions(cert=str(cert), key=str(other_key)),
        }
        for sentence, tls in wrong.items():
            with pytest.raises(ValueError, match=sentence):
                make("tls:127.0.0.1:1", Clock(), tls=tls).start()
        with pytest.raises(ValueError, match="protected by a password"):
            TlsClient("host", TlsOptions(cert=str(cert), key=str(locked(tmp_path))))

    @pytest_twisted.ensureDeferred
    async def test_renewed_files_are_for_the_next_connection(self, tmp_path: Path) -> None:
        """Here the peer has a new certificate; one that cannot be read leaves the one before in place."""
        from twisted.internet import reactor

        cert, key = certificate(tmp_path)
        before = cert.read_bytes()
        sinks, creator = Sinks(), Server(cert, key)
        port = await endpoints.SSL4ServerEndpoint(reactor, 0, creator, interface="127.0.0.1").listen(sinks)
        to = f"tls:127.0.0.1:{port.getHost().port}"
        handler = make(to, reactor, tls=TlsOptions(ca=str(cert), server_name="peer.example"), log=Log())
        handler.start()
        await deliver(handler, [make_batch(b"a")])
        creator.context = Server(*certificate(tmp_path)).context
        sinks.made[-1].transport.loseConnection()
        await until(lambda: sinks.made[-1].lost)
        after = cert.read_bytes()
        cert.write_bytes(before)
        handler.reopen()
        with pytest.raises(TemporaryFailure, match="certificate verify failed"):
            await deliver(handler, [make_batch(b"b")])
        cert.write_bytes(after)
        handler.reopen()
        cert.write_text("broken")
        with pytest.raises(ValueError, match=r"cert\.pem holds no certificate in PEM"):
            handler.reopen()
        await deliver(handler, [make_batch(b"b")])
        await stop(handler)
        await until(lambda: sinks.made[-1].lost)
        assert bytes(sinks.made[-1].data) == b"b\n"
        cert.write_bytes(after)
        with_own = make(to, reactor, tls=TlsOptions(cert=str(cert), key=str(key)))
        with_own.start()
        with_own._context = replace(with_own._context, now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
        with pytest.raises(ValueError, match=r"the certificate in .*cert\.pem ended on 20"):
            with_own.reopen()
        await stop(with_own)
        await port.stopListening()

    def test_without_tls_there_is_nothing_to_renew(self) -> None:
        make("udp:127.0.0.1:1", Clock()).reopen()

    @pytest_twisted.ensureDeferred
    async def test_tls_with_a_certificate_that_is_checked(self, tmp_path: Path) -> None:
        from twisted.internet import reactor

        cert, key = certificate(tmp_path)
        sinks = Sinks()
        port = await endpoints.SSL4ServerEndpoint(reactor, 0, Server(cert, key), interface="127.0.0.1").listen(sinks)
        to = f"tls:127.0.0.1:{port.getHost().port}"
        pile = [make_batch(b"a" * 60_000, b"b")]
        good = [
            TlsOptions(ca=str(cert), server_name="peer.example"),
            TlsOptions(ca=str(cert), server_name="peer.example", cert=str(cert), key=str(key)),
            TlsOptions(verify=False),
        ]
        for tls in good:
            handler = make(to, reactor, tls=tls)
            handler.start()
            await deliver(handler, pile)
            await deliver(handler, [make_batch(b"c")])
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == b"a" * 60_000 + b"\nb\nc\n"
        bad = {
            "the peer's certificate is not for 127.0.0.1": TlsOptions(ca=str(cert)),
            "the peer's certificate is not for other.example": TlsOptions(ca=str(cert), server_name="other.example"),
            "certificate verify failed": TlsOptions(server_name="peer.example"),
        }
        for sentence, tls in bad.items():
            handler = make(to, reactor, tls=tls, log=Log())
            handler.start()
            with pytest.raises(TemporaryFailure, match=f"cannot connect to {to}: {sentence}"):
                await deliver(handler, pile)
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == b""
        await port.stopListening()
