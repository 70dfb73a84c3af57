"""A site over HTTP for pages of our own: one request a connection, within deadlines that no trickle of bytes moves."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import Site


class OneRequest(HTTPChannel):
    """One connection: one request, with a body only where that is used. A subclass sets the deadlines.

    Twisted bounds the request line (16 KiB) and the headers (16 KiB together).
    """

    #: Seconds from the connection to the end of the headers, and of a body after them.
    head_timeout: ClassVar[float]
    #: Seconds from there to the end of the answer; None: the first deadline is for all.
    answer_timeout: ClassVar[float | None] = None

    maxHeaders = 100
    _deadline: IDelayedCall | None = None
    _takes_body = False

    def wants_body(self) -> bool:
        """Whether the body of the request, whose headers are known, is read."""
        return False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._set_deadline(self.head_timeout)

    def allHeadersReceived(self) -> None:
        if self.length == 0:
            self._answers()
            super().allHeadersReceived()
        elif self.wants_body():
            self._takes_body = True
            if self.answer_timeout is not None:
                self._set_deadline(self.head_timeout)
            super().allHeadersReceived()
        else:
            self._answers()
            # A body is neither read nor kept. (Twisted would put it into memory, or into a temporary file.)
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """What comes after the headers is dropped, unless it is a body that is used."""
        if self._takes_body:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        self._takes_body = False
        self._answers()
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Every connection ends with its answer: who asks every 15 s gains nothing by keeping it."""
        request.responseHeaders.setRawHeaders("connection", ["close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)
        self.factory.open_channels.discard(self)

    def _answers(self) -> None:
        if self.answer_timeout is not None:
            self._set_deadline(self.answer_timeout)

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.factory.reactor.callLater(seconds, self.forceAbortClient)


class SmallSite(Site):
    """The factory of such connections; beyond `max_connections` at once they are closed unanswered."""

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Resource, channel: type[OneRequest], max_connections: int, reactor: Any) -> None:
        super().__init__(root, timeout=None, reactor=reactor)
        # Twisted's own default is a wrapper that adds HTTP/2, and the only type that its annotation allows.
        self.protocol = channel  # type: ignore[assignment]
        self.max_connections = max_connections
        self.open_channels: set[OneRequest] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The protocol of a connection; None if there are too many."""
        if len(self.open_channels) >= self.max_connections:
            return None
        channel = super().buildProtocol(addr)
        self.open_channels.add(channel)
        return channel

    def startFactory(self) -> None:
        """No access log, and so no clock for its time stamps."""

    def stopFactory(self) -> None:
        """Nothing to close."""

    def log(self, request: Request) -> None:
        """Health checks and scrapes are not worth a line each."""

    def abort(self) -> None:
        """Closes every connection now."""
        for channel in list(self.open_channels):
            channel.forceAbortClient()
