"""What a failure of one event says about the rest of its pile."""

from __future__ import annotations

from collections.abc import Iterable

from eventserver.errors import CONNECTION_ERRORS, PartialFailure, TemporaryFailure
from eventserver.event import Event


class Walk:
    """What went wrong on the way through one pile, event by event."""

    __slots__ = ("_errors", "_first")

    def __init__(self, pile: list[Event]) -> None:
        self._first = pile[0]
        self._errors: dict[str, BaseException] = {}

    def failed(self, event: Event, error: BaseException, rest: Iterable[Event]) -> bool:
        """Note an event's failure. True if the fault is the event's, and the next may be tried.

        Otherwise the destination is unwell: the event, and the `rest` that comes after it, wait. Raises the error if it
        was the first event: then the whole pile waits.
        """
        if not isinstance(error, CONNECTION_ERRORS):
            self._errors[event.id] = error
            return True
        if event is self._first:
            raise error
        why = error if isinstance(error, TemporaryFailure) else TemporaryFailure(f"{type(error).__name__}: {error}")
        self._errors |= dict.fromkeys([event.id, *(later.id for later in rest)], why)
        return False

    def end(self) -> None:
        """Raises `PartialFailure` if anything went wrong."""
        if self._errors:
            raise PartialFailure(self._errors)
