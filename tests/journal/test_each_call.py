"""Each call to the disk fails in turn, or the process dies before it: nothing that was promised is lost.

`EVENTSERVER_CALLS=1` tries all of them, instead of every 53rd.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventserver.journal._disk import DISK_ERRORS
from eventserver.journal._store import Store
from eventserver.testing.data import RECEIVED
from eventserver.testing.journals import parked

from .numbered import Calls, Killed, NumberedDisk, numbered_disk
from .world import World, frames_of

STEP = int(os.environ.get("EVENTSERVER_CALLS", "53"))


class Promises:
    """What a journal has said, and a handler `h` whose event of frame N fails, for good where N is even."""

    def __init__(self, folder: Path, disk: NumberedDisk) -> None:
        self.world = World(folder, disk=disk, segment_bytes=60_000, retention=0.0, max_bytes=64 << 20, ballast=0)
        self.disk = disk
        self.committed = 0
        self.passed = 0
        """What `flush` has said of the cursor."""
        self.dropped = 0
        self.journal: Any = None

    def open(self) -> None:
        """Where it cannot be it is tried again, as whoever starts servers does."""
        while self.journal is None:
            with contextlib.suppress(ValueError):
                self.journal = self.world.open()
        self.journal.reader("h", 0)
        self.wait(0.5)

    def work(self, count: int, size: int = 20_000) -> None:
        """Frames come, and fail."""
        for _ in range(count):
            position = self.world.append(self.journal, b"%d " % (self.journal.head + 1) + b"x" * 10_000)
            self.note()
            if self.journal.committed < position:
                self.wait(0.5)
            self.journal.remember("s", [(f"key-{position}", position)])
            for done in range(self.journal.reader("h").position + 1, self.journal.committed + 1):
                one = parked(f"B-{done}", None if done % 2 else RECEIVED)
                one = msgspec.structs.replace(one, frame=b"x" * (size if done % 2 else 100))
                self.journal.commit_cursor("h", done, [one])
                self.flush(done)
        self.wait(1.5)

    def flush(self, position: int) -> None:
        self.journal.flush().addCallbacks(lambda _: setattr(self, "passed", max(self.passed, position)), lambda _: None)
        self.note()

    def note(self) -> None:
        self.committed = max(self.committed, self.journal.committed)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.world.clock.advance(0.1)
            self.note()

    def crash(self) -> None:
        if self.journal is not None:
            self.note()
            self.world.crash(self.journal)
            self.journal = None
        for call in list(self.world.clock.getDelayedCalls()):
            call.cancel()
        self.disk.let_go()
        # What was being opened.
        gc.collect()

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()
            self.journal = None


def check(promises: Promises) -> None:
    """What a new server finds on a disk that works."""
    journal = promises.world.open()
    cursor = journal.reader("h").position
    assert cursor >= promises.passed
    assert journal.committed >= promises.committed
    assert journal.info()["lost"] == 0
    found = {one.event.id for one in journal.parked("h")} | {one.event.id for _, one in journal.dead("h")}
    missing = {f"B-{position}" for position in range(promises.dropped + 1, cursor + 1)} - found
    assert not missing, "what a cursor has passed was handled, or is kept as failed"
    frames = []
    while entries := journal.reader("h").read(1 << 20):
        frames += frames_of(entries if isinstance(entries, list) else entries.result)
    assert [int(frame.split()[0]) for frame in frames][: promises.committed - cursor] == list(
        range(cursor + 1, promises.committed + 1)
    )
    assert journal.info()["lost"] == 0
    assert journal.info()["dead_lost"] == 0
    promises.world.crash(journal)


def ordinary(promises: Promises) -> None:
    """A start, some work, a good end, and that again."""
    promises.open()
    promises.work(12)
    promises.close()
    promises.open()
    promises.work(4)


def mending(promises: Promises) -> None:
    """`meta.db` is written anew."""
    promises.open()
    promises.work(6)
    with contextlib.suppress(*DISK_ERRORS):
        promises.journal._store.meta.rewrite()
    promises.work(4, size=400_000)


SCRIPTS: dict[str, Callable[[Promises], None]] = {"ordinary": ordinary, "mending": mending}
FAULTS = [("kill", 1), ("eio", 1), ("enospc", 1), ("eio", 40), ("enospc", 40)]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("how", "count"), FAULTS)
def test_wherever_it_fails_nothing_promised_is_lost(tmp_path: Path, script: str, how: str, count: int) -> None:
    with numbered_disk() as (disk, calls):
        calls.fail(-1, "")
        run(tmp_path / "all", disk, calls, SCRIPTS[script])
        made, log = calls.made, [*calls.log]
        assert made > 300
        for at in range(sum(map(ord, how)) % STEP, made, STEP):
            calls.fail(at, how, count)
            try:
                run(tmp_path / "one", disk, calls, SCRIPTS[script])
            except BaseException as error:
                error.add_note(f"{how} {count} at call {at}: {log[at]}")
                raise


def test_it_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is forgotten, instead of being written with what comes next."""
    flush = Store.flush

    def forgetting(self: Store, changes: Any) -> None:
        try:
            flush(self, changes)
        finally:
            self._owed = {}

    monkeypatch.setattr(Store, "flush", forgetting)
    with numbered_disk() as (disk, calls):
        calls.fail(-1, "")
        run(tmp_path / "all", disk, calls, ordinary)
        begun = next(number for number, call in enumerate(calls.log) if call.startswith("write seg-"))
        at = next(number for number, call in enumerate(calls.log) if call == "write meta.db-wal" and number > begun)
        calls.fail(at, "enospc", 10)
        with pytest.raises(AssertionError, match="what a cursor has passed"):
            run(tmp_path / "one", disk, calls, ordinary)


def run(folder: Path, disk: NumberedDisk, calls: Calls, script: Callable[[Promises], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    promises = Promises(folder, disk)
    try:
        script(promises)
        if calls.how != "kill":
            calls.count = 0
            promises.wait(4)
            assert promises.journal.unwell is None, "it goes on by itself"
    except Killed:
        pass
    made, log = calls.made, [*calls.log]
    calls.clear()
    promises.crash()
    check(promises)
    calls.made, calls.log = made, log
