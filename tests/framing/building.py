"""Framers from settings, for the tests."""

from __future__ import annotations

from typing import Any

from eventserver import options
from eventserver.framing.multiline import MultilineFramer


def build(framer: Any, **table: Any) -> Any:
    """A framer made from settings, as the service makes it."""
    parsed, problems = options.parse(framer.Options, table)
    assert problems == []
    return framer(parsed)


def multiline(inner: Any, **table: Any) -> MultilineFramer:
    """A multiline framer made from settings."""
    parsed, problems = options.parse(MultilineFramer.Options, table)
    assert problems == []
    assert parsed is not None
    return MultilineFramer(parsed, inner)


def problems_of(framer: Any, **table: Any) -> list[tuple[str, str]]:
    """What is wrong with settings."""
    return options.parse(framer.Options, table)[1]
