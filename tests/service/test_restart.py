"""Servers with a journal on disk, one after the other: what the first has read, the next one's handlers get."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from eventserver.errors import PermanentFailure, SettingsError
from eventserver.event import Event
from eventserver.journal.sqlite import SqliteJournal
from eventserver.service import EventServer
from eventserver.startup import start_up_lines

from .conftest import Site

LINES = {"lines": {"endpoints": ["tcp:0:interface=127.0.0.1"]}}


class Handler:
    """Notes messages; while `stuck` it does not return."""

    def __init__(self, stuck: bool = False) -> None:
        self.stuck = stuck
        self.events: list[Event] = []

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.events]

    def __call__(self, event: Event) -> Any:
        self.events.append(event)
        return Deferred() if self.stuck else None

    def got(self, count: int) -> Awaitable[None]:
        """Until so many have come, and the call is over."""
        return until(lambda: len(self.events) >= count)


async def until(true: Callable[[], bool]) -> None:
    """Until it is true, for a minute at most."""
    from twisted.internet import reactor

    for _ in range(6000):
        await deferLater(reactor, 0.01)
        if true():
            return
    raise AssertionError("it has not come true")


def settings(folder: Path, handler: Any, **keys: Any) -> dict[str, Any]:
    journal = {"path": str(folder / "journal"), **keys.pop("journal", {})}
    return {"journal": journal, "listener": LINES, "handler": {"h": {"call": handler, **keys.pop("h", {})}}, **keys}


@pytest_twisted.ensureDeferred
async def test_what_was_read_reaches_the_handler_of_the_next_server(site: Site, tmp_path: Path) -> None:
    stuck = Handler(stuck=True)
    first = await site.serve(settings(tmp_path, stuck, drain_timeout="50 ms"))
    client = await site.connect(first)
    client.transport.write(b"one\n")
    await stuck.got(1)
    client.transport.write(b"two\ntail")
    await until(lambda: first._parts is not None and first._parts.journal.head == 2)
    site.may_lose = True  # the call that was cut is in no sum
    await first.stop()
    handler = Handler()
    second = await site.serve(settings(tmp_path, handler))
    await handler.got(3)
    assert handler.messages == ["one", "two", "tail"]
    assert handler.events[0].id == stuck.events[0].id
    assert handler.events[2].context == {"truncated": True}
    assert second.status.unbalanced() == []
    await second.stop()
    third = await site.serve(settings(tmp_path, again := Handler()))
    assert third._parts is not None
    assert third._parts.found is not None
    assert third._parts.found.backlog == 0
    assert again.messages == []


@pytest_twisted.ensureDeferred
async def test_a_stop_waits_for_the_call_that_runs_but_not_for_the_backlog(site: Site, tmp_path: Path) -> None:
    calls: list[Deferred[None]] = []

    def on_event(event: Event) -> Deferred[None]:
        calls.append(Deferred())
        return calls[-1]

    first = await site.serve(settings(tmp_path, on_event, h={"batch": {"max_events": 1}, "concurrency": 1}))
    client = await site.connect(first)
    client.transport.write(b"one\n")
    await until(lambda: bool(calls))
    client.transport.write(b"two\n")
    await until(lambda: first._parts is not None and first._parts.journal.head == 2)
    stopped = first.stop()
    await deferLater(site.reactor, 0.1)
    assert not stopped.called
    calls[0].callback(None)
    await stopped
    assert len(calls) == 1
    handler = Handler()
    await site.serve(settings(tmp_path, handler))
    await handler.got(1)
    assert handler.messages == ["two"]


@pytest_twisted.ensureDeferred
async def test_what_there_is_no_room_for_is_not_lost_with_a_stop(site: Site, tmp_path: Path) -> None:
    """The journal is full, and every connection is in the middle of a line: that is committed all the same."""
    stuck = Handler(stuck=True)
    small = {"max_bytes": "1 MiB"}
    first = await site.serve(settings(tmp_path, stuck, drain_timeout="2 s", journal=small, h={"timeout": "1 h"}))
    parts = first._parts
    assert parts is not None
    counters = parts.listener_counters["lines"]
    clients = [await site.connect(first) for _ in range(20)]
    for client in clients:
        client.transport.write(b"y" * 60_000)
    await until(lambda: counters.bytes == 20 * 60_000)
    filling = await site.connect(first)
    filling.transport.write((b"x" * 999 + b"\n") * 2_000)
    await until(lambda: parts.intake.paused)
    site.may_lose = True
    await first.stop()
    assert sum(counters.rejected.values()) == 0
    assert counters.received == counters.journaled == parts.journal.head
    handler = Handler()
    await site.serve(settings(tmp_path, handler, journal=small))
    await handler.got(counters.journaled)
    assert len({event.id for event in handler.events}) == counters.journaled
    assert sum(event.message == "y" * 60_000 for event in handler.events) == 20


@pytest_twisted.ensureDeferred
async def test_a_full_journal_makes_senders_wait_or_loses_what_is_oldest(site: Site, tmp_path: Path) -> None:
    """As `when_full` says, and exactly as many as are counted."""
    gate: Deferred[None] = Deferred()
    seen: dict[str, list[str]] = {"losing": [], "waiting": []}

    def handler(name: str) -> Any:
        async def on_events(events: list[Event]) -> None:
            await gate
            seen[name] += [event.message for event in events]

        return on_events

    small = {"max_bytes": "1 MiB"}
    losing = {"call": handler("losing"), "when_full": "drop_oldest", "timeout": "1 h"}
    first = await site.serve(settings(tmp_path, None, journal=small) | {"handler": {"losing": losing}})
    parts = first._parts
    assert parts is not None
    client = await site.connect(first)
    client.transport.write(b"".join(b"%09d\n" % n + b"x" * 989 + b"\n" for n in range(3_000)))
    counters = parts.listener_counters["lines"]
    await until(lambda: counters.journaled == 6_000)
    handled = parts.deliveries["losing"]
    # Senders wait for the disk, not for the handler; what is too much expires once it is committed.
    await until(lambda: not parts.intake.paused and handled.counters.expired > 1_000)
    gate.callback(None)
    await until(lambda: handled.quiet)
    assert handled.counters.expired + handled.counters.passed == 6_000
    assert len(seen["losing"]) == handled.counters.delivered
    assert len(seen["losing"]) >= handled.counters.passed
    assert seen["losing"][-2:] == ["000002999", "x" * 989]


@pytest_twisted.ensureDeferred
async def test_dead_letters_and_parked_events_survive_a_stop(site: Site, tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if event.message == "never":
            raise PermanentFailure("no such luck")
        raise ValueError("not now")

    first = await site.serve(settings(tmp_path, fail, h={"retry": {"initial_interval": "200 ms"}}))
    client = await site.connect(first)
    client.transport.write(b"never\nlater\n")
    assert first._parts is not None
    counters = first._parts.deliveries["h"].counters
    await until(lambda: counters.dead_lettered + counters.parked == 2)
    await first.stop()
    handler = Handler()
    second = await site.serve(settings(tmp_path, handler))
    await handler.got(1)
    assert handler.messages == ["later"]
    assert second._parts is not None
    ((_, dead),) = second._parts.journal.dead("h")
    assert (dead.event.message, dead.frame, dead.decoder) == ("never", b"never", "text")
    assert "no such luck" in dead.traceback
    assert second._parts.found is not None
    assert second._parts.found.dead == 1
    counters = second._parts.deliveries["h"].counters
    assert counters.parked_at_start == 1
    lines = start_up_lines(second.settings, {}, second._parts.found)
    assert any(line.endswith("no frames wait for handlers, 1 dead letters") for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_time_to_read_from_is_met_to_the_batch(site: Site, tmp_path: Path) -> None:
    """The journal finds it only about; what lies between is gone over before anybody is listened to."""
    handler = Handler()
    first = await site.serve(settings(tmp_path, handler))
    client = await site.connect(first)
    for number in range(3):
        client.transport.write(b"%d\n" % number)
        await handler.got(number + 1)
    since = handler.events[1].received
    await first.stop()
    new = Handler()
    second = await site.serve(
        settings(tmp_path, handler, h={"read_from": since.isoformat()})
        | {"handler": {"new": {"call": new, "read_from": since.isoformat()}}}
    )
    await new.got(2)
    assert new.messages == ["1", "2"]
    assert second._parts is not None
    assert [cursor.name for cursor in second._parts.found.left] == ["h"]  # type: ignore[union-attr]  # on disk
    assert second.status.unbalanced() == []


@pytest_twisted.ensureDeferred
async def test_a_subscription_leaves_no_cursor_in_the_journal(site: Site, tmp_path: Path) -> None:
    first = await site.serve(settings(tmp_path, Handler()))
    async with first.subscribe() as subscription:
        client = await site.connect(first)
        client.transport.write(b"one\n")
        assert (await subscription.get(60)).message == "one"
        await first.stop()
    second = await site.serve(settings(tmp_path, Handler()))
    assert second._parts is not None
    assert [cursor.name for cursor in second._parts.journal.cursors()] == ["h"]


# Errors for people


@pytest_twisted.ensureDeferred
async def test_two_servers_cannot_have_one_journal(site: Site, tmp_path: Path) -> None:
    await site.serve(settings(tmp_path, Handler()))
    second = site.server(settings(tmp_path, Handler(), listener={"lines": {"endpoints": ["tcp:0"]}}))
    with pytest.raises(SettingsError) as caught:
        await second.start()
    (problem,) = caught.value.problems
    assert problem.startswith("journal.path: ")
    assert "another server" in problem


@pytest_twisted.ensureDeferred
async def test_a_journal_that_cannot_be_had_is_named_beside_everything_else(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "journal").symlink_to("file/below")
    given = settings(tmp_path, Handler())
    given["handler"]["other"] = {"type": "relay", "to": "tcp:127.0.0.1:1", "concurrency": 1}
    server = EventServer(given["journal"] and {**given, "handler": {"h": given["handler"]["h"]}}, site.reactor)
    with pytest.raises(SettingsError) as caught:
        await server.start()
    assert caught.value.problems[0].startswith("journal.path: ")
    assert "Traceback" not in caught.value.problems[0]


@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_start_lets_go_of_its_journal(site: Site, tmp_path: Path) -> None:
    from twisted.internet.protocol import Factory

    taken = site.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    given = settings(tmp_path, Handler())
    given["listener"] = {"lines": {"endpoints": [f"tcp:{taken.getHost().port}:interface=127.0.0.1"]}}
    server = site.server(given)
    with pytest.raises(SettingsError):
        await server.start()
    await taken.stopListening()
    journal = SqliteJournal(tmp_path / "journal", reactor=site.reactor, now=lambda: dt.datetime.now(dt.UTC))
    journal.open()
    await DeferredList([journal.close()])
