"""Metrics added up as statsd does it: a few figures each interval, to Graphite, or for Prometheus to fetch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.errors import TemporaryFailure
from eventserver.handlers._statsd_figures import NOT_A_METRIC, Aggregation
from eventserver.handlers._statsd_options import StatsdOptions
from eventserver.handlers._statsd_outputs import GraphiteOutput, PrometheusOutput
from eventserver.interfaces import HandlerContext, IHandler, IReopen, Wants
from eventserver.thinned_log import ThinnedLog


@implementer(IHandler, IReopen)
class StatsdHandler:
    """Adds up metrics, and makes figures of them once every `flush_interval`.

    To return is to say that the values are in the figures of this interval, which are in memory until they are sent:
    what a process that dies has not sent is lost, as with any statsd. While Graphite is away, flushes wait in memory
    up to `max_pending`; then nothing more is taken, so that events wait where they are safe.

    Events that are no metrics are counted as ignored, as is what is over a limit.
    """

    Options = StatsdOptions

    wants: Wants = "events"
    wants_raw = False

    def __init__(
        self, options: StatsdOptions, context: HandlerContext, random: Callable[[], float] = random.random
    ) -> None:
        self._options = options
        self._context = context
        self._log = ThinnedLog(context.log, context.reactor)
        self._output: GraphiteOutput | PrometheusOutput
        if options.to is not None:
            self._output = GraphiteOutput(options, context, random)
        else:
            self._output = PrometheusOutput(options, context)
        self._ignored = context.counters.ignored
        self._warned = False
        self._aggregation = Aggregation(
            self._output.key_of,
            self._ignored,
            max_names=options.max_names,
            max_values=options.max_values,
            delete_idle=options.delete_idle,
            timed=options.to is not None,
        )
        self._flushing = LoopingCall(self._flush)
        self._flushing.clock = context.reactor

    def start(self) -> Deferred[None]:
        """Connect, or listen. Raises `ValueError` if a certificate cannot be used, or the endpoint."""
        return maybeDeferred(self._output.start).addCallback(self._begin)

    def handle(self, pile: list[Any]) -> None:
        """Add up the pile; see `IHandler.handle`."""
        if problem := self._output.problem():
            raise TemporaryFailure(problem)
        ignored = self._ignored
        before = ignored.total() - ignored[NOT_A_METRIC]
        self._aggregation.add(pile)
        if ignored.total() - ignored[NOT_A_METRIC] > before or (ignored[NOT_A_METRIC] and not self._warned):
            self._warn()

    def reopen(self) -> None:
        """Try now what waits, and read the TLS files for that. Raises `ValueError`, and then keeps the old ones."""
        self._output.reopen()

    def stop(self) -> Deferred[Any]:
        """Send the figures of the interval that is not over, and close."""
        if self._flushing.running:
            self._flushing.stop()
            self._flush()
        return maybeDeferred(self._output.stop)

    def _begin(self, _: object) -> None:
        self._flushing.start(self._options.flush_interval, now=False).addErrback(self._failed)

    def _flush(self) -> None:
        self._output.put(self._aggregation.flush())

    def _failed(self, failure: Failure) -> None:
        self._context.log.failure("{handler}: flushing failed", failure, handler=self._context.name)

    def _warn(self) -> None:
        # Once about what is no metric at all: it may be there on purpose, as events of DogStatsD are.
        self._warned = self._warned or bool(self._ignored[NOT_A_METRIC])
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._ignored.items() if count)
        self._log.warn(
            "ignored", "{handler}: some events are ignored: {reasons}", handler=self._context.name, reasons=reasons
        )
