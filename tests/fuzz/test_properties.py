"""Hypothesis puts pieces of real messages and awkward bytes together: nothing raises, nothing takes long."""

from __future__ import annotations

import time
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import AWKWARD, seeds
from tests.fuzz.targets import CUT, Target, targets

#: Seconds of the processor that a few kilobytes may take, far more than they do.
LONGEST = 1.0

made = cache(targets)


@cache
def messages(target: str) -> st.SearchStrategy[bytes]:
    """Bytes for a target: whole seeds, their beginnings and ends, awkward pieces, and anything."""
    whole = st.sampled_from(seeds(target))
    part = st.builds(lambda seed, start, end: seed[start:end], whole, st.integers(0, 20), st.integers(0, 200))
    awkward = st.builds(lambda piece, times: piece * times, st.sampled_from(AWKWARD), st.integers(1, 20))
    pieces = st.one_of(whole, part, awkward, st.binary(max_size=8), st.just(CUT))
    return st.builds(
        lambda cut, found: cut + b"".join(found), st.binary(min_size=1, max_size=1), st.lists(pieces, max_size=8)
    )


def check(target: Target, data: bytes) -> None:
    begin = time.process_time()
    target(data)
    assert time.process_time() - begin < LONGEST


@settings(max_examples=1500)
@given(st.data())
def test_any_bytes_are_taken_by_everything(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(made())))
    check(made()[name], data.draw(messages(name)))


def test_every_seed_is_taken_whole_and_byte_by_byte() -> None:
    """And every awkward piece behind it."""
    for name, target in made().items():
        for seed in seeds(name):
            for first in (b"\0", b"\1"):
                check(target, first + seed)
        for piece in AWKWARD:
            check(target, b"\0" + seeds(name)[0] + piece)
