"""Blocking calls in threads of their own, and what becomes of those that take too long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from eventserver.errors import TemporaryFailure
from eventserver.handlers._failures import ordinary
from eventserver.interfaces import HandlerContext

P = ParamSpec("P")
R = TypeVar("R")


class Workers:
    """Daemon threads that make calls: as many as there are calls at once, started when they are needed.

    Not the reactor's thread pool, which is joined when the reactor stops: a call that hangs would keep the process from
    ending. These threads end after `stop`, or with the process.
    """

    def __init__(self, context: HandlerContext) -> None:
        self._name = context.name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        self._running = 0

    def begin(self, call: Callable[[], None]) -> None:
        """Have a thread make the call, which must not raise; `ended` is to be called after it, in the reactor's thread.

        Raises `RuntimeError` if there can be no thread.
        """
        if self._running >= self._threads:
            threading.Thread(target=self._work, name=f"handler {self._name}", daemon=True).start()
            self._threads += 1
        self._running += 1
        self._calls.put(call)

    def ended(self) -> None:
        """One of the calls has ended."""
        self._running -= 1

    def stop(self) -> None:
        """The threads end, each after the call that it makes."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            # The last pile must not live as long as the thread waits for the next one.
            del call


class OneThread:
    """Runs a handler's blocking calls in its own threads: one, unless the handler is called in several lanes.

    A thread cannot be stopped. To cancel the Deferred of a call is to give the call up: the Deferred fires, the thread
    runs on, and until it ends `busy` is True and further calls are refused, so that threads do not pile up.
    """

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        #: True while a call that was given up still runs.
        self.busy = False
        self._overdue = 0
        self._turn = DeferredLock()
        self._workers = Workers(context)

    @property
    def idle(self) -> bool:
        """True while no call of `run_in_turn` runs or waits, and none that was given up."""
        return not self._turn.locked and not self.busy

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Call the function in a thread. Raises `TemporaryFailure` while a call that was given up still runs."""
        if self.busy:
            raise TemporaryFailure("a call that took too long still runs in its thread", retry_after=1.0)
        given_up = False

        def give_up(_: Deferred[R]) -> None:
            nonlocal given_up
            given_up = True
            self._overdue += 1
            self.busy = True
            self._context.log.warn(
                "{handler}: a call takes too long; its thread runs on, and no other is started before it ends",
                handler=self._context.name,
            )

        def call() -> None:
            value: R | Failure
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                # Nothing may end the thread, and what ends programs is an error of the call here.
                value = Failure(ordinary(error))
            from_thread(self._context.reactor, ended, value)

        def ended(value: R | Failure) -> None:
            self._workers.ended()
            if given_up:
                self._ended_late(value)
            else:
                result.callback(value)

        result: Deferred[R] = Deferred(give_up)
        try:
            self._workers.begin(call)
        except RuntimeError as error:
            raise TemporaryFailure(f"no thread can be started: {error}", retry_after=1.0) from error
        return result

    def run_in_turn(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """As `run`, but after the calls made before have ended: for what two threads must not touch."""
        return self._turn.run(lambda: self.run(function, *args, **kwargs))

    def stop(self) -> None:
        """The handler calls nothing any more; the threads end."""
        self._workers.stop()

    def _ended_late(self, value: object) -> None:
        self._overdue -= 1
        self.busy = self._overdue > 0
        how = f"with {value.getErrorMessage()}" if isinstance(value, Failure) else "well"
        self._context.log.info(
            "{handler}: the call that took too long has ended, {how}", handler=self._context.name, how=how
        )


def from_thread(reactor: Any, function: Callable[..., object], *args: object) -> None:
    """Call the function in the reactor's thread; not at all, if the reactor has ended meanwhile."""
    # A call that was given up may come to its end after the event loop was closed.
    with contextlib.suppress(RuntimeError, ReactorNotRunning):
        reactor.callFromThread(function, *args)
