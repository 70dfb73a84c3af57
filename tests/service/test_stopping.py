"""The end of a server with a journal on disk, on a clock: what it waits for, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from eventserver import stopping
from eventserver.testing import Harness

from .test_durable import Server


def finishing(server: Server, timeout: float = 10) -> list[Any]:
    over: list[Any] = []
    deliveries = list(server.parts.deliveries.values())
    waits = Deferred.fromCoroutine(stopping.finish(server.parts, deliveries, timeout, server.clock))
    waits.addCallback(over.append)
    return over


def test_it_waits_for_the_commit_and_acknowledges_what_is_committed() -> None:
    server = Server()
    server.journal.hold = True
    server.listener.receive(b"a")
    over = finishing(server)
    server.clock.advance(1)
    assert (over, server.listener.acknowledged) == ([], [])
    server.journal.commit()
    assert server.listener.acknowledged == [0]
    server.clock.advance(0.1)
    assert over == [None]
    assert server.messages() == []  # a later process calls the handler


def test_what_is_delivered_by_the_call_that_runs_is_acknowledged() -> None:
    server = Server(listeners={"safe": {"ack": "delivered"}})
    server.waits = True
    server.listener.receive(b"a")
    server.listener.receive(b"b")
    over = finishing(server)
    assert over == []
    for call in server.calls:
        call.callback(None)
    assert over == [None]
    assert 0 in server.listener.acknowledged
    server.parts.intake.stop()
    assert {0, 1} == {*server.listener.acknowledged, *server.listener.refused}


def test_a_journal_that_stores_nothing_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.journal.hold = True
    server.listener.receive(b"a")
    server.journal.change(unwell="no space", accepting=False)
    server.listener.receive(b"b")
    over = finishing(server, timeout=3)
    for _ in range(29):
        server.clock.advance(0.1)
    assert over == []
    for _ in range(3):
        server.clock.advance(0.1)
    assert over == [None]
    server.parts.intake.stop()
    server.listener.give_up()
    assert server.listener.acknowledged == []
    assert server.parts.listener_counters["safe"].rejected == {"stopped": 1}


def test_a_journal_that_gets_well_in_time_gets_everything() -> None:
    server = Server()
    server.journal.change(unwell="no space", accepting=False)
    server.listener.receive(b"a")
    over = finishing(server)
    server.clock.advance(1)
    assert over == []
    server.journal.change()
    server.clock.advance(0.1)
    assert over == [None]
    assert server.listener.acknowledged == [0]


def test_a_call_that_does_not_end_is_left_behind() -> None:
    server = Server()
    server.waits = True
    server.listener.receive(b"a")
    over = finishing(server, timeout=2)
    server.clock.advance(1)
    assert over == []
    server.clock.advance(1.1)
    assert over == [None]
    assert server.parts.deliveries["h"].position == 0
    second = Server(server.kill())
    assert second.messages() == ["a"]
    second.check()


def test_closing_waits_for_the_journal_but_not_for_ever() -> None:
    class Journal:
        def close(self) -> Deferred[None]:
            return Deferred()

    clock = Clock()
    over: list[Any] = []
    Deferred.fromCoroutine(stopping.close(Journal(), clock)).addCallback(over.append)
    clock.advance(9)
    assert over == []
    clock.advance(2)
    assert over == [None]


def test_a_harness_never_touches_the_journal_of_the_settings(tmp_path: Any) -> None:
    folder = tmp_path / "journal"
    got: list[str] = []
    settings = {
        "journal": {"path": str(folder)},
        "listener": {"l": {"endpoints": ["tcp:0"]}},
        "handler": {"h": {"call": lambda event: got.append(event.message)}},
    }
    with Harness(settings) as harness:
        harness.send(b"a\n")
    assert got == ["a"]
    assert not folder.exists()
