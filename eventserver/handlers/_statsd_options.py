"""The settings of the handler `statsd`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from twisted.internet.endpoints import serverFromString

from eventserver import options
from eventserver.handlers import _statsd_graphite as graphite
from eventserver.handlers._destinations import parse_destination
from eventserver.handlers._tls_client import TlsOptions
from eventserver.handlers.relay import Reconnect
from eventserver.options import Doc, Duration, Size


class Naming(options.Options, frozen=True, kw_only=True):
    """The names in Graphite: PREFIX.KIND.NAME.FIGURE.SUFFIX."""

    legacy: Annotated[
        bool,
        Doc(
            "The names of statsd's `legacyNamespace`: rates in `stats`, counts in `stats_counts`, the rest in"
            " `stats.timers`, `stats.gauges` and `stats.sets`. The other keys need `false`.",
            False,
        ),
    ] = True
    prefix: Annotated[str, Doc("What all names begin with.", "stats")] = "stats"
    counters: Annotated[str, Doc("For counters.", "counters")] = "counters"
    timers: Annotated[str, Doc("For timers.", "timers")] = "timers"
    gauges: Annotated[str, Doc("For gauges.", "gauges")] = "gauges"
    sets: Annotated[str, Doc("For sets.", "sets")] = "sets"
    suffix: Annotated[str, Doc("What all names end with.", "web1")] = ""

    def names(self) -> graphite.Names:
        """As the lines are made with."""
        if self.legacy:
            return graphite.LEGACY
        return graphite.Names(False, self.prefix, self.counters, self.timers, self.gauges, self.sets, self.suffix)


class StatsdOptions(options.Options, frozen=True, kw_only=True):
    """Where the figures go, and which."""

    to: Annotated[
        str | None,
        Doc("Graphite: tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:/PATH.", "tcp:graphite.example:2003"),
    ] = None
    endpoint: Annotated[
        str | None,
        Doc("Where Prometheus fetches `/metrics`, in Twisted's syntax.", "tcp:9102:interface=127.0.0.1"),
    ] = None
    flush_interval: Annotated[Duration, Doc("The time that figures are for.", "10 s", ge=0.1, le=86400)] = Duration(10)
    percentiles: Annotated[
        tuple[float, ...],
        Doc("Of timers, in per cent; below 0 it is the largest values that are looked at.", [50, 90, 99.9]),
    ] = (90,)
    names: Annotated[Naming, Doc("The names in Graphite.", {"legacy": False, "prefix": "shop"})] = Naming()
    delete_idle: Annotated[
        bool, Doc("Send nothing for what was not received in an interval, and forget gauges.", True)
    ] = False
    max_names: Annotated[
        int,
        Doc("Series, by name, tags and type. When there is no room for another, idle ones go.", 100_000, ge=1),
    ] = 100_000
    max_values: Annotated[int, Doc("Values of timers and members of sets, in one interval.", 1_000_000, ge=1)] = (
        1_000_000
    )
    max_pending: Annotated[Size, Doc("What waits for Graphite before no more events are taken.", "16 MiB", ge=1)] = (
        Size(16 << 20)
    )
    tls: Annotated[TlsOptions, Doc("For `tls:`: whom to trust, and our certificate.", {"ca": "/etc/ssl/ca.pem"})] = (
        TlsOptions()
    )
    connect_timeout: Annotated[Duration, Doc("For one attempt to connect.", "10 s", ge=0.1)] = Duration(10)
    send_timeout: Annotated[
        Duration, Doc("After this time without Graphite taking a flush the connection is cut.", "20 s", ge=0.1)
    ] = Duration(20)
    reconnect: Annotated[
        Reconnect, Doc("How long to wait between attempts.", {"initial_interval": "500 ms", "max_interval": "30 s"})
    ] = Reconnect()

    def problems(self) -> Iterable[tuple[str, str]]:
        """Nowhere to go, places that are none, percentiles that are none, names that nobody would look at."""
        if (self.to is None) == (self.endpoint is None):
            yield "to", "one of `to` (Graphite) and `endpoint` (Prometheus) is needed"
        if self.to is not None:
            try:
                if parse_destination(self.to).kind != "tls" and self.tls != TlsOptions():
                    yield "tls", "is for a destination with tls:"
            except ValueError as error:
                yield "to", str(error)
        if self.endpoint is not None:
            try:
                serverFromString(None, self.endpoint)
            except Exception as error:
                yield "endpoint", f"`{self.endpoint}` is no endpoint: {error}; write tcp:PORT:interface=ADDRESS"
        if any(not 0 < abs(percentile) <= 100 for percentile in self.percentiles):
            yield "percentiles", "are from -100 to 100, without 0"
        if self.names.legacy and self.names != Naming():
            yield "names.legacy", "is true: the other names are not used then; set it to false"
        if self.reconnect.initial_interval > self.reconnect.max_interval:
            yield "reconnect.max_interval", "is shorter than `initial_interval`"
