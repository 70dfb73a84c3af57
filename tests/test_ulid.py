"""Identifiers of batches."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis.strategies import integers, lists

from eventserver.ulid import Ulids


@given(steps=lists(integers(-3, 3) | integers(-3000, 3000), max_size=50), seed=integers())
def test_ids_are_unique_and_grow_within_a_millisecond_and_when_the_clock_steps_back(
    steps: list[int], seed: int
) -> None:
    now = 1469918176385
    new_id = Ulids(lambda: now * 1_000_000, random.Random(seed).getrandbits)
    ids = [new_id()]
    for step in steps:
        now += step
        ids += [new_id(), new_id()]
    assert all(len(one) == 26 for one in ids)
    assert all(one < two for one, two in pairwise(ids))


def test_an_id_has_26_characters_and_begins_with_the_time() -> None:
    """The example of the specification: 1469918176385 is 01ARYZ6S41."""
    now = 1469918176385
    new_id = Ulids(lambda: now * 1_000_000, lambda bits: 0)
    assert new_id() == "01ARYZ6S410000000000000000"
    assert new_id() == "01ARYZ6S410000000000000001"
    now += 1
    assert new_id() == "01ARYZ6S420000000000000002"
    now += 1024
    assert new_id()[:10] == "01ARYZ6T42"


def test_counting_up_never_overflows_into_the_time() -> None:
    new_id = Ulids(lambda: 1_000_000, lambda bits: (1 << bits) - 1)
    first, second, third = new_id(), new_id(), new_id()
    assert (first, second) == ("0000000001FZZZZZZZZZZZZZZZ", "0000000001G000000000000000")
    assert third == "0000000001G000000000000001"


def test_what_is_random_is_drawn_about_once_a_second_and_not_for_each_id() -> None:
    """Two servers that start in the same second have nothing in common but the time."""
    draws: list[int] = []
    source = random.Random(1)

    def draw(bits: int) -> int:
        draws.append(bits)
        return source.getrandbits(bits)

    times = iter(range(10_000))
    new_id = Ulids(lambda: next(times) * 1_000_000, draw)
    randoms = {new_id()[10:22] for _ in range(10_000)}
    assert len(draws) == len(randoms) == 10
    assert set(draws) == {79}
