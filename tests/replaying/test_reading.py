"""What a replay's loop reads: an `IReader` that ends where the replay does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from eventserver.interfaces import IReader
from eventserver.replaying.reading import ReplayJournal, cut, matching_parts
from eventserver.testing.data import make_batch
from tests.replaying.history import Keeper, Upper, World


def test_it_is_a_reader(tmp_path: Path) -> None:
    world = World(tmp_path)
    journal: Any = ReplayJournal(world.journal, 10, "1", lambda: None)
    assert verifyObject(IReader, journal.reader("h@replay-1", 0))


@pytest.mark.parametrize("later", [False, True])
def test_entries_are_cut_at_the_end_and_marked(tmp_path: Path, later: bool) -> None:
    world = World(tmp_path)
    world.add(Keeper())
    for text in ("ab", "cd", "ef"):
        world.put(*text)
    ends: list[bool] = []
    reader = ReplayJournal(world.journal, 3, "7", lambda: ends.append(True)).reader("h@replay-7", 0)
    world.journal.later = later
    found: Any = reader.read(1 << 20)
    if later:
        got: list[Any] = []
        found.addCallback(got.extend)
        world.journal.fetch()
        found = got
    assert [(entry.end, entry.batch.frames) for entry in found] == [(2, [b"a", b"b"]), (3, [b"c"])]
    assert {entry.batch.context["replay"] for entry in found} == {"7"}
    assert ends == [True]
    assert world.journal.entries[0].batch.context == {}, "what the journal holds is not touched"
    assert reader.read(1 << 20) == []


def test_what_lies_behind_the_end_is_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put("a", "b")
    assert cut(world.journal.entries[0], 0) is None


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 5))
def test_the_parts_of_a_batch_hold_exactly_what_matches(wanted: list[bool], offset: int) -> None:
    """In order, with the ids of the whole, and in as few parts as there are runs."""
    frames = [b"yes" if yes else b"no" for yes in [False] * offset + wanted]
    batch = make_batch(*frames).part(offset, len(frames))
    events = Upper().decode(batch)
    parts = matching_parts(batch, events, lambda events: [event for event in events if event.message == "yes"])
    ids = [part.id_of(index) for part in parts for index in range(len(part.frames))]
    assert ids == [event.id for event in events if event.message == "yes"]
    assert all(frame == b"yes" for part in parts for frame in part.frames)
    runs = sum(yes and not (number and wanted[number - 1]) for number, yes in enumerate(wanted))
    assert len(parts) == runs
