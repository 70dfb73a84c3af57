"""One `[handler.NAME]`: what is called, with its options, and when."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from eventserver import options
from eventserver.errors import ExpressionError
from eventserver.options import Options
from eventserver.settings.choosing import Choice, World, choose, refuse_unknown
from eventserver.settings.common import HandlerOptions, read_time
from eventserver.settings.expressions import check_match, check_steps
from eventserver.settings.model import HandlerSettings
from eventserver.settings.tables import Table, parse, prepared


def build_handler(world: World, name: str, table: Table, listeners: Collection[str]) -> HandlerSettings | None:
    """The handler that a table describes, or None when something is wrong with it (then `world.problems` says what).

    `listeners` are the names of all listeners. A handler class may have `parts`: names of its own options that choose
    a component each, and the kind of each (`{"encoder": "eventserver.encoders"}`); the options of what they choose
    stand in the same table.
    """
    before = len(world.problems.found)
    common: HandlerOptions | None = parse(table, HandlerOptions, world.problems)
    choice = _type(world, table)
    parts = [] if choice.component is None else _parts(world, table, choice)
    refuse_unknown(world, table, HandlerOptions, [choice, *parts])
    handler = choice.parse(table, world.problems)
    made = {part.key: part.parse(table, world.problems) for part in parts}
    if common is not None:
        _check_common(world, table, common, listeners)
    if common is None or handler is None or len(world.problems.found) > before:
        return None
    return HandlerSettings(
        name=name,
        handler=handler,
        parts={key: part for key, part in made.items() if part is not None},
        listeners=None if common.listeners is None else tuple(common.listeners),
        match=common.match,
        steps=tuple(common.steps),
        retry=common.retry,
        read_from="beginning" if common.read_from == "beginning" else read_time(common.read_from) or "end",
        when_full=common.when_full,
        max_lag=common.max_lag,
        batch=common.batch,
        timeout=common.timeout,
        concurrency=common.concurrency,
        ordered=common.ordered,
        raw=common.raw,
        required_for_ack=common.required_for_ack,
    )


def _type(world: World, table: Table) -> Choice:
    given = table.values.get("type")
    if given is None and "call" in table.values:
        given = "python"
    if given is None:
        names = ", ".join(f"`{name}`" for name in world.registry.names("handlers"))
        world.problems.add(table, "type", f'is missing; there are {names}, or write `call = "module:function"`')
    return choose(world, table, "type", "handlers", given)


def _parts(world: World, table: Table, handler: Choice) -> list[Choice]:
    """What the handler's own options choose besides: encoders and framers."""
    found = []
    kinds: dict[str, str] = getattr(handler.component, "parts", {})
    given = prepared(table, handler.options, world.problems)
    for key, kind in kinds.items():
        name = given.get(key, _default(handler.options, key))
        if name is not None:
            found.append(choose(world, table, key, kind, name))
    return found


def _default(cls: type[Options], key: str) -> Any:
    field = next((field for field in msgspec.structs.fields(cls) if field.name == key), None)
    return field.default if field is not None and not field.required else None


def _check_common(world: World, table: Table, common: HandlerOptions, listeners: Collection[str]) -> None:
    for listener in common.listeners or ():
        if listener not in listeners:
            sentence = options.unknown(listener, listeners).replace(
                "unknown key", f"no listener is called `{listener}`"
            )
            world.problems.add(table, "listeners", sentence)
    if common.listeners == []:
        world.problems.add(table, "listeners", "is empty; leave it out for all listeners")
    if common.match is not None:
        try:
            check_match(common.match)
        except ExpressionError as error:
            world.problems.add(table, "match", str(error))
    for key, sentence in check_steps(world, common.steps):
        world.problems.add(table, key, sentence)
