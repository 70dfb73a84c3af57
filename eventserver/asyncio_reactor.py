"""Twisted's asyncio reactor with a shorter way from the event loop to a transport that can be read."""

from __future__ import annotations

import asyncio
import select
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithLogger

_log = Logger(namespace="eventserver.reactor")


class AsyncioSelectorReactor(asyncioreactor.AsyncioSelectorReactor):
    """Reads without a context for Twisted's legacy log around each call; in all else it is its parent.

    That context (`callWithLogger`) names the transport in what `twisted.python.log` writes meanwhile. Nothing here
    writes there, and a read that brings one line costs a quarter less without it. On a `ReadingLoop`, reads do without
    a turn of the loop as well.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        # First: the parent adds a reader while it is made.
        self._reading = getattr(loop, "reading", None)
        if self._reading is not None:
            self._reading.ended, self._reading.failed = self._ended, self._failed
        super().__init__(loop)

    def addReader(self, reader: Any) -> None:
        if reader in self._readers:
            return
        descriptor = reader.fileno()
        try:
            if self._reading is not None:
                self._reading.watch(descriptor, reader)
            else:
                self._asyncioEventloop.add_reader(descriptor, self._read, reader)
        except OSError as error:
            if self._reading is None:
                self._unregisterFDInAsyncio(descriptor)
            # Files, for instance, cannot be waited for: Twisted knows what to do then. All else is a mistake.
            # A descriptor that has a reader already asyncio would take, and call the new one beyond `removeReader`.
            if not isinstance(error, PermissionError):
                raise
            super().addReader(reader)
        else:
            self._readers[reader] = descriptor

    def removeReader(self, reader: Any) -> None:
        if self._reading is None or reader not in self._readers:
            super().removeReader(reader)
        else:
            self._reading.forget(self._readers.pop(reader), reader)

    def _read(self, reader: Any) -> None:
        if reader.fileno() == -1:
            # It was closed since the loop saw that it can be read.
            self._readOrWrite(reader, True)
            return
        try:
            if why := reader.doRead():
                self._ended(reader, why)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(reader, error)

    def _ended(self, reader: Any, why: Any) -> None:
        callWithLogger(reader, self._disconnectSelectable, reader, why, True)

    def _failed(self, reader: Any, error: BaseException) -> None:
        """Reading raised, which is a bug: that transport ends. What ends programs must not end the loop."""
        _log.failure("reading failed", Failure(error))
        if isinstance(error, Exception):
            self._ended(reader, error)


def install(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Make it the reactor of this process, on this loop, the one that runs, or else a loop of its own."""
    installReactor(AsyncioSelectorReactor(loop or _own_loop()))


def _own_loop() -> asyncio.AbstractEventLoop | None:
    """A loop on which reads cost less; None where one runs already, or the kernel has no epoll."""
    if asyncio._get_running_loop() is not None or not hasattr(select, "epoll"):
        return None
    from eventserver.asyncio_loop import ReadingLoop

    loop = ReadingLoop()
    asyncio.set_event_loop(loop)
    return loop
