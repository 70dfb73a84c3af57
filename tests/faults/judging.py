"""What must be true of a journal after a power cut, whatever is left of its files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred

from eventserver.event import Batch, size_of
from eventserver.interfaces import Entry, IReader
from eventserver.journal._executor import InlineExecutor
from eventserver.journal.sqlite import SqliteJournal
from tests.faults.oracle import message
from tests.faults.simulation import READERS, Acked, Failed, FakeTime, Handled, check_entry, open_journal


def problems_after(folder: Path, marks: list[Any], *, cursors_may_be_gone: bool = False) -> tuple[list[str], float]:
    """What is wrong with a journal after a power cut, given what had been promised; and the processor's
    seconds to open it: by the clock it may be anything on a machine that others use.

    Cursors that are gone begin with the oldest frame.
    """
    wrong: list[str] = []
    at, executor = FakeTime(), InlineExecutor()
    began = time.thread_time()
    try:
        journal = open_journal(folder, at, executor)
    except Exception as error:
        return [f"does not open: {error!r}"], time.thread_time() - began
    seconds = time.thread_time() - began
    acked = max((mark.position for mark in marks if isinstance(mark, Acked)), default=0)
    if journal.committed < acked:
        wrong.append(f"acknowledged up to {acked}, and there is only {journal.committed}")
    if lost := journal.info().get("lost"):
        wrong.append(f"says that it lost {lost} frames")
    cursors = {cursor.name: cursor.position for cursor in journal.cursors()}
    # As a server does it, all of them are asked for before time passes: what nobody holds may be let go of then.
    for name in READERS if cursors_may_be_gone else cursors:
        journal.reader(name)
    for name in READERS:
        handled = max((m.position for m in marks if isinstance(m, Handled) and m.reader == name), default=0)
        if name not in cursors:
            if cursors_may_be_gone:
                wrong += _read_all(journal, at, name, journal.first)
            elif acked:
                wrong.append(f"{name} has no cursor")
            continue
        if cursors[name] > handled:
            wrong.append(f"{name} was done up to {handled}, and its cursor is at {cursors[name]}")
        wrong += _read_all(journal, at, name, cursors[name])
        wrong += _failed(journal, name, cursors[name], marks)
    wrong += _goes_on(journal, at)
    closed = journal.close()
    executor.run()
    if not closed.called:
        wrong.append("does not close")
    for path in folder.glob("*/*.db"):  # not those that were put apart
        if (said := _integrity(path)) != "ok":
            wrong.append(f"{path.name}: {said}")
    return wrong, seconds


def read_some(reader: IReader, at: FakeTime) -> list[Entry]:
    """What comes next, however often the disk has to be asked."""
    got = reader.read(1 << 20)
    if isinstance(got, Deferred):
        found: list[list[Entry]] = []
        got.addCallback(found.append)
        for _ in range(100):
            if found:
                break
            at.clock.advance(1)
        return found[0]
    return got


def _read_all(journal: SqliteJournal, at: FakeTime, name: str, position: int) -> list[str]:
    """Everything from a cursor to the head is there, frame for frame."""
    reader = journal.reader(name)
    reached = position
    while True:
        got = read_some(reader, at)
        if not got:
            break
        for entry in got:
            if entry.first > reached:
                return [f"{name}: nothing between {reached} and {entry.first}"]
            try:
                check_entry(entry)
            except AssertionError as error:
                return [f"{name}: {error}"]
            reached = entry.end
        journal.commit_cursor(name, reached)
    return [] if reached >= journal.committed else [f"{name}: nothing between {reached} and {journal.committed}"]


def _failed(journal: SqliteJournal, name: str, cursor: int, marks: list[Any]) -> list[str]:
    """Where the cursor has passed a parked event, that is there, unless it was settled."""
    parked = {one.event.id for one in journal.parked(name)}
    known = [mark for mark in marks if isinstance(mark, Failed) and mark.reader == name]
    settled = {mark.event for mark in known if mark.settled}
    missing = [m.event for m in known if not m.settled and m.position <= cursor and m.event not in settled | parked]
    return [f"{name}: {len(missing)} parked events are gone"] if missing else []


def _goes_on(journal: SqliteJournal, at: FakeTime) -> list[str]:
    """A fresh event is taken, and is there."""
    batch = Batch(
        id="9" * 26, listener="l", decoder="text", received=at.now(), peers=["p"], frames=[message(journal.head, 120)]
    )
    end = journal.append(batch, size_of(batch))
    at.clock.advance(1)
    return [] if journal.committed == end else ["a fresh event is not committed"]


def _integrity(path: Path) -> str:
    connection = apsw.Connection(str(path))
    try:
        return str(connection.pragma("integrity_check"))
    except apsw.Error as error:
        return repr(error)
    finally:
        connection.close()
