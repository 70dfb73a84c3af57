"""The journal with its real threads, on a running reactor."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from threading import Event
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from eventserver.event import size_of
from eventserver.journal.sqlite import SqliteJournal
from eventserver.testing.data import RECEIVED, make_batch
from eventserver.testing.journals import parked


def make(folder: Path, **settings: Any) -> SqliteJournal:
    journal = SqliteJournal(folder, reactor=reactor, now=lambda: dt.datetime.now(dt.UTC), **settings)
    journal.open()
    return journal


@pytest_twisted.ensureDeferred
async def test_what_is_committed_is_told_in_the_reactors_thread_and_read_back(tmp_path: Path) -> None:
    journal = make(tmp_path, max_bytes=64 << 20, window=1 << 20, segment_bytes=1 << 20)
    reader = journal.reader("h")
    committed: Deferred[None] = Deferred()

    def look() -> None:
        if journal.committed == 400 and not committed.called:
            committed.callback(None)

    journal.on_commit(look)
    for number in range(400):
        batch = make_batch(b"%d " % number + b"x" * 20_000)
        journal.append(batch, size_of(batch))
    assert journal.committed == 0
    await committed
    numbers: list[int] = []
    while len(numbers) < 400:
        found = reader.read(1 << 20)
        entries = found if isinstance(found, list) else await found
        numbers += [int(entry.batch.frames[0].split()[0]) for entry in entries]
        journal.commit_cursor("h", entries[-1].end)
    assert numbers == list(range(400))
    assert journal.size == 0
    await journal.flush()
    await journal.close()
    again = make(tmp_path)
    assert (again.reader("h").position, again.head) == (400, 400)
    await again.close()


@pytest_twisted.ensureDeferred
async def test_dead_letters_are_read_behind_what_the_writer_does_while_the_reactor_goes_on(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.reader("h")
    journal.commit_cursor("h", 0, [parked(f"B-{number}") for number in range(3)])
    await journal.flush()
    going_on, busy = Event(), Event()

    def long_work() -> None:
        busy.set()
        going_on.wait(30)

    journal._writer.submit(long_work, lambda outcome: None)
    reading, reviving = journal.read_dead(), journal.revive_dead([1], RECEIVED)
    await deferLater(reactor, 0)
    assert busy.wait(30)
    assert not reading.called
    assert not reviving.called
    going_on.set()
    assert [number for number, _ in await reading] == [1, 2, 3]
    assert [one.event.id for one in await reviving] == ["B-0"]
    assert [number for number, _ in await journal.read_dead()] == [2, 3]
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_closing_commits_what_was_appended(tmp_path: Path) -> None:
    journal = make(tmp_path)
    for number in range(100):
        batch = make_batch(b"%d" % number)
        journal.append(batch, size_of(batch))
        if not number % 10:
            await deferLater(reactor, 0)
    await journal.close()
    again = make(tmp_path)
    assert again.committed == 100
    await again.close()
