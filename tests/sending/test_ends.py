"""What must end a run, and never leave it waiting: mistakes of this program, links that fail while others start."""

from __future__ import annotations

import pytest

from eventserver.sending.formats import FORMATS
from eventserver.sending.parcels import Parcel
from eventserver.sending.relp import Relp
from eventserver.sending.sources import Made
from tests.sending.world import ORIGIN, World

OPENED = b"1 rsp 6 200 OK\n"


def relp() -> Relp:
    return Relp(100, "x")


def test_a_mistake_in_a_session_ends_the_run_with_a_sentence() -> None:
    class Broken(Relp):
        def send(self, parcel: Parcel) -> bytes:
            raise KeyError("oops")

    world = World(lambda: Broken(100, "x"))
    wire = world.start()
    wire.say(OPENED)
    assert world.over
    assert world.run.failure == "cannot go on: KeyError: 'oops'"
    assert world.statistics.lost == 10
    assert not world.clock.getDelayedCalls()
    world.run.pump()


def test_a_mistake_in_a_source_ends_the_run_too() -> None:
    class Broken(Made):
        def take(self, count: int, seconds: float) -> list[bytes]:
            raise RuntimeError("no more numbers")

    world = World(relp, source=Broken(FORMATS["text"], ORIGIN, 10))
    world.start().say(OPENED)
    assert world.over
    assert world.run.failure == "cannot go on: RuntimeError: no more numbers"


def test_a_link_that_cannot_start_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(relp, links=3)

    def start() -> None:
        raise UnicodeError("label too long")

    monkeypatch.setattr(world.links[1], "start", start)
    world.start()
    assert world.over
    assert world.run.failure == "cannot go on: UnicodeError: label too long"


def test_a_link_may_end_the_run_while_the_links_have_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(relp, links=3)
    pumped: list[int] = []
    for number, link in enumerate(world.links):

        def pump(number: int = number) -> None:
            pumped.append(number)
            world.run.fatal("nobody is there")

        monkeypatch.setattr(link, "pump", pump)
        monkeypatch.setattr(link, "start", lambda: None)
    world.start(up=False)
    assert world.over
    assert len(pumped) == 1
    assert world.run.failure == "nobody is there"
