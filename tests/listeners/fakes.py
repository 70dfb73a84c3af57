"""What listeners are tested against: an intake that records and can refuse, and the context round it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.counters import ListenerCounters
from eventserver.event import Batch
from eventserver.framing.lines import LinesFramer
from eventserver.interfaces import AckLevel, IConnections, IIntake, IReplyWriter, ListenerContext
from eventserver.listeners._udp import PAUSE

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


def nothing() -> None:
    """What happens in the middle of most puts."""


@implementer(IIntake)
class FakeIntake:
    """Records batches. While `room` is 0 it refuses; another number is the count of batches that it still takes.

    `before_put` and `on_put` are called in the middle of `put`, as the real one calls handlers and keeps promises:
    before it is known whether there is room, and when the batch is in the journal.
    """

    refusal = "full"

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.room: int | None = None
        self.position = 0
        self.watches: list[tuple[int, Callable[[Failure | None], None]]] = []
        self.before_put: Callable[[], None] = nothing
        self.on_put: Callable[[], None] = nothing

    def put(self, batch: Batch) -> int | None:
        self.before_put()
        if self.room == 0:
            return None
        if self.room is not None:
            self.room -= 1
        self.batches.append(batch)
        self.position = position = self.position + len(batch.frames)
        self.on_put()
        return position

    def meanwhile(self, do: Callable[[], object], *, before: bool = False) -> None:
        """Have something done in the middle of the next `put`, and in none that this leads to."""
        name = "before_put" if before else "on_put"

        def once() -> None:
            setattr(self, name, nothing)
            do()

        setattr(self, name, once)

    def watch(
        self,
        level: AckLevel,
        position: int,
        done: Callable[[Failure | None], None],
        handlers: Collection[str] | None = None,
    ) -> None:
        assert level == "delivered"
        self.watches.append((position, done))

    def deliver(self, failure: Failure | None = None) -> None:
        """Keep every promise, or break all."""
        watches, self.watches = self.watches, []
        for _position, done in watches:
            done(failure)

    @property
    def frames(self) -> list[bytes]:
        """All frames, in order."""
        return [frame for batch in self.batches for frame in batch.frames]

    @property
    def peers(self) -> list[str]:
        """The peer of each frame."""
        return [batch.peer_of(index) for batch in self.batches for index in range(len(batch.frames))]

    @property
    def marks(self) -> list[tuple[str, ...]]:
        """The marks of each frame."""
        return [batch.marks.get(index, ()) for batch in self.batches for index in range(len(batch.frames))]


@implementer(IConnections)
class FakeConnections:
    """Numbers connections, and knows which there are."""

    def __init__(self) -> None:
        self.writers: dict[int, IReplyWriter] = {}
        self._numbers = itertools.count(1)

    def add(self, writer: IReplyWriter) -> int:
        number = next(self._numbers)
        self.writers[number] = writer
        return number

    def remove(self, connection: int) -> None:
        del self.writers[connection]


def lines(**options: Any) -> Callable[[], LinesFramer]:
    """A maker of framers for lines."""
    return lambda: LinesFramer(LinesFramer.Options(**options))


def make_context(reactor: Any, counters: ListenerCounters, **changes: Any) -> ListenerContext:
    """A context with everything in it; `changes` replace some."""
    ids = itertools.count()
    values = {
        "name": "test",
        "decoder": "text",
        "reactor": reactor,
        "intake": FakeIntake(),
        "connections": FakeConnections(),
        "new_framer": lines(),
        "new_datagram_framer": None,
        "new_id": lambda: f"{next(ids):026}",
        "now": lambda: NOW,
        "log": Logger("tests.listeners"),
        "counters": counters,
    }
    return ListenerContext(**{**values, **changes})


class FakeTransport(StringTransport):
    """A transport that says whether it is read, and that a test can fill up."""

    aborted = False
    no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    @property
    def reading(self) -> bool:
        return self.producerState == "producing"

    def abortConnection(self) -> None:
        super().abortConnection()
        self.aborted = True


class MemoryReactor(MemoryReactorClock):
    """A reactor without a loop: ports are remembered, and readers, for a test to call."""

    def read_all(self) -> None:
        """One turn: every reader reads, those too that let datagrams gather for a while."""
        self.advance(PAUSE)
        for reader in list(self.readers):
            reader.doRead()


assert issubclass(MemoryReactor, Clock)
