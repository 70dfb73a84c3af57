"""A whole server without sockets and without waiting: bytes in, what the handler did out."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from eventserver import building
from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.event import Batch, Event
from eventserver.interfaces import IReplyWriter, Parked
from eventserver.options import field_types
from eventserver.settings import HandlerOptions, Settings, from_mapping
from eventserver.status import Status
from eventserver.testing.data import PEER, RECEIVED
from eventserver.ulid import Ulids


@implementer(IReplyWriter)
class _Peer:
    """One peer's stream: its framer, its number for replies, and what it was answered."""

    def __init__(self, harness: Harness) -> None:
        self.counters = harness.listener_counters
        self.framer = harness.listener_settings.make_framer()
        self.number = harness.parts.connections.add(self)
        self.answers: list[bytes] = []

    def reply(self, payload: bytes) -> None:
        self.answers.append(payload)


class Harness:
    """Runs a handler as a server would, in the test's own time.

    `Harness(on_event, decoder="json", match="severity_code <= 3")` for a function: keys of a `[handler.NAME]` table
    go to the handler, all others to the listener. `Harness({...})` for settings in the shape of the TOML file; the
    first listener is used, and no endpoint is opened. As a context manager it calls `check` in the end.

    Handlers that need a real asyncio loop are tested with `EventServer` and a real loop instead.
    """

    def __init__(self, handler: Callable[..., Any] | Mapping[str, Any], **keys: Any) -> None:
        self.clock = Clock()
        # Whatever journal the settings name is somebody's, and not for tests.
        self.settings = dataclasses.replace(_settings(handler, keys), journal=None)
        self.listener_settings = next(iter(self.settings.listeners.values()))
        self.parts = building.build(self.settings, self.clock)
        self.events: list[Event] = []
        """What the decoder made of the frames, in order."""
        self._copies: list[Any] = []
        self._peers: dict[str, _Peer] = {}
        self._new_id = Ulids(lambda: int(self.now().timestamp() * 1_000_000_000), lambda bits: 0)
        decoding: Any = self.parts.decoding
        decoding.decode = self._decoder(decoding.decode)
        for delivery in self.parts.deliveries.values():
            delivery.handler.start()
            delivery.start()

    # Driving it

    def send(self, data: bytes, peer: str = PEER) -> None:
        """Bytes of a peer's stream, cut and framed as the listener's settings say."""
        framer = self._peer(peer).framer
        self._put(peer, framer.feed(data))

    def close(self, peer: str = PEER) -> None:
        """The end of a peer's stream: an unterminated last line is a frame."""
        self._put(peer, self._peer(peer).framer.finish())

    def advance(self, seconds: float) -> None:
        """Let time pass: for retries, time limits and framers that wait."""
        self.clock.advance(seconds)
        for peer, state in self._peers.items():
            self._put(peer, state.framer.expire(self.clock.seconds()))

    def now(self) -> dt.datetime:
        """The wall clock: 2026-01-01T00:00:00Z and what `advance` added."""
        return RECEIVED + dt.timedelta(seconds=self.clock.seconds())

    def _peer(self, peer: str) -> _Peer:
        if peer not in self._peers:
            self._peers[peer] = _Peer(self)
        return self._peers[peer]

    def _put(self, peer: str, frames: list[bytes]) -> None:
        state = self._peers[peer]
        faults = state.framer.faults
        counters = self.listener_counters
        refused = [fault for fault in faults if fault.frame is None]
        for fault in refused:
            counters.rejected[fault.reason] += 1
        counters.received += len(frames) + len(refused)
        marks: dict[int, tuple[str, ...]] = {fault.frame: ("truncated",) for fault in faults if fault.frame is not None}
        counters.truncated += len(marks)
        if not frames:
            return
        batch = Batch(
            id=self._new_id(),
            listener=self.listener_settings.name,
            decoder=self.listener_settings.decoder.name,
            received=self.now(),
            peers=[peer],
            frames=frames,
            marks=marks,
            context={"labels": dict(self.listener_settings.labels)} if self.listener_settings.labels else {},
            connection=state.number,
        )
        if self.parts.intake.put(batch) is None:
            counters.rejected["full"] += len(frames)
        else:
            counters.journaled += len(frames)

    # Looking at it

    def replies(self, peer: str = PEER) -> list[bytes]:
        """What a peer was answered, without framing."""
        return self._peer(peer).answers

    @property
    def parked(self) -> list[Parked]:
        """Events that failed and wait for another attempt, of all handlers."""
        return [one for one in self._kept() if one.next_attempt is not None]

    @property
    def dead_letters(self) -> list[Parked]:
        """Events that were given up, of all handlers."""
        return [one for one in self._kept() if one.next_attempt is None]

    def _kept(self) -> list[Parked]:
        return [one for name in self.parts.deliveries for one in self.parts.journal.parked(name)]

    @property
    def listener_counters(self) -> ListenerCounters:
        """The counters of the listener."""
        return self.parts.listener_counters[self.listener_settings.name]

    def counters(self, handler: str | None = None) -> HandlerCounters:
        """The counters of a handler; of the first one, without a name."""
        return self.parts.deliveries[handler or next(iter(self.parts.deliveries))].counters

    def check(self) -> None:
        """Raises `AssertionError` if a sum of the design does not hold, or if a handler changed an event."""
        status = Status()
        status.parts = self.parts
        assert not status.unbalanced(), f"counters do not balance: {status.unbalanced()}"
        for event, before in zip(self.events, self._copies, strict=True):
            now = (event.fields, event.context)
            assert now == before, f"a handler changed event {event.id}: events are shared, use `event.replace`"

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for delivery in self.parts.deliveries.values():
            delivery.stop()
        if kind is None:
            self.check()

    def _decoder(self, decode: Callable[[Batch], list[Event]]) -> Callable[[Batch], list[Event]]:
        def noting(batch: Batch) -> list[Event]:
            # Dictionaries of their own: whoever writes to one is told what is wrong, by `check`.
            events = [event.replace(fields=dict(event.fields)) for event in decode(batch)]
            self.events += events
            self._copies += [copy.deepcopy((event.fields, event.context)) for event in events]
            return events

        return noting


def _settings(handler: Callable[..., Any] | Mapping[str, Any], keys: Mapping[str, Any]) -> Settings:
    if isinstance(handler, Mapping):
        if keys:
            raise TypeError("with a mapping of settings there are no other keys")
        return from_mapping(handler)
    of_handler = {*field_types(HandlerOptions), "replies", "on_error_reply", "thread"} - {"type"}
    listener = {"endpoints": ["tcp:0"], **{key: value for key, value in keys.items() if key not in of_handler}}
    chosen = {key: value for key, value in keys.items() if key in of_handler}
    return from_mapping({"listener": {"test": listener}, "handler": {"test": {"call": handler, **chosen}}})
