"""What handlers are given in tests: a reactor whose time and threads the test moves, events, and contexts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from eventserver.counters import HandlerCounters
from eventserver.encoders import JsonEncoder, RawEncoder, TextEncoder
from eventserver.event import Batch, Event
from eventserver.framing.counted import OctetFramer
from eventserver.framing.lines import LinesFramer
from eventserver.interfaces import HandlerContext

NOON = dt.datetime(2025, 3, 1, 12, 0, tzinfo=dt.UTC)


class FakeReactor(Clock):
    """A Clock with threads that run calls at once, or, with `hold`, when `run_thread` is called."""

    def __init__(self, hold: bool = False) -> None:
        super().__init__()
        self.hold = hold
        self.held: list[Callable[[], None]] = []
        self.hops = 0

    def getThreadPool(self) -> FakeReactor:
        return self

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    def begin(self, call: Callable[[], None]) -> None:
        """As `Workers.begin`."""
        self.hops += 1
        if self.hold:
            self.held.append(call)
        else:
            call()

    def ended(self) -> None:
        """As `Workers.ended`."""

    def stop(self) -> None:
        """As `Workers.stop`."""

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:
                on_result(False, Failure())
            else:
                on_result(True, result)

        self.begin(run)

    def run_thread(self) -> None:
        """Run the oldest call that waits for its thread."""
        self.held.pop(0)()


class HandMoved:
    """A real reactor whose timers come when the test says so (`advance`): sockets, threads and Tasks are real.

    So a machine that stands still for a moment makes nothing too late.
    """

    def __init__(self, reactor: Any) -> None:
        self._real = reactor
        clock = Clock()
        self.advance, self.callLater, self.seconds = clock.advance, clock.callLater, clock.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until something is true, for a minute at most."""
    from twisted.internet import reactor as installed

    # A module, to the type checker.
    reactor: Any = installed
    end = reactor.seconds() + 60
    while not condition():
        assert reactor.seconds() < end, "it did not come true"
        await deferLater(reactor, 0.001)


class PullTransport(StringTransport):
    """Asks a pull producer at once, as real transports do; `drain` is the moment when its buffer is empty."""

    aborted = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        assert not streaming
        producer.resumeProducing()

    def drain(self) -> None:
        if self.producer is not None:
            self.producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True


class LateTransport(PullTransport):
    """Loses a connection that is cut as real transports do: a turn of the reactor later."""

    def __init__(self, clock: Clock, secure: bool = False) -> None:
        super().__init__()
        self.clock = clock
        self.transport = self if secure else None

    def abortConnection(self) -> None:
        if not self.aborted:
            super().abortConnection()
            self.disconnecting = True
            self.clock.callLater(0.001, self.protocol.connectionLost, Failure(ConnectionAborted()))

    def loseConnection(self) -> None:
        """Waits for the buffer to be empty; with a stuck peer, for ever."""
        if not self.aborted:
            self.disconnecting = True


class Log(Logger):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("test", observer=self.keep)
        self.lines: list[str] = []

    def keep(self, event: LogEvent) -> None:
        self.lines.append(str(event["log_format"]).format_map(event))


class Replies(list[tuple[str, bytes]]):
    """The replies that were sent: the event's message, and the payload."""

    def __call__(self, event: Event, payload: bytes) -> None:
        self.append((event.message, payload))


PARTS: dict[str, Callable[[], Any]] = {
    "json": lambda: JsonEncoder(JsonEncoder.Options()),
    "raw": lambda: RawEncoder(RawEncoder.Options()),
    "text": lambda: TextEncoder(TextEncoder.Options()),
    "lines": lambda: LinesFramer(LinesFramer.Options()),
    "octet": lambda: OctetFramer(OctetFramer.Options()),
}


def make_context(reactor: Any = None, log: Logger | None = None, **changes: Any) -> HandlerContext:
    """A context; `parts` are given by the names of encoders and framers: `parts={"format": "json"}`."""
    changes["parts"] = {key: PARTS[name] for key, name in changes.get("parts", {}).items()}
    return HandlerContext(
        name="under-test",
        reactor=FakeReactor() if reactor is None else reactor,
        log=Log() if log is None else log,
        counters=HandlerCounters(),
        now=lambda: NOON,
        **changes,
    )


def make_event(number: int = 0, message: str | None = None, **changes: Any) -> Event:
    """An event with the message `m0`, `m1`, ..."""
    text = f"m{number}" if message is None else message
    return Event(
        **{
            "id": f"01BATCH-{number}",
            "time": NOON,
            "received": NOON,
            "listener": "tests",
            "peer": "192.0.2.7:514",
            "type": "text",
            "message": text,
            "fields": {"hostname": "h1", "structured_data": {"a": {"b": "c"}}},
            "raw": text,
        }
        | changes
    )


def make_events(count: int) -> list[Event]:
    return [make_event(number) for number in range(count)]


def make_batch(*frames: bytes, **changes: Any) -> Batch:
    return Batch(
        **{
            "id": "01BATCH",
            "listener": "tests",
            "decoder": "text",
            "received": NOON,
            "peers": ["192.0.2.7:514"],
            "frames": list(frames),
        }
        | changes
    )
