"""What every listener for streams does: ports, TLS, limits, and connections that wait for room."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.protocol import Factory
from zope.interface import implementer

from eventserver.interfaces import ConnectionInfo, IListener, IReopen, ListenerContext
from eventserver.listeners import _bind, _endpoints
from eventserver.listeners._endpoints import CannotListen, Endpoint, parse_endpoint
from eventserver.listeners._finding import make_ingest
from eventserver.listeners._gathering import gather
from eventserver.listeners._limits import ConnectionLimits, few_descriptors
from eventserver.listeners._peer_connection import PeerConnection
from eventserver.listeners._proxy import ProxiedConnection, ProxiedFactory
from eventserver.listeners._stream_options import StreamOptions
from eventserver.listeners._sweep import Sweeper
from eventserver.listeners._tls import Certificates, TlsFactory, TlsProblem
from eventserver.listeners._turns import Turns
from eventserver.thinned_log import ThinnedLog


class _Accept(Factory):
    """Asks the listener about every connection."""

    noisy = False

    def __init__(self, listener: StreamServer, *, tls: bool) -> None:
        self._listener = listener
        self._tls = tls

    def buildProtocol(self, addr: Any) -> Any:
        return self._listener.accept(addr, tls=self._tls)


@implementer(IListener, IReopen)
class StreamServer(Service):
    """The base of the listeners for streams. A subclass says what speaks with a peer: `connection`.

    `listen` opens the endpoints; connections are accepted once the service runs and while it is not paused.
    """

    schemes = _endpoints.STREAM_SCHEMES

    def __init__(self, options: StreamOptions, context: ListenerContext) -> None:
        self.options = options
        self.context = context
        self.ingest = make_ingest(context)
        self.log = ThinnedLog(context.log, context.reactor)
        self.paused = False
        self._limits = ConnectionLimits(options.max_connections, options.max_connections_per_peer)
        self._ports: list[tuple[str, IListeningPort]] = []
        self._connections: dict[PeerConnection, None] = {}
        self._waiting: dict[ProxiedConnection, None] = {}
        self._holding: deque[PeerConnection] = deque()
        # Somebody puts, and what the intake makes room for meanwhile comes after that; whether it has made some.
        self._resuming = self._due = False
        self.turns = Turns(context)
        self._sweeper = Sweeper(context.reactor, self._sweep)
        self._certificates: Certificates | None = None
        self._listening: Deferred[None] | None = None
        self._empty: Deferred[None] | None = None

    @staticmethod
    def check_endpoint(text: str) -> None:
        """Raises `ValueError` with a sentence if the text is no endpoint for streams."""
        _endpoints.check_endpoint(text, "stream")

    def connection(self, address: Any, *, tls: bool) -> PeerConnection:
        """The protocol for one connection that is accepted."""
        raise NotImplementedError

    @property
    def answers_nobody(self) -> bool:
        """Whether no peer waits for anything: then many connections may be read together, a little later."""
        return False

    # Life

    def listen(self) -> Deferred[None]:
        """Open every endpoint; peers that connect wait until the service is started.

        Fails with `CannotListen` (an `OSError`), which names each endpoint that could not be opened; then none is open.
        """
        self._listening = Deferred.fromCoroutine(self._listen())
        return self._listening

    def startService(self) -> None:
        """Accept connections. Listens first, if `listen` was not called; then a failure is only logged."""
        super().startService()
        if self._listening is None:
            self.listen().addErrback(lambda failure: self.context.log.failure("cannot listen", failure=failure))
        self._sweeper.start()
        self._accept_or_not()

    def stopService(self) -> Deferred[None]:
        """Stop accepting and reading, put what the framers have left, and close when replies are written.

        Fires when all connections are closed and no batch is held any more, after `close_timeout` at the latest.
        """
        super().stopService()
        closed = self._close_ports()
        for connection in list(self._connections):
            connection.leave(cut=True)
        self._cut_waiting()
        drained: Deferred[None] = Deferred()
        self._empty = drained
        timer = self.context.reactor.callLater(self.options.close_timeout, self.give_up)
        self._check_empty()

        def finished(_result: object) -> None:
            if timer.active():
                timer.cancel()
            self._sweeper.stop()
            self._listening = None

        return DeferredList([drained, closed]).addCallback(finished)

    def give_up(self) -> None:
        """Cut what is still open while the listener stops, and count what there was no room for.

        Called after `close_timeout`, and by a service that knows earlier that no more room and no replies will come.
        """
        holding, self._holding = self._holding, deque()
        for connection in holding:
            if not connection.retry():
                self._reject(connection)
        for connection in list(self._connections):
            connection.abort("stopped")
        self._check_empty()

    def reopen(self) -> None:
        """Read the TLS files again, for the connections to come. Raises `ValueError`, and then keeps the old ones."""
        if self._certificates is not None:
            self._certificates.renew(self.context.now())
            self.context.log.info("TLS certificate read again: it ends on {day}", day=self._certificates.ends.date())

    # What the intake calls

    def pause(self) -> None:
        """Read and accept no more, until `resume`."""
        if self.paused:
            return
        self.paused = self.turns.paused = True
        self._due = False
        self._accept_or_not()
        for connection in self._connections:
            connection.pause()

    def resume(self) -> None:
        """Put what is held, oldest first; if there is room for all of it, read on."""
        self.paused = False
        if self._resuming:
            # The intake made room while it took what is held: the loop that puts it finds that out. Or see `alone`.
            self._due = True
            return
        self._resuming = True
        try:
            self._put_held()
        finally:
            self._resuming = False
        if self.paused:
            return
        self._accept_or_not()
        for connection in list(self._connections):
            connection.resume()
        self.turns.go_on()
        self._check_empty()

    def alone(self, put: Callable[[], bool]) -> bool:
        """Have something put by a connection; nothing that is held is put before that returns.

        For what is put under a key: between looking for the key and remembering it, nothing else may come under it.
        """
        if self._resuming:
            return put()
        self._resuming, self._due = True, False
        try:
            return put()
        finally:
            self._resuming = False
            if self._due:
                self.resume()

    # What people ask

    def connections(self) -> list[ConnectionInfo]:
        """The open connections, oldest first."""
        return [connection.info() for connection in self._connections]

    @property
    def certificate_ends(self) -> dt.datetime | None:
        """The last moment of the certificate that clients are shown; None where there are none, or no TLS."""
        return None if self._certificates is None or not self._ports else self._certificates.ends

    def addresses(self) -> list[str]:
        """Where it listens, with the real ports: `"tcp:127.0.0.1:5140"`."""
        return [":".join(_bind.address_text(scheme, port.getHost())) for scheme, port in self._ports]

    # What connections call

    def accept(self, address: Any, *, tls: bool) -> Any:
        """A protocol for a new connection; None, and it is closed at once, if a limit is reached."""
        # Behind a proxy's header it has its descriptor for long.
        if self.options.proxy_protocol is None and not self.has_descriptors(address):
            return None
        return self.connection(address, tls=tls) if self.has_room(address) else self.turn_away(tls=tls)

    def turn_away(self, *, tls: bool) -> Any:
        """A protocol for a connection that there is no room for; None, and it is closed at once."""
        return None

    def has_descriptors(self, address: Any) -> bool:
        """Whether enough descriptors are left for a connection from there; else it is counted as refused."""
        if not few_descriptors():
            return True
        self._refused(address, "descriptors", "too few file descriptors are left")
        return False

    def has_room(self, address: Any) -> bool:
        """Whether a connection from there may come; else it is counted as refused."""
        reason = self._limits.refusal(address)
        if reason is None:
            return True
        self._refused(address, reason, f"{reason} is reached")
        return False

    def _refused(self, address: Any, reason: str, why: str) -> None:
        self.context.counters.closed[reason] += 1
        host = getattr(address, "host", "a local process")
        self.log.warn(reason, "refused a connection of {host}: {why}", host=host, why=why)

    def opened(self, connection: PeerConnection) -> None:
        """The connection is made."""
        self._limits.opened(connection.address)
        self._connections[connection] = None
        self.context.counters.connections += 1
        self.context.counters.connections_total += 1

    def lost(self, connection: PeerConnection) -> None:
        """The connection is gone; what it holds is still put when there is room."""
        del self._connections[connection]
        self._limits.closed(connection.address)
        self.context.counters.connections -= 1
        self._check_empty()

    def waits(self, connection: ProxiedConnection) -> None:
        """A proxy's connection has no header yet; it counts for the limit of all."""
        self._waiting[connection] = None
        self._limits.opened(None)

    def waits_no_more(self, connection: ProxiedConnection) -> None:
        """It has its header, or is gone."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._limits.closed(None)
            self._check_empty()

    def hold(self, connection: PeerConnection) -> None:
        """The connection has a batch that the intake refused."""
        self._holding.append(connection)

    def let_go(self, connection: PeerConnection) -> None:
        """The connection has given up what it held."""
        if connection in self._holding:
            self._holding.remove(connection)
            self._check_empty()

    # Inside

    def _put_held(self) -> None:
        """Put what connections hold, until there is no room."""
        while self._holding and not self.paused:
            connection = self._holding[0]
            if not connection.retry():
                self.pause()
            elif self._holding and self._holding[0] is connection:
                self._holding.popleft()

    async def _listen(self) -> None:
        problems = []
        for text in self.options.endpoints:
            try:
                await self._open(parse_endpoint(text))
            except CannotListen as error:
                problems.append(str(error))
        if problems:
            await self._close_ports()
            raise CannotListen("; ".join(problems))
        for text in self.options.optional_endpoints:
            try:
                await self._open(parse_endpoint(text))
            except CannotListen as error:
                self.context.log.info("{error}; it is optional", error=str(error))

    async def _open(self, endpoint: Endpoint) -> None:
        factory = self._factory(endpoint)
        if self.options.proxy_protocol is not None:
            factory = ProxiedFactory(self, self.options.proxy_protocol, factory)
        for server in _bind.server_endpoints(self.context.reactor, endpoint, self.options.backlog):
            try:
                port = await server.listen(factory)
            except Exception as error:
                raise _bind.refusal(endpoint, error) from error
            _bind.tune(port, self.options)
            if self.answers_nobody:
                gather(port, self.context.reactor)
            self._ports.append((endpoint.scheme, port))
            scheme, place = _bind.address_text(endpoint.scheme, port.getHost())
            note = " (PROXY protocol)" if self.options.proxy_protocol is not None else ""
            self.context.log.info("listening on {scheme} {place}{note}", scheme=scheme, place=place, note=note)
        self._accept_or_not()

    def _factory(self, endpoint: Endpoint) -> Any:
        if endpoint.scheme != "tls":
            return _Accept(self, tls=False)
        return TlsFactory(self._read_certificates(endpoint), False, _Accept(self, tls=True), self.context.reactor)

    def _read_certificates(self, endpoint: Endpoint) -> Certificates:
        """The certificates, which are read for the first endpoint that needs them."""
        if self._certificates is None:
            assert self.options.tls is not None, "StreamOptions.problems() refuses tls: endpoints without a certificate"
            try:
                self._certificates = Certificates(self.options.tls)
            except TlsProblem as problem:
                raise CannotListen(f"{endpoint.text}: tls.{problem.key}: {problem}") from problem
            if self._certificates.ends < self.context.now():
                self.context.log.error(
                    "the certificate in {cert} ended on {day}: clients that check it will not connect",
                    cert=self.options.tls.cert,
                    day=self._certificates.ends.date(),
                )
        return self._certificates

    def _close_ports(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        closing = [maybeDeferred(port.stopListening) for _scheme, port in ports]
        for closed in closing:
            closed.addErrback(lambda failure: self.log.warn("port", "closing a port: {why}", why=str(failure.value)))
        return DeferredList(closing)

    def _accept_or_not(self) -> None:
        """Have the ports accept while the service runs and is not paused; otherwise the kernel keeps peers waiting."""
        for _scheme, port in self._ports:
            if IPushProducer.providedBy(port):
                if self.running and not self.paused:
                    port.resumeProducing()
                else:
                    port.pauseProducing()

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            connection.sweep(now)
        for waiting in list(self._waiting):
            waiting.sweep(now)

    def _cut_waiting(self) -> None:
        """Of the connections without a header nothing can be kept."""
        for waiting in list(self._waiting):
            waiting.abort("stopped")

    def _check_empty(self) -> None:
        if self._empty is not None and not (self._connections or self._waiting or self._holding):
            empty, self._empty = self._empty, None
            empty.callback(None)

    def _reject(self, connection: PeerConnection) -> None:
        frames = connection.forget_held("stopped")
        self.log.warn("stopped", "{frames} frames found no room", frames=frames)
