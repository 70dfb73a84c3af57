"""The reactor for a server inside a program that runs asyncio, or Twisted, by itself."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from eventserver.awaiting import asyncio_loop


def reactor_here() -> tuple[Any, bool]:
    """The reactor to use here, and whether it was made for this (then `release` has to be called in the end).

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

        return found, False
    from twisted.internet import asyncioreactor

    if installed is None:
        asyncioreactor.install(loop)
        from twisted.internet import reactor as found
    else:
        # A second `asyncio.run` in one program, or a program of Twisted's that also has a loop.
        found = asyncioreactor.AsyncioSelectorReactor(loop)
    # The loop runs already: the reactor is told that it does, without signal handlers and without `run`.
    found.startRunning(installSignalHandlers=False)
    return found, True


def release(reactor: Any) -> None:
    """Let go of the threads of a reactor that was made for a loop; the loop itself goes on."""
    pool = getattr(reactor, "threadpool", None)
    if pool is not None:
        # Its threads are no daemons: the program would never end.
        pool.stop()
        reactor.threadpool = None
