"""A server with a journal on disk, put together without sockets: acknowledgements, cursors, decoders of old batches."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from eventserver import building, journaling, options
from eventserver.counters import HandlerCounters, ListenerCounters
from eventserver.decoders.function import FunctionDecoder
from eventserver.decoders.syslog import SyslogDecoder
from eventserver.delivery import DeliveryOptions
from eventserver.errors import SettingsError
from eventserver.event import Event
from eventserver.interfaces import Entry
from eventserver.registry import Registry
from eventserver.replies import Connections
from eventserver.settings import from_mapping
from eventserver.startup import start_up_lines
from eventserver.status import Status
from eventserver.testing import AckListener
from eventserver.testing.data import make_batch
from tests.delivery.fakejournal import Disk, FakeJournal
from tests.delivery.world import Recorder


class Server:
    """One process's worth of a server with the listener `safe`; `events` are what handlers got, by handler."""

    def __init__(
        self,
        journal: FakeJournal | None = None,
        *,
        handlers: dict[str, dict[str, Any]] | None = None,
        listeners: dict[str, dict[str, Any]] | None = None,
        start: bool = True,
        folder: str = "/nowhere/journal",
    ) -> None:
        registry = Registry.from_entry_points()
        registry.add("listeners", "ack", AckListener)
        self.journal = journal or FakeJournal()
        self.events: dict[str, list[Event]] = {}
        self.calls: list[Deferred[None]] = []
        self.waits = False
        tables = listeners or {"safe": {}}
        given = {"h": {}} if handlers is None else handlers
        self.settings = from_mapping(
            {
                "journal": {"path": folder},
                "listener": {
                    name: {"type": "ack", "endpoints": [f"unix:/nowhere/{name}"], **keys}
                    for name, keys in tables.items()
                },
                "handler": {name: {"call": self._function(name), **keys} for name, keys in given.items()},
            },
            registry=registry,
        )
        self.clock = Clock()
        self.parts = building.build(self.settings, self.clock, self.journal)
        self.listener: AckListener = self.parts.listeners[0]
        if start:
            self.begin()
            for delivery in self.parts.deliveries.values():
                delivery.start()

    def begin(self) -> None:
        """What the service does before it listens."""
        parts = self.parts
        settled = journaling.settle_cursors(self.journal, self.settings.handlers, parts.found)
        assert Deferred.fromCoroutine(settled).called

    def _function(self, name: str) -> Any:
        def on_event(event: Event) -> Any:
            self.events.setdefault(name, []).append(event)
            if self.waits:
                self.calls.append(Deferred())
                return self.calls[-1]
            return None

        return on_event

    def messages(self, name: str = "h") -> list[str]:
        return [event.message for event in self.events.get(name, [])]

    def kill(self) -> FakeJournal:
        """Nothing more happens here; the journal as the next process finds it."""
        for delivery in self.parts.deliveries.values():
            delivery.stop()
        return FakeJournal(self.journal.crash())

    def check(self) -> None:
        status = Status()
        status.parts = self.parts
        assert status.unbalanced() == []


# Acknowledgements


def test_durable_is_the_default_and_waits_for_the_group_commit() -> None:
    server = Server()
    server.journal.hold = True
    server.listener.receive(b"a")
    server.listener.receive(b"b")
    assert server.listener.acknowledged == []
    server.journal.commit()
    assert server.listener.acknowledged == [0, 1]
    assert server.messages() == ["a", "b"]
    server.check()


def test_durable_does_not_wait_for_handlers() -> None:
    server = Server()
    server.waits = True
    server.listener.receive(b"a")
    assert server.listener.acknowledged == [0]
    server.calls[0].callback(None)
    server.check()


def test_delivered_waits_for_commit_and_handler() -> None:
    server = Server(listeners={"safe": {"ack": "delivered"}})
    server.waits = server.journal.hold = True
    server.listener.receive(b"a")
    server.journal.commit()
    assert server.listener.acknowledged == []
    server.calls[0].callback(None)
    assert server.listener.acknowledged == [0]
    server.check()


def test_what_the_journal_cannot_store_is_not_acknowledged_until_it_can() -> None:
    server = Server()
    server.journal.change(unwell="no space left on device", accepting=False)
    server.listener.receive(b"a")
    assert server.listener.paused
    assert server.listener.acknowledged == []
    status = Status()
    status.parts, status.state = server.parts, "running"
    assert status.ready() == ["the journal is unwell: no space left on device"]
    gauges = {name: value for name, _, value in status.gauges()}
    assert (gauges["eventserver_journal_unwell"], gauges["eventserver_journal_accepting"]) == (1, 0)
    server.journal.change()
    assert not server.listener.paused
    assert server.listener.acknowledged == [0]
    assert status.ready() == []
    server.check()


def test_a_listener_is_given_the_journal() -> None:
    server = Server()
    assert server.listener.context.journal is server.journal
    assert server.listener.context.ack == "durable"


# Cursors


def acked(server: Server, *frames: bytes) -> None:
    for frame in frames:
        server.listener.receive(frame)


def test_what_was_acknowledged_reaches_the_handler_of_the_next_process() -> None:
    first = Server()
    first.waits = True
    first.journal.write()
    acked(first, b"a", b"b")
    assert first.listener.acknowledged == [0, 1]
    second = Server(first.kill())
    assert second.messages() == ["a", "b"]
    assert [e.id for e in second.events["h"]][:1] == [e.id for e in first.events["h"]]
    assert second.parts.found == journaling.Found(backlog=2)
    second.check()


@pytest.mark.parametrize(
    ("read_from", "expected"),
    [("beginning", ["a", "b"]), ("end", []), ("{second}", ["b"]), ("2999-01-01T00:00:00Z", [])],
)
def test_a_new_handler_begins_where_it_says(read_from: str, expected: list[str]) -> None:
    first = Server()
    acked(first, b"a", b"b")
    entries = first.journal.disk.entries
    times = [batch.received for _, batch, _ in entries]
    if times[0] == times[1]:
        pytest.skip("the clock stands still")
    read_from = read_from.format(second=times[1].isoformat())
    second = Server(first.kill(), handlers={"new": {"read_from": read_from}})
    assert second.messages("new") == expected
    assert second.parts.found is not None
    assert second.parts.found.backlog >= len(expected)
    assert second.parts.found.new == ("new",)
    acked(second, b"c")
    assert second.messages("new") == [*expected, "c"]
    second.check()


def test_where_a_new_handler_began_is_known_after_a_crash() -> None:
    """Its cursor is written before anybody is listened to: else `end` would be another one after a restart."""
    first = Server(start=False)
    first.begin()
    acked(first, b"a")
    second = Server(first.kill())
    assert second.messages() == ["a"]
    second.check()


def test_a_handler_that_the_journal_knows_goes_on_whatever_read_from_says() -> None:
    first = Server()
    acked(first, b"a")
    first.journal.write()
    second = Server(first.kill(), handlers={"h": {"read_from": "beginning"}})
    assert second.messages() == []
    second.check()


def test_frames_that_went_before_their_handler_came_back_are_counted_as_expired() -> None:
    first = Server()
    first.waits = True
    first.journal.write()
    acked(first, b"a", b"b")
    acked(first, b"c")
    journal = first.kill()
    journal.entries = [entry for entry in journal.entries if entry.batch.frames != (b"a",)][-1:]
    journal.first = journal.entries[0].first
    assert journal.first > 0
    second = Server(journal)
    assert second.messages() == ["c"]
    counters = second.parts.deliveries["h"].counters
    assert (counters.pending_at_start, counters.expired, counters.passed) == (3, 2, 1)
    second.check()


def test_cursors_of_removed_handlers_are_reported_at_start() -> None:
    first = Server(handlers={"old": {}, "kept": {}})
    acked(first, b"a")
    first.journal.reader("kept@replay-1", 0)
    first.journal.write()
    second = Server(first.kill(), handlers={"kept": {}})
    assert second.parts.found is not None
    assert [cursor.name for cursor in second.parts.found.left] == ["old"]
    lines = start_up_lines(second.settings, {}, second.parts.found)
    assert any(line.startswith("frames are kept in the journal /nowhere/journal, at most 2 GiB") for line in lines)
    assert any("for handler old, which is not in the settings" in line for line in lines)
    second.check()


def test_a_full_journal_names_the_cursor_that_no_handler_has() -> None:
    first = Server(handlers={"old": {}})
    first.waits = True
    first.journal.write()
    acked(first, b"a")
    second = Server(first.kill(), handlers={"new": {}})
    second.parts.intake.paused = True
    status = Status()
    status.parts, status.state = second.parts, "running"
    (reason,) = status.ready()
    assert reason == (
        "the journal is full: listeners are paused; it keeps what is before the cursors of old, which no handler has"
    )


def test_a_handler_that_listeners_wait_for_is_named() -> None:
    server = Server(handlers={"slow": {"max_lag": "2 KiB"}, "quick": {}})
    server.waits = True
    status = Status()
    status.parts, status.state = server.parts, "running"
    for _ in range(5):
        acked(server, b"a" * 500)
    assert server.parts.intake.paused
    assert status.ready() == ["behind by `max_lag`: handler slow: listeners are paused"]


@pytest.mark.parametrize(("max_bytes", "warned"), [("1 MiB", False), ("1000000 GiB", True)])
def test_a_disk_that_is_smaller_than_the_journal_is_said(max_bytes: str, warned: bool, tmp_path: Path) -> None:
    lines: list[str | None] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    given = from_mapping({"journal": {"path": str(tmp_path / "journal"), "max_bytes": max_bytes}})
    globalLogPublisher.addObserver(observe)
    try:
        journal = journaling.open_journal(given, Clock(), lambda: dt.datetime.now(dt.UTC), lambda parked: None)
    finally:
        globalLogPublisher.removeObserver(observe)
    journal._store.close({})
    journal._unlock()
    assert any("its disk has room for" in (line or "") for line in lines) == warned


def test_the_start_up_line_tells_of_the_backlog() -> None:
    first = Server()
    first.waits = True
    first.journal.write()
    acked(first, b"a")
    second = Server(first.kill(), start=False)
    lines = start_up_lines(second.settings, {}, second.parts.found)
    assert any(line.endswith("1 frames wait for handlers") for line in lines)


def test_a_subscription_leaves_no_cursor_behind() -> None:
    first = Server()
    first.parts.add_delivery("subscription-1", Recorder(), DeliveryOptions(), HandlerCounters(), passing=True).start()
    acked(first, b"a")
    first.journal.write()
    assert [cursor.name for cursor in first.kill().cursors()] == ["h"]


# Decoders


def test_old_batches_are_decoded_by_the_settings_of_then() -> None:
    listeners = {"safe": {"decoder": "syslog", "time_zone": "Asia/Tokyo"}}
    first = Server(listeners=listeners)
    first.journal.write()
    first.waits = True
    acked(first, b"<13>Nov 22 12:00:00 host app: one", b"<13>Nov 22 12:00:00 host app: two")
    second = Server(first.kill(), listeners={"safe": {"decoder": "json"}})
    event, _ = second.events["h"]
    assert (event.type, event.message) == ("syslog", "one")
    assert event.time.astimezone(dt.UTC).hour == 3
    acked(second, b'{"message": "new"}')
    assert second.messages()[-1] == "new"
    assert second.events["h"][-1].type == "json"
    second.journal.write()
    # And again, when the listener itself is gone.
    third = Server(second.kill(), listeners={"other": {}}, handlers={"late": {"read_from": "beginning"}})
    assert [event.type for event in third.events["late"]] == ["syslog", "syslog", "json"]
    third.check()
    second.check()


def test_todays_settings_of_a_decoder_are_for_old_batches_too() -> None:
    first = Server(listeners={"safe": {"decoder": "syslog", "time_zone": "UTC"}})
    first.journal.write()
    first.waits = True
    acked(first, b"<13>Nov 22 12:00:00 host app: one")
    second = Server(first.kill(), listeners={"safe": {"decoder": "syslog", "time_zone": "Asia/Tokyo"}})
    assert second.events["h"][0].time.hour == 3
    second.check()


def test_what_no_decoder_is_known_for_is_undecodable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vanishing_1.py").write_text("def decode(frame):\n    return {'message': 'read'}\n")
    first = Server(listeners={"safe": {"decoder": "vanishing_1:decode"}})
    first.journal.write()
    first.waits = True
    acked(first, b"a")
    assert first.messages() == ["read"]
    second = Server(first.kill(), listeners={"other": {}})
    assert second.messages() == ["read"]
    found = second.kill()
    (tmp_path / "vanishing_1.py").unlink()
    monkeypatch.delitem(__import__("sys").modules, "vanishing_1")
    found.kept.cursors.clear()
    third = Server(found, listeners={"other": {}}, handlers={"h": {"read_from": "beginning"}})
    (event,) = third.events["h"]
    assert (event.type, event.fields, event.raw) == ("undecodable", {"error": "no_decoder"}, "a")
    third.check()


def test_options_of_a_decoder_come_back_as_they_were() -> None:
    server = Server(listeners={"safe": {"decoder": "syslog", "time_zone": "Asia/Tokyo"}})
    (kept,) = [one for one in server.journal.kept_decoders() if one.listener == "safe"]
    there = server.settings.listeners["safe"].decoder.options
    other = Server(FakeJournal(Disk(decoders=[kept])), listeners={"x": {}})
    decoders = journaling.former_decoders(other.journal, other.settings)
    assert list(decoders) == [("safe", "syslog")]
    assert isinstance(decoders["safe", "syslog"], SyslogDecoder)
    assert options.parse(type(there), msgspec.json.decode(kept.options)) == (there, [])  # type: ignore[arg-type]


def test_a_raw_handler_gets_raw_bytes_of_listeners_that_are_gone() -> None:
    first = Server()
    first.journal.write()
    first.waits = True
    acked(first, b"a")
    second = Server(first.kill(), listeners={"other": {}}, handlers={"h": {"raw": True}})
    assert second.events["h"][0].raw == "a"
    second.check()


# Replies, and errors


def test_a_connection_of_a_former_process_is_nobody_now() -> None:
    class Writer:
        def __init__(self) -> None:
            self.got: list[bytes] = []
            self.counters = ListenerCounters()

        def reply(self, payload: bytes) -> None:
            self.got.append(payload)

    writer, counters = Writer(), {"test": ListenerCounters()}
    connections = Connections(counters, since=5)
    number = connections.add(writer)  # type: ignore[arg-type]
    batch = make_batch(b"a", listener="test")
    batch = msgspec.structs.replace(batch, connection=number)
    connections.reply(Entry(5, batch, 1), batch.id_of(0), b"for someone else")
    assert (writer.got, counters["test"].replies) == ([], {"gone": 1})
    connections.reply(Entry(6, batch, 1), batch.id_of(0), b"yours")
    assert writer.got == [b"yours"]


def test_an_error_lets_go_of_the_journal_again() -> None:
    class Broken(Recorder):
        class Options(options.Options):
            pass

        def __init__(self, options: Any, context: Any) -> None:
            raise ValueError("it cannot be")

    registry = Registry.from_entry_points()
    registry.add("handlers", "broken", Broken)
    journal = FakeJournal()
    settings = from_mapping(
        {"listener": {"l": {"endpoints": ["tcp:0"]}}, "handler": {"h": {"type": "broken"}}}, registry=registry
    )
    with pytest.raises(SettingsError, match=r"handler\.h: it cannot be"):
        building.build(settings, Clock(), journal)
    assert journal.closed


def test_a_plain_function_as_decoder_is_kept_without_options() -> None:
    server = Server(listeners={"safe": {"decoder": lambda frame: {"message": "x"}}})
    assert isinstance(server.settings.listeners["safe"].make_decoder(), FunctionDecoder)
    assert [one.options for one in server.journal.kept_decoders()] == [b"{}"]
