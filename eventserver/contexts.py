"""What a listener and a handler are given when they are made: plain data and functions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from twisted.logger import Logger

from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.event import Batch, Event

AckLevel = Literal["memory", "durable", "delivered"]


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One open connection, for people. `protocol` is what it speaks, where that was found out."""

    peer: str
    since: dt.datetime
    received: int
    bytes: int
    protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerContext:
    """What the service gives to a listener.

    - `name`: of its table in the settings. `decoder`: the name that batches carry.
    - `new_framer`: a fresh framer for a stream; `new_datagram_framer`: for the inside of each datagram, or None
      where a datagram is one frame.
    - `batch_context`: the context of every batch (`{"labels": {...}}`, or empty). One shared object: never changed.
    - `now`: aware UTC time; `new_id`: a fresh ULID.
    - `replies`: whether some handler, `answered_by`, answers peers of this listener.
    - `most_read`: the bytes that one read of a stream may bring, while more is waiting.
    - `journal`: the journal on disk (`IDurableJournal`), where listeners may `recall` and `remember` what senders
      repeat; None where frames are only in memory.
    - `ack`: when a frame is acknowledged, and `ack_timeout`: the seconds after which it is refused instead. None where
      the listener's class does not acknowledge (its attribute `ack_levels` is empty or missing).
    """

    name: str
    decoder: str
    reactor: Any
    intake: Any
    connections: Any
    new_framer: Callable[[], Any]
    new_datagram_framer: Callable[[], Any] | None
    new_id: Callable[[], str]
    now: Callable[[], dt.datetime]
    log: Logger
    counters: ListenerCounters
    batch_context: dict[str, Any] = field(default_factory=dict)
    replies: bool = False
    answered_by: str | None = None
    ack: AckLevel | None = None
    ack_timeout: float = 30.0
    most_read: int = 1 << 16
    journal: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerContext:
    """What the service gives to a handler.

    - `name`: of its table in the settings.
    - `parts`: a factory for each entry of the handler's `parts`: `parts["encoder"]()` is a new encoder.
    - `json_lines`: batches to what the encoder `json` writes for their events; None where it takes events.
    - `needs_events`: True if `match` or `steps` look at events before the handler, so it must want events.
    - `durable`: True if a durable journal stands before the handler, so to return must mean "on disk".
    - `ordered`: True if an event that fails holds up those behind it: the handler has to stop at the first.
    - `timeout`: seconds that one call may take; 0 is no limit. Delivery sees to it, unless the handler has the
      attribute `times_itself`: then its "call" is what it does with one event, and it sees to that.
    - `replies`: True if what the function returns goes to the sender; then `reply(event, payload)` sends it.
    """

    name: str
    reactor: Any
    log: Logger
    counters: HandlerCounters
    now: Callable[[], dt.datetime]
    parts: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    json_lines: Callable[[Sequence[Batch]], bytes] | None = None
    needs_events: bool = False
    durable: bool = False
    ordered: bool = False
    timeout: float = 0.0
    replies: bool = False
    reply: Callable[[Event, bytes], None] = lambda event, payload: None
