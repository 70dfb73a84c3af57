"""Expressions and steps, compiled once so that their errors are named before the server starts."""

from __future__ import annotations

from eventserver.matching import compile_match


def check_match(expression: str) -> None:
    """Raises `ExpressionError` if the expression is none."""
    compile_match(expression)


def check_steps(world, steps):
    return ()
