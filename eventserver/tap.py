"""What `twistd eventserver` does before there is a server: the reactor, the log, the settings."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from twisted.application.service import IService

from eventserver.cli import options as cli_options


class Options(cli_options.Options):
    """The options after `twistd eventserver`."""

    def postOptions(self) -> None:
        """Settle what twistd does around us, unless the user asked for something else."""
        parent: Any = self.parent
        if parent is not None:
            _set_log(parent)
            _forget_pidfile(parent, sys.argv)
        install_reactor()


def _set_log(parent: Any) -> None:
    """Our log goes to standard error; a daemon, which has none, keeps Twisted's `twistd.log`."""
    chosen = any(parent.get(name) for name in ("logger", "logfile", "syslog"))
    if not chosen and (parent.get("nodaemon") or parent.get("debug")):
        parent["logger"] = "eventserver.logging.stderr_observer"


def _forget_pidfile(parent: Any, argv: list[str]) -> None:
    """In the foreground there is no pidfile, unless the command line asks for one."""
    asked = any(word.startswith("--pid") for word in argv)
    if parent.get("nodaemon") and not asked:
        parent["pidfile"] = ""


def install_reactor() -> None:
    """Twisted's asyncio reactor, unless one is installed already (`twistd --reactor`); its clock is monotonic."""
    if "twisted.internet.reactor" not in sys.modules:
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    from twisted.internet import reactor

    make_monotonic(reactor)


def make_monotonic(reactor: Any) -> None:
    """Timers by `time.monotonic`, so that a changed wall clock moves none; before any timer is set, or not at all."""
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def makeService(options: Options | Mapping[str, Any]) -> IService:
    """The server that the options describe. Wrong settings end the program with exit code 1 and no traceback."""
    assert isinstance(options, Options)
    settings = options.settings_or_exit()
    from twisted.internet import reactor

    from eventserver.service import EventServer

    server: IService = EventServer(settings, reactor)
    return server
