"""The control API: what `eventserver journal`, `deadletters` and `replay` ask of a running server, as JSON.

`docs/control-api.md` describes it. Everything is below `/v1`; a GET changes nothing. This module knows no HTTP server:
a request is a method, a path, a query and a body, and an answer is a status code and plain data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from eventserver.admin._control_deadletters import DeadLetters
from eventserver.admin._control_journal import JournalPages
from eventserver.admin._control_replies import MAX_BODY, ControlError, Reply, decode
from eventserver.durable import IDurableJournal
from eventserver.replaying import Counted, ReplayError, ReplayRecord, ReplayRequest, Replays

__all__ = ["MAX_BODY", "Control", "ControlError", "Reply"]

#: The version of the API, and the first part of every path.
VERSION = "v1"


class Control:
    """Answers requests about the journal, its dead letters and replays.

    `journal` and `replays` are None where there is no journal on disk; then only `/v1` itself says more than that.
    """

    def __init__(
        self,
        journal: IDurableJournal | None,
        replays: Replays | None,
        *,
        now: Callable[[], dt.datetime],
    ) -> None:
        self.stopped = False
        """Set when the server stops: the journal may be closed at any moment."""
        self._replays: Any = replays
        self._has_journal = journal is not None and replays is not None
        pages: Any = JournalPages(journal)
        letters: Any = DeadLetters(journal, replays, now)
        #: By path: what answers GET and what answers POST. `*` stands for one part, which is given to the function.
        self._routes: dict[tuple[str, ...], dict[str, Callable[..., Any]]] = {
            (): {"GET": self._about},
            ("journal",): {"GET": pages.info},
            ("journal", "frames"): {"GET": pages.frames},
            ("journal", "verify"): {"GET": pages.verify},
            ("journal", "cursors"): {"GET": pages.cursors},
            ("journal", "cursors", "rename"): {"POST": pages.rename_cursor},
            ("journal", "cursors", "drop"): {"POST": pages.drop_cursor},
            ("deadletters",): {"GET": letters.page},
            ("deadletters", "retry"): {"POST": letters.retry},
            ("deadletters", "drop"): {"POST": letters.drop},
            ("deadletters", "*"): {"GET": letters.show},
            ("replays",): {"GET": self._list_replays, "POST": self._begin_replay},
            ("replays", "*"): {"GET": self._show_replay},
            ("replays", "*", "cancel"): {"POST": self._cancel_replay},
        }

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply | Deferred[Reply]:
        """The answer to one request; what is wrong with it is an answer too."""
        try:
            result = self._call("GET" if method == "HEAD" else method, path, query, body)
        except Exception as error:
            return _refused(error)
        if isinstance(result, Deferred):
            waits: Deferred[Reply] = result.addCallbacks(_accepted, _failed)
            return waits
        return _accepted(result)

    def _call(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Any:
        if self.stopped:
            raise ControlError(503, "the server is stopping")
        first, *parts = [unquote(part) for part in path.strip("/").split("/")]
        if first != VERSION:
            raise ControlError(404, f"there is /{VERSION}")
        methods, arguments = self._route(parts)
        if method not in methods:
            raise ControlError(405, f"only {' and '.join(methods)}", {"allow": ", ".join(methods)})
        if parts and not self._has_journal:
            raise ControlError(409, "there is no journal on disk: the server was started without [journal]")
        if method == "GET":
            return methods[method](*arguments, query)
        if query:
            raise ControlError(400, "a POST has its arguments in its body, as a JSON object")
        return methods[method](*arguments, body)

    def _route(self, parts: list[str]) -> tuple[dict[str, Callable[..., Any]], list[str]]:
        exact = self._routes.get(tuple(parts))
        if exact is not None:
            return exact, []
        for pattern, methods in self._routes.items():
            if len(pattern) == len(parts) and all(p in ("*", part) for p, part in zip(pattern, parts, strict=True)):
                return methods, [part for p, part in zip(pattern, parts, strict=True) if p == "*"]
        raise ControlError(404, "there is no such thing here")

    def _about(self, query: Mapping[str, str]) -> Any:
        return {
            "api": VERSION,
            "server": version("eventserver"),
            "journal": self._has_journal,
            "handlers": self._replays.handlers() if self._has_journal else [],
        }

    # Replays

    def _list_replays(self, query: Mapping[str, str]) -> Any:
        return {"replays": [self._as_json(record) for record in self._replays.all()]}

    def _show_replay(self, id: str, query: Mapping[str, str]) -> Any:
        try:
            return self._as_json(self._replays.get(id))
        except ReplayError as error:
            raise ControlError(404, str(error)) from None

    def _begin_replay(self, body: bytes) -> Any:
        request = decode(body, ReplayRequest)
        return ensureDeferred(self._count_or_begin(request))

    async def _count_or_begin(self, request: ReplayRequest) -> Any:
        if request.dry_run:
            return _counted(await self._replays.count(request))
        return Reply(201, self._as_json(await self._replays.begin(request)))

    def _cancel_replay(self, id: str, body: bytes) -> Any:
        if id not in {record.id for record in self._replays.all()}:
            raise ControlError(404, f"there is no replay {id!r}")
        return self._as_json(self._replays.cancel(id))

    def _as_json(self, record: ReplayRecord) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(record)
        start, end = found.pop("start"), found.pop("end")
        del found["reached"], found["reopened"]
        return {
            "id": found.pop("id"),
            "handler": found.pop("handler"),
            "cursor": record.cursor,
            "from": start,
            "to": end,
            "position": self._replays.position(record),
            **found,
        }


def _counted(counted: Counted) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(counted)
    return {"dry_run": True, "from": found.pop("start"), "to": found.pop("end"), **found}


def _accepted(result: Any) -> Reply:
    return result if isinstance(result, Reply) else Reply(200, result)


def _failed(failure: Failure) -> Reply:
    assert isinstance(failure.value, Exception)
    return _refused(failure.value)


def _refused(error: Exception) -> Reply:
    if isinstance(error, ControlError):
        return Reply(error.code, {"error": str(error)}, error.headers)
    if isinstance(error, ReplayError):
        return Reply(400, {"error": str(error)})
    if isinstance(error, OSError):
        return Reply(503, {"error": f"the disk says: {error.strerror or error}"})
    raise error
