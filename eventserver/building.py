"""Settings to the parts of a running server, wired together; nothing is started here."""

from __future__ import annotations

import datetime as dt
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger

from eventserver.awaiting import asyncio_loop
from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.delivery import Decoding, Delivery, DeliveryOptions
from eventserver.errors import SettingsError
from eventserver.event import Batch, Event
from eventserver.intake import Intake
from eventserver.interfaces import HandlerContext, IDecoder, IHandler, IJsonLines, ListenerContext, Parked
from eventserver.journal.memory import MemoryJournal
from eventserver.options import Size
from eventserver.replies import Connections
from eventserver.settings import HandlerSettings, ListenerSettings, Settings
from eventserver.steps import Pipeline
from eventserver.thinned_log import ThinnedLog
from eventserver.ulid import Ulids

_log = Logger(namespace="eventserver")


def utc_now() -> dt.datetime:
    """The wall clock, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


@dataclass
class Parts:
    """Everything that a server is made of."""

    settings: Settings
    reactor: Any
    journal: MemoryJournal
    intake: Intake
    decoding: Decoding
    connections: Connections
    listener_counters: dict[str, ListenerCounters]
    listeners: list[Any] = field(default_factory=list)
    """Services (`IListener`), one for each part of a listener."""
    deliveries: dict[str, Delivery] = field(default_factory=dict)

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
    ) -> Delivery:
        """A handler's loop, with its cursor at the head of the journal; known to the intake from now on."""
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
        )
        self.deliveries[name] = delivery
        self.intake.add_consumer(delivery)
        return delivery

    def remove_delivery(self, name: str) -> None:
        """Forget a handler, its loop and its cursor."""
        self.deliveries.pop(name).stop()
        self.journal.drop_reader(name)
        self.intake.remove_consumer(name)


def build(settings: Settings, reactor: Any) -> Parts:
    """The parts of a server. Raises `SettingsError` with everything that a component does not accept."""
    decoders = {
        (listener.name, listener.decoder.name): listener.make_decoder() for listener in settings.listeners.values()
    }
    counters = {name: ListenerCounters() for name in settings.listeners}
    server = settings.server
    forgotten = _Forgotten(reactor)
    journal = MemoryJournal(int(server.memory), int(server.dead_letters), forgotten.note)
    parts = Parts(
        settings=settings,
        reactor=reactor,
        journal=journal,
        intake=Intake(journal),
        decoding=Decoding(_decoder_of(decoders), max_bytes=int(server.decoded_cache), log=_log),
        connections=Connections(counters),
        listener_counters=counters,
    )
    forgotten.deliveries = parts.deliveries
    answered = answering(settings)
    problems: list[str] = []
    raw_listeners: set[str] = set()
    for handler in settings.handlers.values():
        replies_to = frozenset(listener for listener, name in answered.items() if name == handler.name)
        try:
            built = _build_handler(parts, handler, decoders, replies_to)
        except Exception as error:
            problems.append(f"handler.{handler.name}: {_said(error)}")
            continue
        if handler.raw or built.wants_raw:
            raw_listeners |= {name for name in settings.listeners if handler.gets_from(name)}
    parts.decoding.raw_listeners = frozenset(raw_listeners)
    new_id = Ulids(lambda: time.time_ns() // 1_000_000, secrets.randbits)
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
    if problems:
        raise SettingsError(problems)
    return parts


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
) -> IHandler:
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
    delivery = parts.add_delivery(
        settings.name,
        handler,
        delivery_options(settings, handler, parts.journal.max_bytes),
        counters,
        listeners=settings.listeners,
        select=Pipeline(settings.match, steps) if context.needs_events else None,
        reply=parts.connections.reply if replies_to else None,
    )
    return handler


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
    )
