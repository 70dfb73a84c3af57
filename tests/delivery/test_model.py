"""One or two handlers' loops under random misfortune: whatever happens, nothing is lost and everything adds up.

A seed draws handlers, limits, traffic and failures; then the handlers become well, time passes, and every frame has to
be delivered, dead or expired. A failure names its seed, which repeats it.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.delivery import Delivery, RetryOptions
from eventserver.errors import NotAttempted, PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.event import Batch
from eventserver.interfaces import IHandler, Wants
from eventserver.options import Duration, Size

from .world import Recorder, World

SEEDS = 400


@implementer(IHandler)
class Moody:
    """Fails, waits, hangs and recovers as the dice fall; `done` has what it took."""

    wants_raw = False

    def __init__(self, world: World, dice: random.Random, wants: Wants) -> None:
        self.wants = wants
        self.well = self.down = False
        self.done: set[str] = set()
        self._world = world
        self._dice = dice
        self._fails, self._partly = dice.choice([0.05, 0.3, 0.6]), dice.choice([0, 0.2, 0.4])
        self._waits, self._hangs = dice.choice([0, 0.3, 0.9]), dice.choice([0, 0.2])
        self._skips, self._strangers = dice.choice([0, 0.3]), dice.choice([0, 0.1])

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def handle(self, pile: list[Any]) -> Deferred[None] | None:
        texts = Recorder.texts(pile)
        error = None if self.well else self._misfortune(_ids(pile), texts)
        if not self.well and self._dice.random() < self._waits:
            return self._later(error, texts)
        if error is not None:
            raise error
        self.done.update(texts)
        return None

    def _misfortune(self, ids: list[str], texts: list[str]) -> Exception | None:
        roll = self._dice.random()
        if self.down:
            return ValueError("down")
        if roll < self._fails:
            return self._error()
        if roll > self._fails + self._partly:
            return None
        share = self._dice.choice([0.2, 1])
        errors: dict[str, BaseException] = {
            event_id: NotAttempted() if self._dice.random() < self._skips else self._error()
            for event_id in ids
            if self._dice.random() < share
        }
        if self._dice.random() < self._strangers:
            return PartialFailure({**errors, "nobody-0": ValueError()})
        self.done.update(text for event_id, text in zip(ids, texts, strict=True) if event_id not in errors)
        return PartialFailure(errors) if errors else None

    def _error(self) -> Exception:
        after = self._dice.choice([None, None, 3.0])
        return self._dice.choice([TemporaryFailure("later", after), PermanentFailure("no"), *[ValueError("bad")] * 6])

    def _later(self, error: Exception | None, texts: list[str]) -> Deferred[None]:
        result: Deferred[None] = Deferred()
        if self._dice.random() < self._hangs:
            if self._dice.random() < 0.5:
                result.addErrback(self._end_late)
            return result

        def fire() -> None:
            if result.called:
                return
            if error is None:
                self.done.update(texts)
                result.callback(None)
            else:
                result.errback(error)

        self._world.clock.callLater(self._dice.choice([0, 0.01, 0.5, 2]), fire)
        return result

    def _end_late(self, failure: Failure) -> Deferred[None]:
        """A call that does not end for a while although it was cancelled."""
        late: Deferred[None] = Deferred()
        self._world.clock.callLater(4, late.errback, failure)
        return late


def _ids(pile: list[Any]) -> list[str]:
    if isinstance(pile[0], Batch):
        return [batch.id_of(index) for batch in pile for index in range(len(batch.frames))]
    return [event.id for event in pile]


class Listener:
    paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Run:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.world = World(max_bytes=dice.choice([6_000, 20_000, 1 << 20]))
        self.listener = Listener()
        self.world.intake.add_listener(self.listener)  # type: ignore[arg-type]  # what the intake calls is there
        self.lines: list[str] = []
        self.lines_of: dict[str, set[str]] = {"l": set(), "m": set()}
        self.expired: dict[str, set[str]] = {}
        self.wants: dict[str, list[str]] = {}
        self.handlers = [self.handler(f"h{number}") for number in range(dice.choice([1, 1, 2]))]

    def handler(self, name: str) -> tuple[Moody, Delivery]:
        dice = self.dice
        moody = Moody(self.world, dice, dice.choice(["events", "frames"]))
        listeners = self.wants[name] = dice.choice([["l", "m"], ["l", "m"], ["l"], ["m"]])
        retry = RetryOptions(
            max_attempts=dice.choice([2, 4, 8]),
            initial_interval=Duration(1),
            max_interval=Duration(8),
            max_parked=dice.choice([1, 5, 1000]),
        )
        delivery = self.world.add(
            moody,
            name=name,
            max_events=dice.choice([1, 3, 64, 1000]),
            max_bytes=Size(dice.choice([1, 40, 1 << 20])),
            concurrency=dice.choice([1, 3]),
            ordered=dice.random() < 0.25,
            timeout=Duration(5),
            when_full=dice.choice(["block", "drop_oldest"]),
            max_lag=Size(dice.choice([2_500, 1 << 20])),
            retry=retry,
            listeners=None if len(listeners) == 2 else listeners,
        )
        gone = self.expired[name] = set()
        tell = delivery._expired

        def expired(name: str, start: int, end: int) -> None:
            gone.update(self.lines[start:end])
            tell(name, start, end)

        delivery._expired = expired
        return moody, delivery

    def live(self) -> None:
        """Traffic and time, while handlers go up and down."""
        for _ in range(self.dice.choice([10, 40])):
            for moody, delivery in self.handlers:
                moody.down ^= self.dice.random() < 0.1
                if self.dice.random() < 0.1:
                    delivery.hurry()
            if self.dice.random() < 0.7 and not self.listener.paused:
                self.put()
            else:
                self.world.clock.advance(self.dice.choice([0.001, 0.01, 0.3, 1, 1, 3, 7]))

    def put(self) -> None:
        count = self.dice.choice([1, 2, 7, 120])
        lines = [f"m{len(self.lines) + number}" for number in range(count)]
        peers = [self.dice.choice("abc") for _ in lines] if self.dice.random() < 0.1 else [self.dice.choice("ab")]
        before = len(self.lines)
        listener = self.dice.choice("lm")
        self.lines += lines
        position = self.world.put(*lines, peers=peers, listener=listener)
        if position is None:
            del self.lines[before:]
            return
        self.lines_of[listener].update(lines)

        def done(failure: Failure | None) -> None:
            assert failure is not None or all(delivery.position >= position for _, delivery in self.handlers)

        self.world.intake.watch("delivered", position, done)

    def recover(self) -> None:
        for moody, _ in self.handlers:
            moody.well = True
        for _ in range(400):
            self.world.clock.advance(0.5)

    def check(self) -> None:
        for moody, delivery in self.handlers:
            letters = self.world.journal.parked(delivery.name)
            dead = {letter.event.message for letter in letters}
            assert all(letter.next_attempt is None for letter in letters)
            wanted = set().union(*(self.lines_of[listener] for listener in self.wants[delivery.name]))
            assert moody.done | dead <= wanted
            assert wanted <= moody.done | dead | self.expired[delivery.name]
            assert delivery.position == len(self.lines)
            assert delivery.unwell is None
        self.world.check()
        assert not self.listener.paused
        assert not self.world.intake._watches
        assert not self.world.clock.getDelayedCalls()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_and_everything_adds_up(seed: int) -> None:
    run = Run(seed)
    run.live()
    run.recover()
    run.check()
