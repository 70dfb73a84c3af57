"""What the commands `deadletters`, `replay` and `journal` share: where the server or its journal is, and asking it.

A running server is asked over the control API: through the socket in its journal's folder, or with `--admin` over TCP.
Where nobody answers on the socket, the same questions are put to the journal itself, which is locked meanwhile.
"""

from __future__ import annotations

import argparse
import datetime as dt
import errno
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from eventserver.admin.control_socket import NAME
from eventserver.cli import _printing
from eventserver.options import Duration

#: Seconds for an answer; a dry run is answered in parts of a few seconds each.
TIMEOUT = 60.0
#: The longest answer that is read.
MAX_ANSWER = 64 << 20

_WHERE = "name the journal with --journal DIR or -c FILE, or a server with --admin URL"


class CommandError(Exception):
    """What a command ends with: a sentence for people, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def ended(command: str, work: Callable[[], int]) -> int:
    """The exit code of some work; where it ends with a `CommandError`, that is said first."""
    try:
        return work()
    except CommandError as error:
        _printing.complain(command, str(error))
        return error.code


class Target(Protocol):
    """Whom a command talks to."""

    live: bool

    def ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer of the control API. Raises `CommandError`."""


class Server:
    """A running server. `connect` makes a connection to it, `name` is what messages call it."""

    live = True

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], name: str, token: str | None = None) -> None:
        self._connect = connect
        self._name = name
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        headers, data = dict(self._headers), None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            data = json.dumps(body or {}).encode()
        try:
            with closing(self._connect()) as connection:
                connection.request(method, path + ("?" + urlencode(given) if given else ""), data, headers)
                answer = connection.getresponse()
                text = answer.read(MAX_ANSWER + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # ValueError: a name that is none, such as `a..b`, is found out when it is looked up.
            raise CommandError(f"{self._name}: {_said(error)}") from None
        return self._read(answer, text)

    def _read(self, answer: http.client.HTTPResponse, text: bytes) -> dict[str, Any]:
        content: Any = None
        if answer.getheader("content-type", "").startswith("application/json") and len(text) <= MAX_ANSWER:
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = None
        if not isinstance(content, dict):
            said = text[:200].decode(errors="replace").strip()
            raise CommandError(f"{self._name}: answered {answer.status}: {said or answer.reason}")
        if answer.status >= 400:
            raise CommandError(str(content.get("error", answer.reason)))
        return content


class Local:
    """The control API without a server between: for a journal that nobody else has.

    `wait` lets time pass for an answer that is not there at once; it is called until it is.
    """

    def __init__(self, control: Any, wait: Callable[[], None], live: bool = False) -> None:
        self.live = live
        self._control = control
        self._wait = wait

    def ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        given = {key: str(value) for key, value in (query or {}).items() if value is not None}
        data = json.dumps(body or {}).encode() if method == "POST" else b""
        reply = self._control.answer(method, path, given, data)
        found: list[Any] = []
        if isinstance(reply, Deferred):
            reply.addBoth(found.append)
            while not found:
                self._wait()
            [reply] = found
            if isinstance(reply, Failure):
                reply.raiseException()
        # As it would come over the wire.
        content: dict[str, Any] = json.loads(msgspec.json.encode(reply.content, enc_hook=str))
        if reply.code >= 400:
            raise CommandError(str(content["error"]))
        return content


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that say where the server is, and `--json`."""
    parser.add_argument("--journal", metavar="DIR", help="the folder of the journal")
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="FILE", help="settings that name the journal"
    )
    parser.add_argument("--admin", metavar="URL", help="ask a server at http://HOST:PORT, https://... or unix:PATH")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token for --admin")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")


@contextmanager
def target(arguments: argparse.Namespace) -> Iterator[Target]:
    """Whom the options name. Raises `CommandError`."""
    if arguments.admin is not None:
        server = _server_at(arguments.admin, _token(arguments.token_file))
        # Whoever named a listener of events by mistake must not send it a command as an event.
        if server.ask("GET", "/v1").get("api") != "v1":
            raise CommandError(f"{arguments.admin}: that is no control API of eventserver")
        yield server
        return
    folder = _folder(arguments)
    path = folder / NAME
    if _is_answered(path):
        yield Server(lambda: _UnixConnection(str(path)), str(path))
        return
    from eventserver.cli._offline import open_offline

    with open_offline(folder) as found:
        yield found


def folder_of_nobody(arguments: argparse.Namespace) -> Path:
    """The folder of the journal that the options name, if no server has it. Raises `CommandError`."""
    if arguments.admin is not None:
        raise CommandError("a running server cannot do this: stop it, and name the folder with --journal DIR", 2)
    folder = _folder(arguments)
    if _is_answered(folder / NAME):
        raise CommandError("a server has this journal: stop it first")
    return folder


def _server_at(url: str, token: str | None) -> Server:
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        return Server(lambda: _UnixConnection(path), path, token)
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if scheme not in kinds or not host:
        raise CommandError(f"--admin: {url!r} is no http://HOST:PORT, https://HOST:PORT or unix:PATH", 2)
    return Server(lambda: kinds[scheme](str(host), port, timeout=TIMEOUT), url, token)


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        found = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise CommandError(f"--token-file: {path}: {_said(error)}", 2) from None
    if not found or not found.isprintable() or " " in found:
        raise CommandError(f"--token-file: {path} has no token", 2)
    return found


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.journal is not None:
        folder = Path(arguments.journal)
    elif arguments.config:
        folder = _journal_of(arguments.config)
    else:
        raise CommandError(_WHERE, 2)
    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}")
    return folder


def _journal_of(files: list[str]) -> Path:
    """The path of the journal in settings; nothing else of them has to be right, or readable."""
    from eventserver.settings.files import Collected, read_files
    from eventserver.settings.tables import Problems

    problems, collected = Problems(), Collected()
    read_files(files, Path.cwd(), collected, problems)
    if collected.journal is not None:
        collected.expand(os.environ, Problems())
    path = None if collected.journal is None else collected.journal.values.get("path")
    if isinstance(path, str) and path:
        return Path(path)
    said = "; ".join(problems.found) or f"{', '.join(files)}: there is no `path` in [journal]"
    raise CommandError(said, 2)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(TIMEOUT)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            if error.errno is None or error.errno == errno.ENAMETOOLONG:
                # No server can have a socket there either.
                return False
            raise CommandError(f"{path}: {_said(error)}; are you the user that the server runs as?") from None
    return True


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def segment(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def when(text: str | None, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> str | None:
    """A point in time or in the journal, as the API wants it: `"24 h"` is that long ago, the rest is left alone."""
    if text is None:
        return None
    try:
        ago = Duration.parse(text)
        return (now() - dt.timedelta(seconds=float(ago))).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return text
