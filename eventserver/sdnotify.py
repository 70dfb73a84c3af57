"""What the service tells systemd: that it is ready, that it stops, that it is alive.

The protocol of sd_notify(3) is one datagram of `KEY=value` lines to the unix socket named by `$NOTIFY_SOCKET`.
Outside systemd (no such variable) every call does nothing, so callers need no condition.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


class Notifier(Service):
    """Tells systemd about the service: `READY=1` when `ready` is called, `STOPPING=1` and `WATCHDOG=1` by itself.

    Make it a child of the main service. `reactor` is the clock of the watchdog: while the service runs, `WATCHDOG=1`
    goes out at half of `WATCHDOG_USEC`, as sd_watchdog_enabled(3) recommends, so that a stalled reactor is noticed.
    """

    def __init__(self, environ: Mapping[str, str], reactor: Any, pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._reactor = reactor
        self._interval = watchdog_interval(environ, os.getpid() if pid is None else pid) if self._address else None
        self._watchdog: LoopingCall | None = None
        self._stopping = False

    @property
    def enabled(self) -> bool:
        """Whether a service manager listens."""
        return self._address is not None

    def startService(self) -> None:
        super().startService()
        self._stopping = False
        if self._interval is not None:
            self._watchdog = LoopingCall(self.notify, "WATCHDOG=1")
            self._watchdog.clock = self._reactor
            # Only a stopped loop ends without an error, and `notify` raises nothing.
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        """Stops the watchdog too: call it last, or a long drain is taken for a stall."""
        self.stopping()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        super().stopService()

    def ready(self, status: str = "") -> None:
        """Everything listens: units that wait for this one may start."""
        self.notify("READY=1", *([f"STATUS={_one_line(status)}"] if status else []))

    def stopping(self, status: str = "") -> None:
        """The service has begun to stop. Sent once."""
        if not self._stopping:
            self._stopping = True
            self.notify("STOPPING=1", *([f"STATUS={_one_line(status)}"] if status else []))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.notify(f"STATUS={_one_line(text)}")

    def notify(self, *assignments: str) -> None:
        """Sends assignments such as `READY=1` in one datagram; a failure is logged once and changes nothing else."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # systemd's socket has room; a full one must not hold the reactor up.
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except BlockingIOError:
            pass  # the next watchdog message says the same
        except OSError as error:
            _log.warn("systemd cannot be notified: {error}", error=error)
            self._address = None


def _address(name: str) -> str | None:
    """The address of the socket: a path, or `@name` for the abstract namespace. Anything else is no socket of ours."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Half of `WATCHDOG_USEC`, in seconds; None where there is no watchdog, or it is meant for another process."""
    try:
        wanted = int(environ.get("WATCHDOG_USEC", "0"))
        if int(environ.get("WATCHDOG_PID", pid)) != pid:
            return None
    except ValueError:
        return None
    return wanted / 2_000_000 if wanted > 0 else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
