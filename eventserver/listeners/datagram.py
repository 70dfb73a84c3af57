"""The listener for datagrams: UDP, unix datagram sockets, and those that systemd passes on."""

from __future__ import annotations

import socket

from twisted.application.service import Service
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from eventserver.interfaces import ConnectionInfo, IListener, ListenerContext
from eventserver.listeners import _endpoints, _sockets
from eventserver.listeners._datagram_options import DatagramOptions
from eventserver.listeners._datagrams import Datagrams
from eventserver.listeners._endpoints import CannotListen, Endpoint, parse_endpoint
from eventserver.listeners._finding import make_ingest
from eventserver.listeners._proxy_datagrams import ProxyHeaders
from eventserver.listeners._sweep import Sweeper
from eventserver.listeners._udp import LAST_DRAINS, InetReader, UnixReader
from eventserver.options import Size
from eventserver.thinned_log import ThinnedLog


@implementer(IListener)
class DatagramListener(Service):
    """Takes each datagram as a frame (or, with `datagram_framing`, as several), many of them as one batch.

    A full intake cannot hold senders up: what there is no room for is counted as rejected, reason `full`; or `journal`,
    where the journal can store nothing.
    """

    Options = DatagramOptions
    schemes = _endpoints.DATAGRAM_SCHEMES

    def __init__(self, options: DatagramOptions, context: ListenerContext) -> None:
        self.options = options
        self.context = context
        self._ingest = make_ingest(context)
        self._log = ThinnedLog(context.log, context.reactor)
        self._readers: list[InetReader] = []
        self._sweeper = Sweeper(context.reactor, self._sweep)
        self._listening: Deferred[None] | None = None

    @staticmethod
    def check_endpoint(text: str) -> None:
        """Raises `ValueError` with a sentence if the text is no endpoint for datagrams."""
        _endpoints.check_endpoint(text, "datagram")

    def listen(self) -> Deferred[None]:
        """Bind every endpoint; the kernel keeps what arrives until the service is started.

        Fails with `CannotListen` (an `OSError`), which names each endpoint that could not be bound; then none is bound.
        """
        self._listening = execute(self._listen)
        return self._listening

    def startService(self) -> None:
        """Read. Listens first, if `listen` was not called; then a failure is only logged."""
        super().startService()
        if self._listening is None:
            self.listen().addErrback(lambda failure: self.context.log.failure("cannot listen", failure=failure))
        for reader in self._readers:
            reader.start()
        self._sweeper.start()

    def stopService(self) -> None:
        """Take what the kernel has queued, and close."""
        super().stopService()
        self._sweeper.stop()
        for reader in self._readers:
            reader.stop()
            for _ in range(LAST_DRAINS):
                if not reader.drain():
                    break
        self._close()
        self._listening = None

    def give_up(self) -> None:
        """Nothing waits here: what the intake refuses is counted at once."""

    def pause(self) -> None:
        """Goes on: a datagram that is not read is lost, and nobody would count it."""

    def resume(self) -> None:
        """Nothing was stopped."""

    def connections(self) -> list[ConnectionInfo]:
        """Datagrams have none."""
        return []

    def addresses(self) -> list[str]:
        """Where it listens, with the real ports: `"udp:127.0.0.1:5140"`."""
        return [":".join(_sockets.address_text(reader.socket)) for reader in self._readers]

    def _listen(self) -> None:
        problems = []
        for text in self.options.endpoints:
            try:
                self._open(parse_endpoint(text))
            except CannotListen as error:
                problems.append(str(error))
        if problems:
            self._close()
            raise CannotListen("; ".join(problems))
        for text in self.options.optional_endpoints:
            try:
                self._open(parse_endpoint(text))
            except CannotListen as error:
                self.context.log.info("{error}; it is optional", error=str(error))

    def _open(self, endpoint: Endpoint) -> None:
        for sock in _sockets.open_sockets(endpoint, self.options):
            reader = self._reader(endpoint, sock)
            reader.proxies = self._proxies(reader)
            seen = reader.proxies or reader
            reader.datagrams = Datagrams(self.options, self.context, self._ingest, self._log, seen.text, seen.send)
            if self.context.replies:
                reader.patient = False  # somebody waits for the answer
            self._readers.append(reader)
            scheme, place = _sockets.address_text(sock)
            granted = Size(_sockets.granted_buffer(sock))
            note = "" if granted >= self.options.receive_buffer else f", of {self.options.receive_buffer} asked for"
            note += ", PROXY protocol" if reader.proxies is not None else ""
            self.context.log.info(
                "listening on {scheme} {place} (receive buffer {granted}{note})",
                scheme=scheme,
                place=place,
                granted=str(granted),
                note=note,
            )

    def _reader(self, endpoint: Endpoint, sock: socket.socket) -> InetReader:
        reactor, counters = self.context.reactor, self.context.counters
        if sock.family != socket.AF_UNIX:
            return InetReader(sock, reactor, counters, self._log)
        path = endpoint.path if endpoint.scheme == "unix-datagram" else ""
        return UnixReader(sock, reactor, counters, self._log, path)

    def _proxies(self, reader: InetReader) -> ProxyHeaders | None:
        settings = self.options.proxy_protocol
        if settings is None:
            return None
        return ProxyHeaders(settings, self.context, self._ingest, self._log, reader.text, reader.send)

    def _close(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()

    def _sweep(self, now: float) -> None:
        for reader in self._readers:
            reader.count_drops()
            reader.datagrams.sweep(now)
