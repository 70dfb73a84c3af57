"""How long one event may take, in a walk that waits for one event after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from eventserver.awaiting import asyncio_loop
from eventserver.event import Event
from eventserver.interfaces import HandlerContext

if TYPE_CHECKING:
    import asyncio


class TimeLimit:
    """Cancels what the current event of one walk waits for, once the event has taken `context.timeout` seconds.

    The walk names the current event in `event`, asks `ended` after each that has waited, and calls `stop` in the end.
    There is one timer for the walk, and none while no event waits: events that do not wait cost nothing. What was
    cancelled is waited for: it may clean up, and it may refuse to end, which is logged.
    """

    __slots__ = ("_began", "_context", "_on", "_over", "_stuck", "_task", "_timer", "_told", "event", "waited")

    def __init__(self, context: HandlerContext, event: Event) -> None:
        self.event = event
        #: The last event that waited for something.
        self.waited: Event | None = None
        self._context = context
        self._began = 0.0
        self._on: object = None
        self._over = self._told = self._stuck = False
        self._task: asyncio.Task[Any] | None = None
        self._timer: Any = None

    def waits(self, on: object) -> None:
        """The current event waits, for this Deferred or for something of asyncio's."""
        self._on = on
        if self.waited is not self.event:
            self.waited = self.event
            self._began = self._context.reactor.seconds()
            if self._task is None:
                self._task = _current_task(self._context.reactor)
        if self._timer is None and self._context.timeout:
            self._arm(self._context.timeout)

    def ended(self) -> bool:
        """The current event has ended. Whether it had been cancelled because it took too long."""
        over, self._over = self._over, False
        if over:
            self._end_stuck()
            if self._task is not None:
                self._task.uncancel()
        return over

    @property
    def cancelled(self) -> bool:
        """On asyncio: whether somebody else cancelled the walk's Task; to be asked after `ended`."""
        return self._task is not None and self._task.cancelling() > 0

    def stop(self) -> None:
        """The walk is over."""
        self._end_stuck()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_stuck(self) -> None:
        self._context.counters.overdue -= self._stuck
        self._stuck = False

    def _arm(self, seconds: float) -> None:
        self._timer = self._context.reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        timeout = self._context.timeout
        left = self._began + timeout - self._context.reactor.seconds()
        if left > 0:
            # This event began to wait after the timer was set.
            self._arm(left)
        elif not self._over:
            self._over = True
            self._arm(timeout)
            self._cancel()
        elif not self._stuck:
            self._stuck = True
            # From here on `/ready` names the handler.
            self._context.counters.overdue += 1
            if self._told:
                return
            self._told = True
            self._context.log.warn(
                "{handler}: the call for event {id} does not end although it was cancelled, {timeout:g} s ago; it is"
                " waited for",
                handler=self._context.name,
                id=self.event.id,
                timeout=timeout,
            )

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif isinstance(self._on, Deferred):
            self._on.cancel()


def _current_task(reactor: Any) -> asyncio.Task[Any] | None:
    if asyncio_loop(reactor) is None:
        return None
    import asyncio

    return asyncio.current_task()
