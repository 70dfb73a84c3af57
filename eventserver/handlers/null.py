"""The handler that does nothing: to measure what comes before it, and to drop on purpose."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from eventserver import options
from eventserver.interfaces import HandlerContext, IHandler, Wants


@implementer(IHandler)
class NullHandler:
    """Takes whatever comes and is done with it at once. Without `match` and steps nothing is even decoded."""

    class Options(options.Options, frozen=True, kw_only=True):
        """No settings of its own."""

    wants_raw = False

    def __init__(self, options: Options, context: HandlerContext) -> None:
        self.wants: Wants = "events" if context.needs_events else "frames"

    def start(self) -> None:
        """Nothing to get ready."""

    def handle(self, pile: list[Any]) -> None:
        """Done."""

    def stop(self) -> None:
        """Nothing to let go."""
