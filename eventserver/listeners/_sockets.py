"""Datagram sockets: opened, tuned, joined to multicast groups."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from pathlib import Path

from eventserver.listeners._datagram_options import DatagramOptions
from eventserver.listeners._endpoints import CannotListen, Endpoint
from eventserver.listeners._peers import inet_text
from eventserver.listeners._socket_files import remove_stale
from eventserver.listeners._systemd import adopt

# asm-generic/socket.h; the socket module has no names for these.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")  # linux/sock_diag.h: SK_MEMINFO_VARS values; SK_MEMINFO_DROPS is the last


def open_sockets(endpoint: Endpoint, options: DatagramOptions) -> list[socket.socket]:
    """The sockets of one endpoint, bound and non-blocking; several only for `systemd-datagram:`.

    Raises `CannotListen`.
    """
    try:
        if endpoint.scheme == "udp":
            sockets = [_open_udp(endpoint, bool(options.multicast_groups))]
        elif endpoint.scheme == "unix-datagram":
            sockets = [_open_unix(endpoint)]
        else:
            sockets = adopt(endpoint)
    except CannotListen:
        raise
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {endpoint.text}: {_why(error)}") from error
    try:
        for sock in sockets:
            _tune(sock, options)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise CannotListen(f"cannot listen on {endpoint.text}: {_why(error)}") from error
    return sockets


def address_text(sock: socket.socket) -> tuple[str, str]:
    """Scheme and place of a socket, as people read them: `("udp", "127.0.0.1:5140")`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return "unix-datagram", os.fsdecode(name)
    return "udp", f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else inet_text(*name)


def granted_buffer(sock: socket.socket) -> int:
    """The bytes of SO_RCVBUF that count; Linux reports twice as many, for its own needs (socket(7))."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams that the kernel has dropped on this socket, modulo 2**32; 0 where it does not tell."""
    try:
        values: tuple[int, ...] = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):
        return 0
    return values[-1]


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _open_udp(endpoint: Endpoint, shared: bool) -> socket.socket:
    interface = endpoint.interface
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    # A hostname is looked up by bind itself; an address with a scope (fe80::1%eth0) needs getaddrinfo.
    found = socket.getaddrinfo(interface, endpoint.port, family, socket.SOCK_DGRAM)[0][4] if interface else None
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if shared:
            # Every listener of a multicast group gets each datagram, so they may share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(found or ("", endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(endpoint: Endpoint) -> socket.socket:
    path = endpoint.path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        remove_stale(path, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(path)
        Path(path).chmod(endpoint.mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _tune(sock: socket.socket, options: DatagramOptions) -> None:
    # The kernel caps what it grants, except for those who may administer the network; the listener logs what it is.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)
        if granted_buffer(sock) < options.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, options.receive_buffer)
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return
    index = socket.if_nametoindex(options.multicast_interface) if options.multicast_interface else 0
    for group in options.multicast_groups:
        if ipaddress.ip_address(group).version == 4 and sock.family == socket.AF_INET:
            request = struct.pack("4s4si", socket.inet_aton(group), b"\0\0\0\0", index)  # struct ip_mreqn, ip(7)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        elif ipaddress.ip_address(group).version == 6 and sock.family == socket.AF_INET6:
            request = struct.pack("16sI", socket.inet_pton(socket.AF_INET6, group), index)  # struct ipv6_mreq, ipv6(7)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
