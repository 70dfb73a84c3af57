"""The PROXY protocol in front of a stream: a connection learns who its peer is before anything else is made of it."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Shape

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from eventserver.interfaces import ListenerContext
from eventserver.listeners._ingest import Ingest
from eventserver.listeners._peers import Proxied, transport_text
from eventserver.listeners._proxy_header import Address, Broken, Header, read_header
from eventserver.listeners._proxy_options import ProxyOptions, Trust
from eventserver.thinned_log import ThinnedLog


class Hub(Shape):
    """What connections that wait for their header know of their listener."""

    context: ListenerContext
    ingest: Ingest
    log: ThinnedLog

    def has_descriptors(self, address: Any) -> bool:
        """Whether enough are left for a connection from there; else it is counted as refused."""

    def has_room(self, address: Any) -> bool:
        """Whether one more connection may be open; else it is counted as refused."""

    def waits(self, connection: ProxiedConnection) -> None:
        """The connection is open, and has no header yet."""

    def waits_no_more(self, connection: ProxiedConnection) -> None:
        """It has its header, or is gone."""


class ProxiedFactory(Factory):
    """Lets proxies connect, and nobody else. `inner` gets what follows the header, TLS included."""

    noisy = False

    def __init__(self, hub: Hub, settings: ProxyOptions, inner: IProtocolFactory) -> None:
        self._hub = hub
        self._settings = settings
        self._trust = Trust(settings)
        self._inner = inner

    def buildProtocol(self, addr: Any) -> ProxiedConnection | None:
        """The protocol of a connection from there; None, and it is closed at once, if that is no proxy."""
        host = None if isinstance(addr, UNIXAddress) else getattr(addr, "host", "")
        if not self._trust.of(host):
            self._hub.context.counters.closed["untrusted_proxy"] += 1
            self._hub.log.warn(
                "untrusted_proxy",
                "refused a connection of {host}: it is not among `proxy_protocol.trusted`",
                host=host or "a local process",
            )
            return None
        if not (self._hub.has_descriptors(addr) and self._hub.has_room(addr)):
            return None
        return ProxiedConnection(self._hub, self._settings, self._inner, addr)


class ProxiedConnection(Protocol):
    """One connection of a proxy, until its header is whole; then another protocol takes its place.

    The header is waited for before anything is said or read, whatever pieces it comes in. It does not count as a
    frame; bytes that are no header, or not a whole one, count as one that was rejected.
    """

    transport: Any

    def __init__(self, hub: Hub, settings: ProxyOptions, inner: IProtocolFactory, address: Any) -> None:
        self._hub = hub
        self._settings = settings
        self._factory = inner
        self._address = address
        self._buffer = bytearray()
        self._inner: IProtocol | None = None
        self._over = False

    # What Twisted calls

    def connectionMade(self) -> None:
        self._since = self._hub.context.reactor.seconds()
        self._proxy = transport_text(self.transport)
        self._hub.waits(self)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._over:
            return
        buffer = self._buffer
        buffer += data
        header = read_header(buffer, self._settings.max_header)
        if isinstance(header, Broken):
            self.abort("proxy_header", header.why)
        elif header is not None:
            self._hand_over(header, bytes(buffer[header.size :]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
            return
        if not self._over:
            self._refuse()
        self._over = True
        self._hub.waits_no_more(self)

    # What the listener calls

    def sweep(self, now: float) -> None:
        """Apply the time limit."""
        if now - self._since >= self._settings.header_timeout:
            self.abort("proxy_timeout", "its PROXY header did not come in time")

    def abort(self, reason: str, why: str = "") -> None:
        """Cut the connection, and count it."""
        if self._over:
            return
        self._over = True
        self._refuse()
        self._hub.context.counters.closed[reason] += 1
        self._hub.log.warn(
            reason, "closed the connection of the proxy {peer}: {why}", peer=self._proxy, why=why or reason
        )
        self.transport.abortConnection()

    # Inside

    def _refuse(self) -> None:
        """Count what has come, whatever kept it from being a header: nothing will be made of it."""
        if self._buffer:
            self._count(len(self._buffer))
            self._hub.ingest.reject("proxy_header")
        self._buffer.clear()

    def _count(self, size: int) -> None:
        self._hub.context.counters.bytes += size

    def _hand_over(self, header: Header, rest: bytes) -> None:
        self._count(header.size)
        self._buffer.clear()
        # Its place is free before the next protocol asks for it.
        self._hub.waits_no_more(self)
        inner = self._factory.buildProtocol(self._peer(header))
        if inner is None:
            self._over = True
            self.transport.abortConnection()
            return
        self._inner = inner
        # From here on the transport calls the other protocol, as after STARTTLS; one of a plugin's that cannot be told
        # goes on calling this one, which passes it on.
        if getattr(self.transport, "protocol", None) is self:
            self.transport.protocol = inner
        inner.makeConnection(self.transport)
        if rest:
            inner.dataReceived(rest)

    def _peer(self, header: Header) -> Any:
        """The peer's address for the protocol that comes: the real one, or as it is where the header names none."""
        if header.source is None and not header.details:
            return self._address
        context = proxy_context(getattr(self._address, "host", None), header)
        if header.source is None:
            return Proxied(self._address, self._proxy, context)
        return Proxied(_twisted(header.source), str(header.source), context)


def proxy_context(proxy: str | None, header: Header) -> dict[str, Any]:
    """What a header says besides the peer, for the context of batches; `proxy` is the proxy's IP address."""
    context: dict[str, Any] = {"address": proxy or "unix"}
    if header.destination is not None:
        context["destination"] = str(header.destination)
    return {**context, **header.details}


def _twisted(address: Address) -> IPv4Address | IPv6Address | UNIXAddress:
    """The address as limits and logs want it."""
    if address.host is None:
        return UNIXAddress(address.path.encode())
    kind = IPv6Address if ":" in address.host else IPv4Address
    return kind("TCP", address.host, address.port)
