"""What a failure of one event says about the rest of its pile."""

from __future__ import annotations

from collections.abc import Iterable

from eventserver.errors import CONNECTION_ERRORS, NotAttempted, PartialFailure, TemporaryFailure, safe_text
from eventserver.event import Event


class Walk:
    """What went wrong on the way through one pile, event by event.

    With `ordered` the way ends at the first event that fails, whatever the reason: what comes after it waits for it.
    """

    __slots__ = ("_errors", "_first", "_ordered")

    def __init__(self, pile: list[Event], ordered: bool = False) -> None:
        self._first = pile[0]
        self._ordered = ordered
        self._errors: dict[str, BaseException] = {}

    def failed(self, event: Event, error: BaseException, rest: Iterable[Event]) -> bool:
        """Note an event's failure. True if the fault is the event's; False if the destination is unwell.

        If the next may not be tried, the `rest` that comes after the event waits: an iterator is used up then. Raises
        the error if the destination is unwell at the first event: then the whole pile waits.
        """
        if not isinstance(error, CONNECTION_ERRORS):
            self._errors[event.id] = error
            if self._ordered:
                self.leave(rest, "an event before it failed")
            return True
        if event is self._first:
            raise error
        why = error if isinstance(error, TemporaryFailure) else TemporaryFailure(safe_text(error))
        self._errors |= dict.fromkeys([event.id, *(later.id for later in rest)], why)
        return False

    def cut(self, event: Event, error: BaseException, rest: Iterable[Event]) -> None:
        """The call ends in the middle of an event, which has this error; the rest has not been tried."""
        self._errors[event.id] = error
        self.leave(rest, "the call ended before")

    def cancelled(self, event: Event, rest: Iterable[Event]) -> bool:
        """The call was cancelled at this event. False if it was the first, so that nothing has been done."""
        if event is self._first:
            return False
        self.cut(event, TemporaryFailure("the call was cancelled"), rest)
        return True

    def leave(self, rest: Iterable[Event], why: str) -> None:
        """The rest is not tried in this call."""
        self._errors |= dict.fromkeys([later.id for later in rest], NotAttempted(f"not tried: {why}"))

    def end(self) -> None:
        """Raises `PartialFailure` if anything went wrong."""
        if self._errors:
            raise PartialFailure(self._errors)


def ordinary(error: BaseException) -> Exception:
    """The exception, or a `RuntimeError` that tells of it, if it is one that ends programs or Tasks.

    `sys.exit()` in somebody's function, or asyncio's `CancelledError` out of a future, say something about an event.
    """
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(safe_text(error))
    wrapped.__cause__ = error
    return wrapped
