"""The listener for streams: TCP, TLS and unix sockets, and those that systemd passes on."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from eventserver.interfaces import IListener
from eventserver.listeners._connection import StreamConnection
from eventserver.listeners._server import StreamServer
from eventserver.listeners._stream_options import StreamOptions


@implementer(IListener)
class StreamListener(StreamServer):
    """Cuts the bytes of each connection into frames, and puts what one read brought as one batch."""

    Options = StreamOptions

    @property
    def answers_nobody(self) -> bool:
        return not self.context.replies

    def connection(self, address: Any, *, tls: bool) -> StreamConnection:
        """The protocol for one connection that is accepted."""
        return StreamConnection(self, address, tls=tls)
