"""The journal that a server has: on disk or in memory, and what the one on disk is told and asked at the start."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from twisted.logger import Logger

from eventserver import options
from eventserver.counters import HandlerCounters
from eventserver.durable import Cursor, DecoderSettings, IDurableJournal
from eventserver.errors import ComponentError, SettingsError
from eventserver.interfaces import IDecoder, IJournal, Parked
from eventserver.journal.memory import MemoryJournal
from eventserver.loading import load_object
from eventserver.options import Duration, Options, Size
from eventserver.registry import Registry
from eventserver.settings import Component, HandlerSettings, JournalOptions, Settings

_log = Logger(namespace="eventserver")

#: Bytes that are read at once to find a time.
READ = 1 << 20

#: By listener and name of the decoder.
Decoders = dict[tuple[str, str], IDecoder]


@dataclass(frozen=True)
class Found:
    """What a journal on disk had at the start.

    - `backlog`: frames that at least one handler of today has yet to pass; about, where one begins at a time.
    - `left`: cursors of handlers that are not in the settings; `new`: handlers that it did not know.
    - `dead`: events that were given up, those of replays that have ended among them.
    """

    backlog: int = 0
    left: tuple[Cursor, ...] = ()
    new: tuple[str, ...] = ()
    dead: int = 0


def open_journal(settings: Settings, reactor: Any, now: Callable[[], Any], forgotten: Callable[[Parked], None]) -> Any:
    """The journal of the settings, ready to be used. Raises `SettingsError` with a sentence for people.

    `now` gives aware UTC times; `forgotten` is told of dead letters that the journal in memory had no room for.
    """
    chosen = settings.journal
    if chosen is None:
        return MemoryJournal(int(settings.server.memory), int(settings.server.dead_letters), forgotten)
    # SQLite is loaded only for those who use it.
    from eventserver.journal.sqlite import SqliteJournal

    journal = SqliteJournal(
        Path(chosen.path),
        reactor=reactor,
        now=now,
        max_bytes=int(chosen.max_bytes),
        retention=float(chosen.retention),
        max_dead_bytes=int(chosen.dead_letters),
        key_window=float(chosen.key_window),
        max_keys=chosen.max_keys,
        log=Logger(namespace="journal"),
    )
    try:
        journal.open()
    except (ValueError, OSError) as error:
        raise SettingsError([f"journal.path: {error}"]) from error
    _warn_of_room(chosen, int(journal.info()["disk_bytes"]))
    return journal


def _warn_of_room(chosen: JournalOptions, used: int) -> None:
    try:
        room = shutil.disk_usage(chosen.path).free + used
    except OSError:
        return
    if room < chosen.max_bytes:
        _log.warn(
            "journal.max_bytes is {most}, and its disk has room for {room:.0f} MiB: where it is full, senders wait",
            most=str(chosen.max_bytes),
            room=room / (1 << 20),
        )


def on_disk(journal: IJournal) -> Any:
    """The journal, if it is one on disk (an `IDurableJournal`); else None."""
    return journal if IDurableJournal.providedBy(journal) else None


def dead_full(journal: IJournal, chosen: JournalOptions | None) -> Callable[[int], bool]:
    """Whether there is room for no further dead letter, behind so many bytes that the journal has yet to get."""
    disk = on_disk(journal)
    if disk is None or chosen is None:
        return lambda size: False
    bound = int(chosen.dead_letters)
    return lambda size: bool(disk.dead_bytes() + size >= bound)


# Cursors


def start_of(journal: IJournal, handler: HandlerSettings) -> int | None:
    """Where the cursor of a handler begins that the journal does not know; None for the head."""
    disk = on_disk(journal)
    if disk is None or handler.read_from == "end":
        return None
    position: int = disk.first if handler.read_from == "beginning" else disk.position_at(handler.read_from)
    return position


def expire_gone(journal: IJournal, name: str, counters: HandlerCounters) -> None:
    """Count as expired what a cursor has yet to pass and the journal has not any more: it held nothing for a while."""
    disk = on_disk(journal)
    gone = 0 if disk is None else disk.first - disk.reader(name).position
    if gone > 0:
        disk.commit_cursor(name, disk.first)
        counters.expired += gone
        _log.warn(
            "{gone} frames that handler {name} had yet to get are not in the journal any more", gone=gone, name=name
        )


def look(journal: Any, handlers: Mapping[str, HandlerSettings]) -> Found:
    """What the journal has for these handlers, before they get their cursors."""
    cursors: Sequence[Cursor] = journal.cursors()
    known = {cursor.name: cursor for cursor in cursors}
    starts = {name: start_of(journal, handler) for name, handler in handlers.items() if name not in known}
    starts |= {name: known[name].position for name in handlers if name in known}
    behind = [journal.head - start for start in starts.values() if start is not None]
    return Found(
        backlog=max(behind, default=0),
        # A replay has a cursor of its own, which its handler's name begins.
        left=tuple(c for c in cursors if c.name.partition("@")[0] not in handlers),
        new=tuple(name for name in handlers if name not in known),
        # Not the sum over the cursors: that of a replay is gone with it, and its dead letters stay.
        dead=int(journal.info()["dead"]),
    )


async def settle_cursors(journal: IJournal, handlers: Mapping[str, HandlerSettings], found: Found | None) -> None:
    """Have the cursors on the disk: only then a restart goes on where new handlers began.

    Raises `SettingsError` with a sentence for people.
    """
    disk = on_disk(journal)
    if disk is None or found is None:
        return
    try:
        for name in found.new:
            if isinstance(since := handlers[name].read_from, dt.datetime):
                await _skip_to(disk, name, since)
        await disk.flush()
    except Exception as error:
        raise SettingsError([f"journal.path: it cannot be written: {error}"]) from error


async def _skip_to(disk: Any, name: str, since: dt.datetime) -> None:
    """Move a new cursor over the batches that were received before a time: a journal finds it only about."""
    position = disk.reader(name).position
    while entries := await disk.read_between(position, disk.head, READ):
        for entry in entries:
            if entry.batch.received >= since:
                disk.commit_cursor(name, entry.first)
                return
            position = entry.end
    disk.commit_cursor(name, position)


# Decoders


def keep_decoders(journal: Any, settings: Settings) -> None:
    """Have the journal know today's decoders besides those of former settings, for batches whose listener is gone."""
    kept = {(one.listener, one.decoder): one for one in journal.kept_decoders()}
    for listener in settings.listeners.values():
        decoder = listener.decoder
        kept[listener.name, decoder.name] = DecoderSettings(
            listener=listener.name,
            decoder=decoder.name,
            options=msgspec.json.encode(written_options(decoder.options or Options()), enc_hook=str),
        )
    journal.keep_decoders([kept[key] for key in sorted(kept)])


def choices(listener: str, name: str, decoder: IDecoder) -> Decoders:
    """A listener's decoder, and those whose names its batches may carry instead (of `auto`: what was found)."""
    others: Mapping[str, IDecoder] = getattr(decoder, "choices", {})
    return {(listener, other): one for other, one in {**others, name: decoder}.items()}


def former_decoders(journal: Any, settings: Settings) -> Decoders:
    """Decoders of former settings, for what was received then; where today's settings have one too, that one counts."""
    found: Decoders = {}
    chosen: Decoders = {}
    today = {(listener.name, listener.decoder.name) for listener in settings.listeners.values()}
    for kept in journal.kept_decoders():
        if (kept.listener, kept.decoder) in today:
            continue
        try:
            found[kept.listener, kept.decoder] = decoder = _former_decoder(kept, settings)
            chosen |= choices(kept.listener, kept.decoder, decoder)
        except (ValueError, TypeError) as error:
            _log.warn(
                "what listener {listener} received with decoder {decoder} cannot be decoded any more: {error}",
                listener=kept.listener,
                decoder=kept.decoder,
                error=str(error),
            )
    return chosen | found


def _former_decoder(kept: DecoderSettings, settings: Settings) -> IDecoder:
    component: Any
    if ":" in kept.decoder:
        component = load_object(kept.decoder, settings.cwd or Path.cwd())
    else:
        component = Registry.from_entry_points().get("decoders", kept.decoder)
    made: Options | None = None
    if isinstance(component, type):
        cls: type[Options] = component.Options  # type: ignore[attr-defined]  # every decoder's class has them
        made, problems = options.parse(cls, msgspec.json.decode(kept.options))
        if problems:
            raise ComponentError("; ".join(f"{key}: {sentence}" for key, sentence in problems))
    decoder: IDecoder = Component(name=kept.decoder, component=component, options=made).make_pure()
    return decoder


def written_options(value: Any) -> Any:
    """Options as a settings file has them: plain data, which `options.parse` reads."""
    if isinstance(value, Options):
        fields = {name: getattr(value, name) for name in options.field_types(type(value))}
        return {name: written_options(inner) for name, inner in fields.items() if inner is not None}
    if isinstance(value, (Size, Duration)):
        return int(value) if isinstance(value, Size) else f"{float(value):.9f} s"
    if isinstance(value, Mapping):
        return {key: written_options(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [written_options(inner) for inner in value]
    return value
