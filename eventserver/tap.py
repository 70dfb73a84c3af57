"""What `twistd eventserver` does before there is a server: the reactor, the log, the settings."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from types import TracebackType
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.failure import Failure

from eventserver.cli import options as cli_options
from eventserver.errors import EventServerError, SettingsError

_log = Logger(namespace="eventserver")


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
    """The asyncio reactor, unless one is installed already (`twistd --reactor`); its clock is monotonic."""
    if "twisted.internet.reactor" not in sys.modules:
        from eventserver import asyncio_reactor

        asyncio_reactor.install()
    from twisted.internet import reactor

    make_monotonic(reactor)


def make_monotonic(reactor: Any) -> None:
    """Timers by `time.monotonic`, so that a changed wall clock moves none; before any timer is set, or not at all."""
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def makeService(options: Options) -> IService:
    """The server that the options describe. Wrong settings end the program with exit code 1 and no traceback."""
    settings = options.settings_or_exit()
    parent: Any = options.parent
    nodaemon = parent is None or bool(parent.get("nodaemon") or parent.get("debug"))
    from twisted.internet import reactor

    from eventserver.limits import MOST_READ, keep_memory
    from eventserver.service import EventServer

    class Server(EventServer):
        """Ends the program where it cannot start."""

        most_read = MOST_READ

        def startService(self) -> None:
            reactor_: Any = reactor
            keep_memory()
            # Log rotation: handlers open their files again. The handler runs between two bytecodes, hence the hop.
            # Before the server says that it runs: from then on the signal may come, and would end the process.
            signal.signal(signal.SIGHUP, lambda *_: reactor_.callFromThread(self.reopen))
            # Later: the reactor puts its own handlers in place when it begins to run.
            reactor_.callWhenRunning(stop_once)
            super().startService()
            assert self.started is not None
            if self.failed is not None:
                # Nobody is left to wait for the clean-up: the process ends here.
                self.started.addErrback(lambda failure: None)
                report(self.failed)
                if nodaemon:
                    raise SystemExit(1)
                # A daemon tells the process that waits for it with an exception; anything else leaves that waiting.
                # Its log has the reasons already, and needs no traceback besides.
                sys.excepthook = say_nothing_of_cannot_start
                raise CannotStart("it cannot start; the log says why")
            self.started.addErrback(give_up, reactor)

    server: IService = Server(settings, reactor)
    return server


def stop_once() -> None:
    """Of SIGTERM and SIGINT the reactor gets the first one alone: it stops once, and would log a traceback for others.

    Somebody who is impatient has SIGKILL: with a journal nothing is lost by that.
    """
    stopping = False

    def once(handler: Any) -> Any:
        def received(number: int, frame: Any) -> None:
            nonlocal stopping
            if not stopping:
                stopping = True
                handler(number, frame)

        return received

    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, once(handler))


class CannotStart(EventServerError):
    """The server cannot start; every reason is in the log."""


def say_nothing_of_cannot_start(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What the interpreter does with an exception that nobody caught, but for this one."""
    if not issubclass(kind, CannotStart):
        sys.__excepthook__(kind, error, trace)


def report(failure: Failure) -> None:
    """Why the server cannot start: a line in the log for each reason."""
    if isinstance(failure.value, SettingsError):
        for problem in failure.value.problems:
            _log.error("{problem}", problem=problem)
    else:
        _log.failure("the server cannot start", failure)


def give_up(failure: Failure, reactor: Any) -> None:
    """Stop the reactor because the server cannot start; the exit code will be 1."""
    report(failure)
    # twistd has no way to say how it ended, other than by a signal: what was registered last runs first at exit.
    atexit.register(_exit_with_error)
    reactor.stop()


def _exit_with_error() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(1)
