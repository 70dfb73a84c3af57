"""From files, the command line or a mapping to checked settings: all errors at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eventserver.errors import SettingsError
from eventserver.options import Options, field_types, unknown
from eventserver.registry import Registry
from eventserver.settings.choosing import World
from eventserver.settings.common import AdminOptions, JournalOptions, ServerOptions
from eventserver.settings.endpoints import parse_endpoint, place_of
from eventserver.settings.files import Collected, read_files
from eventserver.settings.handlers import build_handler
from eventserver.settings.listeners import build_listener
from eventserver.settings.model import HandlerSettings, ListenerSettings, Settings
from eventserver.settings.pairs import add_handler, add_listener, add_single
from eventserver.settings.tables import Problems, Table, parse


@dataclass(frozen=True)
class CommandLine:
    """What the options of the command line add to the files, each as it was written."""

    listen: Sequence[str] = ()
    handler: Sequence[str] = ()
    journal: str | None = None
    admin: str | None = None


def load(
    paths: Sequence[str | Path] = (),
    *,
    extra: CommandLine | None = None,
    environ: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    cwd: str | Path | None = None,
) -> Settings:
    """The settings that files (and folders of `*.toml` files) and the command line describe together.

    Relative paths, and modules that are named, are looked for in `cwd`. Raises `SettingsError` with every problem.
    """
    world = _world(registry, cwd)
    collected = Collected()
    read_files(paths, world.cwd, collected, world.problems)
    extra = extra or CommandLine()
    for text in extra.listen:
        add_listener(text, collected, world.problems)
    for text in extra.handler:
        add_handler(text, world.registry.names("handlers"), collected, world.problems)
    if extra.journal is not None:
        add_single("journal", "path", extra.journal, collected, world.problems)
    if extra.admin is not None:
        add_single("admin", "endpoint", extra.admin, collected, world.problems)
    return _build(world, collected, os.environ if environ is None else environ)


def from_mapping(
    mapping: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    cwd: str | Path | None = None,
) -> Settings:
    """The settings that a mapping describes, in the shape of a file; `call` and `decoder` may be functions.

    Raises `SettingsError` with every problem.
    """
    world = _world(registry, cwd)
    collected = Collected()
    collected.add_document("", mapping, world.problems)
    return _build(world, collected, os.environ if environ is None else environ)


def _world(registry: Registry | None, cwd: str | Path | None) -> World:
    return World(registry or Registry.from_entry_points(), Path.cwd() if cwd is None else Path(cwd), Problems())


def _build(world: World, collected: Collected, environ: Mapping[str, str]) -> Settings:
    problems = world.problems
    collected.expand(environ, problems)
    assumed = _add_defaults(collected)
    # Before the listeners: what they can promise depends on it.
    journal = _journal(world, collected.journal)
    listeners = {name: build_listener(world, name, table) for name, table in collected.listeners.items()}
    handlers = {name: build_handler(world, name, table, listeners) for name, table in collected.handlers.items()}
    admin = None if collected.admin is None else _strict(world, collected.admin, AdminOptions)
    server = parse(collected.server, ServerOptions, problems)
    good_listeners = {name: listener for name, listener in listeners.items() if listener is not None}
    good_handlers = {name: handler for name, handler in handlers.items() if handler is not None}
    _check_places(collected, problems)
    _check_replies(good_listeners, good_handlers, collected, problems)
    if problems.found:
        raise SettingsError(problems.found)
    return Settings(
        listeners=good_listeners,
        handlers=good_handlers,
        admin=admin,
        journal=journal,
        server=server,
        assumed=frozenset(assumed),
        cwd=world.cwd,
    )


def _journal(world: World, table: Table | None) -> JournalOptions | None:
    """The journal on disk; from now on listeners may promise `durable`, even if its table is wrong."""
    if table is None:
        return None
    world.durable = True
    found = _strict(world, table, JournalOptions)
    if found is None:
        return None
    path = world.cwd / found.path
    if path.exists() and not path.is_dir():
        world.problems.add(table, "path", f"{found.path} is not a folder")
    return msgspec.structs.replace(found, path=str(path))


_T = TypeVar("_T", bound=Options)


def _strict(world: World, table: Table, cls: type[_T]) -> _T | None:
    """The options of a table that has no other keys."""
    known = field_types(cls)
    for key in table.values:
        if key not in known:
            world.problems.add(table, key, unknown(key, known))
    parsed: _T | None = parse(table, cls, world.problems)
    return parsed


def _add_defaults(collected: Collected) -> set[str]:
    """Whichever half is missing: listeners on the local addresses, a handler that prints."""
    assumed = set()
    if not collected.listeners:
        assumed.add("listeners")
        hosts = ["interface=127.0.0.1", *([r"interface=\:\:1"] if ipv6_available() else [])]
        for name, port, decoder in (("lines", 5140, "text"), ("syslog", 5514, "syslog")):
            endpoints = [f"{kind}:{port}:{host}" for host in hosts for kind in ("tcp", "udp")]
            table = {"endpoints": endpoints, "decoder": decoder}
            collected.listeners[name] = Table("default", f"listener.{name}", table)
    if not collected.handlers:
        assumed.add("handlers")
        collected.handlers["console"] = Table("default", "handler.console", {"type": "console"})
    return assumed


def ipv6_available() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _check_places(collected: Collected, problems: Problems) -> None:
    """No two endpoints listen in the same place."""
    seen: dict[tuple[str, ...], str] = {}
    for table, key, text in _all_endpoints(collected):
        try:
            place = place_of(parse_endpoint(text))
        except ValueError:
            continue
        if place is not None and place in seen:
            problems.add(table, key, f"`{text}` is an endpoint of {seen[place]} already")
        elif place is not None:
            seen[place] = f"`{table.key or table.source}`"


def _all_endpoints(collected: Collected) -> Iterator[tuple[Table, str, str]]:
    for table in collected.listeners.values():
        for key in ("endpoints", "optional_endpoints"):
            texts = table.values.get(key)
            for text in texts if isinstance(texts, list) else ():
                if isinstance(text, str):
                    yield table, key, text
    if collected.admin is not None and isinstance(collected.admin.values.get("endpoint"), str):
        yield collected.admin, "endpoint", collected.admin.values["endpoint"]


def _check_replies(
    listeners: Mapping[str, ListenerSettings],
    handlers: Mapping[str, HandlerSettings],
    collected: Collected,
    problems: Problems,
) -> None:
    """At most one handler says that it answers the peers of a listener, and those can be answered."""
    explicit = [name for name, one in handlers.items() if getattr(one.handler.options, "replies", None) is True]
    for listener in listeners:
        answering = [name for name in explicit if handlers[name].gets_from(listener)]
        for name in answering[1:]:
            problems.add(
                collected.handlers[name],
                "replies",
                f"handler `{answering[0]}` answers the peers of listener `{listener}` already; only one can",
            )
    for name in explicit:
        asked = [one for one in collected.listeners if handlers[name].gets_from(one)]
        mute = [one for one in asked if one in listeners and not _can_reply(listeners[one])]
        if asked and mute == asked:
            problems.add(
                collected.handlers[name],
                "replies",
                f"the protocol of listener `{mute[0]}` has no room for replies: its peers get acknowledgements alone",
            )


def _can_reply(listener: ListenerSettings) -> bool:
    return any(getattr(part.component, "can_reply", True) for part in listener.parts)
