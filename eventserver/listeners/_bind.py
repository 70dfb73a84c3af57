"""Stream endpoints, opened through Twisted's."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

from twisted.internet import unix
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IPushProducer, IStreamServerEndpoint
from zope.interface import implementer

from eventserver.listeners._endpoints import CannotListen, Endpoint
from eventserver.listeners._socket_files import remove_own_lock
from eventserver.listeners._stream_options import StreamOptions
from eventserver.listeners._systemd import adopt


def server_endpoints(reactor: Any, endpoint: Endpoint, backlog: int) -> list[IStreamServerEndpoint]:
    """Twisted's endpoints for one of ours: one, or for `systemd:` as many as systemd passed under that name.

    Raises `CannotListen`.
    """
    args = endpoint.args
    backlog = int(args.get("backlog", backlog))
    if endpoint.scheme in ("tcp", "tls"):
        return [TCP4ServerEndpoint(reactor, endpoint.port, backlog, endpoint.interface)]
    if endpoint.scheme == "tcp6":
        return [TCP6ServerEndpoint(reactor, endpoint.port, backlog, endpoint.interface or "::")]
    if endpoint.scheme == "unix":
        lock = bool(int(args.get("lockfile", "1")))
        if lock:
            remove_own_lock(endpoint.path)
        return [UNIXServerEndpoint(reactor, endpoint.path, backlog, endpoint.mode, lock)]
    if endpoint.scheme == "systemd":
        return [_adopted(reactor, sock) for sock in adopt(endpoint)]
    try:
        return [serverFromString(reactor, endpoint.text)]
    except (ValueError, TypeError) as error:
        raise CannotListen(f"{endpoint.text}: {error}") from error


def _adopted(reactor: Any, sock: socket.socket) -> IStreamServerEndpoint:
    if sock.family == socket.AF_UNIX:
        return _AdoptedUnixEndpoint(reactor, sock.detach())
    family = sock.family
    return AdoptedStreamServerEndpoint(reactor, sock.detach(), family)


@implementer(IStreamServerEndpoint)
class _AdoptedUnixEndpoint:
    """A listening unix socket of systemd's. Its file is systemd's too.

    Twisted's `adoptStreamPort` would make the file writable for everybody, and when the port is closed remove it and
    shut the socket down, for systemd as well.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        try:
            port = unix.Port._fromListeningDescriptor(self._reactor, self._descriptor, protocolFactory)
            port._bindPath = b"\0"  # the mark of sockets without a file
            port._shouldShutdown = False
            port.startListening()
        except Exception:
            return fail()
        finally:
            os.close(self._descriptor)
        return succeed(port)


def refusal(endpoint: Endpoint, error: Exception) -> CannotListen:
    """The error that names the endpoint, for one that Twisted raised."""
    cause = error.socketError if isinstance(error, CannotListenError) else error
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    hint = ""
    if endpoint.scheme == "tcp6" and not endpoint.interface:
        hint = " (`tcp6:` without an interface takes IPv4 too, and needs no `tcp:` with the same port)"
    return CannotListen(f"cannot listen on {endpoint.text}: {why}{hint}")


def tune(port: IListeningPort, options: StreamOptions) -> None:
    """Set keepalive on a listening TCP socket: on Linux, the sockets that it accepts inherit it."""
    if not options.keepalive or not IPushProducer.providedBy(port):
        return
    with socket.socket(fileno=os.dup(port.fileno())) as sock:  # type: ignore[attr-defined]  # all real ports have one
        if sock.family == socket.AF_UNIX:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(options.keepalive_idle))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(options.keepalive_interval))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, options.keepalive_probes)


def address_text(scheme: str, address: Any) -> tuple[str, str]:
    """Scheme and place of a listening port, as people read them: `("tcp", "127.0.0.1:5140")`."""
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        return "unix", os.fsdecode(name)
    host = address.host
    try:
        bracketed = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        bracketed = host
    return ("tcp" if scheme == "systemd" else scheme), f"{bracketed}:{address.port}"
