"""The journal of a server that does not run, asked as that server would be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from eventserver.admin.control import Control
from eventserver.cli._control import CommandError, Local
from eventserver.interfaces import Parked
from eventserver.journal import offline
from eventserver.replaying import MARK, ReplayError, ReplayFile, ReplayRecord, ReplayRequest
from eventserver.replaying.requests import check, range_of


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Offline(Local):
    """A journal that nobody else has now."""

    def __init__(self, journal: Any) -> None:
        # `_NoReplays` has what the control API asks of `Replays`, and no more.
        control = Control(journal, _NoReplays(journal), now=_now)  # type: ignore[arg-type]
        super().__init__(control, _never)
        self.journal = journal

    def ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        if (method, path) == ("GET", "/v1/journal"):
            # The segments besides.
            return {**super().ask(method, path, query, body), **offline.info(self.journal)}
        return super().ask(method, path, query, body)

    def verify(self) -> Iterator[dict[str, Any]]:
        """One report a segment."""
        return offline.verify(self.journal)


class _NoReplays:
    """There are no handlers here: what is to be tried again, or replayed, waits until a server has the journal."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal

    def _file(self) -> ReplayFile:
        file = ReplayFile(self._journal.files / "replays.json")
        file.read()
        return file

    def all(self) -> list[ReplayRecord]:
        return list(self._file().replays.values())

    def position(self, record: ReplayRecord) -> int:
        return record.reached_in(self._journal)

    async def begin(self, request: ReplayRequest) -> ReplayRecord:
        check(request)
        known = [cursor.name for cursor in self._journal.cursors() if MARK not in cursor.name]
        if request.handler not in known:
            names = ", ".join(known) or "none"
            raise ReplayError(f"the journal knows no handler {request.handler!r}; it knows: {names}")
        file = self._file()
        if any(one.handler == request.handler and one.state == "running" for one in file.replays.values()):
            raise ReplayError(f"a replay for handler {request.handler!r} has not ended; cancel it first")
        start, end = await range_of(request, self._journal)
        record = ReplayRecord(
            id=file.new_id(),
            handler=request.handler,
            start=start,
            end=end,
            match=request.match,
            rate=request.rate,
            started=_now(),
        )
        file.replays[record.id] = record
        file.write()
        return record

    def get(self, id: str) -> ReplayRecord:
        return self._file().replays[id]

    def cancel(self, id: str) -> ReplayRecord:
        file = self._file()
        record = file.replays[id]
        if record.state != "running":
            raise ReplayError(f"replay {id!r} has ended ({record.state})")
        record.reached = self.position(record)
        record.state, record.ended = "cancelled", _now()
        # The cursor last, as the server does it: one that is left behind is dropped at the next start.
        file.write()
        if any(cursor.name == record.cursor for cursor in self._journal.cursors()):
            self._journal.drop_reader(record.cursor)
        return record

    def take_back(self, parked: Sequence[Parked]) -> list[str]:
        names = sorted({one.handler for one in parked})
        if any(MARK in name for name in names):
            # A replay that has ended is to go on with these.
            file = self._file()
            for name in names:
                if MARK in name:
                    file.reopen(name, self._journal.committed, _now())
            file.write()
        return names

    def handlers(self) -> list[str]:
        return []


def _never() -> None:
    raise CommandError("the journal cannot be read")


@contextmanager
def open_offline(folder: Path) -> Iterator[Offline]:
    """Opens the journal in a folder, and closes it again. Raises `CommandError`."""
    try:
        with offline.open_offline(folder, log=Logger(namespace="journal")) as journal:
            yield Offline(journal)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None


def repair(folder: Path) -> list[dict[str, Any]]:
    """Mend the journal in a folder; one report a segment that was damaged. Raises `CommandError`."""
    try:
        return offline.repair(folder, log=Logger(namespace="journal"))
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None
