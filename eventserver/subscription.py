"""An event queue for programs that embed a server: `async for event in server.subscribe(...)`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from zope.interface import implementer

from eventserver.awaiting import here
from eventserver.errors import SubscriptionClosed
from eventserver.event import Event
from eventserver.interfaces import IHandler, Wants

#: Stands for "as the subscription says" where None means "without limit".
_DEFAULT: Any = object()


@implementer(IHandler)
class Subscription:
    """The events that arrive from now on, in a queue of at most `max_events`; made by `EventServer.subscribe`.

    An async context manager and an async iterator. It never blocks the server: beyond `max_events` the oldest events
    are dropped, and `dropped` counts them. Iteration ends after `timeout` seconds without an event (None: never).
    """

    wants: Wants = "events"
    wants_raw = False

    def __init__(
        self,
        *,
        timeout: float | None,
        max_events: int,
        opened: Callable[[Subscription], Any],
        closed: Callable[[Subscription], None],
    ) -> None:
        self.dropped = 0
        self._reactor: Any = None
        self._timeout = timeout
        self._events: deque[Event] = deque()
        self._max_events = max_events
        self._opened = opened
        self._closed = closed
        self._is_open = False
        self._getters: deque[Deferred[None]] = deque()

    # As the server sees it

    def start(self) -> None:
        self._is_open = True

    def handle(self, pile: list[Any]) -> None:
        self._events.extend(pile)
        while len(self._events) > self._max_events:
            self._events.popleft()
            self.dropped += 1
        self._wake()

    def _wake(self) -> None:
        """Tell as many who wait as there are events; each takes its own, so none is lost with a getter that is gone."""
        for _ in range(min(len(self._getters), len(self._events))):
            self._getters.popleft().callback(None)

    def stop(self) -> None:
        self._is_open = False
        getters, self._getters = self._getters, deque()
        for getter in getters:
            getter.errback(SubscriptionClosed("the server stopped"))

    # As the program sees it

    async def __aenter__(self) -> Subscription:
        self._reactor = self._opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more events; those in the queue can still be read."""
        if self._is_open:
            self._closed(self)
            self.stop()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.get()
        except (TimeoutError, SubscriptionClosed):
            raise StopAsyncIteration from None

    async def get(self, timeout: float | None = _DEFAULT) -> Event:
        """The next event. Raises `TimeoutError` after `timeout` seconds; the subscription stays usable.

        `timeout` is the subscription's unless given; None waits without limit. Raises `SubscriptionClosed` once the
        subscription is closed and its queue is empty.
        """
        seconds = self._timeout if timeout is _DEFAULT else timeout
        deadline = None if seconds is None else self._reactor.seconds() + seconds
        while not self._events:
            if not self._is_open:
                raise SubscriptionClosed("the subscription is closed")
            left = None if deadline is None else deadline - self._reactor.seconds()
            try:
                await self._something(left)
            except DeferredTimeout:
                raise TimeoutError(f"no event within {seconds:g} s") from None
        return self._events.popleft()

    async def _something(self, seconds: float | None) -> None:
        """Wait until there may be an event."""
        getter: Deferred[None] = Deferred(self._getters.remove)
        self._getters.append(getter)
        if seconds is not None:
            getter.addTimeout(max(0.0, seconds), self._reactor)
        try:
            await here(getter, self._reactor)
        except BaseException:
            # Cancelled in the very moment it was told: the next in line takes the event.
            self._wake()
            raise
