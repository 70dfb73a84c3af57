"""Expressions and steps, compiled once so that their errors are named before the server starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eventserver.errors import ExpressionError
from eventserver.matching import compile_match
from eventserver.registry import ComponentError, Registry
from eventserver.steps import build_step


def check_match(expression: str) -> None:
    """Raises `ExpressionError` if the expression is none."""
    compile_match(expression)


def step_classes(registry: Registry, steps: Sequence[Any]) -> dict[str, type]:
    """The classes of all steps by name. Raises `ComponentError` if one that is named does not load."""
    named = {name for step in steps if isinstance(step, dict) for name in step}
    return {name: registry.get("steps", name) if name in named else object for name in registry.names("steps")}


def check_steps(registry: Registry, steps: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with each step: pairs of key and sentence."""
    for index, step in enumerate(steps):
        try:
            build_step(step, step_classes(registry, [step]))
        except (ValueError, ExpressionError, ComponentError) as error:
            yield f"steps[{index}]", str(error)
