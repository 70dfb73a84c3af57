"""What is behind `call = "module:function"`: finding the function, and what it wants to be called with."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PILES: tuple[Any, ...] = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_PILE_TEXT = re.compile(r"(?:\w+\.)*(?:list|List|Sequence|MutableSequence|Collection|Iterable)(?:\[.*\])?")


def load_function(reference: str) -> Callable[..., Any]:
    """The callable that `"module:function"` names; the module is looked for in the current directory first.

    Raises `ValueError`, with a sentence for people, if there is none or its module fails to import.
    """
    module_name, _, name = reference.partition(":")
    if not name or not all(part.isidentifier() for part in f"{module_name}.{name}".split(".")):
        raise ValueError(f"`{reference}` names no function; write `module:function`")
    found: Any = _import(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module `{module_name}` has no `{name}`")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"`{reference}` is {type(found).__name__}, which cannot be called; name a function")
    return typing.cast("Callable[..., Any]", found)


def _import(module_name: str) -> Any:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"module `{module_name}` does not import: {type(error).__name__}: {error}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


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
