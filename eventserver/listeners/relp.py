"""The listener for RELP: syslog over a connection whose every message is acknowledged (rsyslog's omrelp, librelp)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from zope.interface import implementer

from eventserver.interfaces import AckLevel, IListener, ListenerContext
from eventserver.listeners._relp_connection import RelpConnection
from eventserver.listeners._relp_options import RelpOptions
from eventserver.listeners._server import StreamServer


@implementer(IListener)
class RelpListener(StreamServer):
    """Takes the messages of RELP clients, what one read brought as one batch, and acknowledges each when `ack` is kept.

    A message that cannot be stored now is not answered: the connection is not read, and after `ack_timeout` it is cut,
    so that the client sends it again. None is ever refused, since clients forget a message that was.
    """

    Options = RelpOptions
    ack_levels: ClassVar[Sequence[AckLevel]] = ("durable", "delivered", "memory")
    can_reply = False
    framed = False

    options: RelpOptions

    def __init__(self, options: RelpOptions, context: ListenerContext) -> None:
        super().__init__(options, context)
        self._software = f"eventserver,{version('eventserver')}"

    def connection(self, address: Any, *, tls: bool) -> RelpConnection:
        """The protocol for one connection that is accepted."""
        return RelpConnection(self, address, self.options, self._software, tls=tls)
