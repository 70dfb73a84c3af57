"""Settings to the parts of a running server, wired together; nothing is started here."""

from __future__ import annotations

import datetime as dt
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from eventserver import journaling
from eventserver.awaiting import asyncio_loop
from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.delivery import Decoding, Delivery, DeliveryOptions
from eventserver.errors import SettingsError
from eventserver.event import Batch, Event
from eventserver.intake import Intake
from eventserver.interfaces import HandlerContext, IDecoder, IHandler, IJsonLines, ListenerContext, Parked
from eventserver.journal.memory import MemoryJournal
from eventserver.journaling import Decoders, Found
from eventserver.options import Size
from eventserver.replies import Connections
from eventserver.settings import HandlerSettings, ListenerSettings, Settings
from eventserver.steps import Pipeline
from eventserver.thinned_log import ThinnedLog
from eventserver.ulid import Ulids

_log = Logger(namespace="eventserver")

#: What Twisted reads at a time. Of reads that bring more, a journal has room for so many, and a handler's `max_lag`.
_READ, _READS, _LAGS = 1 << 16, 64, 8
#: The wall clock, aware, in UTC.
utc_now = partial(dt.datetime.now, dt.UTC)


@dataclass
class Parts:
    """Everything that a server is made of."""

    settings: Settings
    reactor: Any
    journal: Any
    """An `IJournal`; one on disk is an `IDurableJournal`, and open."""
    intake: Intake
    decoding: Decoding
    connections: Connections
    listener_counters: dict[str, ListenerCounters]
    found: Found | None = None
    """What the journal on disk had; None for one in memory."""
    commits: int = 0
    """Group commits of the journal on disk."""
    listeners: list[Any] = field(default_factory=list)
    """Services (`IListener`), one for each part of a listener."""
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    most_read: int = _READ
    replays: Any = None
    """`eventserver.replaying.Replays`, where the settings have a journal on disk."""

    def committed(self) -> None:
        """Count a group commit."""
        self.commits += 1

    def add_delivery(
        self,
        name: str,
        handler: IHandler,
        options: DeliveryOptions,
        counters: HandlerCounters,
        *,
        listeners: tuple[str, ...] | None = None,
        select: Callable[[Any], list[Event]] | None = None,
        reply: Callable[[Any, str, bytes], None] | None = None,
        position: int | None = None,
        passing: bool = False,
    ) -> Delivery:
        """A handler's loop, known to the intake from now on.

        Its cursor is where the journal has it; a new one is at `position`, or at the head. One that is `passing` is
        not there any more after a restart.
        """
        # The loop finds the cursor that there is.
        self.journal.reader(name, position, listeners, passing)
        if not passing:
            journaling.expire_gone(self.journal, name, counters)
        delivery = Delivery(
            name,
            handler,
            journal=self.journal,
            decoding=self.decoding,
            settings=options,
            counters=counters,
            reactor=self.reactor,
            now=utc_now,
            random=random.random,
            listeners=listeners,
            select=select,
            moved=self.intake.moved,
            expired=self.intake.expired,
            reply=reply,
            dead_full=journaling.dead_full(self.journal, self.settings.journal),
        )
        self.deliveries[name] = delivery
        self.intake.add_consumer(delivery)
        return delivery

    def remove_delivery(self, name: str) -> None:
        """Forget a handler, its loop and its cursor."""
        self.deliveries.pop(name).stop()
        self.journal.drop_reader(name)
        self.intake.remove_consumer(name)


def build(settings: Settings, reactor: Any, journal: Any = None, *, most_read: int = _READ) -> Parts:
    """The parts of a server. Raises `SettingsError` with everything that a component does not accept.

    `journal`: one that is open; without it the one of the settings, which is opened here. `most_read`: the bytes that
    one read of a stream may bring; less where the journal or a handler's `max_lag` is small.
    """
    problems: list[str] = []
    forgotten = _Forgotten(reactor)
    if journal is None:
        try:
            journal = journaling.open_journal(settings, reactor, utc_now, forgotten.note)
        except SettingsError as error:
            # What else is wrong is to be said as well.
            problems += error.problems
            journal = MemoryJournal()
    try:
        parts = _wire(settings, reactor, journal, most_read, problems)
    except BaseException:
        _let_go(journal)
        raise
    if problems:
        _let_go(journal)
        raise SettingsError(problems)
    forgotten.deliveries = parts.deliveries
    return parts


def _let_go(journal: Any) -> None:
    disk = journaling.on_disk(journal)
    if disk is not None:
        disk.close()


def _wire(settings: Settings, reactor: Any, journal: Any, most_read: int, problems: list[str]) -> Parts:
    """All parts round a journal; what components do not accept is added to the problems."""
    disk = journaling.on_disk(journal)
    decoders: Decoders = {}
    for listener in settings.listeners.values():
        decoders |= journaling.choices(listener.name, listener.decoder.name, listener.make_decoder())
    if disk is not None:
        decoders = {**journaling.former_decoders(disk, settings), **decoders}
    counters = {name: ListenerCounters() for name in settings.listeners}
    parts = Parts(
        settings=settings,
        reactor=reactor,
        journal=journal,
        intake=Intake(journal),
        decoding=Decoding(_decoder_of(decoders), max_bytes=int(settings.server.decoded_cache), log=_log),
        connections=Connections(counters, journal.head),
        most_read=min(most_read, journal.max_bytes // _READS),
        listener_counters=counters,
        found=None if disk is None else journaling.look(disk, settings.handlers),
    )
    if disk is not None and settings.journal is not None:
        parts.replays = _replays(parts, disk, Path(settings.journal.path))
    answered = answering(settings)
    _build_handlers(parts, decoders, answered, problems)
    _build_listeners(parts, answered, problems)
    if disk is not None and not problems:
        journaling.keep_decoders(disk, settings)
        disk.on_commit(parts.committed)
        disk.on_dead_changed(partial(_room_for_dead, parts.deliveries))
        if parts.replays is not None:
            disk.on_dead_changed(parts.replays.room_for_dead)
    return parts


def _replays(parts: Parts, disk: Any, folder: Path) -> Any:
    from eventserver.replaying import Replays

    return Replays(
        disk,
        path=folder / "0" / "replays.json",
        decoding=parts.decoding,
        intake=parts.intake,
        reactor=parts.reactor,
        now=utc_now,
        random=random.random,
        dead_full=journaling.dead_full(disk, parts.settings.journal),
    )


def _room_for_dead(deliveries: Mapping[str, Delivery]) -> None:
    for delivery in list(deliveries.values()):
        delivery.room_for_dead()


def _build_handlers(parts: Parts, decoders: Decoders, answered: Mapping[str, str], problems: list[str]) -> None:
    raw_listeners: set[str] = set()
    made: list[tuple[HandlerSettings, IHandler, Callable[[], None]]] = []
    for handler in parts.settings.handlers.values():
        replies_to = frozenset(listener for listener, name in answered.items() if name == handler.name)
        try:
            built, join = _build_handler(parts, handler, decoders, replies_to)
        except Exception as error:
            problems.append(f"handler.{handler.name}: {_said(error)}")
            continue
        made.append((handler, built, join))
        if handler.raw or built.wants_raw:
            raw_listeners |= {listener for listener, _ in decoders if handler.gets_from(listener)}
    parts.decoding.raw_listeners = frozenset(raw_listeners)
    # Those that take events come first: whoever writes events as JSON then has them, and need not read the frames.
    for handler, _, join in sorted(made, key=lambda one: one[1].wants == "frames"):
        try:
            join()
        except Exception as error:
            problems.append(f"handler.{handler.name}: {_said(error)}")


def _build_listeners(parts: Parts, answered: Mapping[str, str], problems: list[str]) -> None:
    settings = parts.settings
    new_id = Ulids(time.time_ns, secrets.randbits)
    for listener in settings.listeners.values():
        answers = answered.get(listener.name)
        explicit = answers is not None and getattr(settings.handlers[answers].handler.options, "replies", None) is True
        for part in listener.parts:
            answered_by = answers if part.name != "datagram" or explicit else None
            try:
                service = part.make(_listener_context(parts, listener, answered_by, new_id))
            except Exception as error:
                problems.append(f"listener.{listener.name}: {_said(error)}")
                continue
            service.name = listener.name
            parts.listeners.append(service)
            parts.intake.add_listener(service)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, (ValueError, SettingsError)) else f"{type(error).__name__}: {error}"


class _Forgotten:
    """Counts and logs dead letters that there was no room for."""

    def __init__(self, reactor: Any) -> None:
        self.deliveries: Mapping[str, Delivery] = {}
        self._log = ThinnedLog(_log, reactor)

    def note(self, parked: Parked) -> None:
        """A dead letter is forgotten."""
        if parked.handler in self.deliveries:
            self.deliveries[parked.handler].counters.forgotten += 1
        self._log.error(
            "forgotten",
            "there are too many dead letters: {id} of handler {name} is forgotten",
            id=parked.event.id,
            name=parked.handler,
        )


def _decoder_of(decoders: Mapping[tuple[str, str], IDecoder]) -> Callable[[Batch], IDecoder | None]:
    return lambda batch: decoders.get((batch.listener, batch.decoder))


def answering(settings: Settings) -> dict[str, str]:
    """Which handler's results go back to the senders of which listener.

    The one that says `replies = true`; else the only python handler of a stream listener with decoder `text` or
    `json`, unless it says `replies = false`.
    """
    found = {}
    for listener in settings.listeners.values():
        candidates = [
            handler
            for handler in settings.handlers.values()
            if hasattr(handler.handler.options, "replies") and handler.gets_from(listener.name)
        ]
        explicit = [handler for handler in candidates if getattr(handler.handler.options, "replies", None) is True]
        streams = any(part.name == "stream" for part in listener.parts)
        if explicit:
            found[listener.name] = explicit[0].name
        elif (
            len(candidates) == 1
            and streams
            and listener.decoder.name in ("text", "json")
            and getattr(candidates[0].handler.options, "replies", None) is None
        ):
            found[listener.name] = candidates[0].name
    return found


def _build_handler(
    parts: Parts,
    settings: HandlerSettings,
    decoders: Mapping[tuple[str, str], IDecoder],
    replies_to: frozenset[str],
) -> tuple[IHandler, Callable[[], None]]:
    """The handler, and what gives it its loop. Raises `ValueError` for settings that it does not accept."""
    counters = HandlerCounters()
    delivery: Delivery | None = None

    def reply(event: Event, payload: bytes) -> None:
        if delivery is not None and event.listener in replies_to:
            delivery.reply(event, payload)

    steps = settings.make_steps()
    heard = [decoder for (listener, _), decoder in decoders.items() if settings.gets_from(listener)]
    context = HandlerContext(
        name=settings.name,
        reactor=parts.reactor,
        log=Logger(namespace=f"handler.{settings.name}"),
        counters=counters,
        now=utc_now,
        parts=settings.part_factories(),
        json_lines=parts.decoding.json_lines if all(map(IJsonLines.providedBy, heard)) else None,
        needs_events=settings.match is not None or bool(steps),
        durable=parts.journal.durable,
        ordered=settings.ordered,
        timeout=float(settings.timeout),
        replies=bool(replies_to),
        reply=reply,
    )
    handler: IHandler = settings.handler.make(context)
    if getattr(handler, "needs_asyncio", False) and asyncio_loop(parts.reactor) is None:
        raise ValueError("needs the asyncio reactor (twistd --reactor=asyncio, the default)")
    options = delivery_options(settings, handler, parts.journal.max_bytes)
    select = Pipeline(settings.match, steps) if context.needs_events else None

    def join() -> None:
        nonlocal delivery
        delivery = parts.add_delivery(
            settings.name,
            handler,
            options,
            counters,
            listeners=settings.listeners,
            select=select,
            reply=parts.connections.reply if replies_to else None,
            position=journaling.start_of(parts.journal, settings),
        )
        if parts.replays is not None:
            parts.replays.add_handler(settings.name, delivery, options, settings.listeners, select)

    return handler, join


def delivery_options(settings: HandlerSettings, handler: IHandler, max_bytes: int) -> DeliveryOptions:
    """What the settings say about one handler's loop, with the defaults that depend on other things."""
    return DeliveryOptions(
        max_events=settings.batch.max_events,
        max_bytes=settings.batch.max_bytes,
        max_lag=Size(max_bytes // 2) if settings.max_lag is None else settings.max_lag,
        when_full=settings.when_full,
        timeout=settings.timeout,
        concurrency=settings.concurrency or int(getattr(handler, "concurrency", 1)),
        ordered=settings.ordered,
        required_for_ack=settings.required_for_ack,
        retry=settings.retry,
    )


def _listener_context(
    parts: Parts, settings: ListenerSettings, answered_by: str | None, new_id: Callable[[], str]
) -> ListenerContext:
    datagram_framer = settings.datagram_framer
    return ListenerContext(
        name=settings.name,
        decoder=settings.decoder.name,
        reactor=parts.reactor,
        intake=parts.intake,
        connections=parts.connections,
        new_framer=settings.make_framer,
        new_datagram_framer=None if datagram_framer is None else datagram_framer.make,
        new_id=new_id,
        now=utc_now,
        log=Logger(namespace=f"listener.{settings.name}"),
        counters=parts.listener_counters[settings.name],
        batch_context={"labels": dict(settings.labels)} if settings.labels else {},
        replies=answered_by is not None,
        answered_by=answered_by,
        ack=settings.ack,
        ack_timeout=float(settings.ack_timeout),
        most_read=_most_read(parts),
        journal=journaling.on_disk(parts.journal),
    )


def _most_read(parts: Parts) -> int:
    """The bytes that a read may bring: all of it may be there before a handler that waits for something goes on."""
    return max(_READ, min([parts.most_read, *(one.max_lag // _LAGS for one in parts.deliveries.values())]))
