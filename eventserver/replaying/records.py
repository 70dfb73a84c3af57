"""What is remembered of replays: in a small file beside the journal, so that they go on after a restart."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path
from typing import Literal

import msgspec
from twisted.logger import Logger

from eventserver.durable import IDurableJournal

#: What the cursor of every replay has in its name, behind the handler's.
MARK = "@replay-"
#: Replays that have ended and are still listed.
MAX_ENDED = 20
#: The version of the file's format.
VERSION = 1

State = Literal["running", "done", "cancelled"]
_log = Logger(namespace="eventserver.replay")


class ReplayRecord(msgspec.Struct, kw_only=True):
    """One replay. Positions are the journal's; times are aware UTC; `rate` is in events a second.

    `delivered`, `filtered` and `dead_lettered` count events (frames, for a handler that takes frames), `expired`
    frames that had to be freed before their turn. `begun` is True once the journal has its cursor on disk; `reached` is
    the position that it had come to when it ended. One that had ended, and goes on because some of its dead letters are
    tried again, is `reopened` at a position where there is nothing for it but these.
    """

    id: str
    handler: str
    start: int
    end: int
    match: str | None = None
    rate: float | None = None
    started: dt.datetime
    ended: dt.datetime | None = None
    state: State = "running"
    begun: bool = False
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    expired: int = 0
    reached: int | None = None
    reopened: int | None = None

    @property
    def first(self) -> int:
        """Where its cursor begins."""
        return self.start if self.reopened is None else self.reopened

    @property
    def last(self) -> int:
        """Up to where its cursor goes."""
        return self.end if self.reopened is None else self.reopened

    def position(self, cursor: int | None) -> int:
        """How far it has come, given where its cursor is, if it has one."""
        if self.reached is not None:
            return self.reached
        if self.state == "done":
            return self.end
        return self.start if cursor is None else max(self.start, min(cursor, self.end))

    def reached_in(self, journal: IDurableJournal) -> int:
        """How far it has come by what the journal knows of it, if it does not go on now."""
        there = (cursor.position for cursor in journal.cursors() if cursor.name == self.cursor)
        return self.position(next(there, None) if self.state == "running" else None)

    @property
    def cursor(self) -> str:
        """The name of its cursor, which its dead letters have too."""
        return f"{self.handler}{MARK}{self.id}"


class _Content(msgspec.Struct):
    version: int = VERSION
    next: int = 1
    replays: list[ReplayRecord] = []


class ReplayFile:
    """The file: read once, written whole, and on disk when a method returns.

    It is written when a replay starts or ends, a few milliseconds each time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.replays: dict[str, ReplayRecord] = {}
        self._next = 1

    def read(self) -> None:
        """What the file has. One that cannot be read is set aside, and the log says so: it holds up no server."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
            if content.version != VERSION:
                raise ValueError(f"its version is {content.version}, and {VERSION} can be read")
        except FileNotFoundError:
            return
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            aside = self._path.with_suffix(".unreadable")
            _log.error(
                "{path} cannot be read, and is set aside as {aside}: {error}; replays that had not ended are given up",
                path=str(self._path),
                aside=aside.name,
                error=str(error),
            )
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            return
        self._next = content.next
        self.replays = {record.id: record for record in content.replays}

    def new_id(self) -> str:
        """The number of the next replay, as text; it is used up when that is written."""
        found = str(self._next)
        self._next += 1
        return found

    def reopen(self, cursor: str, here: int, now: dt.datetime) -> ReplayRecord:
        """A replay that has ended goes on, at position `here`, for the parked events that it has again.

        `cursor` is its name. It is known again when that is written.
        """
        handler, _, id = cursor.rpartition(MARK)
        record = self.replays.get(id)
        if record is None or record.cursor != cursor:
            record = ReplayRecord(id=id, handler=handler, start=here, end=here, started=now, reopened=here)
            self.replays[id] = record
        if record.state != "running":
            record.reached, record.reopened = record.position(None), here
            record.state, record.ended, record.begun = "running", None, False
        return record

    def write(self) -> None:
        """The file as it should be. Raises `OSError`."""
        ended = [record.id for record in self.replays.values() if record.state != "running"]
        for id in ended[:-MAX_ENDED]:
            del self.replays[id]
        data = msgspec.json.encode(_Content(next=self._next, replays=list(self.replays.values())))
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
