"""A connection of a run, as Twisted has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from eventserver.handlers._peer_connection import PeerProtocol, _said


class Connection(PeerProtocol):
    """A `PeerProtocol` that also listens; `ended` is why it is gone."""

    def __init__(
        self, secure: bool, lost: Callable[[PeerProtocol], None], hear: Callable[[Connection, bytes], None]
    ) -> None:
        super().__init__(secure, lost)
        self._hear = hear
        self.ended: Failure = connectionDone

    def dataReceived(self, data: bytes) -> None:
        """What the server says."""
        if not self._closed:
            self._hear(self, data)

    def let_go(self) -> None:
        """Close it without waiting for the peer, which may never close: what was written is the system's to deliver."""
        self._consumer.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.ended = reason
        super().connectionLost(reason)


class ConnectionFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Connection:
        return self._make()


def reason_of(failure: Failure) -> str:
    """Why a connection is gone, or was not made, in words."""
    return _said(failure)
