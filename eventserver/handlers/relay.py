"""Events (or raw frames) to another server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from eventserver import options
from eventserver.encoders import one_a_frame
from eventserver.handlers._datagrams import DatagramPeer
from eventserver.handlers._destinations import make_endpoint, parse_destination, renew
from eventserver.handlers._peer_connection import StreamPeer
from eventserver.handlers._tls_client import TlsOptions
from eventserver.interfaces import HandlerContext, IHandler, IReopen, Wants
from eventserver.options import Doc, Duration


class Reconnect(options.Options, frozen=True, kw_only=True):
    """How long to wait between attempts: doubled each time, each cut by up to a half at random."""

    initial_interval: Annotated[Duration, Doc("After the first failure.", "500 ms", ge=0.01)] = Duration(0.5)
    max_interval: Annotated[Duration, Doc("The longest wait.", "30 s", ge=0.01)] = Duration(30)


@implementer(IHandler, IReopen)
class RelayHandler:
    """Sends to another server over TCP, TLS, UDP or a unix socket.

    To return is to say that the operating system has taken all of it. Neither plain TCP nor UDP tells whether the
    peer's program has read it: what lies in the buffers of the two systems when the peer dies is lost. What the system
    has not taken when a connection is lost is sent again, so the peer may see half a frame and copies.

    Streams are framed by `framing`; a datagram carries one payload and no framing. A payload that is too large for a
    datagram becomes a dead letter. The connection is made at start and, after it was lost, for the next pile; while it
    cannot be made, nothing is lost here and the handler is unwell.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """Where to, and in what form."""

        to: Annotated[
            str,
            Doc(
                "The destination: tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT, unix:/PATH or unix-datagram:/PATH."
                " IPv6 addresses stand in brackets.",
                "tls:logs.example:6514",
            ),
        ]
        encoder: Annotated[str, Doc("The encoder: `raw`, `json`, `syslog`, ...", "syslog")] = "raw"
        framing: Annotated[str, Doc("The framing of a stream: `lines`, `octet`, `nul`, ...", "octet")] = "lines"
        tls: Annotated[
            TlsOptions, Doc("For `tls:`: whom to trust, and our certificate.", {"ca": "/etc/ssl/ca.pem"})
        ] = TlsOptions()
        connect_timeout: Annotated[Duration, Doc("For one attempt to connect.", "10 s", ge=0.1)] = Duration(10)
        send_timeout: Annotated[
            Duration, Doc("After this time without the peer taking a pile the connection is cut.", "20 s", ge=0.1)
        ] = Duration(20)
        reconnect: Annotated[
            Reconnect, Doc("How long to wait between attempts.", {"initial_interval": "500 ms", "max_interval": "30 s"})
        ] = Reconnect()

        def problems(self) -> Iterable[tuple[str, str]]:
            """A destination that is none, TLS settings without TLS, intervals that contradict each other."""
            try:
                if parse_destination(self.to).kind != "tls" and self.tls != TlsOptions():
                    yield "tls", "is for a destination with tls:"
            except ValueError as error:
                yield "to", str(error)
            if self.reconnect.initial_interval > self.reconnect.max_interval:
                yield "reconnect.max_interval", "is shorter than `initial_interval`"

    parts: ClassVar = {"encoder": "eventserver.encoders", "framing": "eventserver.framers"}

    def __init__(self, options: Options, context: HandlerContext, random: Callable[[], float] = random.random) -> None:
        self._options = options
        self._context = context
        self._to = parse_destination(options.to)
        self._encoder = context.parts["encoder"]()
        self._framer = context.parts["framing"]()
        self._random = random
        self._peer: StreamPeer | DatagramPeer | None = None
        self._endpoint: IStreamClientEndpoint | None = None
        # Datagrams fail one by one, and events have the names to say which.
        datagrams = self._to.kind in ("udp", "unix-datagram")
        as_frames = self._encoder.wants == "frames" and not context.needs_events and not datagrams
        self.wants: Wants = "frames" if as_frames else "events"
        self.wants_raw: bool = self.wants == "events" and self._encoder.wants_raw

    def start(self) -> None:
        """Begin to connect. Raises `ValueError` if a certificate or key cannot be used; a peer that is away is none."""
        options, context = self._options, self._context
        if self._to.kind in ("udp", "unix-datagram"):
            self._peer = DatagramPeer(self._to, context, send_timeout=options.send_timeout, delay=self._delay)
            return
        self._endpoint = make_endpoint(self._to, options.tls, options.connect_timeout, context.reactor)
        self._peer = peer = StreamPeer(
            self._endpoint,
            options.to,
            context,
            connect_timeout=options.connect_timeout,
            send_timeout=options.send_timeout,
            delay=self._delay,
        )
        # A failure is logged there; the first pile tries again.
        peer.connected().addErrback(lambda _: None)

    def handle(self, pile: list[Any]) -> Deferred[None] | None:
        """Send the pile; see `IHandler.handle`."""
        peer = self._peer
        if self.wants == "events" and self._encoder.wants == "frames":
            pile = list(one_a_frame(pile))
        if isinstance(peer, DatagramPeer):
            payloads = self._encoder.encode(pile)
            return peer.send(zip([event.id for event in pile], payloads, strict=True))
        assert peer is not None
        encode = self._encoder.encode_frames if self.wants == "frames" else self._encoder.encode
        data = b"".join(map(self._framer.wrap, encode(pile)))
        return peer.send(data) if data else None

    def reopen(self) -> None:
        """Read the TLS files again, for the connections to come. Raises `ValueError`, and then keeps the old ones."""
        renew(self._endpoint, self._context)

    def stop(self) -> Deferred[None] | None:
        """Close the connection after what was written."""
        return None if self._peer is None else self._peer.close()

    def _delay(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        reconnect = self._options.reconnect
        longest = min(reconnect.max_interval, reconnect.initial_interval * 2.0 ** min(failures - 1, 60))
        return longest * (1 - self._random() / 2)
