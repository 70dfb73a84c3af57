"""A server's middle with a journal that has a history, for tests of replay: no socket, no disk but a small file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from eventserver.counters import HandlerCounters
from eventserver.delivery import Decoding, Delivery, DeliveryOptions, RetryOptions
from eventserver.event import Batch, Event
from eventserver.intake import Intake
from eventserver.interfaces import Parked
from eventserver.options import Duration
from eventserver.replaying import ReplayRecord, ReplayRequest, Replays
from tests.delivery.fakejournal import Disk, FakeJournal
from tests.delivery.world import START, Recorder


def ask(**named: Any) -> ReplayRequest:
    """A request, from the beginning and for handler `h` unless something else is named."""
    start = named.pop("since", "beginning")
    return ReplayRequest(handler=named.pop("handler", "h"), start=start, **named)


def result_on(clock: Clock, coroutine: Any) -> Any:
    """What a coroutine returns, once time has passed."""
    found: list[Any] = []
    ensureDeferred(coroutine).addBoth(found.append)
    for _ in range(100):
        if not found:
            clock.advance(0.01)
    [result] = found
    if isinstance(result, Failure):
        result.raiseException()
    return result


class Journal(FakeJournal):
    """The fake, with what only replays ask for."""

    def drop_reader(self, name: str) -> None:
        self.readers.pop(name, None)
        self._forget(name)

    def retry_dead(self, numbers: Collection[int], now: dt.datetime) -> list[Parked]:
        found = []
        for number in numbers:
            if number in self.kept.dead:
                one = msgspec.structs.replace(self.kept.dead.pop(number), attempts=0, next_attempt=now)
                self.kept.waiting[one.handler, one.event.id] = one
                found.append(one)
        return found


class Keeper(Recorder):
    """Keeps what it was called with, whole."""

    def __init__(self, *plan: Any, **named: Any) -> None:
        super().__init__(*plan, **named)
        self.items: list[Any] = []

    def handle(self, pile: list[Any]) -> Any:
        self.items += pile
        return super().handle(pile)


class Upper:
    """A decoder that can be mended: it shouts if it is broken."""

    broken = False

    def decode(self, batch: Batch) -> list[Event]:
        return [
            Event(
                batch.id_of(index),
                batch.received,
                batch.received,
                batch.listener,
                batch.peer_of(index),
                "text",
                frame.decode().upper() if self.broken else frame.decode(),
                {},
                batch.context_of(index),
            )
            for index, frame in enumerate(batch.frames)
        ]


class World:
    """A server's middle. `restart()` makes a new one on the same disk, as after a kill."""

    def __init__(self, folder: Path, disk: Disk | None = None, decoder: Upper | None = None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.journal = Journal(disk)
        self.intake = Intake(self.journal)
        self.decoder = decoder or Upper()
        self.decoding = Decoding(lambda batch: self.decoder)  # type: ignore[arg-type, return-value]
        self.live: dict[str, Delivery] = {}
        self.batches = len(self.journal.entries)
        self.replays = Replays(
            self.journal,
            path=folder / "replays.json",
            decoding=self.decoding,
            intake=self.intake,
            reactor=self.clock,
            now=self.now,
            random=lambda: 0.0,
        )

    def now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.clock.seconds())

    def add(
        self,
        handler: Any,
        name: str = "h",
        listeners: tuple[str, ...] | None = None,
        select: Any = None,
        **options: Any,
    ) -> Delivery:
        settings = DeliveryOptions(
            retry=RetryOptions(initial_interval=Duration(1), max_interval=Duration(60), max_attempts=2), **options
        )
        delivery = Delivery(
            name,
            handler,
            journal=self.journal,
            decoding=self.decoding,
            settings=settings,
            counters=HandlerCounters(),
            reactor=self.clock,
            now=self.now,
            random=lambda: 0.0,
            listeners=listeners,
            select=select,
            moved=self.intake.moved,
            expired=self.intake.expired,
        )
        self.intake.add_consumer(delivery)
        self.live[name] = delivery
        self.replays.add_handler(name, delivery, settings, listeners, select)
        delivery.start()
        return delivery

    def put(self, *lines: str, listener: str = "l", peer: str = "192.0.2.1:1") -> None:
        self.batches += 1
        batch = Batch(
            id=f"B{self.batches:025}",
            listener=listener,
            decoder="text",
            received=self.now(),
            peers=[peer],
            frames=[line.encode() for line in lines],
        )
        assert self.intake.put(batch) is not None

    def begin(self, **named: Any) -> ReplayRecord:
        """Start a replay of handler `h` from the beginning, unless something else is named."""
        return self.result(self.replays.begin(ask(**named)))

    def result(self, coroutine: Any) -> Any:
        """What a coroutine returns, once time has passed."""
        return result_on(self.clock, coroutine)

    def run(self, seconds: float = 10.0) -> None:
        """Let time pass, in small steps."""
        for _ in range(int(seconds * 100)):
            self.clock.advance(0.01)

    def restart(self) -> World:
        """Another server on what the disk has."""
        self.journal.write()
        return World(self.folder, self.journal.crash(), self.decoder)

    def restart_with(self, handler: Any) -> World:
        """Another server, with this handler, whose replays go on."""
        world = self.restart()
        world.add(handler)
        world.replays.start()
        return world
