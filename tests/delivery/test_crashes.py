"""Delivery over many crashes, at random: whatever was committed reaches every handler, and the sums hold each time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from eventserver.delivery import Delivery, RetryOptions
from eventserver.errors import PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.interfaces import Wants
from eventserver.options import Duration
from tests.journal.world import World as OnDisk

from .fakejournal import FakeJournal
from .world import Recorder, World

RETRY = RetryOptions(max_attempts=3, initial_interval=Duration(1), max_interval=Duration(4), max_parked=5)


#: Handlers: their names, what they want, and of which listeners.
HANDLERS: list[tuple[str, Wants, list[str] | None]] = [
    ("events", "events", None),
    ("frames", "frames", None),
    ("narrow", "events", ["m"]),
    ("narrow frames", "frames", ["m"]),
]


class Unsteady(Recorder):
    """Does what chance says: delivers, waits, fails in every way. `calm` makes it well for good."""

    def __init__(self, chance: random.Random, wants: Wants, got: set[str]) -> None:
        super().__init__(wants=wants)
        self.chance = chance
        self.got = got
        self.calm = False
        self.waiting: list[Deferred[None]] = []

    def handle(self, pile: list[Any]) -> Any:
        texts = self.texts(pile)
        how = "well" if self.calm else self.chance.choice(["well", "well", "later", "down", "never", "bad", "some"])
        if how == "later":
            deferred: Deferred[None] = Deferred()
            self.waiting.append(deferred)
            return deferred.addCallback(lambda _: self.got.update(texts))
        if how == "down":
            raise TemporaryFailure("down")
        if how == "never" and len(texts) == 1:
            raise PermanentFailure("never")
        if how == "bad":
            raise ValueError("bad")
        if how == "some" and self.wants == "events":
            self.got.update(texts[1:])
            raise PartialFailure({pile[0].id: ValueError("this one")})
        self.got.update(texts)
        return None

    def settle(self) -> None:
        """What waits is done, or fails."""
        waiting, self.waiting = self.waiting, []
        for deferred in waiting:
            if self.calm or self.chance.random() < 0.6:
                deferred.callback(None)
            else:
                deferred.errback(ConnectionError("gone"))


class Life:
    """One process after the other, with the same handlers and the same disk."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.got: dict[str, set[str]] = {name: set() for name, _, _ in HANDLERS}
        self.committed: set[str] = set()
        self.put: dict[int, str] = {}
        self.number = 0
        self.journal: Any = None
        self.begin()

    def begin(self) -> None:
        self.journal = FakeJournal(self.journal.crash() if self.journal is not None else None)
        self.journal.later = self.chance.random() < 0.5
        self.journal.hold = self.chance.random() < 0.5
        self.world = World(journal=self.journal)
        self.add_handlers()

    def add_handlers(self) -> None:
        self.world.batches = self.number
        self.handlers = []
        for name, wants, listeners in HANDLERS:
            handler = Unsteady(self.chance, wants, self.got[name])
            self.handlers.append(handler)
            options: dict[str, Any] = {"retry": RETRY, "dead_full": self.dead_full, "max_events": 7}
            self.world.add(handler, name=name, listeners=listeners, **options)
        self.journal.flush()

    def dead_full(self, size: int) -> bool:
        return self.journal.dead_bytes() + size >= 8_000

    def step(self) -> None:
        deeds = ["put", "put", "put", "commit", "fetch", "time", "settle", "write", "drop", "crash", "fail"]
        self.do(self.chance.choice(deeds))
        self.note()

    def do(self, what: str) -> None:
        chance = self.chance
        if what == "put":
            listener = chance.choice("lm")
            texts = [f"{listener}{self.number * 10 + n}" for n in range(chance.randint(1, 5))]
            self.number += 1
            position = self.world.put(*texts, listener=listener)
            assert position is not None
            self.put[position] = " ".join(texts)
        elif what == "commit":
            self.journal.commit()
        elif what == "fetch":
            self.journal.fetch()
        elif what == "fail":
            self.journal.fail(OSError("disk"))
        elif what == "time":
            self.world.clock.advance(chance.choice([0, 0.5, 5]))
        elif what == "settle":
            for handler in self.handlers:
                handler.settle()
        elif what == "write":
            self.journal.write()
        elif what == "drop":
            self.drop()
        elif chance.random() < 0.3:
            self.crash()

    def note(self) -> None:
        """What is committed now must reach every handler."""
        for position, texts in self.put.items():
            if position <= self.journal.committed:
                self.committed.update(texts.split())

    def drop(self) -> None:
        """An operator looks at dead letters, and drops them: they have been dealt with."""
        for number, dead in self.journal.dead():
            self.got[dead.handler].add((dead.frame or b"").decode())
            self.journal.kept.dead.pop(number)
        for delivery in self.world.deliveries:
            delivery.room_for_dead()

    def crash(self) -> None:
        for delivery in self.world.deliveries:
            delivery.stop()
        before = self.journal.committed
        self.begin()
        assert self.journal.committed == before
        self.put = {position: texts for position, texts in self.put.items() if position <= before}

    def calm_down(self) -> None:
        self.journal.hold = self.journal.later = False
        self.journal.commit()
        self.journal.fetch()

    def end(self) -> None:
        """Faults stop: everything is delivered within a minute, and the sums hold."""
        for handler in self.handlers:
            handler.calm = True
        self.calm_down()
        for _ in range(200):
            for handler in self.handlers:
                handler.settle()
            self.drop()
            self.world.clock.advance(1)
        for delivery in self.world.deliveries:
            assert delivery.lost() == 0, delivery.name
            assert delivery.unwell is None
        self.world.check()
        self.world.put("fresh", listener="m")
        self.world.clock.advance(0.01)
        for name, _, listeners in HANDLERS:
            wanted = {text for text in self.committed if listeners is None or text[0] in listeners}
            missing = wanted - self.got[name]
            assert not missing, (name, sorted(missing))
            assert "fresh" in self.got[name]
            assert listeners is None or not any(text.startswith("l") for text in self.got[name])


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_what_was_committed_reaches_every_handler_through_any_number_of_crashes(first: int) -> None:
    for seed in range(first, first + 50):
        life = Life(seed)
        for _ in range(120):
            life.step()
        try:
            life.end()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


class LifeOnDisk(Life):
    """The same with SQLite: little in memory, so that most is read back, and small segments that are freed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.disk = OnDisk(folder, max_bytes=1 << 20, window=3_000, segment_bytes=65_536)
        super().__init__(seed)

    def begin(self) -> None:
        self.journal = self.disk.open()
        self.world = World(journal=self.journal)
        self.world.clock = self.disk.clock
        self.add_handlers()
        self.held(self.chance.random() < 0.5)

    def held(self, held: bool) -> None:
        for executor in self.disk.executors.values():
            executor.held = held
            if not held:
                executor.run()

    def dead_full(self, size: int) -> bool:
        return bool(self.journal.dead_bytes() + size >= 8_000)

    def step(self) -> None:
        what = self.chance.choice(["put", "put", "disk", "disk", "hold", "time", "settle", "drop", "crash"])
        if what in ("put", "time", "settle", "drop"):
            self.do(what)
        elif what == "crash" and self.chance.random() < 0.3:
            self.crash()
        elif what == "hold":
            self.held(self.chance.random() < 0.5)
        else:
            self.disk.clock.advance(0.006)
            for executor in self.disk.executors.values():
                executor.run(2)
        self.note()

    def drop(self) -> None:
        numbers = []
        for number, dead in self.journal.dead():
            self.got[dead.handler].add((dead.frame or b"").decode())
            numbers.append(number)
        self.journal.drop_dead(numbers)
        for delivery in self.world.deliveries:
            delivery.room_for_dead()

    def crash(self) -> None:
        for delivery in self.world.deliveries:
            delivery.stop()
        self.disk.crash(self.journal)
        committed = self.journal.committed
        self.begin()
        assert self.journal.committed >= committed
        self.put = {position: texts for position, texts in self.put.items() if position <= self.journal.committed}

    def calm_down(self) -> None:
        self.held(False)
        self.disk.clock.advance(0.01)

    def end(self) -> None:
        super().end()
        for delivery in self.world.deliveries:
            delivery.stop()
        self.journal.close()


@pytest.mark.parametrize("seed", range(12))
def test_and_through_crashes_of_the_journal_on_disk(seed: int, tmp_path: Path) -> None:
    life = LifeOnDisk(seed, tmp_path)
    for _ in range(80):
        life.step()
    life.end()


def test_a_cursor_that_moves_too_early_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test before could not fail."""
    call = Delivery._call

    def early(self: Any, items: list[Any], count: int) -> bool:
        if self._pile is not None:
            self._journal.commit_cursor(self.name, self._pile.end)
            self._journal.write()
        return call(self, items, count)

    monkeypatch.setattr(Delivery, "_call", early)
    with pytest.raises(AssertionError):
        test_what_was_committed_reaches_every_handler_through_any_number_of_crashes(0)
