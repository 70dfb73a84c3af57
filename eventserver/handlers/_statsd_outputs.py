"""Where the handler `statsd` puts the figures of each interval: lines to Graphite, or a page for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.python.failure import Failure

from eventserver.handlers import _statsd_graphite as graphite
from eventserver.handlers._datagrams import DatagramPeer
from eventserver.handlers._destinations import make_endpoint, parse_destination, renew
from eventserver.handlers._peer_connection import StreamPeer
from eventserver.handlers._statsd_figures import Interval, Key
from eventserver.handlers._statsd_options import StatsdOptions
from eventserver.handlers._statsd_sending import Outbox, apart
from eventserver.interfaces import HandlerContext


class GraphiteOutput:
    """Lines to Graphite."""

    key_of = staticmethod(graphite.path_of)

    def __init__(self, options: StatsdOptions, context: HandlerContext, random: Callable[[], float]) -> None:
        self._options = options
        self._context = context
        self._random = random
        self._names = options.names.names()
        self._outbox: Outbox | None = None
        self._endpoint: IStreamClientEndpoint | None = None

    def start(self) -> None:
        """Begin to connect; a Graphite that is away is no error."""
        options, context, to = self._options, self._context, self._options.to or ""
        destination = parse_destination(to)
        if destination.kind in ("udp", "unix-datagram"):
            datagrams = DatagramPeer(destination, context, send_timeout=options.send_timeout, delay=self._delay)
            self._outbox = Outbox(datagrams, context)
            return
        self._endpoint = make_endpoint(destination, options.tls, options.connect_timeout, context.reactor)
        peer = StreamPeer(
            self._endpoint,
            to,
            context,
            connect_timeout=options.connect_timeout,
            send_timeout=options.send_timeout,
            delay=self._delay,
        )
        peer.connected().addErrback(lambda _: None)
        self._outbox = Outbox(peer, context)

    def problem(self) -> str | None:
        """Why nothing more can be taken now."""
        if self._outbox is None or self._outbox.size < self._options.max_pending:
            return None
        return f"{self._options.to} does not take the figures, and `max_pending` of them wait"

    def put(self, interval: Interval) -> None:
        """Send the figures of one interval."""
        assert self._outbox is not None
        options, now = self._options, round(self._context.now().timestamp())
        self._outbox.put(
            interval.size,
            lambda: graphite.lines(
                interval, self._names, seconds=options.flush_interval, time=now, percentiles=options.percentiles
            ),
        )

    def reopen(self) -> None:
        """Try now what waits, and read the TLS files for that. Raises `ValueError`, and then keeps the old ones."""
        try:
            renew(self._endpoint, self._context)
        finally:
            if self._outbox is not None:
                self._outbox.hurry()

    def stop(self) -> Deferred[None] | None:
        """Send what waits, and close."""
        return None if self._outbox is None else self._outbox.close()

    def _delay(self, failures: int) -> float:
        reconnect = self._options.reconnect
        longest = min(reconnect.max_interval, reconnect.initial_interval * 2.0 ** min(failures - 1, 60))
        return longest * (1 - self._random() / 2)


class PrometheusOutput:
    """A page for Prometheus."""

    def __init__(self, options: StatsdOptions, context: HandlerContext) -> None:
        # prometheus_client and twisted.web take memory: only where they are used.
        from eventserver.handlers import _statsd_prometheus as prometheus

        self._endpoint = options.endpoint or ""
        self._context = context
        self._totals = prometheus.Totals(options.percentiles)
        self._content_type = prometheus.CONTENT_TYPE
        self.key_of: Callable[[str, Any], Key | None] = prometheus.series_of
        self._site: Any = None
        self._port: IListeningPort | None = None

    def start(self) -> Deferred[None]:
        """Listen."""
        from eventserver.handlers._statsd_web import PageSite

        self._site = PageSite(self._page, self._content_type, self._context.reactor)
        listening: Deferred[IListeningPort] = serverFromString(self._context.reactor, self._endpoint).listen(self._site)
        return listening.addCallbacks(self._listens, self._cannot)

    def problem(self) -> None:
        """There is always room."""

    def reopen(self) -> None:
        """There are no files."""

    def put(self, interval: Interval) -> None:
        """Add the interval to the page."""
        made = apart(self._context.reactor, interval.size, self._totals.figures_of, interval)
        made.addCallback(self._totals.update)
        made.addErrback(lambda failure: self._context.log.failure("the figures could not be made", failure))

    def stop(self) -> Deferred[Any]:
        """Listen no more, and close what is open."""
        port, self._port = self._port, None
        stopping = [] if port is None else [maybeDeferred(port.stopListening)]
        if self._site is not None:
            self._site.abort()
        return DeferredList(stopping, consumeErrors=True)

    def _page(self) -> Deferred[bytes]:
        return apart(self._context.reactor, self._totals.size, self._totals.page)

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        host: Any = port.getHost()
        where = f"tcp:{host.host}:{host.port}" if hasattr(host, "port") else self._endpoint
        self._context.log.info("{handler}: /metrics on {where}", handler=self._context.name, where=where)

    def _cannot(self, failure: Failure) -> None:
        raise ValueError(f"cannot listen on {self._endpoint}: {failure.getErrorMessage()}")
