"""What a running server says of itself: for the admin endpoint, and for programs that embed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zope.interface import implementer

from eventserver.admin.status import Gauge, IStatus
from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.journaling import on_disk

#: Gauges that are read off `info()` of a journal on disk, by the key there.
DISK_NUMBERS: dict[str, str] = {
    "eventserver_journal_segments": "segments",
    "eventserver_journal_disk_bytes": "disk_bytes",
    "eventserver_journal_disk_errors_total": "disk_errors",
    "eventserver_journal_lost_frames": "lost",
    "eventserver_journal_lost_dead_letters_total": "dead_lost",
    "eventserver_journal_meta_apart_total": "meta_apart",
    "eventserver_journal_keys": "keys",
}


def _disk_gauges(disk: Any) -> Iterable[Gauge]:
    info = disk.info()
    yield "eventserver_journal_unwell", {}, float(disk.unwell is not None)
    yield "eventserver_journal_accepting", {}, float(disk.accepting)
    yield "eventserver_journal_first", {}, disk.first
    yield "eventserver_journal_dead_letter_bytes", {}, disk.dead_bytes()
    dead = {}
    for cursor in disk.cursors():
        yield "eventserver_journal_cursor", {"handler": cursor.name}, cursor.position
        dead[cursor.name] = cursor.dead
    # A replay that has ended has no cursor any more, and may have dead letters.
    for handler, count in {**dead, **info.get("dead_by_handler", {})}.items():
        yield "eventserver_journal_dead_letters", {"handler": handler}, count
    yield "eventserver_journal_commit_seconds", {}, disk.commit_times
    for name, key in DISK_NUMBERS.items():
        value = info.get(key)
        if isinstance(value, (int, float)):
            yield name, {}, value


def _replayed(replays: Any) -> Iterable[Gauge]:
    for handler, outcomes in replays.totals().items() if replays is not None else ():
        for outcome, number in outcomes.items():
            yield "eventserver_events_replayed_total", {"handler": handler, "outcome": outcome}, number


@implementer(IStatus)
class Status:
    """The state of one server; `state` is `new`, `starting`, `running`, `stopping` or `stopped`."""

    def __init__(self) -> None:
        self.state = "new"
        self.parts: Any = None

    def ready(self) -> list[str]:
        if self.state != "running":
            return [f"the server is {self.state}"]
        disk = on_disk(self.parts.journal)
        reasons = [] if disk is None or disk.unwell is None else [f"the journal is unwell: {disk.unwell}"]
        if self.parts.intake.paused and not reasons:
            reasons.append(f"{self._why_paused()}: listeners are paused{self._held_by()}")
        unwell = [delivery for delivery in self.parts.deliveries.values() if delivery.unwell is not None]
        return reasons + [f"handler {delivery.name} is unwell: {delivery.unwell}" for delivery in unwell]

    def _why_paused(self) -> str:
        disk = on_disk(self.parts.journal)
        if disk is not None and not disk.accepting:
            return "the journal is slow"
        late = self.parts.intake.late()
        return f"behind by `max_lag`: handler {', '.join(late)}" if late else "the journal is full"

    def _held_by(self) -> str:
        """Whose cursors, of handlers that are not there, hold what is in a full journal."""
        disk = on_disk(self.parts.journal)
        if disk is None or disk.oldest():
            return ""
        left = [cursor.name for cursor in disk.cursors() if not cursor.active and cursor.position < disk.committed]
        return f"; it keeps what is before the cursors of {', '.join(left)}, which no handler has" if left else ""

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
        for listener in self.parts.listeners:
            ends = getattr(listener, "certificate_ends", None)
            if ends is not None:
                labels = {"listener": listener.name}
                yield "eventserver_tls_certificate_expiry_timestamp_seconds", labels, ends.timestamp()
        yield "eventserver_intake_paused", {}, float(self.parts.intake.paused)
        journal = self.parts.journal
        yield "eventserver_journal_bytes", {}, journal.size
        yield "eventserver_journal_max_bytes", {}, journal.max_bytes
        yield "eventserver_journal_head", {}, journal.head
        yield "eventserver_journal_committed", {}, journal.committed
        disk = on_disk(journal)
        if disk is not None:
            yield "eventserver_journal_commits_total", {}, self.parts.commits
            yield from _disk_gauges(disk)
            yield from _replayed(self.parts.replays)

    def unbalanced(self) -> list[str]:
        """The names of listeners and handlers whose sums do not hold, as tests ask at rest; empty if all is well."""
        wrong = [f"listener {name}" for name, counters in self.listeners().items() if not counters.balanced()]
        for name, delivery in self.parts.deliveries.items() if self.parts is not None else ():
            counters = delivery.counters
            if not counters.balanced() or counters.passed + counters.expired != delivery.passed_since_start():
                wrong.append(f"handler {name}")
        return wrong
