"""The component that a key names, and whose keys may stand in a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventserver import options
from eventserver.errors import EventServerError
from eventserver.options import Options
from eventserver.registry import ComponentError, Registry, load_object
from eventserver.settings.model import Component
from eventserver.settings.tables import Problems, Table, parse

#: The kinds that do nothing when they are made, so that making one shows whether it can be.
_PURE = ("framers", "decoders", "encoders")
_FUNCTIONS = ("decoders", "handlers")


@dataclass
class World:
    """What building settings needs besides the tables."""

    registry: Registry
    cwd: Path
    problems: Problems
    durable: bool = False


@dataclass
class Choice:
    """A component that was chosen: by which key, of which kind, under which name; None if there is no such thing."""

    key: str
    kind: str
    name: str
    component: Any

    @property
    def options(self) -> type[Options]:
        """The options class; one without fields where the component is a function or missing."""
        return getattr(self.component, "Options", Options)

    def parse(self, table: Table, problems: Problems, extra: dict[str, Any] | None = None) -> Component | None:
        """The component with its options from the table; None, and something among the problems, if they are wrong."""
        if self.component is None:
            return None
        options: Options | None = None
        if isinstance(self.component, type):
            options = parse(table, self.options, problems, extra)
            if options is None:
                return None
        component = Component(name=self.name, component=self.component, options=options)
        if self.kind in _PURE:
            try:
                component.make_pure()
            except (TypeError, ValueError, EventServerError) as error:
                problems.add(table, self.key, str(error))
        return component


def choose(world: World, table: Table, key: str, kind: str, name: Any) -> Choice:
    """The component that `key` names: by its name, or `module:function` where the kind allows a function."""
    if callable(name):
        return Choice(key, kind, getattr(name, "__name__", kind), name)
    if not isinstance(name, str):
        return Choice(key, kind, "", None)  # the check of the key's own type says so
    component = None
    try:
        if kind == "decoders" and ":" in name:
            component = load_object(name, world.cwd)
        else:
            component = world.registry.get(kind, name)
        if not isinstance(component, type) and kind not in _FUNCTIONS:
            component = None
            world.problems.add(table, key, f"`{name}` is no class; only decoders and handlers may be plain functions")
    except ComponentError as error:
        world.problems.add(table, key, str(error))
    return Choice(key, kind, name, component)


def refuse_unknown(world: World, table: Table, common: type[Options], choices: Iterable[Choice]) -> None:
    """Name every key of the table that neither `common` nor one of the chosen components declares.

    Where a component is missing, the keys of all of its kind pass: one of them was meant.
    """
    choices = list(choices)
    known = dict.fromkeys(options.field_types(common))
    for choice in choices:
        known |= dict.fromkeys(options.field_types(choice.options))
        if choice.component is None:
            for component in _all(world, choice.kind).values():
                known |= dict.fromkeys(options.field_types(component.Options))
    for key in table.values:
        if key not in known:
            sentences = (_owner(world, key, choice) for choice in choices)
            world.problems.add(table, key, next(filter(None, sentences), options.unknown(key, known)))


def _owner(world: World, key: str, choice: Choice) -> str | None:
    """The sentence for a key that belongs to another component of the same kind."""
    components = _all(world, choice.kind).items()
    owners = [f"`{name}`" for name, component in components if key in options.field_types(component.Options)]
    if not owners:
        return None
    return f"is an option of {choice.key} {' and '.join(owners)}, not of `{choice.name}`"


def _all(world: World, kind: str) -> dict[str, Any]:
    """Every component of one kind that loads and has options."""
    found = {}
    for name in world.registry.names(kind):
        try:
            component = world.registry.get(kind, name)
        except ComponentError:
            continue
        if hasattr(component, "Options"):
            found[name] = component
    return found
