"""Batches to events and to JSON lines, for all handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger

from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.text import TextDecoder
from eventserver.delivery import Decoding
from eventserver.encoders import JsonEncoder
from eventserver.event import Batch, Event, size_of
from eventserver.interfaces import Entry
from eventserver.matching import Match
from eventserver.steps import Pipeline, Set
from eventserver.testing.decoders import batch
from tests.delivery.world import START, Recorder, World

to_json = JsonEncoder(JsonEncoder.Options()).encode_lines


class Counting(TextDecoder):
    """Counts how often it decodes; `broken` is raised by the short way."""

    def __init__(self, broken: Exception | None = None) -> None:
        super().__init__()
        self.broken = broken
        self.decoded = 0

    def decode(self, batch: Batch) -> list[Any]:
        self.decoded += 1
        return super().decode(batch)

    def json_lines(self, batch: Batch) -> bytes | None:
        if self.broken is not None:
            raise self.broken
        return super().json_lines(batch)


def entry_of(given: Batch, readers_left: int) -> Entry:
    return Entry(len(given.frames), given, size_of(given), readers_left)


def expected(*batches: Batch) -> bytes:
    return b"".join(to_json(TextDecoder().decode(one)) for one in batches)


def test_json_lines_come_without_decoding() -> None:
    decoder = Counting()
    decoding = Decoding(lambda batch: decoder)
    given = [batch(b"a", b"b"), batch(b"c", id="01JD0000000000000000000001")]
    assert decoding.json_lines(given) == expected(*given)
    assert decoding.json_lines(given[:1]) == expected(given[0])
    assert decoder.decoded == 0


def test_what_the_decoder_cannot_do_shortly_is_decoded() -> None:
    decoder = Counting()
    decoding = Decoding(lambda batch: decoder)
    given = batch(b"a", b"\xff")
    assert decoding.json_lines([given]) == expected(given)
    assert decoder.decoded == 1


def test_events_that_are_there_already_are_encoded_and_a_part_is_not_taken_for_the_whole() -> None:
    decoder = Counting()
    decoding = Decoding(lambda batch: decoder)
    given = batch(b"a", b"b", b"c")
    entry = entry_of(given, readers_left=2)
    decoding.events(entry)
    decoder.broken = AssertionError("not asked")
    assert decoding.json_lines([given]) == expected(given)
    assert decoder.decoded == 1
    decoder.broken = None
    part = given.part(1, 3)
    assert decoding.json_lines([part]) == expected(part)
    assert b'"id":"01JD0000000000000000000000-1"' in expected(part)


def test_what_is_let_go_is_let_go_by_its_id_too() -> None:
    """Entries that all handlers have passed, and the oldest beyond the bound."""
    decoder = Counting()
    decoding = Decoding(lambda batch: decoder, max_bytes=1000)
    for number in range(100):
        decoding.events(entry_of(batch(b"a" * 10, id=f"01JD{number:022}"), readers_left=2))
    assert len(decoding._kept_by_id) == len(decoding._kept) < 3


def test_a_handler_that_wants_raw_bytes_gets_them_into_everyones_events() -> None:
    decoder = Counting()
    decoding = Decoding(lambda batch: decoder, raw_listeners=["test"])
    part = batch(b"a", b"b").part(1, 2)
    assert b'"message":"b","fields":{},"raw":"b"}' in decoding.json_lines([part])


def test_a_decoder_that_raises_costs_nobody_an_event() -> None:
    logged: list[LogEvent] = []
    decoder = Counting(RuntimeError("a bug"))
    decoding = Decoding(lambda batch: decoder, log=Logger(observer=logged.append))
    given = batch(b"a")
    assert decoding.json_lines([given]) == expected(given)
    assert "raised" in logged[0]["log_format"]


def test_a_decoder_that_is_gone_gives_undecodable_events() -> None:
    decoding = Decoding(lambda batch: None, log=Logger(observer=lambda event: None))
    assert b'"type":"undecodable","message":"a","fields":{"error":"no_decoder"}' in decoding.json_lines([batch(b"a")])


@pytest.mark.parametrize("start", [0, 1])
def test_a_dead_letters_event_has_the_id_that_the_batch_gave_it(start: int) -> None:
    decoding = Decoding(lambda batch: TextDecoder())
    event = decoding.decode_frame(batch(b"a", b"b").part(start, start + 1))
    assert (event.id, event.message) == (f"01JD0000000000000000000000-{start}", "ab"[start])


class Selecting(JsonDecoder):
    """Counts how often it is asked for all events of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded = 0

    def decode(self, batch: Batch) -> list[Any]:
        self.decoded += 1
        return super().decode(batch)


def rows(*numbers: int, **changes: Any) -> Batch:
    return batch(*[b'{"n":%d}' % number for number in numbers], **changes)


def test_the_only_handler_of_a_batch_has_just_the_events_that_match_decoded() -> None:
    decoder = Selecting()
    decoding = Decoding(lambda batch: decoder)
    given, match = rows(*range(10)), Match("n >= 8")
    events = decoding.selected(entry_of(given, readers_left=1), match, {})
    assert events is not None
    assert [event.id[-2:] for event in events] == ["-8", "-9"]
    assert decoder.decoded == 0


def test_where_others_look_or_have_looked_at_the_events_they_are_decoded_once_for_all() -> None:
    decoder = Selecting()
    given, match = rows(*range(10)), Match("n >= 8")
    assert Decoding(lambda batch: decoder).selected(entry_of(given, readers_left=2), match, {}) is None
    done = entry_of(given, readers_left=1)
    done.events = []
    assert Decoding(lambda batch: decoder).selected(done, match, {}) is None
    raw = Decoding(lambda batch: decoder, raw_listeners=["test"])
    assert raw.selected(entry_of(given, readers_left=1), match, {}) is None
    assert Decoding(lambda batch: TextDecoder()).selected(entry_of(given, readers_left=1), match, {}) is None
    assert Decoding(lambda batch: None).selected(entry_of(given, readers_left=1), match, {}) is None


def test_the_values_that_matches_look_at_are_looked_up_once_for_all_handlers() -> None:
    class Asked(Match):
        seen: ClassVar[list[int]] = []

        def columns(self, columns: Mapping[str, Sequence[Any]]) -> list[int] | None:
            self.seen.append(id(columns["n"]))
            return super().columns(columns)

    decoding = Decoding(lambda batch: Selecting())
    entry = entry_of(rows(*range(10)), readers_left=2)
    events = decoding.events(entry)
    for text, found in (("n >= 8", [8, 9]), ("n < 1", [0]), ('n == 5 or m == "x"', [5])):
        assert [event.fields["n"] for event in decoding.matching(entry, events, Asked(text))] == found
    assert len(Asked.seen) == 3
    assert len(set(Asked.seen)) == 1
    # Events that are not kept, and conditions on more than values.
    assert decoding.matching(entry, events[:9], Match("n >= 8")) == events[8:9]
    assert decoding.matching(entry, events, Match('has("n") and n >= 8')) == events[8:]
    # Fields that are no dictionary, more fields than are remembered.
    odd = [events[0].replace(fields=MappingProxyType({"z": 1}))]
    entry.events = odd
    entry.columns = None
    assert decoding.matching(entry, odd, Match("z == 1")) == odd
    entry.events, entry.columns = events, {f"x{number}": [] for number in range(16)}
    assert decoding.matching(entry, events, Match("n >= 8")) == events[8:]


@given(
    st.lists(
        st.one_of(st.sampled_from(["a", "b", "", None, 0, 1, 2]), st.sampled_from([1.0, True, float("nan"), [1], "c"])),
        max_size=3,
    ),
    # Mostly so many that few values are found among them; there may be none all the same.
    st.one_of(st.lists(st.integers(0, 2), min_size=12, max_size=40), st.lists(st.integers(0, 2), max_size=12)),
    st.sampled_from(
        ['n == "a"', 'n != "a"', "n >= 1", "n", "not n", "n in ['a', 1]", 'lower(n) == "b"', "n + 1 == 2", "n == 1.0"]
    ),
)
def test_a_condition_that_is_asked_for_each_different_value_finds_the_same(
    values: list[Any], picks: list[int], text: str
) -> None:
    decoding = Decoding(lambda batch: Selecting())
    chosen = [values[pick % len(values)] for pick in picks] if values else []
    events = [
        Event(f"B-{number}", START, START, "l", "p", "t", "", {} if value is None else {"n": value})
        for number, value in enumerate(chosen)
    ]
    entry = entry_of(rows(*range(len(events))), readers_left=3)
    entry.events = events
    match = Match(text)
    assert decoding.matching(entry, events, match) == match.select(events)
    assert decoding.matching(entry, events, match) == match.select(events)


def test_a_condition_is_asked_once_for_each_different_value_of_many_events() -> None:
    class Asked(Match):
        asked = 0

        def columns(self, columns: Mapping[str, Sequence[Any]]) -> list[int] | None:
            self.asked += len(columns["n"])
            return super().columns(columns)

    decoding = Decoding(lambda batch: Selecting())
    entry = entry_of(rows(*[number % 5 for number in range(100)]), readers_left=2)
    events = decoding.events(entry)
    for text, found in (("n >= 3", 40), ("n == 7", 0), ("n < 9", 100)):
        match = Asked(text)
        assert len(decoding.matching(entry, events, match)) == found
        assert match.asked == 5


def test_a_decoder_that_raises_when_it_selects_is_asked_for_all_events() -> None:
    logged: list[LogEvent] = []
    decoder = Selecting()
    decoder.select = 7  # type: ignore[assignment]
    decoding = Decoding(lambda batch: decoder, log=Logger(observer=logged.append))
    assert decoding.selected(entry_of(rows(*range(10)), readers_left=1), Match("n >= 8"), {}) is None
    assert len(logged) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 64])
@pytest.mark.parametrize("others", [0, 1])
def test_piles_are_the_same_with_and_without_the_short_way(limit: int, others: int) -> None:
    """Whatever the size of the piles, and also where an entry is cut: each event once, in order, and all counted."""
    world = World()
    decoder = Selecting()
    world.decoding = Decoding(lambda batch: decoder)
    recorder = Recorder()
    delivery = world.add(recorder, select=Pipeline("n >= 3", [Set({"message": {"expr": "word"}})]), max_events=limit)
    for _ in range(others):
        world.add(Recorder(), name="other")
    for _ in range(3):
        world.put(*[f'{{"n":{number},"word":"w{number}"}}' for number in range(8)])
    world.check()
    assert recorder.done == [f"w{number}" for _ in range(3) for number in range(3, 8)]
    assert all(len(pile) <= limit for pile in recorder.piles)
    assert (delivery.counters.decoded, delivery.counters.filtered, delivery.counters.passed) == (24, 9, 24)
