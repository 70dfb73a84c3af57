"""Blocking calls in the reactor's thread pool, and what becomes of those that take too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from eventserver.errors import TemporaryFailure
from eventserver.interfaces import HandlerContext

P = ParamSpec("P")
R = TypeVar("R")


class OneThread:
    """Runs a handler's blocking calls in the reactor's thread pool.

    A thread cannot be stopped. To cancel the Deferred of a call is to give the call up: the Deferred fires, the thread
    runs on, and until it ends `busy` is True and further calls are refused, so that threads do not pile up.
    """

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        self._overdue = 0
        self._turn = DeferredLock()

    @property
    def idle(self) -> bool:
        """True while no call of `run_in_turn` runs or waits, and none that was given up."""
        return not self._turn.locked and not self._overdue

    @property
    def busy(self) -> bool:
        """True while a call that was given up still runs."""
        return self._overdue > 0

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Call the function in a thread. Raises `TemporaryFailure` while a call that was given up still runs."""
        if self._overdue:
            raise TemporaryFailure("a call that took too long still runs in its thread", retry_after=1.0)
        reactor = self._context.reactor
        given_up = False

        def give_up(_: Deferred[R]) -> None:
            nonlocal given_up
            given_up = True
            self._overdue += 1
            self._context.log.warn(
                "{handler}: a call takes too long; its thread runs on, and no other is started before it ends",
                handler=self._context.name,
            )

        def ended(value: R | Failure) -> None:
            if given_up:
                self._ended_late(value)
            else:
                result.callback(value)

        result: Deferred[R] = Deferred(give_up)
        deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs).addBoth(ended)
        return result

    def run_in_turn(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """As `run`, but after the calls made before have ended: for what two threads must not touch."""
        return self._turn.run(lambda: self.run(function, *args, **kwargs))

    def _ended_late(self, value: object) -> None:
        self._overdue -= 1
        how = f"with {value.getErrorMessage()}" if isinstance(value, Failure) else "well"
        self._context.log.info(
            "{handler}: the call that took too long has ended, {how}", handler=self._context.name, how=how
        )
