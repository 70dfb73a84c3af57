"""Who sent it: the text of `Event.peer`, and what counts as one peer for limits."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

_MAPPED = "::ffff:"
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
UCRED_SIZE = _UCRED.size


@dataclass(frozen=True, slots=True, eq=False)
class Proxied:
    """A peer behind a proxy, in place of an address of Twisted's.

    `address` is Twisted's for the peer, `text` the one of `Event.peer`, `context` what the proxy says besides.
    """

    address: Any
    text: str
    context: dict[str, Any]

    @property
    def host(self) -> str:
        """Whom the log names."""
        return self.text


def inet_text(host: str, port: int) -> str:
    """`192.0.2.7:51123` or `[2001:db8::7]:51123`; an IPv4 peer on an IPv6 socket is written as IPv4."""
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith(_MAPPED) and "." in host:
        return f"{host[len(_MAPPED) :]}:{port}"
    return f"[{host}]:{port}"


def sockaddr_text(address: tuple[Any, ...]) -> str:
    """The text of an address as `recvfrom` gives it; link-local addresses get their interface."""
    host = address[0]
    if len(address) == 4 and address[3] and "%" not in host:
        try:
            host = f"{host}%{socket.if_indextoname(address[3])}"
        except OSError:
            host = f"{host}%{address[3]}"
    return inet_text(host, address[1])


def unix_text(pid: int, uid: int) -> str:
    """`unix:pid=1,uid=0`."""
    return f"unix:pid={pid},uid={uid}"


def read_credentials(data: bytes) -> tuple[int, int]:
    """The process id and user id out of a `struct ucred`."""
    pid, uid, _gid = _UCRED.unpack_from(data)
    return pid, uid


def transport_text(transport: Any) -> str:
    """The peer of a stream transport; of a unix socket, the process that connected (SO_PEERCRED, unix(7))."""
    address = transport.getPeer()
    if isinstance(address, (IPv4Address, IPv6Address)):
        return inet_text(address.host, address.port)
    try:
        data = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED_SIZE)
    except (AttributeError, OSError):
        return "unix:"
    return unix_text(*read_credentials(data))


def peer_text(address: Any, transport: Any) -> str:
    """The peer of a connection: the one that a proxy names, else the transport's."""
    return address.text if isinstance(address, Proxied) else transport_text(transport)


def peer_context(address: Any, context: dict[str, Any]) -> dict[str, Any]:
    """The context of the batches of a connection: that of the listener's, and what a proxy says as `proxy`."""
    return {**context, "proxy": address.context} if isinstance(address, Proxied) else context


def limit_key(address: Any) -> str | None:
    """What `max_connections_per_peer` counts together: an IPv4 address, or the /64 of an IPv6 one.

    One subscriber has a whole /64 (RFC 4291, section 2.5.4), so single IPv6 addresses would be no limit.
    None for peers without a limit: loopback and unix sockets.
    """
    if isinstance(address, Proxied):
        address = address.address
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return None
    ip = ipaddress.ip_address(address.host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return None if ip.is_loopback else str(ipaddress.ip_network((ip, 64), strict=False))
        ip = ip.ipv4_mapped
    return None if ip.is_loopback else str(ip)
