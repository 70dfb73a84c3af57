"""The listener that finds out what its peers speak: one port for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from zope.interface import implementer

from eventserver.interfaces import AckLevel, ConnectionInfo, IListener, ListenerContext
from eventserver.listeners._auto_connection import DetectingConnection
from eventserver.listeners._auto_options import AutoOptions
from eventserver.listeners._auto_speakers import make_speakers
from eventserver.listeners._detect import choose
from eventserver.listeners._endpoints import Endpoint
from eventserver.listeners._server import StreamServer
from eventserver.listeners._tls import TlsFactory
from eventserver.thinned_log import ThinnedLog

#: How many peers are remembered with what they speak, so that it is logged once.
_MOST_KNOWN = 1000
#: Lines a minute that say what a peer speaks, for each protocol: anybody can come from ever new addresses.
_MOST_LOGGED = 100


class _Inside(Factory):
    """What is inside of TLS that began on a plain port: its place among the limits is that of the connection."""

    noisy = False

    def __init__(self, listener: AutoListener) -> None:
        self._listener = listener

    def buildProtocol(self, addr: Any) -> DetectingConnection:
        return DetectingConnection(self._listener, addr, tls=True)


@implementer(IListener)
class AutoListener(StreamServer):
    """Looks at the first bytes of each connection, and hands it to the listener for what they are.

    Those have no endpoints of their own. What concerns all (ports, limits of connections, being paused, the end) is
    this one's business, and passed on to them.
    """

    Options = AutoOptions
    ack_levels: ClassVar[Sequence[AckLevel]] = ("durable", "delivered", "memory")
    framed = False
    default_decoder = "auto"
    datagram_type = "datagram"
    options: AutoOptions

    def __init__(self, options: AutoOptions, context: ListenerContext) -> None:
        super().__init__(options, context)
        self._undecided: dict[DetectingConnection, None] = {}
        self._known: dict[tuple[str, str], None] = {}
        self._detected = ThinnedLog(context.log, context.reactor, burst=_MOST_LOGGED)
        self.speakers = make_speakers(options, context)
        for speaker in self.speakers.values():
            speaker._limits = self._limits

    def connection(self, address: Any, *, tls: bool) -> Any:
        """The protocol for one connection that is accepted."""
        return DetectingConnection(self, address, tls=tls)

    # Life

    def startService(self) -> None:
        """Accept connections, of whoever speaks one of the protocols."""
        for speaker in self.speakers.values():
            speaker.startService()
        super().startService()
        names = ", ".join((*self.speakers, *(["TLS"] if self.options.tls is not None else [])))
        self.context.log.info("each peer may speak one of {names}", names=names)

    def stopService(self) -> Deferred[None]:
        """Stop accepting and reading; fires when all that was said is put, and all connections are closed."""
        for connection in list(self._undecided):
            connection.leave()
        stopping = [speaker.stopService() for speaker in self.speakers.values()]
        stopping.append(super().stopService())
        return DeferredList(stopping).addCallback(lambda _results: None)

    def give_up(self) -> None:
        """Cut what is still open while the listener stops, and count what there was no room for."""
        for speaker in self.speakers.values():
            speaker.give_up()
        for connection in list(self._undecided):
            connection.abort("stopped")
        super().give_up()

    # What the intake calls

    def pause(self) -> None:
        """Read and accept no more, until `resume`."""
        if self.paused:
            return
        super().pause()
        for speaker in self.speakers.values():
            speaker.pause()
        for connection in self._undecided:
            connection.pause()

    def resume(self) -> None:
        """Put what is held; if there is room for all of it, read on."""
        self.paused = False
        for speaker in self.speakers.values():
            speaker.resume()
            if speaker.paused:
                self.pause()
            if self.paused:
                return  # what is held has filled the room again
        super().resume()
        for connection in list(self._undecided):
            connection.resume()

    # What people ask

    def connections(self) -> list[ConnectionInfo]:
        """The open connections, those first of which it is not known yet what they speak."""
        found = [connection.info() for connection in self._undecided]
        for name, speaker in self.speakers.items():
            found += [dataclasses.replace(info, protocol=name) for info in speaker.connections()]
        return sorted(found, key=lambda info: info.since)

    # What connections call

    def undecided(self, connection: DetectingConnection) -> None:
        """The connection is open, and nobody knows what it speaks."""
        self._undecided[connection] = None
        self._limits.opened(connection.address)
        self.context.counters.connections += 1

    def decided(self, connection: DetectingConnection, *, goes_on: bool) -> None:
        """It is known, and another protocol `goes_on` with it, and counts it; or the connection is gone."""
        if connection in self._undecided:
            del self._undecided[connection]
            self._limits.closed(connection.address)
            self.context.counters.connections -= 1
            self.context.counters.connections_total += not goes_on
            self._check_empty()

    def speaker(self, address: Any, peer: str, found: str, *, tls: bool) -> Any:
        """The protocol for what was found; None if it is not allowed, which is counted."""
        counters = self.context.counters
        if found == "tls" and not tls and self._certificates is not None:
            counters.protocols["tls"] += 1
            return TlsFactory(self._certificates, False, _Inside(self), self.context.reactor).buildProtocol(address)
        name = choose(found, self.speakers)
        if name is None:
            self.ingest.reject("protocol")
            return None
        counters.protocols[name] += 1
        self._note(peer, name)
        return self.speakers[name].connection(address, tls=tls)

    # Inside

    def _note(self, peer: str, name: str) -> None:
        """Log what a peer speaks, the first time."""
        key = (peer.rpartition(":")[0] or peer, name)
        if key in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = None
        self._detected.info(name, "{peer} speaks {name}", peer=peer, name=name)

    async def _open(self, endpoint: Endpoint) -> None:
        if self.options.tls is not None:
            self._read_certificates(endpoint)
        await super()._open(endpoint)

    def _sweep(self, now: float) -> None:
        super()._sweep(now)
        for connection in list(self._undecided):
            connection.sweep(now)

    def _check_empty(self) -> None:
        if not self._undecided:
            super()._check_empty()
