"""Where a pile waits in the middle: what of it is written, and what a later process finds."""

from __future__ import annotations

from typing import Any

import pytest

from eventserver.delivery import RetryOptions
from eventserver.errors import PartialFailure, PermanentFailure
from eventserver.event import Batch
from eventserver.interfaces import Wants
from eventserver.options import Duration

from .fakejournal import FakeJournal
from .test_durable import full_at, restarted
from .world import Recorder, World


@pytest.fixture
def world() -> World:
    return World(journal=FakeJournal())


class Picky(Recorder):
    """Takes what is called `good` something, and names all the rest at once."""

    def handle(self, pile: list[Any]) -> None:
        given = (
            {
                part.id_of(0) if isinstance(part, Batch) else part.id: self.texts([part])[0]
                for item in pile
                for part in (item.part(n, n + 1) for n in range(len(item.frames)))
            }
            if isinstance(pile[0], Batch)
            else {event.id: event.message for event in pile}
        )
        self.done += [text for text in given.values() if text.startswith("good")]
        if errors := {id: PermanentFailure("no") for id, text in given.items() if not text.startswith("good")}:
            raise PartialFailure(errors)


def test_a_crash_never_finds_an_event_both_parked_and_before_the_cursor(world: World) -> None:
    """`a` is tried again, apart, while `b` of the same pile waits in place."""
    retry = RetryOptions(initial_interval=Duration(1), max_interval=Duration(1))
    bad: dict[str, Exception] = {"a": ValueError("no"), "b": PermanentFailure("never")}
    delivery = world.add(Recorder(bad=bad), retry=retry, dead_full=lambda size: True, start=False)
    world.put("a", "b")
    delivery.start()
    world.clock.advance(1)
    # The cursor has gone up to `b`, so `a` is parked.
    world.journal.write()
    assert delivery.position == 1
    for _ in range(3):
        world.clock.advance(1)
    world.journal.write()
    world = restarted(world)
    recorder = Recorder(bad={"a": ValueError("no")})
    delivery = world.add(recorder, retry=retry)
    world.clock.advance(1)
    assert delivery.counters.parked == len(world.journal.parked("h")) == 1
    recorder.bad = {}
    world.clock.advance(10)
    assert delivery.counters.parked == len(world.journal.parked("h")) == 0
    assert sorted(recorder.done) == ["a", "b"]
    world.check()


def test_what_is_parked_is_not_written_while_the_pile_is_called(world: World) -> None:
    """`b` was parked before; its turn comes while `c`, of the same pile as `d`, waits because the lot is full."""
    retry = RetryOptions(initial_interval=Duration(1), max_interval=Duration(1), max_parked=2)
    names = ("b", "c", "d")
    delivery = world.add(Recorder(bad={name: ValueError("no") for name in names}), retry=retry, start=False)
    world.put("b")
    world.put("c", "d")
    delivery.start()
    for _ in range(3):
        world.clock.advance(1)
        world.journal.write()
        parked = {one.event.message for one in world.journal.disk.waiting.values()}
        cursor = world.journal.disk.cursors["h"]
        before = {text for text, position in (("b", 0), ("c", 1), ("d", 2)) if position >= cursor}
        assert not parked & before, (parked, cursor)


@pytest.mark.parametrize("wants", ["events", "frames"])
def test_a_pile_whose_own_dead_letters_fill_the_room_goes_on_when_they_are_dropped(world: World, wants: Wants) -> None:
    recorder = Picky(wants=wants)
    delivery = world.add(recorder, dead_full=full_at(world, 5), start=False)
    world.put(*(f"bad {n}" for n in range(10)), "good 1", *(f"bad {n}" for n in range(10, 20)))
    world.put(*(f"bad {n}" for n in range(20, 30)), "good 2")
    delivery.start()
    dead: list[str] = []
    for _ in range(20):
        found = world.journal.dead()
        assert len(found) <= 5
        assert found or delivery.position == world.journal.head, delivery.position
        assert delivery.passed_since_start() == delivery.counters.passed
        dead += [one.event.message for _, one in found]
        world.journal.drop_dead([number for number, _ in found])
        delivery.room_for_dead()
        world.clock.advance(1)
    assert dead == [f"bad {n}" for n in range(30)]
    assert set(recorder.done) == {"good 1", "good 2"}
    assert (delivery.position, delivery.unwell) == (world.journal.head, None)
    assert delivery.counters.dead_lettered == 30
    world.check()


def test_several_events_of_one_frame_stay_together_before_the_cursor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is dead, the other waits for room: a later process gets the frame again, whole."""
    recorder = Picky()
    monkeypatch.setattr(world.decoding, "events", _in_halves(world.decoding.events))
    delivery = world.add(recorder, dead_full=full_at(world, 1), start=False)
    world.put("good", "bad/worse")
    delivery.start()
    world.journal.write()
    assert (delivery.position, world.journal.dead()) == (1, [])
    world = restarted(world)
    monkeypatch.setattr(world.decoding, "events", _in_halves(world.decoding.events))
    recorder = Picky()
    delivery = world.add(recorder)
    world.journal.write()
    assert [one.event.message for _, one in world.journal.dead()] == ["bad", "worse"]
    world.check()


def _in_halves(events_of: Any) -> Any:
    def events(entry: Any) -> list[Any]:
        found = []
        for event in events_of(entry):
            first, *rest = event.message.split("/")
            found.append(event.replace(message=first))
            found += [event.replace(id=f"{event.id}.{n}", message=text) for n, text in enumerate(rest, 1)]
        return found

    return events
