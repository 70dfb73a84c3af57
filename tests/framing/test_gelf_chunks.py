"""GELF messages that come in chunks: put together, and bounded in time, number and bytes."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.framing.gelf_chunks import MAGIC, MOST, ChunkLimits, Chunks

LIMITS = ChunkLimits(timeout=5.0, messages=1000, per_source=50, bytes=16 << 20, message=1 << 20)


def chunk(index: int, count: int, piece: bytes = b"", name: bytes = b"12345678") -> bytes:
    return MAGIC + name + bytes([index, count]) + piece


def cut_up(payload: bytes, size: int, name: bytes = b"12345678") -> list[bytes]:
    """A payload in chunks, as senders cut it."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return [chunk(index, len(pieces), piece, name) for index, piece in enumerate(pieces)]


class Receiver:
    """Chunks with some limits changed, and what they reject."""

    def __init__(self, **limits: Any) -> None:
        self.rejected: Counter[str] = Counter()
        self.chunks = Chunks(LIMITS._replace(**limits), self._reject)

    def _reject(self, reason: str) -> None:
        self.rejected[reason] += 1

    def take(self, *datas: bytes, sender: Any = ("192.0.2.1", 1), now: float = 0.0) -> list[bytes]:
        """What some chunks complete; a sender's source is the first part of it."""
        found = [self.chunks.add(data, sender, sender[0], now) for data in datas]
        return [message for message in found if message is not None]

    def is_empty(self) -> bool:
        return (len(self.chunks), self.chunks.held) == (0, 0)


@given(st.binary(min_size=1, max_size=200), st.integers(2, 60), st.randoms())
def test_chunks_make_the_message_in_whatever_order(payload: bytes, size: int, rng: Any) -> None:
    receiver = Receiver()
    chunks = cut_up(payload, size)
    rng.shuffle(chunks)
    *others, last = chunks
    assert receiver.take(*others) == []
    assert receiver.take(last) == [payload]
    assert receiver.is_empty()
    assert receiver.rejected == {}


@given(st.lists(st.binary(max_size=20).map(lambda tail: MAGIC + tail), max_size=30))
def test_no_bytes_make_it_raise(datas: list[bytes]) -> None:
    receiver = Receiver(messages=3, bytes=3000)
    receiver.take(*datas)
    receiver.chunks.finish()
    assert receiver.is_empty()


def test_a_message_of_one_chunk_and_one_of_the_most() -> None:
    receiver = Receiver()
    assert receiver.take(chunk(0, 1, b"x")) == [b"x"]
    assert receiver.take(*cut_up(b"a" * MOST, 1)) == [b"a" * MOST]


def test_messages_of_different_senders_and_ids_are_kept_apart() -> None:
    """The id alone is no key: senders do not know each other's."""
    receiver = Receiver()
    assert receiver.take(chunk(0, 2, b"a"), sender=("192.0.2.1", 1)) == []
    assert receiver.take(chunk(1, 2, b"B"), sender=("192.0.2.2", 1)) == []
    assert receiver.take(chunk(1, 2, b"c", b"otherone"), sender=("192.0.2.1", 1)) == []
    assert receiver.take(chunk(1, 2, b"b"), sender=("192.0.2.1", 1)) == [b"ab"]
    assert receiver.take(chunk(0, 2, b"A"), sender=("192.0.2.2", 1)) == [b"AB"]


@pytest.mark.parametrize(
    "wrong", [MAGIC, MAGIC + b"1234567", chunk(0, 0), chunk(1, 1), chunk(2, 2), chunk(0, MOST + 1), chunk(255, 255)]
)
def test_a_chunk_that_cannot_be_is_counted(wrong: bytes) -> None:
    receiver = Receiver()
    assert receiver.take(wrong) == []
    assert receiver.rejected == {"bad_chunk": 1}
    assert receiver.is_empty()


def test_the_first_chunk_says_how_many_there_are() -> None:
    receiver = Receiver()
    assert receiver.take(chunk(0, 2, b"a"), chunk(1, 3, b"x"), chunk(0, 1, b"x"), chunk(1, 2, b"b")) == [b"ab"]
    assert receiver.rejected == {"bad_chunk": 2}


def test_a_chunk_that_comes_twice_changes_nothing() -> None:
    receiver = Receiver()
    assert receiver.take(chunk(0, 2, b"a"), chunk(0, 2, b"x"), chunk(1, 2, b"b")) == [b"ab"]
    assert receiver.rejected == {"duplicate_chunk": 1}


def test_a_message_has_five_seconds_from_its_first_chunk() -> None:
    receiver = Receiver()
    receiver.take(chunk(0, 3), now=0.0)
    receiver.take(chunk(1, 3), now=4.9)
    receiver.chunks.expire(4.9)
    assert receiver.rejected == {}
    receiver.chunks.expire(5.0)
    assert receiver.rejected == {"incomplete": 1}
    assert receiver.is_empty()


def test_a_late_chunk_completes_nothing_though_no_sweep_came_between() -> None:
    receiver = Receiver()
    receiver.take(chunk(0, 2, b"a"), now=0.0)
    assert receiver.take(chunk(1, 2, b"b"), now=5.0) == []
    assert receiver.rejected == {"incomplete": 1}
    assert len(receiver.chunks) == 1


def test_a_source_gives_up_its_own_oldest_message() -> None:
    """Whatever port it sends from; another source loses nothing."""
    receiver = Receiver(per_source=2)
    receiver.take(chunk(0, 2, b"o"), sender=("192.0.2.9", 1))
    for port in (1, 2, 3):
        receiver.take(chunk(0, 2, b"a"), sender=("192.0.2.1", port))
    assert receiver.rejected == {"chunks_evicted": 1}
    ends = [receiver.take(chunk(1, 2, b"b"), sender=("192.0.2.1", port)) for port in (3, 2)]
    assert ends == [[b"ab"], [b"ab"]]
    assert receiver.take(chunk(1, 2, b"k"), sender=("192.0.2.9", 1)) == [b"ok"]


def test_the_oldest_message_gives_way_where_there_are_too_many() -> None:
    receiver = Receiver(messages=3)
    for host in range(4):
        receiver.take(chunk(0, 2), sender=(host, 1))
    assert receiver.rejected == {"chunks_evicted": 1}
    assert [len(receiver.take(chunk(1, 2), sender=(host, 1))) for host in range(3, 0, -1)] == [1, 1, 1]
    assert receiver.is_empty()


def test_the_oldest_messages_give_way_where_there_are_too_many_bytes() -> None:
    """What Python needs besides is counted: chunks may be empty."""
    receiver = Receiver(bytes=20_000)
    for host in range(10):
        receiver.take(chunk(0, 2, b"x" * 5000), sender=(host, 1))
    assert receiver.chunks.held <= 20_000
    assert receiver.rejected == {"chunks_evicted": 10 - len(receiver.chunks)}
    assert len(receiver.chunks) == 3
    empty = Receiver(bytes=20_000)
    for host, index in itertools.product(range(20), range(50)):
        empty.take(chunk(index, 100), sender=(host, 1))
        assert empty.chunks.held <= 20_000


def test_in_a_flood_memory_is_bounded_and_an_honest_sender_gets_through() -> None:
    """20,000 messages that are never completed, from addresses that are forged, between those of somebody else."""
    receiver = Receiver()
    honest = cut_up(b"honest" * 100, 200)
    completed = 0
    tracemalloc.start()
    for number in range(20_000):
        forged = (number % 2000, number)
        receiver.take(chunk(number % 128, 128, bytes(16_000), number.to_bytes(8, "big")), sender=forged)
        if number % 100 == 0:
            completed += len(receiver.take(*honest))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert completed == 200
    assert receiver.rejected == {"chunks_evicted": 20_000 - len(receiver.chunks)}
    assert max(held, receiver.chunks.held) <= LIMITS.bytes
    assert peak < LIMITS.bytes + (1 << 20)


def test_a_message_over_the_limit_is_refused_once_and_its_chunks_are_passed_over() -> None:
    receiver = Receiver(message=10)
    *others, last = cut_up(b"x" * 40, 4)
    assert receiver.take(*others) == []
    assert receiver.rejected == {"oversize": 1}
    assert receiver.chunks.held <= 1000
    assert receiver.take(last) == []
    assert receiver.is_empty()
    assert receiver.take(chunk(0, 1, b"x" * 11)) == []
    assert receiver.rejected == {"oversize": 2}
    assert receiver.take(*cut_up(b"x" * 10, 5)) == [b"x" * 10]


def test_what_was_refused_is_not_counted_again_when_its_time_is_over() -> None:
    receiver = Receiver(message=10)
    receiver.take(*cut_up(b"x" * 40, 4)[:5])
    receiver.chunks.expire(5.0)
    assert receiver.rejected == {"oversize": 1}
    assert receiver.is_empty()


def test_at_the_end_what_waits_is_counted() -> None:
    receiver = Receiver()
    receiver.take(chunk(0, 2), chunk(0, 2, b"", b"otherone"))
    receiver.chunks.finish()
    assert receiver.rejected == {"incomplete": 2}
    assert receiver.is_empty()
