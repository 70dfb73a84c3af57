"""Events that are made for an encoder and nothing else: what becomes of them when something fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventserver.decoders import _json_shapes
from eventserver.errors import PermanentFailure, TemporaryFailure
from eventserver.testing import Harness

LINES = b"".join(b'{"message":"m%d","n":%d,"inner":{"x":[1]}}\n' % (n, n) for n in range(10))
#: After these there is a shape for objects in objects.
BEFORE = b'{"message":"m","n":1,"inner":{"x":[1]}}\n' * 10
WANTED = [{"n": n, "inner": {"x": [1]}, "site": "hq"} for n in range(5, 10)]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr(_json_shapes, "_OFTEN", 1)
    monkeypatch.setattr(_json_shapes, "_VERY_OFTEN", 0)
    file = {"type": "file", "path": str(tmp_path / "out"), "match": "n >= 5", "steps": [{"set": {"site": "hq"}}]}
    listener = {"endpoints": ["tcp:0"], "decoder": "json"}
    return Harness({"listener": {"l": listener}, "handler": {"f": file}})


def handler_of(harness: Harness) -> Any:
    return harness.parts.deliveries["f"].handler


def written(tmp_path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (tmp_path / "out").read_bytes().splitlines()]


def test_they_are_written_as_any_event(harness: Harness, tmp_path: Path) -> None:
    seen: list[Any] = []
    handle = handler_of(harness).handle
    handler_of(harness).handle = lambda pile: (seen.extend(pile), handle(pile))[1]
    with harness:
        harness.send(BEFORE)
        harness.send(LINES)
    assert [type(event.fields) for event in seen] != [dict] * 5, "there is a shorter way, and it was taken"
    assert [event["fields"] for event in written(tmp_path)] == WANTED
    assert [event["message"] for event in written(tmp_path)] == [f"m{n}" for n in range(5, 10)]
    assert harness.counters().filtered == 15


def test_a_pile_that_has_to_be_tried_again_is_the_same(harness: Harness, tmp_path: Path) -> None:
    handle, failures = handler_of(harness).handle, [TemporaryFailure("full")]

    def fails_once(pile: list[Any]) -> Any:
        if failures:
            raise failures.pop()
        return handle(pile)

    handler_of(harness).handle = fails_once
    with harness:
        harness.send(BEFORE)
        harness.send(LINES)
        assert written(tmp_path) == []
        harness.advance(60)
    assert [event["fields"] for event in written(tmp_path)] == WANTED


def test_a_dead_letter_has_fields_that_anybody_can_read(harness: Harness) -> None:
    def fails(pile: list[Any]) -> None:
        raise PermanentFailure("never")

    handler_of(harness).handle = fails
    with harness:
        harness.send(BEFORE)
        harness.send(LINES)
        assert [one.event.fields for one in harness.dead_letters] == WANTED


def test_a_handler_that_looks_at_events_gets_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json_shapes, "_OFTEN", 1)
    monkeypatch.setattr(_json_shapes, "_VERY_OFTEN", 0)
    file = {"type": "file", "path": str(tmp_path / "{n}"), "match": "n >= 5", "steps": [{"set": {"site": "hq"}}]}
    listener = {"endpoints": ["tcp:0"], "decoder": "json"}
    seen: list[Any] = []
    with Harness({"listener": {"l": listener}, "handler": {"f": file}}) as harness:
        handler_of(harness).handle = seen.extend
        harness.send(BEFORE)
        harness.send(LINES)
    assert [event.fields for event in seen] == WANTED
