"""The settings of a datagram listener."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Literal

from eventserver import options
from eventserver.listeners._endpoints import check_endpoint, parse_endpoint
from eventserver.listeners._proxy_options import ProxyOptions
from eventserver.options import Doc, Duration, Size

#: No datagram is larger: the length field of UDP has 16 bits (RFC 768), and unix datagrams are cut there.
LARGEST = 65535


class DatagramOptions(options.Options, frozen=True, kw_only=True):
    """The settings of a datagram listener."""

    endpoints: Annotated[
        tuple[str, ...], Doc("Where to listen: `udp:`, `unix-datagram:` or `systemd-datagram:`.", ["udp:5140"])
    ] = ()
    optional_endpoints: Annotated[
        tuple[str, ...],
        Doc(
            "Endpoints that need not open (IPv6 on a machine without): a failure is only logged.",
            ["udp:5140:interface=::1"],
        ),
    ] = ()
    max_frame: Annotated[Size, Doc("The largest datagram that is kept whole.", "64 KiB", ge=1)] = Size(65536)
    oversize: Annotated[
        Literal["truncate", "drop", "close"],
        Doc(
            "A datagram over `max_frame`: keep its head and mark it `truncated`, or drop it; "
            "`close` drops it, since there is no connection.",
            "truncate",
        ),
    ] = "truncate"
    receive_buffer: Annotated[
        Size,
        Doc(
            "The kernel's buffer for datagrams that wait to be read (SO_RCVBUF); the log says if it grants less, "
            "and then net.core.rmem_max has to be raised.",
            "4 MiB",
            ge=1,
            le=1 << 30,
        ),
    ] = Size(4 << 20)
    multicast_groups: Annotated[
        tuple[str, ...], Doc("Multicast groups to join, on the UDP endpoints of their family.", ["239.0.0.1"])
    ] = ()
    multicast_interface: Annotated[
        str, Doc("The network interface to join the groups on, by name; default: the system's choice.", "eth0")
    ] = ""
    proxy_protocol: Annotated[
        ProxyOptions | None,
        Doc(
            "Every datagram begins with a header of the PROXY protocol, version 2; it names the real peer.",
            {"trusted": ["10.0.0.0/8"]},
        ),
    ] = None
    max_reply_peers: Annotated[
        int, Doc("Peers that can still be answered, the latest ones; only where replies are on.", 10000, ge=1)
    ] = 10000
    chunks: Annotated[
        Literal["auto", "gelf", "off"],
        Doc(
            "`gelf`: messages that come in chunks are put together, and compressed ones unpacked, as GELF over UDP has "
            "them; `auto`: where the decoder is `gelf` or `auto`.",
            "gelf",
        ),
    ] = "auto"
    max_message: Annotated[
        Size,
        Doc("The largest message put together of chunks, or unpacked; a larger one is refused.", "1 MiB", ge=1),
    ] = Size(1 << 20)
    max_ratio: Annotated[
        int,
        Doc("How many times its size a compressed message may have unpacked, once that is over 64 KiB.", 200, ge=2),
    ] = 200
    max_unpacked: Annotated[
        Size, Doc("Bytes that compressed messages may unpack to in a second; the rest is refused.", "64 MiB", ge=1)
    ] = Size(64 << 20)
    chunk_timeout: Annotated[
        Duration, Doc("How long a message may take from its first chunk to its last; GELF says 5 s.", "5 s", ge=1)
    ] = Duration(5)
    max_chunked: Annotated[
        int, Doc("Messages that wait for chunks; one more, and the oldest is given up.", 1000, ge=1)
    ] = 1000
    max_chunked_per_peer: Annotated[
        int, Doc("The same for one address (for IPv6, one /64), or one process.", 50, ge=1)
    ] = 50
    max_chunked_bytes: Annotated[Size, Doc("Bytes of memory for messages that wait for chunks.", "16 MiB", ge=4096)] = (
        Size(16 << 20)
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        """Endpoints that cannot be meant, and groups that are none or that no endpoint can join."""
        if not self.endpoints and not self.optional_endpoints:
            yield "endpoints", "is missing"
        for key, texts in (("endpoints", self.endpoints), ("optional_endpoints", self.optional_endpoints)):
            for text in texts:
                try:
                    check_endpoint(text, "datagram")
                except ValueError as error:
                    yield key, str(error)
        for group in self.multicast_groups:
            try:
                version = ipaddress.ip_address(group).version if ipaddress.ip_address(group).is_multicast else 0
            except ValueError:
                version = 0
            if not version:
                yield "multicast_groups", f"{group!r} is no multicast address; one is 239.0.0.1, another ff02::1"
            elif version not in self._versions():
                yield "multicast_groups", f"{group} needs a `udp:` endpoint for IPv{version}"

    def _versions(self) -> set[int]:
        """The versions of IP that the UDP endpoints speak; both where a socket of systemd's may be anything."""
        found: set[int] = set()
        for text in (*self.endpoints, *self.optional_endpoints):
            try:
                endpoint = parse_endpoint(text)
            except ValueError:
                continue
            if endpoint.scheme == "udp":
                found.add(6 if ":" in endpoint.interface else 4)
            elif endpoint.scheme == "systemd-datagram":
                found |= {4, 6}
        return found
