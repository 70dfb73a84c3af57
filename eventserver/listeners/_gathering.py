"""Reading from many connections together: one wake-up of the reactor for what several of them have sent.

With thousands of peers that each send a line now and then, nearly every line wakes the reactor up by itself, and that
costs more than the line. So beyond the first `MANY` the connections of a port have an epoll of their own, which is one
descriptor to the reactor; and while lines come fast but one by one, it is looked at every `PAUSE` seconds.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

#: With MANY connections in the group, after a look that found fewer than SMALL of them with something to read, and
#: that came less than SOON seconds after the one before, the next look is PAUSE seconds later.
MANY = 64
SMALL = 64
SOON = 0.001
PAUSE = 0.002
#: Connections that one look reads from; then others have their turn.
MOST = 512

_log = Logger(namespace="eventserver.listeners")


def gather(port: IListeningPort, reactor: Any) -> None:
    """Have the connections that the port will accept read together, where the kernel can do that (Linux)."""
    if isinstance(port, (tcp.Port, unix.Port)) and hasattr(select, "epoll"):
        port.reactor = Gathering(reactor)  # type: ignore[assignment]


class Gathering:
    """The reactor as the connections of one port see it: it reads for them, all else the real one does."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._alone: set[Any] = set()
        self._group: Group | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def addReader(self, reader: Any) -> None:
        if not isinstance(reader, tcp.Connection) or reader in self._alone:
            self._reactor.addReader(reader)
        elif len(self._alone) < MANY and (self._group is None or reader not in self._group):
            self._alone.add(reader)
            self._reactor.addReader(reader)
        else:
            if self._group is None:
                self._group = Group(self._reactor)
            self._group.add(reader)

    def removeReader(self, reader: Any) -> None:
        if self._group is None or reader not in self._group:
            self._alone.discard(reader)
            self._reactor.removeReader(reader)
            return
        self._group.remove(reader)
        if not self._group.readers:
            # The kernel's object goes with the last connection.
            self._group.close()
            self._group = None


@implementer(IReadDescriptor)
class Group:
    """The connections that are read together."""

    def __init__(self, reactor: Any) -> None:
        self.readers: dict[int, Any] = {}
        self._numbers: dict[Any, int] = {}
        self._epoll = select.epoll()
        self._reactor = reactor
        self._timer: Any = None
        self._looked = 0.0
        self._closed = False
        reactor.addReader(self)

    def fileno(self) -> int:
        """The epoll's descriptor; -1 when closed."""
        return -1 if self._closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return "connections"

    def __contains__(self, reader: Any) -> bool:
        return reader in self._numbers

    def add(self, reader: Any) -> None:
        """Read from it, from now on."""
        if reader in self._numbers:
            return
        number = reader.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self.readers[number] = reader
        self._numbers[reader] = number

    def remove(self, reader: Any) -> None:
        """Read from it no more."""
        number = self._numbers.pop(reader)
        del self.readers[number]
        # If it was closed, the kernel has forgotten it.
        with contextlib.suppress(OSError):
            self._epoll.unregister(number)

    def doRead(self) -> None:
        """Some have sent something; if few have, let more gather."""
        count = self._look()
        if count >= SMALL or len(self.readers) < MANY:
            return
        before, self._looked = self._looked, self._reactor.seconds()
        if self._looked - before < SOON:
            self._reactor.removeReader(self)
            self._timer = self._reactor.callLater(PAUSE, self._look_again)

    def _look_again(self) -> None:
        """Take what has gathered; wait for the reactor's call only after there was nothing, or much."""
        self._timer = None
        count = self._look()
        if self._closed:
            return
        if 0 < count < SMALL and len(self.readers) >= MANY:
            self._timer = self._reactor.callLater(PAUSE, self._look_again)
        else:
            self._reactor.addReader(self)

    def _look(self) -> int:
        ready = self._epoll.poll(0, MOST)
        for number, _events in ready:
            reader = self.readers.get(number)
            if reader is not None:
                self._read(reader)
        return len(ready)

    def _read(self, reader: Any) -> None:
        try:
            why = reader.doRead()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # SystemExit too: what one connection does must not end the others.
            _log.failure("reading failed")
            why = error if isinstance(error, Exception) else None
        if why:
            reader.stopReading()
            # What every reactor of Twisted's calls then; it has no public name.
            self._reactor._disconnectSelectable(reader, why, True)

    def close(self) -> None:
        """Let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._reactor.removeReader(self)
        self._closed = True
        self._epoll.close()

    def connectionLost(self, reason: object) -> None:
        """The reactor has lost the descriptor; nothing can be read any more."""
        _log.error("the epoll of a port's connections was lost")
