"""The settings of a stream listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from eventserver import options
from eventserver.listeners._endpoints import check_endpoint, parse_endpoint
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.listeners._tls import TlsOptions
from eventserver.options import Doc, Duration, Size


class StreamOptions(options.Options, frozen=True, kw_only=True):
    """The settings of a stream listener; those of its framing stand beside them."""

    endpoints: Annotated[
        tuple[str, ...],
        Doc(
            "Where to listen: `tcp:`, `tcp6:`, `tls:`, `unix:`, `systemd:`, or what a plugin of Twisted's brings.",
            ["tcp:5140"],
        ),
    ] = ()
    optional_endpoints: Annotated[
        tuple[str, ...],
        Doc(
            "Endpoints that need not open (IPv6 on a machine without): a failure is only logged.",
            ["tcp6:5140:interface=::1"],
        ),
    ] = ()
    tls: Annotated[
        TlsOptions | None, Doc("Certificate and key for the `tls:` endpoints.", {"cert": "/etc/ssl/es.pem"})
    ] = None
    proxy_protocol: Annotated[
        ProxyOptions | None,
        Doc(
            "Every connection begins with a header of the PROXY protocol, version 1 or 2, before TLS too; it names the "
            "real peer.",
            {"trusted": ["10.0.0.0/8"]},
        ),
    ] = None
    idle_timeout: Annotated[
        Duration,
        Doc(
            "Close a connection on which nothing came for so long; 0 is never. A sender over plain TCP does not notice "
            "in time, and loses what it sends next.",
            "15 min",
        ),
    ] = Duration(0)
    frame_timeout: Annotated[
        Duration,
        Doc(
            "How long a frame may take from its first byte to its last; then what came is kept, marked `truncated`, "
            "and the connection is cut. 0 is for ever.",
            "30 s",
        ),
    ] = Duration(30)
    handshake_timeout: Annotated[Duration, Doc("How long a TLS handshake may take.", "10 s", ge=1)] = Duration(10)
    close_timeout: Annotated[
        Duration,
        Doc(
            "How long a connection stays open, once the peer has stopped sending or the server stops, for replies that "
            "are due and for the peer to read them; and, when the server stops, for frames that wait for room.",
            "30 s",
        ),
    ] = Duration(30)
    max_connections: Annotated[int, Doc("Connections at a time; further ones are closed at once.", 10000, ge=1)] = 10000
    max_connections_per_peer: Annotated[
        int,
        Doc(
            "Connections at a time from one IPv4 address or one IPv6 /64; loopback and unix sockets are exempt.",
            100,
            ge=1,
        ),
    ] = 100
    max_unread_replies: Annotated[
        Size, Doc("Bytes of replies that may wait for a peer that does not read, before it is cut off.", "256 KiB")
    ] = Size(256 << 10)
    backlog: Annotated[int, Doc("Connections that may wait to be accepted (see listen(2)).", 512, ge=1)] = 512
    keepalive: Annotated[bool, Doc("Have the kernel find out about TCP peers that vanished.", True)] = True
    keepalive_idle: Annotated[Duration, Doc("Silence before the first keepalive probe.", "60 s", ge=1)] = Duration(60)
    keepalive_interval: Annotated[Duration, Doc("Time between two keepalive probes.", "10 s", ge=1)] = Duration(10)
    keepalive_probes: Annotated[int, Doc("Unanswered probes until the connection is given up.", 6, ge=1, le=127)] = 6

    def problems(self) -> Iterable[tuple[str, str]]:
        """Endpoints that cannot be meant, and `tls:` endpoints without a certificate."""
        if not self.endpoints and not self.optional_endpoints:
            yield "endpoints", "is missing"
        for key, texts in (("endpoints", self.endpoints), ("optional_endpoints", self.optional_endpoints)):
            for text in texts:
                try:
                    check_endpoint(text, "stream")
                except ValueError as error:
                    yield key, str(error)
                else:
                    if self.tls is None and parse_endpoint(text).scheme == "tls":
                        yield "tls", f"is missing; `{text}` needs `tls = {{cert = ..., key = ...}}`"
