"""Identifiers of batches."""

from __future__ import annotations

import random

from eventserver.ulid import Ulids


def test_ids_are_unique_and_grow_within_a_millisecond_and_when_the_clock_steps_back() -> None:
    times = iter([5, 5, 5, 6, 4, 4, 7])
    source = random.Random(1)
    new_id = Ulids(lambda: next(times), source.getrandbits)
    ids = [new_id() for _ in range(7)]
    assert len(set(ids)) == 7
    assert ids == sorted(ids)


def test_an_id_has_26_characters_and_begins_with_the_time() -> None:
    """The example of the specification: 1469918176385 is 01ARYZ6S41."""
    new_id = Ulids(lambda: 1469918176385, lambda bits: 0)
    assert new_id() == "01ARYZ6S410000000000000000"
    assert new_id() == "01ARYZ6S410000000000000001"


def test_counting_up_never_overflows_into_the_time() -> None:
    new_id = Ulids(lambda: 1, lambda bits: (1 << bits) - 1)
    first, second = new_id(), new_id()
    assert first[:10] == second[:10] == "0000000001"
