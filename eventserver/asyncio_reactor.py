"""Twisted's asyncio reactor with a shorter way from the event loop to a transport that can be read."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python.log import callWithLogger

_log = Logger(namespace="eventserver.reactor")


class AsyncioSelectorReactor(asyncioreactor.AsyncioSelectorReactor):
    """Reads without a context for Twisted's legacy log around each call; in all else it is its parent.

    That context (`callWithLogger`) names the transport in what `twisted.python.log` writes meanwhile. Nothing here
    writes there, and a read that brings one line costs a quarter less without it.
    """

    def addReader(self, reader: Any) -> None:
        if reader in self._readers:
            return
        descriptor = reader.fileno()
        try:
            self._asyncioEventloop.add_reader(descriptor, self._read, reader)
        except OSError:
            # Files, for instance, cannot be waited for: Twisted knows what to do then.
            self._unregisterFDInAsyncio(descriptor)
            super().addReader(reader)
        else:
            self._readers[reader] = descriptor

    def _read(self, reader: Any) -> None:
        if reader.fileno() == -1:
            # It was closed since the loop saw that it can be read.
            self._readOrWrite(reader, True)
            return
        try:
            why = reader.doRead()
        except KeyboardInterrupt:
            raise
        except Exception as error:
            _log.failure("reading failed")
            why = error
        except BaseException:
            # SystemExit, for instance: what one transport does must not end the loop.
            _log.failure("reading failed")
            return
        if why:
            callWithLogger(reader, self._disconnectSelectable, reader, why, True)


def install(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Make it the reactor of this process, on a loop of its own or on this one."""
    installReactor(AsyncioSelectorReactor(loop))
