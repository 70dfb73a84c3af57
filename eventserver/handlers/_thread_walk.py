"""From a pile to a function for one event that blocks: the loop in a thread."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from eventserver.errors import HandlerTimeout, PermanentFailure
from eventserver.event import Event
from eventserver.handlers._answers import Answers
from eventserver.handlers._failures import Walk, ordinary
from eventserver.handlers._threads import OneThread, from_thread
from eventserver.interfaces import HandlerContext


class ThreadWalk:
    """One pile in a thread: `_run` there, everything else in the reactor's thread.

    An event that takes longer than `context.timeout` seconds cannot be stopped. The walk is given up: the event has
    failed, what was done before stays done, and the thread does not begin another event.
    """

    def __init__(
        self, function: Callable[[Any], Any], answers: Answers, context: HandlerContext, pile: list[Event]
    ) -> None:
        self._function = function
        self._answers = answers
        self._context = context
        self._pile = pile
        self._walk = Walk(pile, context.ordered)
        self._said: deque[tuple[Event, object]] = deque()
        self._hurrying = False
        self._call: Deferred[None]
        self._timer: Any = None
        # The following change only with the lock: whether to go on is decided in one thread, and done in the other.
        self._lock = Lock()
        self._begun = 0
        self._since: float | None = None
        self._given_up = self._over = False
        #: The event in whose middle the walk was given up: what comes of it is of no interest any more.
        self._cut: Event | None = None

    def start(self, thread: OneThread) -> Deferred[Any]:
        """Begin. Raises `TemporaryFailure` if the thread cannot be had."""
        self._call = thread.run(self._run)
        if self._context.timeout and not self._call.called:
            self._arm(self._context.timeout)
        return self._call.addCallbacks(self._ended, self._failed)

    # In the thread

    def _run(self) -> None:
        """Call the function with each event, until the call is given up."""
        rest = iter(self._pile)
        for event in rest:
            if not self._begin():
                return
            try:
                result = self._function(event)
                if inspect.isawaitable(result):
                    raise TypeError("a function in a thread must block, not return something to await")
            except BaseException as error:
                self._event_failed(event, ordinary(error), rest)
            else:
                if result is not None:
                    self._say(event, result)
        with self._lock:
            self._since = None

    def _begin(self) -> bool:
        with self._lock:
            if not self._given_up:
                self._begun += 1
                self._since = self._context.reactor.seconds()
            return not self._given_up

    def _event_failed(self, event: Event, error: Exception, rest: Iterator[Event]) -> None:
        with self._lock:
            blamed = not self._given_up and self._walk.failed(event, error, rest)
        if blamed:
            self._say(event, error)

    def _say(self, event: Event, what: object) -> None:
        self._said.append((event, what))
        if not self._hurrying:
            # One hop for all that is said before the reactor comes round.
            self._hurrying = True
            from_thread(self._context.reactor, self._answer)

    # In the reactor's thread

    def _answer(self) -> None:
        self._hurrying = False
        while self._said:
            event, what = self._said.popleft()
            if event is self._cut:
                continue
            if isinstance(what, Exception):
                self._answers.apologise(event)
                continue
            try:
                self._answers.give(event, what)
            except PermanentFailure as error:
                self._walk.failed(event, error, ())
                self._answers.apologise(event)

    def _arm(self, seconds: float) -> None:
        self._timer = self._context.reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        """Give the walk up, if the current event takes too long."""
        self._timer = None
        timeout = self._context.timeout
        with self._lock:
            left = timeout if self._since is None else self._since + timeout - self._context.reactor.seconds()
            if left <= 0:
                self._over = self._given_up = True
        if left > 0:
            self._arm(left)
        else:
            self._call.cancel()

    def _ended(self, _: None) -> None:
        """The thread is done. Raises `PartialFailure` for what went wrong."""
        self._stop_timer()
        self._answer()
        self._walk.end()

    def _failed(self, failure: Failure) -> Failure | None:
        """The call was given up, or failed as a whole."""
        self._stop_timer()
        if not failure.check(CancelledError):
            return failure
        with self._lock:
            self._given_up = True
            finished = self._begun > 0 and self._since is None
            if not finished:
                self._cut = self._pile[max(0, self._begun - 1)]
        self._answer()
        if self._cut is not None and not self._settle(self._cut, self._pile[self._begun :]):
            return failure
        self._walk.end()
        return None

    def _settle(self, event: Event, rest: list[Event]) -> bool:
        """Say what becomes of the current event and of the rest. False if nothing has been done."""
        if self._over:
            self._walk.cut(event, HandlerTimeout(f"the call took longer than {self._context.timeout:g} s"), rest)
            self._answers.apologise(event)
            return True
        if len(self._pile) == 1:
            self._answers.apologise(event)
        return self._walk.cancelled(event, rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
