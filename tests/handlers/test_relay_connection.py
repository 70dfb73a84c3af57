"""The relay handler's one connection: when data counts as sent, and what happens when the peer is away."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from eventserver.errors import TemporaryFailure
from eventserver.handlers._peer_connection import PeerProtocol, StreamPeer
from eventserver.handlers.relay import Reconnect
from tests.handlers.fakes import LateTransport, Log, PullTransport, make_context
from tests.handlers.relayworld import make, results_of


class TestProtocol:
    """When data counts as sent."""

    @pytest.fixture
    def transport(self) -> PullTransport:
        return PullTransport()

    @pytest.fixture
    def protocol(self, transport: PullTransport) -> PeerProtocol:
        protocol = PeerProtocol(False, lambda lost: None)
        protocol.makeConnection(transport)
        return protocol

    def test_data_is_sent_when_the_buffer_is_empty(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        first, second = results_of(protocol.send(b"one")), results_of(protocol.send(b"two"))
        assert (transport.value(), first, second) == (b"onetwo", [], [])
        transport.drain()
        assert (first, second) == ([None], [None])
        third = results_of(protocol.send(b"three"))
        assert third == []
        transport.drain()
        assert third == [None]

    def test_a_lost_connection_fails_what_was_not_sent(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        sent = results_of(protocol.send(b"one"))
        transport.drain()
        lost = results_of(protocol.send(b"two"))
        protocol.connectionLost(Failure(ConnectionDone()))
        assert sent == [None]
        assert isinstance(lost[0], TemporaryFailure)
        with pytest.raises(TemporaryFailure):
            protocol.send(b"three")

    def test_what_is_cancelled_cuts_the_connection(self, protocol: PeerProtocol, transport: PullTransport) -> None:
        """Half of the pile may be out: it must not be followed by the same pile on the same connection."""
        sending = protocol.send(b"one")
        sending.cancel()
        assert transport.aborted
        assert results_of(sending)


class FakeEndpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred()
        self.attempts.append((factory, attempt))
        return attempt

    def succeed(self, transport: PullTransport | None = None) -> PullTransport:
        factory, attempt = self.attempts[-1]
        protocol, transport = factory.buildProtocol(None), transport or PullTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        attempt.callback(protocol)
        if protocol._secure:
            protocol.handshakeCompleted()
        return transport

    def fail(self) -> None:
        self.attempts[-1][1].errback(ConnectionRefusedError())


class TestReconnecting:
    """One connection, made when it is needed; failures say when to come again."""

    def setup_method(self) -> None:
        self.clock, self.endpoint, self.log = Clock(), FakeEndpoint(), Log()
        self.peer = StreamPeer(
            self.endpoint,  # type: ignore[arg-type]  # a stand-in
            "tcp:peer:1",
            make_context(self.clock, self.log),
            connect_timeout=10,
            send_timeout=20,
            delay=lambda failures: 100.0 + failures,
        )

    def test_a_pile_waits_for_the_connection(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        assert sent == []
        transport = self.endpoint.succeed()
        assert (transport.value(), sent) == (b"one", [])
        transport.drain()
        assert sent == [None]
        results_of(self.peer.send(b"two"))
        assert transport.value() == b"onetwo"
        assert len(self.endpoint.attempts) == 1

    def test_failures_in_a_row_wait_longer_until_something_was_sent(self) -> None:
        """A peer that accepts and hangs up does not count as well."""
        for failures in (1, 2):
            sent = results_of(self.peer.send(b"one"))
            self.endpoint.fail()
            assert isinstance(sent[0], TemporaryFailure)
            assert "cannot connect to tcp:peer:1" in str(sent[0])
            assert sent[0].retry_after == 100 + failures
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed().protocol.connectionLost(Failure(ConnectionDone()))
        assert sent[0].retry_after == 103
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed().drain()
        assert sent == [None]
        assert len([line for line in self.log.lines if "cannot connect" in line]) == 1

    def test_after_a_loss_the_next_pile_connects_again(self) -> None:
        results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed()
        transport.drain()
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        results_of(self.peer.send(b"two"))
        assert self.endpoint.succeed().value() == b"two"

    def test_connecting_has_a_limit(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        self.clock.advance(10)
        assert isinstance(sent[0], TemporaryFailure)
        assert "no connection in 10 s" in str(sent[0])

    def test_a_peer_that_takes_nothing_is_cut_off(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed()
        self.clock.advance(20)
        assert transport.aborted
        assert isinstance(sent[0], TemporaryFailure)
        assert "took nothing for 20 s" in str(sent[0])

    @pytest.mark.parametrize("connected", [False, True])
    def test_a_cancelled_pile_is_a_temporary_failure(self, connected: bool) -> None:
        sending = self.peer.send(b"one")
        sent = results_of(sending)
        if connected:
            self.endpoint.succeed()
        sending.cancel()
        assert isinstance(sent[0], TemporaryFailure)
        if not connected:
            assert self.endpoint.succeed().value() == b""
        assert not self.clock.getDelayedCalls()

    def test_closing_while_connecting_gives_up(self) -> None:
        sent = results_of(self.peer.send(b"one"))
        assert self.peer.close() is None
        assert isinstance(sent[0], TemporaryFailure)
        assert self.log.lines == []

    def test_closing_waits_for_the_peer_but_not_for_ever(self) -> None:
        results_of(self.peer.connected())
        transport = self.endpoint.succeed()
        closed = results_of(self.peer.close())
        assert transport.disconnecting
        self.clock.advance(5)
        assert transport.aborted
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        assert closed == [None]

    @pytest.mark.parametrize("secure", [False, True])
    def test_after_a_peer_that_took_nothing_it_connects_again_and_stops(self, secure: bool) -> None:
        """A connection that is cut is lost a turn later, when the pile has failed already."""
        self.peer._secure = secure
        sent = results_of(self.peer.send(b"one"))
        self.endpoint.succeed(LateTransport(self.clock, secure))
        self.clock.advance(20)
        assert "took nothing for 20 s" in str(sent[0])
        self.clock.advance(0.001)
        again = results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed(LateTransport(self.clock, secure))
        transport.drain()
        assert again == [None]
        closed = results_of(self.peer.close())
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_between_the_cut_and_the_loss_nothing_is_written(self) -> None:
        results_of(self.peer.send(b"one"))
        transport = self.endpoint.succeed(LateTransport(self.clock))
        self.clock.advance(20)
        assert isinstance(results_of(self.peer.send(b"two"))[0], TemporaryFailure)
        assert transport.value() == b"one"
        self.clock.advance(0.001)
        assert self.endpoint.attempts[1:] == []

    def test_stopping_in_the_middle_of_a_pile_ends(self) -> None:
        """Delivery cancels the call, then stops the handler."""
        sending = self.peer.send(b"one")
        sent = results_of(sending)
        self.endpoint.succeed(LateTransport(self.clock))
        sending.cancel()
        closed = results_of(self.peer.close())
        self.clock.advance(0.001)
        assert isinstance(sent[0], TemporaryFailure)
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_stopping_ends_even_if_the_connection_is_never_lost(self) -> None:
        results_of(self.peer.connected())
        transport = self.endpoint.succeed()
        closed = results_of(self.peer.close())
        self.clock.pump([5, 1])
        assert transport.aborted
        assert closed == [None]
        assert not self.clock.getDelayedCalls()

    def test_delays_double_up_to_the_limit_and_are_cut_at_random(self) -> None:
        handler = make("tcp:h:1", reconnect=Reconnect())
        assert [handler._delay(n) for n in (1, 2, 3, 7, 1000)] == [0.5, 1, 2, 30, 30]
        handler._random = lambda: 1.0
        assert handler._delay(2) == 0.5
