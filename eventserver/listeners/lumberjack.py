"""The listener for Lumberjack, versions 1 and 2: what Filebeat and the other Beats speak to Logstash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from zope.interface import implementer

from eventserver.interfaces import AckLevel, IListener, ListenerContext
from eventserver.listeners._lumberjack_connection import LumberjackConnection
from eventserver.listeners._lumberjack_options import LumberjackOptions
from eventserver.listeners._server import StreamServer


@implementer(IListener)
class LumberjackListener(StreamServer):
    """Takes the windows of Lumberjack clients, what one read brought together, and acknowledges it as `ack` says.

    An event that cannot be stored now is not answered: the connection is not read, its client is told to wait, and
    after `ack_timeout` the connection is cut, so that the client sends again.
    """

    Options = LumberjackOptions
    ack_levels: ClassVar[Sequence[AckLevel]] = ("durable", "delivered", "memory")
    can_reply = False
    framed = False
    #: What an event is, if the settings name no decoder.
    default_decoder = "json"

    options: LumberjackOptions

    def __init__(self, options: LumberjackOptions, context: ListenerContext) -> None:
        super().__init__(options, context)
        self._frame_limits = options.limits()

    def connection(self, address: Any, *, tls: bool) -> LumberjackConnection:
        """The protocol for one connection that is accepted."""
        return LumberjackConnection(self, address, self.options, self._frame_limits, tls=tls)
