"""What the admin endpoint asks of the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zope.interface import Interface

from eventserver.counters import HandlerCounters, ListenerCounters, Timings

#: A gauge's name (one of `eventserver.admin.metrics.GAUGES`), its labels, and its value now; of a histogram, the times.
Gauge = tuple[str, Mapping[str, str], float | Timings]


class IStatus(Interface):
    """The state of the running service, read when somebody asks; every call is quick and changes nothing."""

    def ready() -> list[str]:
        """Why the server should get no traffic now, one sentence each; empty if it is ready.

        Among the reasons: it is starting or stopping, the intake is full, a handler's destination is unwell (named).
        """

    def listeners() -> Mapping[str, ListenerCounters]:
        """The counters of each listener, by name."""

    def handlers() -> Mapping[str, HandlerCounters]:
        """The counters of each handler, by name."""

    def gauges() -> Iterable[Gauge]:
        """What no counter knows: lag, the size of the journal."""
