"""From a pile to a function for one event: the loops in the reactor's thread."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from eventserver.awaiting import as_deferred, asyncio_loop
from eventserver.errors import CONNECTION_ERRORS, HandlerTimeout
from eventserver.event import Event
from eventserver.handlers._answers import Answers
from eventserver.handlers._failures import Walk, ordinary
from eventserver.handlers._time_limit import TimeLimit
from eventserver.interfaces import HandlerContext

Function = Callable[[Any], Any]

#: Common answers, of which no one needs to ask whether they can be awaited: that takes longer than the call.
_ANSWERS = frozenset({str, bytes, dict})


class EachCaller:
    """Calls a function with one event after another, in the reactor's thread.

    Failures are collected, see `Walk`. Replies go out as each event is done. What an event waits for is cancelled after
    `context.timeout` seconds; the event has failed with `HandlerTimeout` then, and the next one follows.
    """

    def __init__(self, function: Function, answers: Answers, context: HandlerContext) -> None:
        self.function = function
        self.answers = answers
        self.context = context
        self.stopped = False

    def stop(self) -> None:
        """Begin nothing more, even if what was cancelled goes on."""
        self.stopped = True

    def call(self, pile: list[Event]) -> Deferred[Any] | None:
        """Without a Deferred and a turn of the reactor, until the function returns something to wait for."""
        function, give = self.function, self.answers.give
        walk, rest, event = Walk(pile, self.context.ordered), iter(pile), pile[0]
        while True:
            try:
                # A `try` around the loop costs an event nothing; after an exception the iterator goes on.
                for event in rest:
                    result = function(event)
                    if result is not None:
                        if type(result) not in _ANSWERS and inspect.isawaitable(result):
                            return _WaitingWalk(self, pile, walk, rest, event).start(result)
                        give(event, result)
                break
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if walk.failed(event, ordinary(error), rest):
                    self.answers.apologise(event)
        walk.end()
        return None

    def call_async(self, pile: list[Event]) -> Deferred[Any] | None:
        """For an `async def`: one coroutine, and on asyncio one Task, for the pile."""
        return _WaitingWalk(self, pile, Walk(pile, self.context.ordered), iter(pile), pile[0]).start()


class _WaitingWalk:
    """One pile, or the `rest` of it, whose events are waited for. `event` is where it stands."""

    __slots__ = ("_caller", "_limit", "_pile", "_rest", "_walk")

    def __init__(self, caller: EachCaller, pile: list[Event], walk: Walk, rest: Iterator[Event], event: Event) -> None:
        self._caller = caller
        self._pile = pile
        self._walk = walk
        self._rest = rest
        self._limit = TimeLimit(caller.context, event)

    def start(self, result: Any = None) -> Deferred[Any] | None:
        """Go on from the current event's `result`, which is to be awaited, or else with the rest."""
        return as_deferred(self._run(result), self._caller.context.reactor, self._limit.waits)

    async def _run(self, result: Any) -> None:
        function, give, rest, limit = self._caller.function, self._caller.answers.give, self._rest, self._limit
        try:
            while True:
                try:
                    if result is not None:
                        # Cleared first, so that a failure does not bring it up again.
                        waiting, result = result, None
                        value = await waiting
                        if limit.waited is limit.event:
                            self._returned()
                        give(limit.event, value)
                    for event in rest:
                        limit.event = event
                        value = function(event)
                        if type(value) is CoroutineType or inspect.isawaitable(value):
                            value = await value
                            if limit.waited is event:
                                self._returned()
                        if value is not None:
                            give(event, value)
                    break
                except BaseException as error:
                    self._failed(limit.event, error)
        finally:
            limit.stop()
        self._walk.end()

    def _returned(self) -> None:
        """The event that was waited for is done; in time or not, it does not have to be done again."""
        self._limit.ended()
        if self._limit.cancelled or self._caller.stopped:
            # The call was cancelled, and the event has made nothing of that.
            self._walk.leave(self._rest, "the call was cancelled")

    def _failed(self, event: Event, error: BaseException) -> None:
        late = self._limit.ended()
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise error
        if self._cancelled(error, late):
            if not self._walk.cancelled(event, self._rest):
                if len(self._pile) == 1:
                    self._caller.answers.apologise(event)
                raise error
            return
        failure = ordinary(error)
        if late and not isinstance(error, CONNECTION_ERRORS):
            failure = HandlerTimeout(f"the call took longer than {self._caller.context.timeout:g} s")
            failure.__cause__ = error
        if self._walk.failed(event, failure, self._rest):
            self._caller.answers.apologise(event)

    def _cancelled(self, error: BaseException, late: bool) -> bool:
        """Whether the call was cancelled, rather than this event, or something that the function awaited."""
        if self._caller.stopped:
            return True
        if asyncio_loop(self._caller.context.reactor) is not None:
            return self._limit.cancelled
        return isinstance(error, CancelledError) and not late
