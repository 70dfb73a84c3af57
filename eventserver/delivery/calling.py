"""One call of a handler: in lanes, with a time limit, with one outcome for each lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from eventserver.awaiting import as_deferred
from eventserver.errors import CONNECTION_ERRORS, HandlerTimeout
from eventserver.event import Batch, Event
from eventserver.interfaces import IHandler

#: What was given to the handler in one lane, and what went wrong with it (None: it is done).
Outcome = tuple[list[Any], BaseException | None]


class Caller:
    """Calls a handler, and gives the outcomes to `done` once all lanes are done.

    `done` may be called before `call` returns: nothing waits where the handler does not. `timeout` is in seconds, for
    each lane; 0 is none. A call that is over time is cancelled.
    """

    def __init__(self, handler: IHandler, reactor: Any, timeout: float, done: Callable[[list[Outcome]], None]) -> None:
        self._handler = handler
        self._reactor = reactor
        self._timeout = timeout
        self._done = done
        self._pending = 0
        self._outcomes: list[Outcome] = []
        self._running: set[Deferred[Any]] = set()

    def call(self, items: list[Any], lanes: int) -> None:
        """Hand over `items`, split into at most `lanes` lanes by sender."""
        groups = lanes_of(items, lanes) if lanes > 1 else [items]
        self._outcomes = []
        self._pending = len(groups)
        for group in groups:
            self._call_lane(group)

    def cancel(self) -> None:
        """Cancel what is running."""
        for deferred in list(self._running):
            deferred.cancel()

    def _call_lane(self, items: list[Any]) -> None:
        try:
            deferred = as_deferred(self._handler.handle(items), self._reactor)
        except Exception as error:
            self._finished(items, error)
            return
        if deferred is None:
            self._finished(items, None)
            return
        if self._timeout and not deferred.called:
            deferred.addTimeout(self._timeout, self._reactor, onTimeoutCancel=_over_time)
        self._running.add(deferred)

        def settled(result: object) -> None:
            self._running.discard(deferred)
            self._finished(items, result.value if isinstance(result, Failure) else None)

        deferred.addBoth(settled)

    def _finished(self, items: list[Any], error: BaseException | None) -> None:
        self._outcomes.append((items, error))
        self._pending -= 1
        if not self._pending:
            outcomes, self._outcomes = self._outcomes, []
            self._done(outcomes)


def _over_time(result: object, timeout: float) -> object:
    if isinstance(result, Failure) and not result.check(*CONNECTION_ERRORS):
        # A handler that knows better, because it was the destination that kept it waiting, says so.
        raise HandlerTimeout(f"the call took longer than {timeout:g} s")
    # The call finished in the moment it was cancelled: that is as good as in time.
    return result


def lanes_of(items: list[Any], lanes: int) -> list[list[Any]]:
    """The items in at most `lanes` lists: what one sender sent is in one of them, in order."""
    by_peer: dict[str, list[Any]] = {}
    for item in items:
        by_peer.setdefault(_sender(item), []).append(item)
    found: list[list[Any]] = [[] for _ in range(min(lanes, len(by_peer)))]
    for number, group in enumerate(by_peer.values()):
        found[number % len(found)].extend(group)
    return found


def _sender(item: Event | Batch) -> str:
    return item.peer if isinstance(item, Event) else item.peers[0]
