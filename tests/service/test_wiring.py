"""How the parts of a server are put together: which handler comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from eventserver import building
from eventserver.decoders.text import TextDecoder
from eventserver.errors import SettingsError
from eventserver.event import Batch, Event
from eventserver.limits import MOST_READ
from eventserver.settings import from_mapping

FILE = {"type": "file"}
FUNCTION = {"call": "tests.service.test_wiring:handle"}

seen: list[str] = []


def handle(event: Event) -> None:
    seen.append(event.message)


@pytest.mark.parametrize("names", [("writes", "looks"), ("looks", "writes")])
def test_events_that_one_handler_takes_are_written_by_those_that_could_do_without(
    names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    real = TextDecoder.decode

    def counting(decoder: TextDecoder, batch: Batch) -> list[Event]:
        decoded.append(len(batch.frames))
        return real(decoder, batch)

    def refuse(decoder: TextDecoder, batch: Batch) -> bytes | None:
        raise AssertionError("the frames were read once more")

    monkeypatch.setattr(TextDecoder, "decode", counting)
    monkeypatch.setattr(TextDecoder, "json_lines", refuse)
    tables = {"writes": {**FILE, "path": str(tmp_path / "out")}, "looks": FUNCTION}
    reactor = MemoryReactorClock()
    settings = from_mapping(
        {
            "listener": {"l": {"endpoints": ["tcp:5140"], "decoder": "text"}},
            "handler": {name: tables[name] for name in names},
        }
    )
    parts = building.build(settings, reactor)
    for delivery in parts.deliveries.values():
        delivery.handler.start()
        delivery.start()
    [listener] = parts.listeners
    listener.startService()
    protocol = reactor.tcpServers[0][1].buildProtocol(None)
    protocol.makeConnection(StringTransport())
    seen.clear()
    protocol.dataReceived(b"one\ntwo\n")
    assert seen == ["one", "two"]
    assert [line.count('"message":') for line in (tmp_path / "out").read_text().splitlines()] == [1, 1]
    assert decoded == [2]
    parts.deliveries["writes"].handler.reopen()  # That closes it, here and now.


def test_what_is_wrong_with_a_handlers_cursor_is_said_like_all_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(journal: object, handler: object) -> None:
        raise ValueError("its cursor cannot be had")

    monkeypatch.setattr("eventserver.building.journaling.start_of", fail)
    settings = from_mapping({"handler": {"a": {"type": "null"}, "b": {"type": "null"}}})
    with pytest.raises(SettingsError) as raised:
        building.build(settings, MemoryReactorClock())
    assert raised.value.problems == [f"handler.{name}: its cursor cannot be had" for name in "ab"]


@pytest.mark.parametrize(
    ("memory", "max_lag", "asked", "given"),
    [
        ("64 MiB", "32 MiB", MOST_READ, 786432),
        ("8 MiB", "4 MiB", MOST_READ, 131072),
        ("64 KiB", "32 KiB", MOST_READ, 65536),
        ("64 MiB", "1 MiB", MOST_READ, 131072),
        ("64 MiB", "32 MiB", None, 65536),
    ],
)
def test_reads_are_as_large_as_is_asked_and_there_is_room_for(
    memory: str, max_lag: str, asked: int | None, given: int
) -> None:
    """In the journal, and before a handler is too far behind."""
    handlers = {"a": {"type": "null"}, "b": {"type": "null", "max_lag": max_lag}}
    settings = from_mapping({"memory": memory, "listener": {"l": {"endpoints": ["tcp:5140"]}}, "handler": handlers})
    more = {} if asked is None else {"most_read": asked}
    [listener] = building.build(settings, MemoryReactorClock(), **more).listeners
    assert listener.context.most_read == given
