"""Steps: what stands between `match` and a handler, and drops or changes events.

In the settings each step is a table with one key, its name, and its argument as the value::

    steps = [{drop = 'message == ""'}, {set = {team = "ops", short = {expr = "lower(app_name)"}}}]

A class of a step is made with that value: `Drop('message == ""')`. It raises `ValueError` or `ExpressionError`, with a
sentence for people, if the value is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
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
        self._fields: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._computed: dict[str, Expression] = {}
        for name, value in argument.items():
            self._add(name, value)
        self._sets_fields = not argument.keys() <= ATTRIBUTES

    @property
    def plain(self) -> Mapping[str, Any] | None:
        """The fields that it sets, if it sets these to plain values and does nothing else; else None."""
        return None if self._texts or self._computed else self._fields

    def _add(self, name: str, value: Any) -> None:
        if name in FIXED:
            raise ValueError(f"`set` cannot set `{name}`: it is fixed; `message`, `type` and any field can be set")
        if not isinstance(value, Mapping):
            if name not in ATTRIBUTES:
                self._fields[name] = value
            elif isinstance(value, str):
                self._texts[name] = value
            else:
                raise ValueError(f"`{name}` in `set` is a text")
        elif value.keys() == {"expr"} and isinstance(value["expr"], str):
            try:
                self._computed[name] = Expression(value["expr"])
            except ExpressionError as error:
                raise ExpressionError(f"`{name}` in `set`: {error}") from None
        else:
            raise ValueError(f'`{name}` in `set` is a plain value, or {{expr = "..."}}')

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """The events, with the new values; those that came are left as they were."""
        if not (self._texts or self._computed):
            # The usual step, in half the time.
            plain = self._fields
            return [
                Event(event.id, event.time, event.received, event.listener, event.peer, event.type, event.message,
                      event.fields | plain, event.context, event.raw, event.raw_base64)
                for event in events
            ]  # fmt: skip
        # Column by column; all expressions see the events as they came.
        computed = {name: expression.values(events) for name, expression in self._computed.items()}
        kinds, messages = self._attribute("type", events, computed), self._attribute("message", events, computed)
        return [
            Event(event.id, event.time, event.received, event.listener, event.peer, kind, message, fields,
                  event.context, event.raw, event.raw_base64)
            for event, kind, message, fields in zip(
                events, kinds, messages, self._all_fields(events, computed), strict=False
            )
        ]  # fmt: skip

    def _attribute(self, name: str, events: Sequence[Event], computed: dict[str, list[Any]]) -> Iterable[str]:
        """That attribute of each event; endless where it is the same for all."""
        if name in self._texts:
            return repeat(self._texts[name])
        own = map(attrgetter(name), events)
        if name in computed:
            return [new if isinstance(new, str) else old for new, old in zip(computed[name], own, strict=True)]
        return own

    def _all_fields(self, events: Sequence[Event], computed: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
        """The fields of each event: new ones, or its own if nothing is set there."""
        if not self._sets_fields:
            return [event.fields for event in events]
        plain = self._fields
        every = [event.fields | plain for event in events]
        for name, values in computed.items():
            if name not in ATTRIBUTES:
                for fields, value in zip(every, values, strict=True):
                    fields[name] = value
        return every


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


class Pipeline:
    """All that stands before a handler: `match`, then the steps, in order.

    Takes the events of a batch, and gives those that the handler gets. Raises `ExpressionError` if `match` is wrong.
    """

    def __init__(self, match: str | None, steps: Sequence[IStep] = ()) -> None:
        self.match = None if match is None else Match(match)
        self._steps = [step.apply for step in steps]
        first = steps[0].plain if steps and isinstance(steps[0], Set) else None
        #: What the first step sets, if that is all it does: whoever makes the events can do it at once.
        self.plain: Mapping[str, Any] = first or {}
        self._further = self._steps[1:] if first else self._steps
        #: Whether that is all there is, and JSON can hold it.
        self.only_plain = not self._further and _encodable(self.plain)

    def __call__(self, events: Sequence[Event]) -> list[Event]:
        """The events that are left, in order."""
        return _applied(self._steps, list(events) if self.match is None else self.match.select(events))

    def after_match(self, events: list[Event]) -> list[Event]:
        """What the steps leave of events for which `match` is true."""
        return _applied(self._steps, events)

    def after_plain(self, events: list[Event]) -> list[Event]:
        """What the other steps leave of events for which `match` is true, and that have `plain` among their fields."""
        return _applied(self._further, events)


def _encodable(plain: Mapping[str, Any]) -> bool:
    try:
        msgspec.json.encode(dict(plain))
    except Exception:  # Settings that a program makes may hold anything.
        return False
    return True


def _applied(steps: Sequence[Callable[[Sequence[Event]], list[Event]]], events: list[Event]) -> list[Event]:
    for apply in steps:
        if not events:
            break
        events = apply(events)
    return events
