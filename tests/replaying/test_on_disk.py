"""Replay from the journal on disk, through segments and kills; without threads, with time in the test's hands."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventserver.counters import HandlerCounters
from eventserver.delivery import Decoding, Delivery, DeliveryOptions
from eventserver.intake import Intake
from eventserver.journal.sqlite import SqliteJournal
from eventserver.replaying import Replays
from tests.journal.world import World as Disk
from tests.replaying.history import Keeper, Upper, ask, result_on


class Life:
    """One life of a server on a journal on disk."""

    def __init__(self, disk: Disk, **settings: Any) -> None:
        self.disk = disk
        self.clock = disk.clock
        self.journal: SqliteJournal = disk.open(window=64 << 10, segment_bytes=64 << 10, **settings)
        self.intake = Intake(self.journal)
        decoder: Any = Upper()
        self.decoding = Decoding(lambda batch: decoder)
        self.handler = Keeper()
        self.replays = Replays(
            self.journal,
            path=disk.folder / "0" / "replays.json",
            decoding=self.decoding,
            intake=self.intake,
            reactor=self.clock,
            now=disk.now,
            random=lambda: 0.0,
        )
        options = DeliveryOptions()
        self.live = Delivery(
            "h",
            self.handler,
            journal=self.journal,
            decoding=self.decoding,
            settings=options,
            counters=HandlerCounters(),
            reactor=self.clock,
            now=disk.now,
            random=lambda: 0.0,
            moved=self.intake.moved,
            expired=self.intake.expired,
            listeners=("mine",),
        )
        self.intake.add_consumer(self.live)
        self.replays.add_handler("h", self.live, options, ("mine",))
        self.live.start()
        self.replays.start()

    def put(self, *lines: str, listener: str = "mine") -> None:
        batch = self.disk.batch(*(line.encode() for line in lines), listener=listener, decoder="text")
        assert self.intake.put(batch) is not None
        self.run(0.01)

    def fill(self, number: int) -> list[str]:
        """So many batches of a few KiB, every third of another listener; returns what is for the handler."""
        mine = []
        for n in range(number):
            lines = [f"{n}.{i} {'x' * 300}" for i in range(10)]
            listener = "other" if n % 3 == 2 else "mine"
            mine += lines if listener == "mine" else []
            self.put(*lines, listener=listener)
            self.run(0.99)
        return mine

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)

    def begin(self, **named: Any) -> Any:
        return result_on(self.clock, self.replays.begin(ask(**named)))

    def replayed(self) -> list[str]:
        return [event.message for event in self.handler.items if event.context]

    def crash(self) -> None:
        """The process is gone: none of its objects may do anything any more."""
        self.replays._file.write = lambda: None  # type: ignore[method-assign]
        for delivery in [self.live, *(running.delivery for running in self.replays._running.values())]:
            delivery.stop()
        self.disk.crash(self.journal)

    def close(self) -> None:
        self.replays.stop()
        self.live.stop()
        self.journal.close()
        self.clock.advance(1)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "journal")


@pytest.fixture
def life(disk: Disk) -> Iterator[Life]:
    made = Life(disk)
    yield made
    made.close()


def test_history_that_is_on_disk_only_comes_whole_and_in_order(life: Life) -> None:
    mine = life.fill(60)
    assert len(life.journal.segments()) > 2
    record = life.begin()
    life.run(5)
    assert life.replayed() == mine
    assert (record.state, record.delivered) == ("done", len(mine))
    assert [cursor.name for cursor in life.journal.cursors()] == ["h"]


def test_it_ends_though_the_last_of_its_history_is_not_for_its_handler(life: Life) -> None:
    """Its cursor does not come to the end by itself: what follows is behind it."""
    mine = life.fill(60)
    record = life.begin(to=300)
    life.run(5)
    assert (record.state, record.delivered) == ("done", 200)
    assert life.replayed() == mine[:200]


def test_times_are_exact_though_the_journal_finds_them_only_about(life: Life) -> None:
    life.fill(30)
    now = life.disk.now()
    since, to = now - dt.timedelta(seconds=20.5), now - dt.timedelta(seconds=10.5)
    record = life.begin(since=since.isoformat(), to=to.isoformat())
    life.run(5)
    batches = [event.message.partition(".")[0] for event in life.handler.items if event.context]
    assert list(dict.fromkeys(batches)) == [str(n) for n in range(10, 20) if n % 3 != 2]
    assert (record.end - record.start) == 100
    received = [event.received for event in life.handler.items if event.context]
    assert since <= min(received)
    assert max(received) < to


def test_a_kill_in_the_middle_brings_some_again_and_loses_none(disk: Disk) -> None:
    chance = random.Random(5)
    life = Life(disk)
    mine = life.fill(30)
    life.begin(rate=40)
    lives, seen = 1, []
    while True:
        life.run(chance.uniform(0.1, 2.0))
        seen += life.replayed()
        life.handler.items.clear()
        if life.replays.get("1").state == "done" or lives == 40:
            break
        life.crash()
        life = Life(disk)
        lives += 1
    assert lives > 3
    assert list(dict.fromkeys(seen)) == mine, "every event came, for the first time in order"
    assert len(seen) < 3 * len(mine)
    life.close()


def test_a_replay_holds_its_history_only_as_long_as_there_is_room(disk: Disk) -> None:
    life = Life(disk, max_bytes=1 << 20, retention=3600.0)
    life.fill(60)
    record = life.begin(rate=1)
    for _ in range(4):
        life.fill(120)
    assert not life.intake.paused, "nobody is kept waiting for a replay"
    assert life.live.counters.expired == 0
    life.replays.all()
    assert record.expired or record.state == "done"
    life.close()
