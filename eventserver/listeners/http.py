"""The listener for HTTP/1.1: events that are posted, one or many at a time, and acknowledged by the response."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from email.utils import format_datetime
from typing import Any, ClassVar

from twisted.internet.protocol import Protocol
from zope.interface import implementer

from eventserver.interfaces import AckLevel, IListener, ListenerContext
from eventserver.listeners._http_bodies import Limits
from eventserver.listeners._http_body import Budget
from eventserver.listeners._http_channel import HttpConnection
from eventserver.listeners._http_options import HttpOptions
from eventserver.listeners._http_repeats import Keys, KeyWindow
from eventserver.listeners._server import StreamServer


class _TooMany(Protocol):
    """Tells a peer beyond the limit of connections to come again, without reading what it wants."""

    transport: Any

    def __init__(self, retry_after: float) -> None:
        self._retry_after = max(1, round(retry_after))

    def connectionMade(self) -> None:
        body = b'{"error":"too many connections"}'
        head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {self._retry_after}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + body)
        self.transport.loseConnection()


@implementer(IListener)
class HttpListener(StreamServer):
    """Takes POST requests; each becomes one batch, and is answered 200 once that is acknowledged as `ack` says.

    A short lack of room holds peers up, as with every listener for streams; after `busy_timeout`, and where the journal
    can store nothing, requests are answered 503 instead.
    """

    Options = HttpOptions
    ack_levels: ClassVar[Sequence[AckLevel]] = ("durable", "delivered", "memory")
    framed = False
    options: HttpOptions

    def __init__(self, options: HttpOptions, context: ListenerContext) -> None:
        super().__init__(options, context)
        self.ack: AckLevel = context.ack or "delivered"
        self.limits = Limits(int(options.max_frame), options.max_frames)
        self.budget = Budget(int(options.max_bodies))
        self.keys: Keys = (
            KeyWindow(context.reactor.seconds, options.max_repeat_keys, float(options.repeat_window))
            if context.journal is None
            else context.journal
        )
        self._to_store: deque[Callable[[], None]] = deque()
        self._storing = False
        self._full_since: float | None = None
        self._refusing = False
        self._date = (0.0, b"")

    def connection(self, address: Any, *, tls: bool) -> Any:
        """The protocol for one connection that is accepted."""
        # Its base is Twisted's channel, not that of the other connections; it has all that the listener asks of one.
        return HttpConnection(self, address, tls=tls)

    def turn_away(self, *, tls: bool) -> Any:
        """Whoever is one too many is told so, where that costs nothing."""
        return None if tls else _TooMany(self.options.retry_after)

    # What the intake calls

    def pause(self) -> None:
        """Read and accept no more, until `resume`, or until requests are answered 503 instead."""
        if self._full_since is None:
            self._full_since = self.context.reactor.seconds()
        if not self._refusing:
            super().pause()

    def resume(self) -> None:
        """There is room: read on."""
        self._full_since = None
        self._refusing = False
        super().resume()

    # What connections call

    def unavailable(self) -> tuple[str, str] | None:
        """Why nothing can be taken now: a word for the counters and a sentence; or None."""
        if not self.running:
            return "stopped", "the server is stopping"
        if self._unwell():
            return "journal", "nothing can be stored now"
        return ("full", "there is no room for events now") if self._refusing else None

    def in_turn(self, store: Callable[[], None]) -> None:
        """Have a request stored; one that comes while the intake takes another is stored after that.

        While it takes one it may keep promises, so that others are answered, and what was sent behind them is read.
        But between looking for a request's keys and remembering them, nothing else may come under them.
        """
        self._to_store.append(store)
        if self._storing:
            return
        self._storing = True
        try:
            while self._to_store:
                self._to_store.popleft()()
        finally:
            self._storing = False

    def date(self) -> bytes:
        """The time as the header Date has it (RFC 9110, section 5.6.7), made once a second."""
        second = self.context.reactor.seconds() // 1
        if self._date[0] != second or not self._date[1]:
            self._date = (second, format_datetime(self.context.now(), usegmt=True).encode())
        return self._date[1]

    def _sweep(self, now: float) -> None:
        since = self._full_since
        waiting = since is not None and not self._refusing
        if waiting and (self._unwell() or now - (since or 0.0) >= self.options.busy_timeout):
            self._refusing = True
            super().resume()
        super()._sweep(now)

    def _unwell(self) -> bool:
        journal = self.context.journal
        return journal is not None and journal.unwell is not None
