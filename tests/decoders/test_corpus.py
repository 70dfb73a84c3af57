"""The corpus: real lines of every format, with the events that they have to become. See tests/corpus/README.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventserver.event import Event
from eventserver.interfaces import IJsonLines
from eventserver.registry import Registry
from eventserver.testing.decoders import check_json_lines
from tests.corpus import FOLDER, Case, cases, line_of


def in_order(lines: list[dict[str, Any]]) -> list[str]:
    """Comparable lines: whatever the order of the keys, but 1 is not 1.0."""
    return [json.dumps(line, sort_keys=True, ensure_ascii=False) for line in lines]


def lines_of(events: list[Event]) -> list[str]:
    return in_order([line_of(event) for event in events])


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_lines_become_the_events_beside_them(case: Case) -> None:
    """Decoded in one batch."""
    assert lines_of(case.make_decoder().decode(case.batch())) == in_order(case.expected())


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_each_line_becomes_the_same_by_itself(case: Case) -> None:
    """No line has a say in the events of another."""
    decoder, batch = case.make_decoder(), case.batch()
    events = [event for n in range(len(batch.frames)) for event in decoder.decode(batch.part(n, n + 1))]
    assert lines_of(events) == in_order(case.expected())


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_decoders_that_write_json_themselves_write_the_same(case: Case) -> None:
    decoder = case.make_decoder()
    if IJsonLines.providedBy(decoder):
        check_json_lines(decoder, case.batch())


def test_every_decoder_has_a_corpus() -> None:
    registry = Registry.from_entry_points()
    ours = {
        name
        for name in registry.names("decoders")
        if any(source.distribution == "eventserver" for source in registry.sources("decoders", name))
    }
    assert ours - {case.decoder for case in cases()} == set()


def test_every_file_belongs_to_a_case() -> None:
    """A misspelt name would be passed over in silence."""
    known = {case.path(suffix) for case in cases() for suffix in (".txt", ".hex", ".jsonl", ".toml")}
    found = {path for path in FOLDER.glob("*/*") if path.is_file() and path.suffix != ".pyc"}
    assert found - known == set()
    assert all(case.path(".txt").exists() != case.path(".hex").exists() for case in cases())
