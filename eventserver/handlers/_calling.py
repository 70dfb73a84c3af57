"""What is behind `call = "module:function"`: what the function wants to be called with."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

_PILES: tuple[Any, ...] = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_PILE_TEXT = re.compile(r"(?:\w+\.)*(?:list|List|Sequence|MutableSequence|Collection|Iterable)(?:\[.*\])?")


def takes_pile(function: Callable[..., Any]) -> bool:
    """Whether the function wants the whole pile: its first parameter is annotated `list[Event]` or `Sequence[Event]`.

    Raises `ValueError` if it cannot be called with one argument.
    """
    try:
        signature = _signature(function)
    except ValueError:
        # Functions written in C need not tell; they get one event.
        return False
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(function, "__qualname__", repr(function))
        raise ValueError(f"`{name}{signature}` must take one argument: the event, or a list of events") from None
    annotation = next(iter(signature.parameters.values())).annotation
    if isinstance(annotation, str):
        return _PILE_TEXT.fullmatch(annotation.strip()) is not None
    return (typing.get_origin(annotation) or annotation) in _PILES


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:
        # An annotation names what exists only for type checkers: it stays text.
        return inspect.signature(function)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether the function is an `async def`, also inside `functools.partial` or as an object's `__call__`."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
