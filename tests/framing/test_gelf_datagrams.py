"""Datagrams to GELF messages: plain, gzip, zlib, in chunks, and bounded."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.framing.gelf_datagrams import GelfDatagrams, GelfLimits, encoding_of
from tests.framing.test_gelf_chunks import LIMITS, cut_up

MESSAGE = b'{"version":"1.1","host":"web1","short_message":"hello"}'
SENDER = ("192.0.2.1", 51123)


class Receiver:
    """Datagrams with some limits, and what they reject."""

    def __init__(self, message: int = 1 << 20, ratio: float = 200, rate: int = 64 << 20) -> None:
        self.rejected: Counter[str] = Counter()
        self.datagrams = GelfDatagrams(GelfLimits(LIMITS._replace(message=message), ratio, rate), self._reject)

    def _reject(self, reason: str) -> None:
        self.rejected[reason] += 1

    def take(self, *datas: bytes, cut: tuple[int, ...] = ()) -> list[bytes]:
        messages, senders, _ = self.datagrams.take(list(datas), [SENDER] * len(datas), cut, 0.0)
        assert senders == [SENDER] * len(messages)
        return messages


@pytest.mark.parametrize("level", range(10))
def test_each_form_gives_the_message(level: int) -> None:
    """Whatever level of compression its sender likes."""
    for payload in (MESSAGE, gzip.compress(MESSAGE, level), zlib.compress(MESSAGE, level)):
        receiver = Receiver()
        assert receiver.take(payload) == [MESSAGE]
        assert receiver.take(*cut_up(payload, 20)) == [MESSAGE]
        assert receiver.rejected == {}


def test_what_is_plain_is_known_by_its_first_byte() -> None:
    assert GelfDatagrams.are_plain([MESSAGE, b"", b"hello"])
    for other in (gzip.compress(MESSAGE), zlib.compress(MESSAGE), cut_up(MESSAGE, 20)[0]):
        assert not GelfDatagrams.are_plain([MESSAGE, other])


def test_text_that_begins_as_zlib_could_is_left_alone() -> None:
    """ "x " and "x?" would be headers with a dictionary, which no sender of GELF uses."""
    for text in (b"x", b"x y", b"x? y", b"xyz", b"\x1f", b"\x1e\x0e", b""):
        assert encoding_of(text) is None
        assert Receiver().take(text) == [text]


def test_members_of_gzip_are_one_message() -> None:
    assert Receiver().take(gzip.compress(MESSAGE[:10]) + gzip.compress(MESSAGE[10:])) == [MESSAGE]


def test_one_layer_only() -> None:
    inner = zlib.compress(MESSAGE)
    assert Receiver().take(gzip.compress(inner)) == [inner]


def test_what_cannot_be_unpacked_is_counted_and_its_neighbours_survive() -> None:
    receiver = Receiver()
    packed = gzip.compress(MESSAGE)
    broken = [packed[:-1], packed[:12] + b"\xff" * 9, zlib.compress(MESSAGE) + b"x", b"\x1f\x8b", b"x\x9c"]
    assert receiver.take(MESSAGE, *broken, packed) == [MESSAGE, MESSAGE]
    assert receiver.rejected == {"bad_compression": len(broken)}


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_message_that_unpacks_to_more_than_the_limit_is_refused(compress: Any) -> None:
    for size in (10_001, 100_001, 5_000_000):
        receiver = Receiver(message=size - 1, ratio=10_000)
        assert receiver.take(compress(b"x" * size)) == []
        assert receiver.rejected == {"oversize": 1}
        receiver = Receiver(message=size, ratio=10_000)
        assert receiver.take(compress(b"x" * size)) == [b"x" * size]


def test_a_bomb_takes_neither_memory_nor_place() -> None:
    """60 MiB of zeros in a thousandth of it, in chunks; also where the limit would allow it, by its ratio."""
    bomb = gzip.compress(bytes(60 << 20), 9)
    assert len(bomb) < 65507
    for message in (1 << 20, 200 << 20):
        receiver = Receiver(message=message)
        tracemalloc.start()
        assert receiver.take(*cut_up(bomb, 8000)) == []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert receiver.rejected == {"oversize": 1}
        assert peak < 4 << 20


def test_so_much_is_unpacked_in_a_second() -> None:
    receiver = Receiver(rate=1000)
    packed = zlib.compress(b"x" * 600)
    assert len(receiver.take(packed, packed, packed, MESSAGE)) == 3
    assert receiver.rejected == {"unpack_rate": 1}
    receiver.datagrams.expire(1.0)
    assert len(receiver.take(packed)) == 1


def test_broken_payloads_use_the_time_up_as_well() -> None:
    receiver = Receiver(rate=1000)
    receiver.take(gzip.compress(MESSAGE)[:-1])
    assert receiver.take(gzip.compress(MESSAGE)) == []
    assert receiver.rejected == {"bad_compression": 1, "unpack_rate": 1}


def test_what_came_without_its_end_is_put_together_with_nothing() -> None:
    receiver = Receiver()
    datas = [gzip.compress(MESSAGE), MESSAGE, cut_up(MESSAGE, 20)[0], MESSAGE]
    messages, _, cut = receiver.datagrams.take(datas, [SENDER] * 4, [0, 1, 2], 0.0)
    assert (messages, cut) == ([MESSAGE, MESSAGE], [0])
    assert receiver.rejected == {"oversize": 2}


HEADS = st.sampled_from([b"", b"\x1e\x0f", b"\x1e\x0f12345678\0\2", b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\xda"])


@given(st.lists(st.tuples(HEADS, st.binary(max_size=40)).map(b"".join), max_size=20))
def test_no_bytes_make_it_raise(datas: list[bytes]) -> None:
    receiver = Receiver()
    found = receiver.take(*datas)
    receiver.datagrams.finish()
    assert len(found) + sum(receiver.rejected.values()) <= len(datas)
