"""The scan for the ends of MessagePack values: what it finds is what a decoder reads, however the bytes come."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.framing._msgpack import Malformed, Scan, content_of, count_of, map_count, split

encode = msgspec.msgpack.encode
_scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(max_size=300) | st.binary(max_size=300)
    | st.builds(msgspec.msgpack.Ext, st.integers(2, 127), st.binary(max_size=40))
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=20,
)


@given(found=st.lists(_values, max_size=5))
def test_values_that_follow_each_other_are_told_apart(found: list[Any]) -> None:
    pieces = [encode(value) for value in found]
    assert split(b"".join(pieces), 5) == pieces


@given(value=_values, cuts=st.lists(st.integers(1, 50), max_size=20))
def test_the_end_is_found_however_the_bytes_come(value: Any, cuts: list[int]) -> None:
    """The scan goes on where it was, and never says too early that it is done."""
    data = encode(value)
    scan, buffer, position = Scan(), bytearray(), 0
    for cut in [*cuts, len(data)]:
        part, position = data[position : position + cut], position + cut
        buffer += part
        done = scan.run(buffer)
        assert done == (len(buffer) == len(data))
        if done:
            break
    assert scan.position == len(data)


@pytest.mark.parametrize(
    "data",
    [b"\xdc\x01\x00" + b"\xc0" * 256, b"\xdd\0\1\0\0" + b"\x01" * 65536, b"\xde\x01\x00" + b"\x01\xc0" * 256,
     b"\xdf\0\1\0\0" + b"\xe0\x7f" * 65536, b"\xc5\x01\x00" + b"x" * 256, b"\xc6\0\1\0\0" + b"x" * 65536,
     b"\xda\x01\x00" + b"x" * 256, b"\xdb\0\1\0\0" + b"x" * 65536, b"\xc8\x01\x00\x05" + b"x" * 256,
     b"\xc9\0\1\0\0\x05" + b"x" * 65536],
    ids=lambda data: data[:1].hex(),
)  # fmt: skip
def test_long_values_of_every_kind(data: bytes) -> None:
    assert split(data + b"\xc0", 2) == [data, b"\xc0"]
    assert split(data[:-1], 2) == [data[:-1]]


def test_depth_and_announced_lengths_cost_nothing() -> None:
    """A scan neither recurses nor believes that what is announced will come."""
    deep = b"\x91" * 1_000_000 + b"\xc0"
    assert split(deep, 1) == [deep]
    scan = Scan()
    assert not scan.run(b"\xdf\xff\xff\xff\xff\xdb\xff\xff\xff\xff")
    assert scan.pending > 2**32


def test_what_is_no_value_is_said_so() -> None:
    with pytest.raises(Malformed):
        Scan().run(b"\x92\x01\xc1")
    assert split(b"\x01\xc1\x02", 5) == [b"\x01", b"\xc1\x02"], "nothing of it is lost"


def test_too_many_values_are_none() -> None:
    assert split(b"\x01\x02\x03", 3) == [b"\x01", b"\x02", b"\x03"]
    assert split(b"\x01\x02\x03", 2) is None
    assert split(b"", 0) == []


def test_a_scan_gives_up_when_it_has_looked_at_enough() -> None:
    """Bytes that a string has are not looked at, values inside of values are: of all values together."""
    deep, text = b"\x91" * 1000 + b"\xc0", encode("x" * 100_000)
    assert split(deep + text + deep, 3, Scan(2010)) == [deep, text, deep]
    assert split(deep + text + deep, 3, Scan(2000)) is None
    scan = Scan(1500)
    assert split(deep, 1, scan) == [deep]
    assert split(deep, 1, scan) is None
    assert scan.room == 0


@pytest.mark.parametrize(
    ("value", "pairs"),
    [({}, 0), ({"a": 1}, 1), (dict.fromkeys(range(300)), 300), (dict.fromkeys(range(70_000)), 70_000), ([], -1)],
    ids=["none", "fix", "16", "32", "array"],
)
def test_headers_of_maps(value: Any, pairs: int) -> None:
    assert map_count(encode(value)[:5]) == pairs
    assert map_count(b"") == -1


@given(data=st.binary(max_size=60))
def test_any_bytes_are_split_without_loss(data: bytes) -> None:
    assert b"".join(split(data, 60) or []) == data


def test_headers_of_arrays_and_contents_of_texts() -> None:
    assert count_of(b"\x93") == (3, 1)
    assert count_of(b"\x01\xdc\x01\x02", 1) == (258, 4)
    assert count_of(b"\xdd\0\0\0\1") == (1, 5)
    assert count_of(b"\xdd\0\0\0") == count_of(b"") == count_of(b"\x80") == (-1, 0)
    for value in (b"", b"a", b"a" * 40, b"a" * 300, b"a" * 70000):
        assert content_of(encode(value)) == content_of(encode(value.decode())) == value
    assert content_of(b"\x01") is content_of(b"") is None
