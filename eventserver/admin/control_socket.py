"""The control API on a unix socket, in the folder of the journal: for the commands, without any settings."""

from __future__ import annotations

import datetime as dt
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

#: The name of the socket in the journal's folder.
NAME = "control.sock"
#: What the kernel allows for the path of a unix socket, in bytes.
LONGEST_PATH = 107


_log = Logger(namespace="eventserver")


def control_of(journal: Any, replays: Any, now: Callable[[], dt.datetime]) -> Any:
    """The control API of a server with a journal on disk."""
    from eventserver.admin.control import Control

    return Control(journal, replays, now=now)


class ControlSocket(Service):
    """Listens on the socket `control.sock` in a folder, where only this user (and root) can connect.

    A socket that somebody left behind is replaced, one that somebody answers on is not. Where it cannot listen, the
    log says why, and the server runs all the same. twisted.web is imported at the first connection: most servers are
    never asked, and it takes 10 MB.
    """

    def __init__(self, folder: Path, control: Any, status: Any, reactor: Any) -> None:
        self.path = folder / NAME
        self.problem: str | None = None
        """Why it does not listen."""
        self._control = control
        self._status = status
        self._reactor = reactor
        self._factory: _LateFactory | None = None
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        self.problem = _problem(self.path)
        if self.problem is None:
            self._listen()
        if self.problem is not None:
            _log.warn(
                "the commands cannot ask this server: {path}: {problem}", path=str(self.path), problem=self.problem
            )

    def _listen(self) -> None:
        self._factory = _LateFactory(self._control, self._status, self._reactor)
        # From the first moment nobody else may connect; a chmod would come a moment later.
        before = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(str(self.path), self._factory, mode=0o600)
        except CannotListenError as error:
            self.problem = str(error.socketError)
        finally:
            os.umask(before)

    def stopService(self) -> defer.Deferred[None]:
        """Stops listening, takes the socket away, and ends the connections that are open; nothing is answered now."""
        super().stopService()
        self._control.stopped = True
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            port, self._port = self._port, None
            await defer.maybeDeferred(port.stopListening)
        if self._factory is not None:
            self._factory.abort()


class _LateFactory(Factory):
    """Makes the site when somebody connects."""

    noisy = False

    def __init__(self, control: Any, status: Any, reactor: Any) -> None:
        self._arguments = (status, None, None, reactor, control)
        self._site: Any = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self._site is None:
            from eventserver.admin.web import AdminSite

            self._site = AdminSite(*self._arguments)
        return self._site.buildProtocol(addr)

    def abort(self) -> None:
        """Closes every connection now."""
        if self._site is not None:
            self._site.abort()


def _problem(path: Path) -> str | None:
    """Why nobody can listen there; makes room where a socket was left behind."""
    if not path.parent.is_dir():
        return "there is no such folder"
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"the path is too long for a unix socket ({LONGEST_PATH} bytes are allowed)"
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    if not stat.S_ISSOCK(mode):
        return "is no socket; move it away"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return None
        except OSError as error:
            # EAGAIN: somebody listens, and is busy.
            return f"cannot be used: {error.strerror}"
    return "somebody answers there already"
