"""From a pile to a function for one event: the loops."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from eventserver.awaiting import as_deferred, asyncio_loop
from eventserver.errors import PermanentFailure
from eventserver.event import Event
from eventserver.handlers._answers import Answers
from eventserver.handlers._failures import Walk

Function = Callable[[Any], Any]

#: Common answers, of which no one needs to ask whether they can be awaited: that takes longer than the call.
_ANSWERS = frozenset({str, bytes, dict})


class EachCaller:
    """Calls a function with one event after another, in the reactor's thread.

    Failures are collected, see `Walk`. Replies go out as each event is done.
    """

    def __init__(self, function: Function, answers: Answers, reactor: Any) -> None:
        self._function = function
        self._answers = answers
        self._reactor = reactor

    def call(self, pile: list[Event]) -> Deferred[Any] | None:
        """Without a Deferred and a turn of the reactor, until the function returns something to wait for."""
        function, give = self._function, self._answers.give
        walk, rest, event = Walk(pile), iter(pile), pile[0]
        while True:
            try:
                # A `try` around the loop costs an event nothing; after an exception the iterator goes on.
                for event in rest:
                    result = function(event)
                    if result is not None:
                        if type(result) not in _ANSWERS and inspect.isawaitable(result):
                            return as_deferred(self._walk(pile, walk, rest, event, result), self._reactor)
                        give(event, result)
                break
            except Exception as error:
                if walk.failed(event, error, rest):
                    self._answers.apologise(event)
        walk.end()
        return None

    def call_async(self, pile: list[Event]) -> Deferred[Any] | None:
        """For an `async def`: one coroutine, and on asyncio one Task, for the pile."""
        return as_deferred(self._walk(pile, Walk(pile), iter(pile)), self._reactor)

    async def _walk(
        self, pile: list[Event], walk: Walk, rest: Iterator[Event], event: Event | None = None, result: Any = None
    ) -> None:
        """Await each event's result; `event` and `result` are where another loop has left off."""
        function, give = self._function, self._answers.give
        while True:
            try:
                if result is not None and event is not None:
                    # Cleared first, so that a failure does not bring it up again.
                    waiting, result = result, None
                    give(event, await waiting)
                for event in rest:
                    value = function(event)
                    if type(value) is CoroutineType or inspect.isawaitable(value):
                        value = await value
                    if value is not None:
                        give(event, value)
                break
            except BaseException as error:
                if event is None or self._cancelled(error):
                    if len(pile) == 1:
                        self._answers.apologise(pile[0])
                    raise
                if walk.failed(event, error, rest):
                    self._answers.apologise(event)
        walk.end()

    def _cancelled(self, error: BaseException) -> bool:
        """Whether the call was cancelled, rather than something that the function awaited."""
        if asyncio_loop(self._reactor) is None:
            return isinstance(error, CancelledError) or not isinstance(error, Exception)
        import asyncio

        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            return task is None or task.cancelling() > 0
        return not isinstance(error, Exception)


class ThreadWalk:
    """One pile in a thread: `run` there, everything else in the reactor's thread."""

    def __init__(self, function: Function, answers: Answers, reactor: Any, pile: list[Event]) -> None:
        self._function = function
        self._answers = answers
        self._reactor = reactor
        self._pile = pile
        self._walk = Walk(pile)
        self._said: deque[tuple[Event, object]] = deque()
        self._hurrying = False
        self._given_up = False

    def run(self) -> None:
        """Call the function with each event, until the call is given up."""
        rest = iter(self._pile)
        for event in rest:
            if self._given_up:
                return
            try:
                result = self._function(event)
                if inspect.isawaitable(result):
                    raise TypeError("a function in a thread must block, not return something to await")
            except Exception as error:
                if self._walk.failed(event, error, rest):
                    self._say(event, error)
            else:
                if result is not None:
                    self._say(event, result)

    def _say(self, event: Event, what: object) -> None:
        self._said.append((event, what))
        if not self._hurrying:
            # One hop for all that is said before the reactor comes round.
            self._hurrying = True
            self._reactor.callFromThread(self._answer)

    def _answer(self) -> None:
        self._hurrying = False
        while self._said:
            event, what = self._said.popleft()
            if self._given_up:
                continue
            if isinstance(what, Exception):
                self._answers.apologise(event)
                continue
            try:
                self._answers.give(event, what)
            except PermanentFailure as error:
                self._walk.failed(event, error, ())
                self._answers.apologise(event)

    def ended(self, _: None) -> None:
        """The thread is done. Raises `PartialFailure` for what went wrong."""
        self._answer()
        self._walk.end()

    def failed(self, failure: Failure) -> Failure:
        """The call was given up, or failed as a whole."""
        if failure.check(CancelledError):
            self._given_up = True
            if len(self._pile) == 1:
                self._answers.apologise(self._pile[0])
        return failure
