"""Steps: what stands between `match` and a handler, and drops or changes events.

In the settings each step is a table with one key, its name, and its argument as the value::

    steps = [{drop = 'message == ""'}, {set = {team = "ops", short = {expr = "lower(app_name)"}}}]

A class of a step is made with that value: `Drop('message == ""')`. It raises `ValueError` or `ExpressionError`, with a
sentence for people, if the value is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from eventserver import options
from eventserver.errors import ExpressionError
from eventserver.event import Event
from eventserver.interfaces import IStep
from eventserver.matching import Expression, Match

#: What no step may set: who sent an event, when and where, is what the server saw.
FIXED = frozenset({"id", "time", "received", "listener", "peer", "context", "fields"})
#: What `set` changes on the event itself; any other name is a field.
ATTRIBUTES = frozenset({"message", "type"})


@implementer(IStep)
class Drop:
    """`{drop = 'EXPRESSION'}`: the events for which the expression is true go no further."""

    def __init__(self, argument: object) -> None:
        if not isinstance(argument, str):
            raise ValueError("the argument of `drop` is an expression, such as 'message == \"\"'")
        self._match = Match(argument)

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """The events for which the expression is not true."""
        return self._match.reject(events)


@implementer(IStep)
class Set:
    """`{set = {NAME = value, NAME = {expr = "EXPRESSION"}}}`: sets fields, or the event's `message` or `type`.

    A value is plain (a text, number, truth value, time, or a list of them), or the value that an expression has for
    the event as it came to the step. What an expression cannot compute is `None`. `message` and `type` are texts: an
    expression that gives something else leaves them as they are. Other attributes of the event cannot be set.
    """

    def __init__(self, argument: object) -> None:
        if not isinstance(argument, Mapping) or not argument:
            raise ValueError('the argument of `set` is a table, such as {team = "ops"}')
        self._plain: dict[str, Any] = {}
        self._computed: dict[str, Expression] = {}
        for name, value in argument.items():
            self._add(name, value)
        names = argument.keys() & ATTRIBUTES
        self._attributes = sorted(names)
        self._sets_fields = len(argument) > len(names)

    def _add(self, name: str, value: Any) -> None:
        if name in FIXED:
            raise ValueError(f"`set` cannot set `{name}`: it is fixed; `message`, `type` and any field can be set")
        if not isinstance(value, Mapping):
            if name in ATTRIBUTES and not isinstance(value, str):
                raise ValueError(f"`{name}` in `set` is a text")
            self._plain[name] = value
        elif value.keys() == {"expr"} and isinstance(value["expr"], str):
            try:
                self._computed[name] = Expression(value["expr"])
            except ExpressionError as error:
                raise ExpressionError(f"`{name}` in `set`: {error}") from None
        else:
            raise ValueError(f'`{name}` in `set` is a plain value, or {{expr = "..."}}')

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """The events, with the new values; those that came are left as they were."""
        names = list(self._computed)
        columns = [expression.values(events) for expression in self._computed.values()]
        if not columns:
            return [self._changed(event, self._plain) for event in events]
        rows = zip(*columns, strict=True)
        return [
            self._changed(event, {**self._plain, **dict(zip(names, row, strict=True))})
            for event, row in zip(events, rows, strict=True)
        ]

    def _changed(self, event: Event, values: dict[str, Any]) -> Event:
        changes: dict[str, Any] = {}
        if self._attributes:
            changes = {name: values[name] for name in self._attributes if isinstance(values[name], str)}
            values = {name: value for name, value in values.items() if name not in ATTRIBUTES}
        if self._sets_fields:
            changes["fields"] = {**event.fields, **values}
        return event.replace(**changes)


def build_step(table: object, known: Mapping[str, type]) -> IStep:
    """The step that a table of the settings writes; `known` has the class of each name.

    Raises `ValueError` or `ExpressionError` with a sentence for people.
    """
    if not isinstance(table, Mapping) or len(table) != 1:
        raise ValueError("a step is a table with one key, its name, such as {drop = 'message == \"\"'}")
    ((name, argument),) = table.items()
    if name not in known:
        raise ValueError(f"`{name}`: {options.unknown(name, known)}; the steps are {', '.join(sorted(known))}")
    step: IStep = known[name](argument)
    return step


def compile_pipeline(match: str | None, steps: Sequence[IStep] = ()) -> Callable[[Sequence[Event]], list[Event]]:
    """One function for all that stands before a handler: `match`, then the steps, in order.

    It takes the events of a batch and gives those that the handler gets. Raises `ExpressionError` if `match` is wrong.
    """
    stages: list[Callable[[Sequence[Event]], list[Event]]] = [step.apply for step in steps]
    if match is not None:
        stages.insert(0, Match(match).select)
    if len(stages) == 1:
        return stages[0]

    def pipeline(events: Sequence[Event]) -> list[Event]:
        passed = list(events)
        for stage in stages:
            if not passed:
                break
            passed = stage(passed)
        return passed

    return pipeline
