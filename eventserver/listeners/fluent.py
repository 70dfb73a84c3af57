"""The listener for the Forward protocol, version 1: what Fluentd, Fluent Bit, their libraries and Docker send."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from zope.interface import implementer

from eventserver.interfaces import AckLevel, IListener, ListenerContext
from eventserver.listeners import _bind, _endpoints
from eventserver.listeners._endpoints import Endpoint
from eventserver.listeners._fluent import Session
from eventserver.listeners._fluent_connection import FluentConnection
from eventserver.listeners._fluent_handshake import Handshake, Key
from eventserver.listeners._fluent_heartbeat import Heartbeats
from eventserver.listeners._fluent_messages import Limits
from eventserver.listeners._fluent_options import FluentOptions
from eventserver.listeners._http_body import Budget
from eventserver.listeners._http_repeats import Keys, KeyWindow
from eventserver.listeners._server import StreamServer


@implementer(IListener)
class FluentListener(StreamServer):
    """Takes the messages of the Forward protocol in all modes; each entry is a frame for the decoder `fluent`.

    A message that asks for an ack gets it when `ack` is kept; one that is sent again, also on another connection or
    after a restart, gets it again and is not stored again. `random_bytes(n)` is where the handshake's salts come from.
    """

    Options = FluentOptions
    ack_levels: ClassVar[Sequence[AckLevel]] = ("durable", "delivered", "memory")
    can_reply = False
    framed = False
    default_decoder = "fluent"
    schemes = (*_endpoints.STREAM_SCHEMES, "udp")
    options: FluentOptions

    def __init__(
        self,
        options: FluentOptions,
        context: ListenerContext,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__(options, context)
        self._random_bytes = random_bytes
        self._key = None if options.shared_key is None else Key(options.shared_key, options.users, options.hostname)
        self._sizes = Limits(
            int(options.max_message), int(options.max_unpacked), options.max_ratio, int(options.max_frame),
            options.max_entries, options.max_values,
        )  # fmt: skip
        self.budget = Budget(int(options.max_buffered))
        self.scope = f"{context.name}/forward"
        self.keys: Keys = (
            KeyWindow(context.reactor.seconds, options.max_repeat_keys, float(options.repeat_window))
            if context.journal is None
            else context.journal
        )

    @staticmethod
    def check_endpoint(text: str) -> None:
        """Raises `ValueError` with a sentence if the text is no endpoint for streams, and not `udp:` for heartbeats."""
        if _endpoints.parse_endpoint(text).scheme != "udp":
            _endpoints.check_endpoint(text, "stream")

    def connection(self, address: Any, *, tls: bool) -> FluentConnection:
        """The protocol for one connection that is accepted."""
        return FluentConnection(self, address, self.options, tls=tls)

    def new_session(self) -> Session:
        """The protocol's state for a new connection."""
        return Session(self._sizes, None if self._key is None else Handshake(self._key, self._random_bytes))

    async def _open(self, endpoint: Endpoint) -> None:
        if endpoint.scheme != "udp":
            await super()._open(endpoint)
            return
        try:
            port = self.context.reactor.listenUDP(endpoint.port, Heartbeats(self.ingest), endpoint.interface)
        except Exception as error:
            raise _bind.refusal(endpoint, error) from error
        self._ports.append(("udp", port))
        place = _bind.address_text("udp", port.getHost())[1]
        self.context.log.info("listening on udp {place} (heartbeats)", place=place)
        self._accept_or_not()
