"""What a running server says of itself: for the admin endpoint, and for programs that embed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zope.interface import implementer

from eventserver.admin.status import Gauge, IStatus
from eventserver.counters import HandlerCounters, ListenerCounters


@implementer(IStatus)
class Status:
    """The state of one server; `state` is `new`, `starting`, `running`, `stopping` or `stopped`."""

    def __init__(self) -> None:
        self.state = "new"
        self.parts: Any = None

    def ready(self) -> list[str]:
        if self.state != "running":
            return [f"the server is {self.state}"]
        reasons = ["the journal is full: listeners are paused"] if self.parts.intake.paused else []
        unwell = [delivery for delivery in self.parts.deliveries.values() if delivery.unwell is not None]
        return reasons + [f"handler {delivery.name} is unwell: {delivery.unwell}" for delivery in unwell]

    def listeners(self) -> Mapping[str, ListenerCounters]:
        return self.parts.listener_counters if self.parts is not None else {}

    def handlers(self) -> Mapping[str, HandlerCounters]:
        if self.parts is None:
            return {}
        return {name: delivery.counters for name, delivery in self.parts.deliveries.items()}

    def gauges(self) -> Iterable[Gauge]:
        if self.parts is None:
            return
        for name, delivery in self.parts.deliveries.items():
            labels = {"handler": name}
            yield "eventserver_handler_lag_frames", labels, delivery.lag_frames()
            yield "eventserver_handler_lag_bytes", labels, delivery.lag_bytes()
            yield "eventserver_handler_lag_seconds", labels, delivery.lag_seconds()
            yield "eventserver_handler_unwell", labels, float(delivery.unwell is not None)
        yield "eventserver_intake_paused", {}, float(self.parts.intake.paused)
        yield "eventserver_journal_bytes", {}, self.parts.journal.size
        yield "eventserver_journal_max_bytes", {}, self.parts.journal.max_bytes

    def unbalanced(self) -> list[str]:
        """The names of listeners and handlers whose sums do not hold, as tests ask at rest; empty if all is well."""
        wrong = [f"listener {name}" for name, counters in self.listeners().items() if not counters.balanced()]
        for name, delivery in self.parts.deliveries.items() if self.parts is not None else ():
            counters = delivery.counters
            if not counters.balanced() or counters.passed + counters.expired != delivery.passed_since_start():
                wrong.append(f"handler {name}")
        return wrong
