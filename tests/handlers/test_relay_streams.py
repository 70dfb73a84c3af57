"""The relay handler over real sockets: framings, slow and stuck peers, and one that comes later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import endpoints
from twisted.internet.task import deferLater

from eventserver.errors import TemporaryFailure
from eventserver.handlers._tls_client import TlsOptions
from eventserver.options import Duration
from tests.handlers.fakes import HandMoved, Log, make_batch, make_events, until
from tests.handlers.relayworld import Server, Sinks, certificate, deliver, make, results_of, stop


async def listen(sinks: Sinks, secure: bool, folder: Path) -> tuple[Any, str, TlsOptions]:
    """A server on a free port: its port, and what of a relay's options leads there."""
    from twisted.internet import reactor

    if secure:
        server = Server(*certificate(folder))
        endpoint = endpoints.SSL4ServerEndpoint(reactor, 0, server, interface="127.0.0.1")
    else:
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(sinks)
    to = f"{'tls' if secure else 'tcp'}:127.0.0.1:{port.getHost().port}"
    return port, to, TlsOptions(verify=False) if secure else TlsOptions()


class TestStreams:
    """Over real sockets."""

    @pytest_twisted.ensureDeferred
    async def test_tcp_in_both_framings(self) -> None:
        from twisted.internet import reactor

        sinks = Sinks()
        port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(sinks)
        for framing, expected in (("lines", b"a\nbc\n"), ("octet", b"1 a2 bc")):
            handler = make(f"tcp:localhost:{port.getHost().port}", reactor, framing=framing)
            handler.start()
            await deliver(handler, [make_batch(b"a"), make_batch(b"bc")])
            await stop(handler)
            await until(lambda: sinks.made[-1].lost)
            assert bytes(sinks.made[-1].data) == expected
        await port.stopListening()

    @pytest.mark.parametrize("secure", [False, True])
    @pytest_twisted.ensureDeferred
    async def test_a_large_pile_is_sent_when_the_kernel_has_it(self, tmp_path: Path, secure: bool) -> None:
        """More than the buffers of the kernel: the Deferred waits for the peer to read."""
        from twisted.internet import reactor

        sinks = Sinks()
        port, to, tls = await listen(sinks, secure, tmp_path)
        handler = make(to, reactor, tls=tls)
        handler.start()
        await deliver(handler, [make_batch(b"first")])
        transport: Any = sinks.made[0].transport
        transport.pauseProducing()
        sent = results_of(handler.handle([make_batch(*[b"x" * 65535] * 300)]))
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]  # a module, to the type checker
        assert sent == []
        transport.resumeProducing()
        await until(lambda: sent)
        assert sent == [None]
        await stop(handler)
        await until(lambda: sinks.made[0].lost)
        assert len(sinks.made[0].data) == 65536 * 300 + 6
        await port.stopListening()

    @pytest.mark.parametrize("secure", [False, True])
    @pytest_twisted.ensureDeferred
    async def test_a_peer_that_is_stuck_is_cut_off_and_gets_the_pile_again(self, tmp_path: Path, secure: bool) -> None:
        from twisted.internet import reactor

        sinks = Sinks()
        port, to, tls = await listen(sinks, secure, tmp_path)
        timed = HandMoved(reactor)
        handler = make(to, timed, tls=tls, log=Log(), send_timeout=Duration(10))
        handler.start()
        await deliver(handler, [make_batch(b"first")])
        await until(lambda: sinks.made[0].data)
        stuck: Any = sinks.made[0].transport
        stuck.pauseProducing()
        pile = [make_batch(*[b"x" * 65535] * 300)]
        sent = results_of(handler.handle(pile))
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # a module, to the type checker
        assert sent == []
        timed.advance(10)
        await until(lambda: sent)
        assert isinstance(sent[0], TemporaryFailure)
        assert "took nothing" in str(sent[0])
        await until(lambda: handler._peer._protocol is None)  # type: ignore[union-attr]  # a stream
        await deliver(handler, [make_batch(b"again")])
        await until(lambda: sinks.made[1].data)
        # Once more, and this time the handler is stopped in the middle, as a server does.
        stuck_too: Any = sinks.made[1].transport
        stuck_too.pauseProducing()
        sending = handler.handle(pile)
        assert sending is not None
        sent = results_of(sending)
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # a module, to the type checker
        sending.cancel()
        await stop(handler)
        assert isinstance(sent[0], TemporaryFailure)
        for transport in (stuck, stuck_too):
            transport.abortConnection()
        await until(lambda: all(sink.lost for sink in sinks.made))
        assert [bytes(sink.data[:6]) for sink in sinks.made] == [b"first\n", b"again\n"]
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_a_peer_that_comes_later_gets_the_pile(self, tmp_path: Path) -> None:
        from twisted.internet import reactor

        path = tmp_path / "socket"
        handler = make(f"unix:{path}", reactor, encoder="json", log=Log())
        handler.start()
        with pytest.raises(TemporaryFailure) as caught:
            await deliver(handler, make_events(1))
        assert caught.value.retry_after is not None
        sinks = Sinks()
        port = await endpoints.UNIXServerEndpoint(reactor, str(path)).listen(sinks)
        await deliver(handler, make_events(1))
        await stop(handler)
        await until(lambda: sinks.made[0].lost)
        assert sinks.made[0].data.startswith(b'{"id":"01BATCH-0"')
        assert sinks.made[0].data.endswith(b"}\n")
        await port.stopListening()
