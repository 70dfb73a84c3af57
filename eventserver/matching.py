"""Expressions over events: `match = 'severity_code <= 3 and app_name == "sshd"'`.

The language is a subset of Python's expressions, and nothing in it can do harm: no text of a user is ever executed as
Python, and no value makes it raise.

- Names: `id time received listener peer type message context` are the event's, `fields` is the table of its fields,
  and any other name is `fields[name]`. What is missing is `None`.
- Literals: texts, numbers, `True`, `False`, `None`, and lists of them to the right of `in`.
- `x['key']` is an entry of a table, `x[0]` an element of a list; else `None`.
- `== != < <= > >= in not in`, chained as in Python. `<` and its like are false between unlike types, and `!=` is
  always `not ==`. A whole number, a fraction and a truth value are alike, as in Python: `1 == 1.0 == True`. A time
  compares with an RFC 3339 text: `time >= "2026-11-22T15:03:00Z"`. `"x" in message` looks for a text, `"x" in tags` for
  an element.
- `and or not`, with Python's notion of truth and Python's results: `app_name or "none"` is a text.
- `+ - * /` on numbers; `+` also joins texts, up to 65,536 characters; a time minus a time is a number of seconds, a
  time plus or minus seconds a time. Anything else is `None`: other types, division by zero, whole numbers beyond
  64 bits.
- `has("name")`: the event has that field. `lower(x)`. `startswith(x, "..")`, `endswith(x, "..")`.
  `cidr(peer, "10.0.0.0/8")`, or a list of networks: the port does not matter, and a unix peer is in no network.
  `matches(x, r"..")`: a regular expression is found somewhere in the text; see `eventserver._patterns`.

An expression has at most 4096 characters, 1000 parts and 40 levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from eventserver._expressions import Compiler
from eventserver.event import Event
from eventserver.interfaces import IMatch

_SELECT = """
def function(events):
    return [e for e in events for f in (e.fields,) if {source}]
"""
_ROWS = """
def function(rows):
    return [i for i, f in enumerate(rows) if {source}]
"""
_COLUMNS = """
def function({names}):
    return [i for i, {one} in enumerate({every}) if {source}]
"""
_VALUES = """
def function(events):
    return [{source} for e in events for f in (e.fields,)]
"""


class Expression:
    """A compiled expression. `expression` is its text."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._values: Callable[[Sequence[Event]], list[Any]] = _function(_VALUES, Compiler(expression))

    def values(self, events: Sequence[Event]) -> list[Any]:
        """Its value for each event. Never raises."""
        try:
            return self._values(events)
        except Exception:  # A field holds an object whose own `==` or truth raises: find out which.
            return [self.value(event) for event in events]

    def value(self, event: Event) -> Any:
        """Its value for one event; None if the event holds an object that raises when it is compared. Never raises."""
        try:
            return self._values([event])[0]
        except Exception:
            return None


@implementer(IMatch)
class Match:
    """A compiled condition. `expression` is its text.

    `fields`: the names of the fields that it looks at, if it looks at nothing else of an event, and is false where none
    of them is there; so that whoever knows these can tell (`rows`). Else None. `values`: these names, if it looks only
    at the values of fields, and not at whether they are there (`columns`). Else empty.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        compiler = Compiler(expression)
        self._select: Callable[[Sequence[Event]], list[Event]] = _function(_SELECT, compiler)
        self._reject: Callable[[Sequence[Event]], list[Event]] = _function(_SELECT, compiler, "not ")
        self._rows: Callable[[Sequence[Mapping[str, Any]]], list[int]] = _function(_ROWS, compiler)
        decided_by_fields = compiler.only_fields and compiler.fields and self.rows([{}]) == []
        self.fields = frozenset(compiler.fields) if decided_by_fields else None
        self._names: tuple[str, ...] = ()
        self._by_columns: Callable[..., list[int]] | None = None
        if compiler.only_fields and compiler.fields:
            self._names, self._by_columns = _by_columns(expression)
        self.values = self._names if compiler.only_values else ()

    def columns(self, columns: Mapping[str, Sequence[Any]]) -> list[int] | None:
        """The indexes of the events for which it is true, by the values of its fields, event by event.

        For events that all have all of its fields; or, where it has `values`, with None for what is not there. None if
        it cannot be told. Never raises.
        """
        try:
            return None if self._by_columns is None else self._by_columns(*[columns[name] for name in self._names])
        except Exception:
            return None

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The indexes of the events for which the expression is true; a row has those of `fields` that the event has.

        None if it cannot be told. Never raises.
        """
        try:
            return self._rows(rows)
        except Exception:
            return None

    def select(self, events: Sequence[Event]) -> list[Event]:
        """The events for which the expression is true, in order. Never raises."""
        try:
            return self._select(events)
        except Exception:  # As in `Expression.values`.
            return [event for event in events if self.holds(event)]

    def reject(self, events: Sequence[Event]) -> list[Event]:
        """The events for which the expression is not true, in order. Never raises."""
        try:
            return self._reject(events)
        except Exception:
            return [event for event in events if not self.holds(event)]

    def holds(self, event: Event) -> bool:
        """Whether the expression is true for one event. Never raises."""
        try:
            return bool(self._select([event]))
        except Exception:
            return False

    __call__ = select


def compile_match(expression: str) -> Match:
    """The condition that a text writes. Raises `ExpressionError`, with the column and what would be right."""
    return Match(expression)


def compile_expression(expression: str) -> Expression:
    """The expression that a text writes. Raises `ExpressionError`, with the column and what would be right."""
    return Expression(expression)


def _by_columns(expression: str) -> tuple[tuple[str, ...], Callable[..., list[int]]]:
    """The function for columns, and the fields that it takes the columns of."""
    compiler = Compiler(expression, columns=True)
    columns = compiler.columns or {}
    names = ", ".join(columns.values())
    one, every = (names, names) if len(columns) == 1 else (f"({names})", f"zip({names})")
    template = _COLUMNS.format(names=names, one=one, every=every, source="{source}")
    return tuple(columns), _function(template, compiler)


def _function(template: str, compiler: Compiler, prefix: str = "") -> Any:
    """The one function for a whole batch. Its source comes from `Compiler`, never from a user; it has no builtins."""
    namespace = dict(compiler.namespace) | {"enumerate": enumerate, "zip": zip}
    exec(compile(template.format(source=prefix + compiler.source), "<expression>", "exec"), namespace)
    return namespace["function"]
