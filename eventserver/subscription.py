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
        reactor: Any,
        *,
        timeout: float | None,
        max_events: int,
        opened: Callable[[Subscription], None],
        closed: Callable[[Subscription], None],
    ) -> None:
        self.dropped = 0
        self._reactor = reactor
        self._timeout = timeout
        self._events: deque[Event] = deque()
        self._max_events = max_events
        self._opened = opened
        self._closed = closed
        self._is_open = False
        self._getters: deque[Deferred[Event]] = deque()

    # As the server sees it

    def start(self) -> None:
        self._is_open = True

    def handle(self, pile: list[Any]) -> None:
        events = iter(pile)
        while self._getters and (event := next(events, None)) is not None:
            self._getters.popleft().callback(event)
        self._events.extend(events)
        while len(self._events) > self._max_events:
            self._events.popleft()
            self.dropped += 1

    def stop(self) -> None:
        self._is_open = False
        getters, self._getters = self._getters, deque()
        for getter in getters:
            getter.errback(SubscriptionClosed("the server stopped"))

    # As the program sees it

    async def __aenter__(self) -> Subscription:
        self._opened(self)
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
        if self._events:
            return self._events.popleft()
        if not self._is_open:
            raise SubscriptionClosed("the subscription is closed")
        seconds = self._timeout if timeout is _DEFAULT else timeout
        getter: Deferred[Event] = Deferred(self._getters.remove)
        self._getters.append(getter)
        if seconds is not None:
            getter.addTimeout(seconds, self._reactor)
        try:
            event: Event = await here(getter, self._reactor)
        except DeferredTimeout:
            raise TimeoutError(f"no event within {seconds:g} s") from None
        return event
