"""Lines that are cut when they are looked at: as a list of the same lines in all but the time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from operator import add

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventserver.blocks import Lines, count_lines, ended
from eventserver.event import Batch, size_of
from eventserver.testing.decoders import RECEIVED

_lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"\r")), max_size=40)


def block_of(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@given(lines=_lines)
def test_they_are_the_lines_of_the_block(lines: list[bytes]) -> None:
    block = block_of(lines)
    assert Lines(block).cut() == lines
    assert count_lines(block) == len(lines)
    assert list(Lines(block)) == lines
    assert Lines(block) == lines
    assert lines == Lines(block)
    assert Lines(block) == Lines(block)
    assert Lines(block) != [*lines, b""]
    assert Lines(block) != Lines(block + b"\n")


@given(lines=_lines, data=st.data())
def test_each_can_be_had_before_and_after_all_were_cut(lines: list[bytes], data: st.DataObject) -> None:
    found = Lines(block_of(lines))
    assert (len(found), bool(found), found.size) == (len(lines), bool(lines), sum(map(len, lines)))
    for _ in range(2):
        for index in range(-len(lines), len(lines)):
            assert found[index] == lines[index]
        start, end = data.draw(st.integers(-3, 45)), data.draw(st.integers(-3, 45))
        assert found[start:end] == lines[start:end]
        with pytest.raises(IndexError):
            found[len(lines)]
        found.cut()
    assert repr(found) == repr(lines)
    assert b"\n" not in found
    assert list(reversed(found)) == lines[::-1]


@given(lines=st.lists(st.integers(0, 3000), max_size=30), size=st.integers(1, 4000))
@example(lines=[511] * 10, size=512)
@example(lines=[1, 512, 1], size=512)
def test_it_is_seen_that_all_lines_are_short(lines: list[int], size: int) -> None:
    """Where it says so, it is so; and it says so where lines are much shorter."""
    found = Lines(block_of([b"x" * length for length in lines]))
    if found.all_below(size):
        assert all(length < size for length in lines)
    elif size >= 512:
        assert any(length >= size // 4 for length in lines)


@given(lines=_lines)
def test_the_block_or_the_lines_are_held_and_not_both(lines: list[bytes]) -> None:
    block = block_of(lines)
    found = Lines(block)
    assert found.cut(keep=False) == lines
    assert (found._block, found._lines) == (block, None)
    assert found.cut() is found.cut()
    assert (found._block, found._lines) == (None, lines)
    assert (found.block, found.size, found) == (block, sum(map(len, lines)), lines)
    assert not found.all_below(10_000)


@given(lines=_lines)
def test_lists_can_be_added(lines: list[bytes]) -> None:
    assert add(Lines(block_of(lines)), [b"x"]) == [*lines, b"x"]
    assert add([b"x"], Lines(block_of(lines))) == [b"x", *lines]
    with pytest.raises(TypeError):
        add(Lines(b"a\n"), (b"x",))


@given(lines=_lines, end=st.sampled_from([b"\n", b"\x7f", b"; "]))
def test_all_of_them_end_as_one_likes(lines: list[bytes], end: bytes) -> None:
    expected = b"".join([line + end for line in lines])
    found = Lines(block_of(lines))
    assert ended(found, end) == ended(lines, end) == expected
    found.cut()
    assert ended(found, end) == expected


def test_nobody_takes_them_for_something_else() -> None:
    found = Lines(b"a\nb\n")
    assert found != ("a", "b")
    assert found != b"a\nb\n"
    with pytest.raises(TypeError):
        hash(found)


@pytest.mark.parametrize("cut", [False, True])
def test_they_can_be_copied_and_sent_elsewhere(cut: bool) -> None:
    found = Lines(b"a\nb\n")
    if cut:
        found.cut()
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == [b"a", b"b"]


@given(lines=_lines)
def test_a_batch_counts_for_as_much_as_with_a_list(lines: list[bytes]) -> None:
    def batch(frames: Sequence[bytes]) -> Batch:
        return Batch(id="B", listener="l", decoder="text", received=RECEIVED, peers=["p"], frames=frames)

    assert size_of(batch(Lines(block_of(lines)))) == size_of(batch(lines))
