"""Regular expressions from settings that are matched against bytes from strangers.

Python's `re` backtracks: `(a+)+$` takes time exponential in the length of what it is tried on, and one line could stop
the server. So only the first `MATCHED` bytes of a line are looked at, and expressions that can take more than
quadratic time in that are refused when the settings are read. The rules are simpler than the truth and refuse a few
harmless expressions too; the message says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]  # the standard library's own parser; typeshed leaves it out
from typing import Any

#: Bytes of a line that an expression is tried on.
MATCHED = 1024

#: A part that repeats more often than this must not hold another choice of how to match the same bytes.
_MANY = 4
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_BACKWARDS = ("GROUPREF", "GROUPREF_EXISTS")

#: An operation of a parsed expression: its name, its argument, and the number of repetitions (1, 1 if it is no repeat).
_Op = tuple[str, Any, int, int]


def problem_of(pattern: str) -> str | None:
    """What is wrong with an expression, as a sentence; None if it may be used."""
    try:
        re.compile(pattern.encode())
        tree = _parser.parse(pattern.encode())
    except (re.error, RecursionError, OverflowError) as error:
        return f"is not a regular expression: {error}"
    operations = list(_walk(tree))
    if any(name in _BACKWARDS for name, *_ in operations):
        return "refers back to a group, which can take very long on some lines; write it without"
    for name, argument, _, most in operations:
        if name in _REPEATS and most > _MANY and any(map(_varies, _walk(argument[2]))):
            return (
                "repeats a part that can itself match in several ways, such as (a+)+ or (a|b)*, which can take very "
                "long on some lines; use one repeat, or a class such as [ab]*"
            )
    if sum(map(_matches_anything, operations)) > (2 if _is_anchored(tree) else 1):
        return (
            "repeats `.` or a negated class too often, which can take very long on some lines; at most once, or twice "
            "where the expression begins with ^"
        )
    return None


def _walk(tree: Any) -> Iterator[_Op]:
    """All operations of a parsed expression, those inside others included."""
    for op, argument in tree:
        name = str(op)
        least, most = (int(argument[0]), int(argument[1])) if name in _REPEATS else (1, 1)
        yield name, argument, least, most
        for inner in _inside(argument):
            yield from _walk(inner)


def _inside(argument: Any) -> Iterator[Any]:
    """The expressions inside an operation's argument."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from _inside(item)


def _varies(operation: _Op) -> bool:
    name, _, least, most = operation
    return name == "BRANCH" or least != most


def _matches_anything(operation: _Op) -> bool:
    name, argument, least, most = operation
    if name not in _REPEATS or least == most or most <= _MANY:
        return False
    for inner, what, *_ in _walk(argument[2]):
        if inner in ("ANY", "NOT_LITERAL") or (inner == "IN" and str(what[0][0]) == "NEGATE"):
            return True
        if inner == "IN" and any(str(op) == "CATEGORY" and "_NOT_" in str(of) for op, of in what):
            return True
    return False


def _is_anchored(tree: Any) -> bool:
    return bool(len(tree)) and str(tree[0][0]) == "AT" and str(tree[0][1]).startswith("AT_BEGINNING")
