"""The seams: what a framer, decoder, encoder, listener, handler, intake and journal promise each other.

Everything here is called in the reactor's thread unless it says otherwise. Implementations declare themselves with
`@implementer`; `eventserver.testing` has a conformance suite for each interface.

How components are made: `Framer(options)`, `Decoder(options)`, `Encoder(options)`, `Step(options)`,
`Listener(options, context)`, `Handler(options, context)`, where `options` is an instance of the class attribute
`Options` (a subclass of `eventserver.options.Options`) and `context` one of the two classes of `eventserver.contexts`,
which can be imported from here as well; so can those of `eventserver.shortcuts`, what components may provide besides.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from eventserver.contexts import AckLevel as AckLevel
from eventserver.contexts import ConnectionInfo as ConnectionInfo
from eventserver.contexts import HandlerContext as HandlerContext
from eventserver.contexts import ListenerContext as ListenerContext
from eventserver.counters import ListenerCounters
from eventserver.event import Batch, Event
from eventserver.shortcuts import IJsonLines as IJsonLines
from eventserver.shortcuts import ILines as ILines
from eventserver.shortcuts import IMatch as IMatch
from eventserver.shortcuts import ISelecting as ISelecting

Wants = Literal["frames", "events"]


class Fault(NamedTuple):
    """What a framer found wrong with the bytes of one call.

    `reason` is a word for a counter's label: `oversize`, `incomplete`, `bad_count`, ...
    `frame` is the index, in the list that the call returned, of the frame that was cut but kept; None if nothing
    was kept (the frame is refused, and counted as received and rejected).
    `fatal` says that the stream is out of step: the connection has to be closed, and the framer eats what follows.
    """

    reason: str
    frame: int | None
    fatal: bool


class IFramer(Interface):
    """Cuts the bytes of one stream into frames. Sans-I/O: one object a connection, no clock, no transport.

    No method raises, whatever the bytes. Between calls it holds at most `max_frame` bytes. What it does with a frame
    over `max_frame` is its option `oversize`: `truncate` (keep the head, skip the rest without buffering), `drop`,
    or `close` (a fatal fault).
    """

    faults: Sequence[Fault] = Attribute(
        "What went wrong in the latest call of `feed`, `expire` or `finish`; replaced by each, usually one shared ()."
    )
    partial: bool = Attribute("True in the middle of a frame: some of it has come, or is being skipped.")

    def feed(data: bytes) -> list[bytes]:
        """The frames that `data` completes, those before an error included."""

    def expire(now: float) -> list[bytes]:
        """The frames that are complete because time passed; `now` in seconds of a monotonic clock.

        Called about once a second by the listener's sweep; only framers that reassemble return anything.
        """

    def finish() -> list[bytes]:
        """The stream has ended: what is left is a frame (an unterminated last line is one).

        The rest of a counted frame is kept and reported as `Fault("incomplete", index, False)`.
        """

    def rest() -> bytes:
        """Hands over the bytes that are held unread, and forgets them (another framer takes the stream over)."""

    def wrap(payload: bytes) -> bytes:
        """One frame as bytes for the wire, framed as this stream frames: for replies and for relays."""


class IDecoder(Interface):
    """Turns the frames of a batch into events. Pure: `batch.received` is its only clock.

    Optional attribute: `choices`, further decoders by name, for the batches of its listener that carry their names
    instead of its own, as listeners that look at what comes write them (`Batch.decoder`).
    """

    def decode(batch: Batch) -> list[Event]:
        """The events of the batch, in the order of its frames; a frame may give none, one or several.

        Never raises, whatever the bytes: what cannot be read becomes `eventserver.event.undecodable(...)`.
        Ids are `<batch>-<frame>` (`Batch.id_of`), and `<batch>-<frame>.<n>` (n from 1) for further events of one frame.
        """


class IEncoder(Interface):
    """Turns events back into bytes."""

    wants: Wants = Attribute('`"frames"` if `encode_frames` can be used instead of `encode`, without decoding.')
    wants_raw: bool = Attribute("True if `encode` needs `Event.raw` or `raw_base64` to be set.")

    def encode(events: Sequence[Event]) -> list[bytes]:
        """One payload an event, without framing."""

    def encode_lines(events: Sequence[Event]) -> bytes:
        """All the events, each as one line that ends with LF, in one buffer."""

    def encode_frames(batches: Sequence[Batch]) -> Sequence[bytes]:
        """One payload a frame; only where `wants` is `"frames"`."""


class IStep(Interface):
    """One stage between match and handler: events in, events out."""

    def apply(events: Sequence[Event]) -> list[Event]:
        """The events that go on, in order; changed ones are new events with the same id. Never raises."""


class IListener(IService):
    """Reads from peers and puts batches into the intake.

    `listen` binds, `startService` begins to accept and read, `stopService` ends both and fires when all is closed:
    unterminated tails become frames marked `truncated`, and connections wait for the replies they are owed.
    """

    def listen() -> Deferred[None]:
        """Bind every endpoint, without accepting or reading yet; fails with a sentence for each that cannot be."""

    def pause() -> None:
        """Stop reading from streams: the intake is near its bound. Datagram listeners go on: see `IIntake.put`."""

    def resume() -> None:
        """Read on; a batch that the intake refused is put again first."""

    def give_up() -> None:
        """While it stops: no more room and no more replies will come, so close what is open, and count what is lost."""

    def connections() -> list[ConnectionInfo]:
        """The open connections, oldest first."""

    def addresses() -> list[str]:
        """Where it listens, with the real ports: `"tcp:127.0.0.1:5140"`, once started."""


class IIntake(Interface):
    """Where every listener puts its batches, and waits for its acknowledgements."""

    refusal: str = Attribute(
        "Why `put` would refuse now, a word for a counter's label: `full`, `journal` (can store nothing) or `stopped`."
    )

    def put(batch: Batch) -> int | None:
        """Take the batch. Returns its position: the number of frames up to and with its last one.

        None when it was refused, because a bound is reached or the journal can store nothing now: a stream listener
        holds the batch and stops reading until `resume`; a datagram listener counts its frames as rejected, with
        `refusal` as the reason.
        """

    def watch(
        level: AckLevel, position: int, done: Callable[[Failure | None], None], handlers: Collection[str] | None = None
    ) -> None:
        """Call `done(None)` once when everything up to `position` is `level`, or `done(failure)` if it never will be.

        In the order of positions, all that a group commit or a cursor's move settles in one pass; for what is settled
        already, before `watch` returns. `handlers` narrows `delivered` to some handlers; without it, those configured
        when the batch was put, less those with `required_for_ack = false`. Names of handlers that are not there, or no
        longer, count as settled.
        """


class IHandler(Interface):
    """Does something with events (or frames). One object for one `[handler.NAME]`.

    Optional attributes: `needs_asyncio = True` (it fails at start on another reactor, with a clear error);
    `concurrency` (the default number of lanes); `times_itself = True` (see `HandlerContext.timeout`); `busy` (True
    while a thread still runs whose call was given up: nothing else is called then); `parts`, a class attribute: names
    of settings that choose a framer or encoder for it, such as `{"encoder": "eventserver.encoders"}` (see
    `HandlerContext.parts`); `piles`, a class attribute: its own defaults of the setting `batch`, `max_events` and
    `max_bytes`; `only_encodes = True` (all that it looks at is what the encoder `json` makes of an event, so that
    `fields` need not be a dictionary; settled at start).
    """

    wants: Wants = Attribute(
        '`"events"`: `handle` gets a list of `Event`; `"frames"`: a list of `Batch`. Settled at start.'
    )
    wants_raw: bool = Attribute("True if it needs `Event.raw` or `raw_base64` to be set. Settled at start.")

    def start() -> Awaitable[None] | Deferred[None] | None:
        """Get ready. An exception is a wrong setting: the server does not start."""

    def handle(pile: list[Any]) -> Awaitable[None] | Deferred[None] | None:
        """Take the pile; it is never empty. To return is to say that all of it is safe.

        Sync, `async def`, or returning a Deferred. Not called again before it is done, except for other lanes
        (`concurrency`). Events are shared with other handlers: never change them.

        Raises `TemporaryFailure`, `ConnectionError` or Twisted's connection errors: the destination is unwell, the
        pile is tried again until it succeeds. `PermanentFailure`: dead letters now. `PartialFailure({id: error})`:
        these events failed, the rest is done. Anything else: the culprit is looked for event by event, retried apart,
        and dead-lettered after `retry.max_attempts`.
        """

    def stop() -> Awaitable[None] | Deferred[None] | None:
        """Flush and let go. Called once; nothing else is called afterwards."""


class IReopen(Interface):
    """What a handler or a listener may provide besides: it is called on SIGHUP."""

    def reopen() -> None:
        """Open again what may have been replaced: files that log rotation has moved away, certificates.

        Raises an exception where that fails, which is logged; `ValueError` if what there was before is used on.
        """


class IReader(Interface):
    """One cursor in a journal, and what lies before it. Made by `IJournal.reader`."""

    name: str = Attribute("The handler's name.")
    position: int = Attribute("Frames passed: the position that was committed last, and what it skipped from there.")
    skipped: int = Attribute("Frames of other listeners that the cursor moved over without being told to.")
    ready: Callable[[], None] = Attribute("Called after each commit that brings it entries; whoever reads sets it.")

    def read(max_bytes: int) -> list[Entry] | Deferred[list[Entry]]:
        """The committed entries that come next and have not been read, at most `max_bytes` (soft by one entry).

        An empty list at the head. The first entry may begin before the cursor, where the cursor rests inside it.
        """

    def only(max_frames: int, max_bytes: int) -> Entry | None:
        """The entry that `read` would give, if nothing else is before the cursor and it is no larger.

        None if not, or if that would have to be found out: then `read` says what there is.
        """

    def lag_bytes() -> int:
        """The bytes of the entries that the cursor has not passed."""

    def expire_oldest() -> int:
        """Move the cursor behind the oldest entry that it has not passed; returns where that ends."""


class IJournal(Interface):
    """Keeps batches until every reader has passed them. Positions count frames, from 0."""

    durable: bool = Attribute("Whether what is committed survives the process.")
    max_bytes: int = Attribute("The bound, in bytes as `eventserver.event.size_of` counts.")
    size: int = Attribute("Bytes held now.")
    head: int = Attribute("The position behind the last frame appended.")
    committed: int = Attribute("The position behind the last frame committed.")

    def on_commit(callback: Callable[[], None]) -> None:
        """Call `callback()` after each group commit, in the reactor's thread; what was committed is readable then."""

    def append(batch: Batch, size: int) -> int:
        """Take the batch, which counts for `size` bytes; returns the new head. The caller saw to it that there is room.

        Synchronous; the commit may come later. A journal in memory commits before it returns.
        """

    def reader(
        name: str, position: int | None = None, listeners: Collection[str] | None = None, passing: bool = False
    ) -> IReader:
        """The cursor of that name; a new one starts at `position`, or at the head.

        With `listeners` it gets only their entries; with none of these before it, it is at the head unmoved. A
        `passing` cursor is never written to disk: it is gone after a restart, as that of a subscription should be.
        """

    def drop_reader(name: str) -> None:
        """Forget a cursor, and what is parked for it; what it alone held is freed."""

    def commit_cursor(name: str, position: int, parked: Sequence[Parked] = (), settled: Collection[str] = ()) -> None:
        """Move a cursor forward, and in the same transaction write parked and dead events and forget settled ones.

        A position behind the cursor leaves the cursor where it is. `settled` are ids of events of this handler that
        are parked no more. What every cursor has passed is freed.
        """

    def parked(name: str) -> list[Parked]:
        """What is parked and dead for a handler, oldest first."""

    def oldest() -> list[str]:
        """The names of the readers that hold the oldest entry."""

    def info() -> Mapping[str, Any]:
        """Sizes, counts and positions for people: plain data."""


class IConnections(Interface):
    """Where listeners make their connections known, so that replies find them."""

    def add(writer: IReplyWriter) -> int:
        """A new number, unique in the process and never 0, for a connection."""

    def remove(connection: int) -> None:
        """The connection is gone."""


class IReplyWriter(Interface):
    """The listener's end of one connection, as replies see it."""

    counters: ListenerCounters = Attribute("The counters of the listener.")

    def reply(payload: bytes) -> None:
        """Write one reply, ended as the framing ends a frame."""


class Entry(msgspec.Struct, eq=False):
    """A batch in a journal. `end` is the position behind its last frame, `size` the bytes it counts for.

    `readers_left` is the number of cursors that have yet to pass it. `events` is where delivery keeps what the batch
    decodes to, for the handlers that come later; `columns` has values of their fields that a `match` looked at, and
    `distinct` the different values of such a column, or None where there are too many.
    """

    end: int
    batch: Batch
    size: int
    readers_left: int = 0
    events: list[Event] | None = None
    columns: dict[str, list[Any]] | None = None
    distinct: dict[str, list[Any] | None] | None = None

    @property
    def first(self) -> int:
        """The position before its first frame."""
        return self.end - len(self.batch.frames)

    def let_go(self) -> bool:
        """One more cursor has passed it; whether that was the last one."""
        self.readers_left -= 1
        if self.readers_left:
            return False
        # Now, so that the events of the next batch use their memory again, which is in the processor's cache.
        self.events = self.columns = self.distinct = None
        return True


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """An event that failed: waiting for another attempt, or a dead letter (`next_attempt` is None).

    `frame` is the raw bytes where the journal still had them, `decoder` the name that their batch had. Times are aware
    UTC.
    """

    handler: str
    event: Event
    frame: bytes | None
    error: str
    traceback: str
    attempts: int
    first_attempt: dt.datetime
    last_attempt: dt.datetime
    next_attempt: dt.datetime | None
    decoder: str = ""
