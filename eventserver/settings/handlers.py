"""One `[handler.NAME]`: what is called, with its options, and when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from eventserver import options
from eventserver.errors import ExpressionError
from eventserver.interfaces import HandlerContext
from eventserver.options import Options
from eventserver.registry import ComponentError, load_object
from eventserver.settings.choosing import Choice, World, choose, refuse_unknown
from eventserver.settings.common import HandlerOptions, PileOptions, read_time
from eventserver.settings.expressions import check_match, check_steps, step_classes
from eventserver.settings.model import HandlerSettings
from eventserver.settings.tables import Table, parse, prepared


def build_handler(world: World, name: str, table: Table, listeners: Collection[str]) -> HandlerSettings | None:
    """The handler that a table describes, or None when something is wrong with it (then `world.problems` says what).

    `listeners` are the names of all listeners. A handler class may have `parts`: names of its own options that choose
    a component each, and the kind of each (`{"encoder": "eventserver.encoders"}`); the options of what they choose
    stand in the same table. It may have `piles`: its own defaults of `batch`.
    """
    before = len(world.problems.found)
    table, function = _without_function(table)
    if isinstance(table.values.get("read_from"), dt.datetime):
        table.values["read_from"] = table.values["read_from"].isoformat()  # TOML has times of its own
    common: HandlerOptions | None = parse(table, HandlerOptions, world.problems)
    choice = _type(world, table)
    if choice.component is not None and not isinstance(choice.component, type):
        # A package offers a plain function as a handler: it is called as one that `call` names.
        table.values.setdefault("call", choice.name)
        function, choice = choice.component, choose(world, table, "type", "handlers", "python")
    parts = [] if choice.component is None else _parts(world, table, choice)
    refuse_unknown(world, table, HandlerOptions, [choice, *parts])
    handler = choice.parse(table, world.problems)
    if handler is not None and function is not None:
        handler = replace(handler, component=partial(_calling, handler.component, function))
    elif choice.name == "python":
        _check_call(world, table)
    made = {part.key: part.parse(table, world.problems) for part in parts}
    _check_common(world, table, listeners)
    if common is None or handler is None or len(world.problems.found) > before:
        return None
    return HandlerSettings(
        name=name,
        handler=handler,
        parts={key: part for key, part in made.items() if part is not None},
        listeners=None if common.listeners is None else tuple(common.listeners),
        match=common.match,
        steps=tuple(common.steps),
        step_classes=step_classes(world.registry, common.steps),
        retry=common.retry,
        read_from="beginning" if common.read_from == "beginning" else read_time(common.read_from) or "end",
        when_full=common.when_full,
        max_lag=common.max_lag,
        batch=_batch(common.batch, table, choice),
        timeout=common.timeout,
        concurrency=common.concurrency,
        ordered=common.ordered,
        raw=common.raw,
        required_for_ack=common.required_for_ack,
    )


def _batch(batch: PileOptions, table: Table, choice: Choice) -> PileOptions:
    """What `batch` says, and where it says nothing, what the handler's class has as its default."""
    own: Mapping[str, Any] = getattr(choice.component, "piles", {})
    given = table.values.get("batch", {})
    return msgspec.structs.replace(batch, **{key: value for key, value in own.items() if key not in given})


def _without_function(table: Table) -> tuple[Table, Callable[..., Any] | None]:
    """The table, and the function that a program gave as `call` in the place of a name."""
    call = table.values.get("call")
    if not callable(call):
        return replace(table, values=dict(table.values)), None
    return replace(table, values={**table.values, "call": getattr(call, "__qualname__", repr(call))}), call


def _calling(cls: Any, function: Callable[..., Any], options: Options, context: HandlerContext) -> Any:
    """A python handler round a function that is there already."""
    return cls(options, context, function)


def _check_call(world: World, table: Table) -> None:
    call = table.values.get("call")
    try:
        if isinstance(call, str):
            load_object(call, world.cwd)
    except ComponentError as error:
        world.problems.add(table, "call", str(error))


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


def _check_common(world: World, table: Table, listeners: Collection[str]) -> None:
    """What the types of the common keys do not say; looked at even where other keys are wrong."""
    given = prepared(table, HandlerOptions, world.problems)
    names, match, steps = given.get("listeners"), given.get("match"), given.get("steps")
    if names == []:
        world.problems.add(table, "listeners", "is empty; leave it out for all listeners")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and name not in listeners:
            sentence = options.unknown(name, listeners).replace("unknown key", f"no listener is called `{name}`")
            world.problems.add(table, "listeners", sentence)
    if isinstance(match, str):
        try:
            check_match(match)
        except ExpressionError as error:
            world.problems.add(table, "match", str(error))
    for key, sentence in check_steps(world.registry, steps if isinstance(steps, list) else []):
        world.problems.add(table, key, sentence)
