"""Settings to a running server: `EventServer`, as a Twisted service and embedded in a program of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver import building, journaling, reopening, stopping
from eventserver.awaiting import as_deferred, here
from eventserver.counters import HandlerCounters
from eventserver.delivery import Delivery, DeliveryOptions
from eventserver.embedding import reactor_here, release
from eventserver.errors import SettingsError
from eventserver.limits import raise_descriptor_limit
from eventserver.matching import compile_match
from eventserver.registry import Registry
from eventserver.sdnotify import Notifier
from eventserver.settings import Component, HandlerSettings, Settings, from_mapping, load
from eventserver.startup import start_up_lines
from eventserver.status import Status
from eventserver.steps import Pipeline
from eventserver.subscription import Subscription

_log = Logger(namespace="eventserver")

#: Seconds that a stopping server gives its peers to take the last replies and close, when nothing else is left to do.
_FAREWELL = 1.0
#: Seconds that a handler has to flush and let go.
_FAREWELL_TO_HANDLERS = 5.0


class EventServer(MultiService):
    """A server, from settings: a mapping shaped like the TOML file, the path of one, or `Settings`.

    Three ways to run it:

    - as a Twisted service: `EventServer(settings, reactor)` has `startService` and `stopService`;
    - in a program under Twisted: `await server.start()` and `await server.stop()`, or `async with`;
    - in a program under asyncio: `async with EventServer(settings) as server:`.

    A mapping without `handler` has none: `subscribe` or `add_handler` say what is done with events.

    Raises `SettingsError`, with all that is wrong, when it is made; and again from `start`, for what shows only then,
    such as a port in use.
    """

    #: The bytes that one read of a stream may bring. More pays only in a process that keeps memory for it, as that of
    #: `twistd eventserver` does; see `eventserver.limits`.
    most_read = 1 << 16

    def __init__(
        self, settings: Settings | Mapping[str, Any] | str | Path, reactor: Any = None, registry: Registry | None = None
    ) -> None:
        super().__init__()
        if isinstance(settings, (str, Path)):
            settings = load([settings], registry=registry)
        elif isinstance(settings, Mapping):
            settings = from_mapping(settings, registry=registry)
            if "handlers" in settings.assumed:
                # What a program does with events it does itself: nothing is printed unless it says so.
                settings = replace(settings, handlers={})
        self.settings = settings
        self.status = Status()
        self.started: Deferred[None] | None = None
        """What `start` returned, once `startService` was called."""
        self.failed: Failure | None = None
        """Why the server cannot start, known before what was opened is closed again."""
        self._reactor = reactor
        self._owns_reactor = False
        self._stop_waits: list[Deferred[None]] = []
        self._parts: building.Parts | None = None
        self._admin: Any = None
        self._control: Any = None
        self._notifier: Notifier | None = None
        self._handlers_started: list[Delivery] = []
        self._names = 0

    # Starting and stopping

    def startService(self) -> None:
        """Start; `started` fires when the server is ready, and fails with `SettingsError` if it cannot be."""
        super().startService()
        self.started = self.start()

    def stopService(self) -> Deferred[None]:
        """Stop: see `stop`."""
        super().stopService()
        return self.stop()

    def start(self) -> Deferred[None]:
        """Fires when the server listens and every handler has started; fails with `SettingsError`."""
        if self._reactor is None:
            self._reactor, self._owns_reactor = reactor_here()
        return ensureDeferred(self._start())

    async def _start(self) -> None:
        self.status.state = "starting"
        raise_descriptor_limit()
        try:
            parts = self._parts = building.build(self.settings, self._reactor, most_read=self.most_read)
        except BaseException:
            self.failed = Failure()
            raise
        self.status.parts = parts
        try:
            # Before anybody is listened to: from then on a restart must know where new handlers began.
            await journaling.settle_cursors(parts.journal, self.settings.handlers, parts.found)
            if self.status.state != "starting":
                return
            await self._all([(f"listener.{part.name}", part.listen) for part in parts.listeners])
            await self._all([(f"handler.{name}", _starter(self, d)) for name, d in parts.deliveries.items()])
            if self.status.state != "starting":
                # Stopped while a handler was getting ready.
                return
            self._start_admin(parts)
        except BaseException:
            self.failed = Failure()
            await self.stop()
            raise
        for delivery in list(parts.deliveries.values()):
            delivery.start()
        if parts.replays is not None:
            parts.replays.start()
        for listener in parts.listeners:
            listener.startService()
        self._notifier = Notifier(os.environ, self._reactor)
        self._notifier.startService()
        self._notifier.ready()
        self.status.state = "running"
        for line in start_up_lines(self.settings, self.addresses(), parts.found):
            _log.info("{line}", line=line)

    async def _all(self, starters: list[tuple[str, Callable[[], Any]]]) -> None:
        """Run them all; raises `SettingsError` with every one that failed."""
        started = [maybeDeferred(start) for _, start in starters]
        results = await DeferredList(started, consumeErrors=True)
        failures = [(name, result) for (name, _), (good, result) in zip(starters, results, strict=True) if not good]
        if failures:
            raise SettingsError([f"{name}: {_explain(failure)}" for name, failure in failures])

    def _start_admin(self, parts: building.Parts) -> None:
        admin = self.settings.admin
        if parts.replays is None and admin is None:
            return
        from eventserver.admin.control_socket import ControlSocket, control_of

        control = control_of(journaling.on_disk(parts.journal), parts.replays, building.utc_now)
        if parts.replays is not None and self.settings.journal is not None:
            self._control = ControlSocket(Path(self.settings.journal.path), control, self.status, self._reactor)
            self._control.startService()
        if admin is None:
            return
        from eventserver.admin.service import AdminService

        self._admin = AdminService(admin.endpoint, admin.token, self.status, self._reactor, control)
        try:
            self._admin.startService()
        except (CannotListenError, OSError) as error:
            self._admin = None
            raise SettingsError([f"admin.endpoint: {error}"]) from None

    def stop(self) -> Deferred[None]:
        """Stop accepting and reading, and let go of everything.

        Without a journal on disk what is in memory is delivered, for up to `drain_timeout`. With one, what was read is
        committed and the calls that run come to their end, within that time; handlers go on when the server runs again.

        Fires when all that is done, also for those who ask while it is being done.
        """
        if self._parts is None or self.status.state == "stopped":
            return succeed(None)
        waits: Deferred[None] = Deferred()
        self._stop_waits.append(waits)
        if self.status.state != "stopping":
            self.status.state = "stopping"
            ensureDeferred(self._stop(self._parts)).addBoth(self._stopped)
        return waits

    def _stopped(self, result: object) -> None:
        self.status.state = "stopped"
        if isinstance(result, Failure):
            _log.failure("the server did not stop well", result)
        if self._owns_reactor:
            release(self._reactor)
            self._reactor, self._owns_reactor = None, False
        waits, self._stop_waits = self._stop_waits, []
        for wait in waits:
            if not wait.called:
                wait.callback(None)

    async def _stop(self, parts: building.Parts) -> None:
        if self._notifier is not None:
            self._notifier.stopping()
        if self._control is not None:
            await self._control.stopService()
        closed = [maybeDeferred(listener.stopService) for listener in parts.listeners]
        # A handler may have asked for this in the middle of a read, whose tail is put when the handler returns.
        await deferLater(self._reactor, 0)
        disk = journaling.on_disk(parts.journal)
        timeout = float(self.settings.server.drain_timeout)
        if disk is None:
            await stopping.drain(self._handlers_started, timeout, self._reactor)
        else:
            replaying = [] if parts.replays is None else parts.replays.finish()
            await stopping.finish(parts, [*self._handlers_started, *replaying], timeout, self._reactor)
        parts.intake.stop()
        # No more room and no more replies will come; the last of them may still be on their way out.
        cut = [self._reactor.callLater(_FAREWELL, listener.give_up) for listener in parts.listeners]
        await DeferredList(closed, consumeErrors=True)
        for call in cut:
            if call.active():
                call.cancel()
        if parts.replays is not None:
            parts.replays.stop()
        for delivery in list(parts.deliveries.values()):
            delivery.stop()
        await self._stop_handlers()
        if disk is not None:
            await stopping.close(disk, self._reactor)
        if self._admin is not None:
            await maybeDeferred(self._admin.stopService)
        if self._notifier is not None:
            self._notifier.stopService()

    async def _stop_handlers(self) -> None:
        started, self._handlers_started = self._handlers_started, []
        for delivery in started:
            stopped = maybeDeferred(_called, delivery.handler.stop, self._reactor)
            stopped.addTimeout(_FAREWELL_TO_HANDLERS, self._reactor)
            try:
                await stopped
            except Exception:
                _log.failure("handler {name} did not stop well", name=delivery.name)

    # For programs that embed a server

    async def __aenter__(self) -> EventServer:
        if self._reactor is None:
            self._reactor, self._owns_reactor = reactor_here()
        try:
            await here(self.start(), self._reactor)
        except BaseException:
            await self._stop_for_good()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_for_good()

    async def _stop_for_good(self) -> None:
        """Stop, even if the program is cancelled meanwhile: its loop must not end before handlers have flushed."""
        reactor = self._reactor
        if reactor is None:
            return
        try:
            await here(self.stop(), reactor)
        except BaseException:
            await here(self.stop(), reactor)
            raise

    def addresses(self) -> dict[str, list[str]]:
        """Where each listener listens, with the real ports: `{"lines": ["tcp:127.0.0.1:5140"]}`."""
        found: dict[str, list[str]] = {name: [] for name in self.settings.listeners}
        for part in self._parts.listeners if self._parts is not None else ():
            found[part.name].extend(part.addresses())
        if self._admin is not None:
            found["admin"] = self._admin.addresses()
        return found

    def subscribe(
        self, match: str | None = None, timeout: float | None = None, max_events: int = 10_000
    ) -> Subscription:
        """A queue of the events that arrive from now on and that `match` holds for; see `Subscription`.

        Raises `ExpressionError` for a wrong `match`. The server has to be started when the subscription is entered.
        """
        select = None if match is None else Pipeline(match, [])
        name = self._new_name("subscription")

        def opened(subscription: Subscription) -> Any:
            if self._parts is None or self.status.state != "running":
                raise RuntimeError("the server is not running")
            # It only fills a queue: never slow, never full, never waited for.
            options = DeliveryOptions(when_full="drop_oldest", required_for_ack=False)
            delivery = self._parts.add_delivery(
                name, subscription, options, HandlerCounters(), select=select, passing=True
            )
            self._handlers_started.append(delivery)
            subscription.start()
            delivery.start()
            return self._reactor

        def closed(subscription: Subscription) -> None:
            if self._parts is not None and (delivery := self._parts.deliveries.get(name)) is not None:
                if delivery in self._handlers_started:
                    self._handlers_started.remove(delivery)
                self._parts.remove_delivery(name)

        return Subscription(timeout=timeout, max_events=max_events, opened=opened, closed=closed)

    def add_handler(
        self,
        function: Callable[[Any], Any],
        *,
        name: str | None = None,
        match: str | None = None,
        listeners: Sequence[str] | None = None,
    ) -> None:
        """Have a plain function called with every event (or pile, by its annotation), as any python handler.

        Before the server is started. Raises `ExpressionError` for a wrong `match`.
        """
        if self._parts is not None:
            raise RuntimeError("the server has been started")
        from eventserver.handlers.python import PythonHandler

        if match is not None:
            compile_match(match)
        name = name or self._new_name("function")
        added = HandlerSettings(
            name=name,
            handler=Component(
                name="python",
                component=lambda options, context: PythonHandler(options, context, function),
                options=PythonHandler.Options(call=name),
            ),
            match=match,
            listeners=None if listeners is None else tuple(listeners),
        )
        self.settings = replace(self.settings, handlers={**self.settings.handlers, name: added})

    def reopen(self) -> None:
        """What SIGHUP asks for: files and certificates are read anew, and what waits for a destination tries now."""
        _log.info("files are opened again, certificates are read, and what waits is tried now")
        if self._parts is not None:
            reopening.reopen(self._parts)

    def _new_name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"


def _called(function: Callable[[], Any], reactor: Any) -> Any:
    """The result of a function that may be sync, `async def` or return a Deferred."""
    return as_deferred(function(), reactor)


def _starter(server: EventServer, delivery: Delivery) -> Callable[[], Any]:
    def start() -> Any:
        started = _called(delivery.handler.start, server._reactor)
        server._handlers_started.append(delivery)
        return started

    return start


def _explain(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, (CannotListenError, ValueError, SettingsError)):
        return str(error)
    return f"{failure.type.__name__ if failure.type else 'error'}: {error}"
