"""One call of a handler: in lanes, with a time limit, with one outcome for each lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.awaiting import as_deferred
from eventserver.errors import CONNECTION_ERRORS, HandlerTimeout, PartialFailure
from eventserver.event import Batch
from eventserver.interfaces import IHandler

_log = Logger(namespace="eventserver")

#: What was given to the handler in one lane, and what went wrong with it (None: it is done).
Outcome = tuple[list[Any], BaseException | None]


class Turns(Protocol):
    """Who may call a handler that is called from more than one loop: its own, and that of a replay."""

    def take(self, items: list[Any], go: Callable[[], None]) -> bool:
        """True: call it now. False: `go` will be called when it may be called with these items."""

    def over(self, waited: bool) -> None:
        """The call that was allowed is over; `waited`: not before it returned to the reactor."""


class Caller:
    """Calls a handler, and gives the outcomes to `done` once all lanes are done.

    `done` may be called before `call` returns: nothing waits where the handler does not. `timeout` is in seconds, for
    each lane; 0 is none. A call that is over time is cancelled; `overdue` is told if that does not end it. Where there
    are `turns`, a call waits for its own, which does not count for its time.
    """

    turns: Turns | None = None

    def __init__(
        self,
        handler: IHandler,
        reactor: Any,
        timeout: float,
        done: Callable[[list[Outcome]], None],
        overdue: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._reactor = reactor
        self._timeout = timeout
        self._done = done
        self._overdue = overdue
        self._pending = 1
        self._outcomes: list[Outcome] = []
        self._running: set[_Lane] = set()
        self._cancelled = False

    def call(self, items: list[Any], lanes: int) -> bool:
        """Hand over `items`, split into at most `lanes` lanes by sender.

        True if all of it was done at once, and well: then `done` is not called.
        """
        groups = lanes_of(items, lanes)
        if len(groups) == 1:
            return self.call_one(items)
        self._pending = len(groups)
        for group in groups:
            if self.call_one(group):
                self._finished(group, None)
        return False

    def call_one(self, items: list[Any]) -> bool:
        """As `call`, with one lane."""
        if self._cancelled:
            return False
        turns = self.turns
        if turns is not None and not turns.take(items, lambda: self._turn_came(items, turns)):
            return False
        return self._call_now(items, turns)

    def _turn_came(self, items: list[Any], turns: Turns) -> None:
        if self._cancelled:
            turns.over(True)
        elif self._call_now(items, turns):
            self._finished(items, None)

    def _call_now(self, items: list[Any], turns: Turns | None) -> bool:
        try:
            # A list of its own: what the handler does to it must not change what is counted, and called again.
            result = self._handler.handle(items.copy())
            deferred = None if result is None else as_deferred(result, self._reactor)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # SystemExit and asyncio's CancelledError too: a handler's own affair must not stop the loop.
            if turns is not None:
                turns.over(False)
            self._finished(items, error)
            return False
        if deferred is None:
            if turns is not None:
                turns.over(False)
            return True
        lane = _Lane(deferred, self._reactor, self._timeout, self._overdue)
        self._running.add(lane)

        def settled(error: BaseException | None) -> None:
            self._running.discard(lane)
            if turns is not None:
                turns.over(True)
            self._finished(items, error)

        lane.run(settled)
        return False

    def cancel(self) -> None:
        """Cancel what runs, and call nothing more."""
        self._cancelled = True
        for lane in list(self._running):
            lane.cancel()

    def _finished(self, items: list[Any], error: BaseException | None) -> None:
        self._outcomes.append((items, error))
        self._pending -= 1
        if not self._pending:
            self._pending = 1
            outcomes, self._outcomes = self._outcomes, []
            self._done(outcomes)


class _Lane:
    """One call that waits, and its time limit."""

    def __init__(self, deferred: Deferred[Any], reactor: Any, timeout: float, overdue: Callable[[], None]) -> None:
        self._deferred = deferred
        self._reactor = reactor
        self._timeout = timeout
        self._overdue = overdue
        self._timer: Any = None
        self._late = False
        self._ended = False

    def run(self, settled: Callable[[BaseException | None], None]) -> None:
        """Wait for the call; `settled` gets what it failed with."""

        def ended(result: object) -> None:
            self._ended = True
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            error = result.value if isinstance(result, Failure) else None
            settled(None if error is None else self._outcome(error))

        self._deferred.addBoth(ended)
        if self._timeout and not self._ended:
            self._timer = self._reactor.callLater(self._timeout, self._over_time)

    def cancel(self) -> None:
        """Cancel the call, and its time limit."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._give_up()

    def _give_up(self) -> None:
        try:
            self._deferred.cancel()
        except Exception:
            # Somebody's canceller is wrong: the call is one that does not end.
            _log.failure("a call could not be cancelled")

    def _over_time(self) -> None:
        self._late = True
        self._give_up()
        if not self._ended:
            # A coroutine gets one turn of its loop to end.
            self._timer = self._reactor.callLater(1, self._still_running)

    def _still_running(self) -> None:
        self._overdue()

    def _outcome(self, error: BaseException) -> BaseException:
        if not self._late or isinstance(error, (*CONNECTION_ERRORS, PartialFailure)):
            # A handler that knows better, because it was the destination that kept it waiting, says so.
            return error
        return HandlerTimeout(f"the call took longer than {self._timeout:g} s")


def lanes_of(items: list[Any], lanes: int) -> list[list[Any]]:
    """The items in at most `lanes` lists: what one sender sent is in one of them, in order."""
    if any(isinstance(item, Batch) and len(item.peers) > 1 for item in items):
        # A batch of several senders cannot be in several lanes; so all share one.
        return [items]
    by_peer: dict[str, list[Any]] = {}
    for item in items:
        by_peer.setdefault(item.peers[0] if isinstance(item, Batch) else item.peer, []).append(item)
    found: list[list[Any]] = [[] for _ in range(min(lanes, len(by_peer)))]
    for number, group in enumerate(by_peer.values()):
        found[number % len(found)].extend(group)
    return found
