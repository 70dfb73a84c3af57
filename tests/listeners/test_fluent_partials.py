"""Docker's lines in parts: put together where they can be, and never lost where they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventserver.counters import ListenerCounters
from eventserver.listeners._fluent_messages import Message
from eventserver.listeners._fluent_partials import Partials
from eventserver.options import Duration
from tests.fluent_client import decode, docker, encode, entry, event_time, message, packed
from tests.listeners.fakes import MemoryReactor
from tests.listeners.fluent_bench import Bench


@pytest.fixture
def bench(reactor: MemoryReactor, counters: ListenerCounters) -> Iterator[Bench]:
    made = Bench(reactor, counters)
    yield made
    assert not made.listener._holding


def part(text: str, line: str, ordinal: int, *, last: bool = False, tag: str = "web") -> bytes:
    return message(tag, event_time(100 + ordinal), docker(text, part=line, ordinal=ordinal, last=last))


def test_the_parts_of_a_line_are_one_entry(bench: Bench) -> None:
    """With the time of the first, and without what was said about the parts."""
    peer = bench.start().connect()
    peer.send(message("web", 1, docker("before")))
    peer.send(part("one ", "l1", 1), part("two ", "l1", 2))
    assert [log for _, log in bench.logs] == ["before"]
    peer.send(part("three", "l1", 3, last=True), message("web", 1, docker("after")))
    assert [log for _, log in bench.logs] == ["before", "one two three", "after"]
    assert decode(bench.intake.frames[1]) == [event_time(101), docker("one two three")]
    assert bench.intake.marks == [(), (), ()]
    assert bench.counters.received == 3


def test_lines_of_several_containers_are_kept_apart(bench: Bench) -> None:
    """By tag and by id: what one container sends never gets into the line of another."""
    peer, other = bench.start().connect(), bench.connect()
    peer.send(part("a1", "l", 1, tag="a"), part("b1", "l", 1, tag="b"), part("c1", "m", 1, tag="a"))
    other.send(part("x1", "l", 1, tag="a"), part("x2", "l", 2, tag="a", last=True))
    peer.send(part("b2", "l", 2, tag="b", last=True), part("c2", "m", 2, tag="a", last=True))
    peer.send(part("a2", "l", 2, tag="a", last=True))
    assert sorted(bench.logs) == [("a", "a1a2"), ("a", "c1c2"), ("a", "x1x2"), ("b", "b1b2")]


def test_a_character_may_be_cut_in_two(bench: Bench) -> None:
    peer = bench.start().connect()
    for text, ordinal in ((b"caf\xc3", 1), (b"\xa9", 2)):
        record = {**docker("", part="l", ordinal=ordinal, last=ordinal == 2), "log": text}
        peer.send(message("web", 1, record))
    assert bench.logs == [("web", "café")]


def test_parts_may_come_in_any_mode(bench: Bench) -> None:
    peer = bench.start().connect()
    records = [docker("one ", part="l", ordinal=1), docker("x"), docker("two", part="l", ordinal=2, last=True)]
    peer.send(packed("web", [entry(1, record) for record in records], compressed="gzip"))
    assert [log for _, log in bench.logs] == ["x", "one two"]


def test_parts_that_ask_for_acks_stay_parts(bench: Bench) -> None:
    """To acknowledge a part is to have it, and its sender may wait for that before it sends the next."""
    peer = bench.start(ack="memory").connect()
    for ordinal in (1, 2):
        record = docker(str(ordinal), part="l", ordinal=ordinal, last=ordinal == 2)
        peer.send(message("web", 1, record, chunk=f"c{ordinal}"))
    assert peer.acks() == ["c1", "c2"]
    assert [record["partial_ordinal"] for record in bench.records] == ["1", "2"]


def test_merging_can_be_switched_off(bench: Bench) -> None:
    bench.start({"merge_partials": False}).connect().send(part("x", "l", 1))
    assert bench.records[0]["partial_id"] == "l"


# What does not come whole


def marked(bench: Bench) -> list[tuple[str, tuple[str, ...]]]:
    return [(log, marks) for (_, log), marks in zip(bench.logs, bench.intake.marks, strict=True)]


def test_a_line_is_waited_for_a_while(bench: Bench) -> None:
    peer = bench.start({"partial_timeout": Duration(5)}).connect()
    peer.send(part("one ", "l", 1))
    bench.wait(3)
    peer.send(part("two", "l", 2))
    assert bench.intake.frames == []
    bench.wait(2)
    assert marked(bench) == [("one two", ("truncated",))]
    assert bench.listener.budget.used == 0


def test_the_end_of_the_connection_is_the_end_of_its_lines(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(part("one ", "l", 1), part("x", "m", 1, tag="other"))
    peer.lose()
    assert marked(bench) == [("one ", ("truncated",)), ("x", ("truncated",))]
    assert [batch.context["tag"] for batch in bench.intake.batches] == ["web", "other"]


def test_a_stop_keeps_what_came(bench: Bench) -> None:
    peer = bench.start().connect()
    peer.send(part("one ", "l", 1))
    stopped = bench.stop()
    peer.lose()
    assert stopped
    assert marked(bench) == [("one ", ("truncated",))]


def test_so_many_lines_are_waited_for(bench: Bench) -> None:
    peer = bench.start({"max_partials": 2}).connect()
    peer.send(*[part(f"{number} ", f"l{number}", 1) for number in range(4)])
    assert marked(bench) == [("0 ", ("truncated",)), ("1 ", ("truncated",))]
    peer.send(part("end", "l2", 2, last=True), part("end", "l0", 2, last=True))
    assert marked(bench)[2:] == [("2 end", ()), ("end", ("truncated",))], "the beginning of the second is gone"


def test_of_a_long_line_the_head_is_kept(bench: Bench) -> None:
    peer = bench.start({"max_frame": 1000, "max_message": 2000}).connect()
    peer.send(*[part("x" * 400, "l", ordinal, last=ordinal == 5) for ordinal in range(1, 6)])
    [(log, marks)] = marked(bench)
    assert 850 < len(log) < 1000
    assert marks == ("truncated",)


def test_lines_in_parts_count_for_the_bound_of_all_connections(bench: Bench) -> None:
    bench.start({"max_buffered": 300_000, "max_message": 300_000})
    peers = [bench.connect() for _ in range(6)]
    for peer in peers:
        peer.send(part("x" * 90_000, "l", 1))
    assert bench.listener.budget.used <= 300_000
    assert [marks for _, marks in marked(bench)] == [("truncated",)] * 3
    assert not any(peer.transport.aborted for peer in peers)


@pytest.mark.parametrize(
    "record",
    [{"partial_id": "l"}, {"partial_id": 5, "log": "x"}, {"partial_id": "l", "log": 5}, {"partial_id": "", "log": "x"},
     {"log": "about partial_id"}, {"partial_id": "l", "log": "x", 1: 2}, ["partial_id"], "partial_id"],
)  # fmt: skip
def test_what_only_looks_like_a_part_is_an_entry(record: Any) -> None:
    frame = entry(1, record)
    assert taken(frame) == [Message("t", [frame], [], None)]


def taken(*frames: bytes) -> list[Message]:
    return Partials(10, 10.0, 1000).take(Message("t", list(frames), [], None), 0.0, lambda size: True)


def test_damaged_entries_stay_as_they_are() -> None:
    for frame in (b"\x92\x01\x82\xaapartial_id\xa1x", b"\xc1partial_id", b"\x92" + b"\x91" * 5000 + b"partial_id"):
        assert taken(frame) == [Message("t", [frame], [], None)]


def test_a_line_that_was_one_part_is_whole() -> None:
    [found] = taken(entry(1, docker("x", part="l", ordinal=1, last=True)))
    assert decode(found.frames[0]) == [1, docker("x")]
    assert found.truncated == []


def test_a_truncated_entry_is_no_part() -> None:
    frame = entry(1, docker("x", part="l", ordinal=1))
    cut = Message("t", [encode(1), frame], [1], None)
    assert Partials(10, 10.0, 1000).take(cut, 0.0, lambda size: True) == [cut]


def test_no_more_parts_are_looked_at_than_can_be_in_one_go() -> None:
    """Each takes its time; the others stay events of their own, and so do entries with very many fields."""
    parts = Partials(100, 10, 1 << 20)
    frames = [entry(1, docker(str(number), part=str(number), ordinal=1, last=True)) for number in range(6000)]
    [whole] = parts.take(Message("t", frames, [], None), 0, lambda size: True)
    merged = [len(frame) < len(before) for frame, before in zip(whole.frames, frames, strict=True)]
    assert 4000 < sum(merged) < 5000
    assert merged == sorted(merged, reverse=True)
    [after] = parts.take(Message("t", frames[:1], [], None), 0, lambda size: True)
    assert after.frames == whole.frames[:1], "that is of one message"
    wide = entry(1, {**docker("x", part="x", ordinal=1), **{f"k{number}": 1 for number in range(1000)}})
    assert parts.take(Message("t", [wide], [], None), 0, lambda size: True)[0].frames == [wide]
