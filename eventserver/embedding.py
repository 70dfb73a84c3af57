"""The reactor for a server inside a program that runs asyncio, or Twisted, by itself."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.logger import ILogObserver, LogEvent, STDLibLogObserver, globalLogBeginner
from zope.interface import implementer

from eventserver.awaiting import asyncio_loop
from eventserver.logging import filtered

#: The attribute by which a reactor that was started here knows how many servers use it.
_USERS = "_eventserver_users"


def reactor_here() -> tuple[Any, bool]:
    """The reactor to use here, and whether it was started here (then `release` has to be called in the end).

    Under a running asyncio loop: Twisted's reactor if it runs on that loop, else one that is put onto the loop. It is
    also installed as Twisted's global reactor where none is yet. Elsewhere: Twisted's global reactor.
    """
    installed = sys.modules.get("twisted.internet.reactor")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    found: Any
    if loop is None or (installed is not None and asyncio_loop(installed) is loop):
        from twisted.internet import reactor as found

        return found, _joined(found)
    from twisted.internet import asyncioreactor

    if installed is None:
        asyncioreactor.install(loop)
        from twisted.internet import reactor as found
    else:
        # A second `asyncio.run` in one program, or a program of Twisted's that also has a loop.
        found = asyncioreactor.AsyncioSelectorReactor(loop)
    _begin_logging()
    # The loop runs already: the reactor is told that it does, without signal handlers and without `run`.
    found.startRunning(installSignalHandlers=False)
    setattr(found, _USERS, 1)
    return found, True


def _begin_logging() -> None:
    """Twisted's log, ours with it, to Python's `logging`, unless the program has begun Twisted's logging itself.

    Nobody else would: Twisted keeps the first 65,536 events for an observer that is still to come.
    """
    # Twisted has no public name for "nobody has begun": the buffer is there until somebody does.
    if getattr(globalLogBeginner, "_temporaryObserver", None) is not None:
        observers: dict[str, STDLibLogObserver] = {}

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            name = str(event.get("log_namespace") or "twisted")
            observers.setdefault(name, STDLibLogObserver(name))(event)

        globalLogBeginner.beginLoggingTo([filtered(observe)], redirectStandardIO=False)


def _joined(reactor: Any) -> bool:
    """Whether the reactor was started here, by a server before this one; then it has one user more."""
    users = getattr(reactor, _USERS, None)
    if users is not None:
        setattr(reactor, _USERS, users + 1)
    return users is not None


def release(reactor: Any) -> None:
    """The last server that uses a reactor that was started here lets go of its threads; the loop itself goes on."""
    users = getattr(reactor, _USERS) - 1
    setattr(reactor, _USERS, users)
    if users:
        return
    pool = getattr(reactor, "threadpool", None)
    if pool is not None:
        # Its threads are no daemons: the program would never end.
        pool.stop()
        reactor.threadpool = None
