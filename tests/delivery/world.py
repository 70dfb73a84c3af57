"""A journal, an intake and handlers' loops on a clock, without a socket: what the tests of delivery share."""

from __future__ import annotations

import datetime as dt
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from eventserver.counters import HandlerCounters
from eventserver.decoders.text import TextDecoder
from eventserver.delivery import Decoding, Delivery, DeliveryOptions, RetryOptions
from eventserver.event import Batch, size_of
from eventserver.intake import Intake
from eventserver.interfaces import IHandler, Wants
from eventserver.journal.memory import MemoryJournal
from eventserver.options import Duration

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@implementer(IHandler)
class Recorder:
    """Keeps the messages of every pile; `plan` says, call by call, what goes wrong (an exception, or a Deferred)."""

    wants_raw = False

    def __init__(self, *plan: Any, wants: Wants = "events", bad: dict[str, Exception] | None = None) -> None:
        self.wants = wants
        self.plan = list(plan)
        self.bad = bad or {}
        self.piles: list[list[str]] = []
        self.done: list[str] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def handle(self, pile: list[Any]) -> Any:
        texts = self.texts(pile)
        self.piles.append(texts)
        if self.plan and (planned := self.plan.pop(0)) is not None:
            if isinstance(planned, Exception):
                raise planned
            return planned
        for text in texts:
            if text in self.bad:
                raise self.bad[text]
        self.done += texts
        return None

    @staticmethod
    def texts(pile: list[Any]) -> list[str]:
        if isinstance(pile[0], Batch):
            return [frame.decode() for batch in pile for frame in batch.frames]
        return [event.message for event in pile]


class World:
    """Everything between a listener and handlers, with time in the test's hands."""

    def __init__(self, max_bytes: int = 1 << 20, journal: Any = None) -> None:
        self.clock = Clock()
        self.journal = journal or MemoryJournal(max_bytes)
        self.intake = Intake(self.journal)
        self.decoder = TextDecoder(TextDecoder.Options())
        self.decoding = Decoding(lambda batch: self.decoder)
        self.deliveries: list[Delivery] = []
        self.batches = 0
        self.replies: list[tuple[str, bytes]] = []

    def now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.clock.seconds())

    def add(self, handler: Any, *, name: str = "h", start: bool = True, **options: Any) -> Delivery:
        own = {key: options.pop(key) for key in ("listeners", "select", "reply", "dead_full") if key in options}
        options.setdefault("retry", RetryOptions(initial_interval=Duration(1), max_interval=Duration(60)))
        delivery = Delivery(
            name,
            handler,
            journal=self.journal,
            decoding=self.decoding,
            settings=DeliveryOptions(**options),
            counters=HandlerCounters(),
            reactor=self.clock,
            now=self.now,
            random=lambda: 0.0,
            moved=self.intake.moved,
            expired=self.intake.expired,
            **own,
        )
        self.deliveries.append(delivery)
        self.intake.add_consumer(delivery)
        if start:
            delivery.start()
        return delivery

    def batch(self, *lines: str, listener: str = "l", peers: list[str] | None = None) -> Batch:
        self.batches += 1
        return Batch(
            id=f"B{self.batches:025}",
            listener=listener,
            decoder="text",
            received=self.now(),
            peers=peers or ["192.0.2.1:1"],
            frames=[line.encode() for line in lines],
        )

    def put(self, *lines: str, listener: str = "l", peers: list[str] | None = None) -> int | None:
        return self.intake.put(self.batch(*lines, listener=listener, peers=peers))

    def check(self) -> None:
        """The sums of the design, for every handler; at rest, so nothing may be in flight."""
        for delivery in self.deliveries:
            counters = delivery.counters
            assert counters.balanced(), counters
            assert delivery.passed_since_start() == counters.passed + counters.expired, counters
            assert counters.parked == len(delivery._parking), counters
            assert self.journal.head == delivery.position + delivery.lag_frames()


__all__ = ["Recorder", "World", "size_of"]
