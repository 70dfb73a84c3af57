"""The way back to the sender: order, repetition, connections that are gone."""

from __future__ import annotations

import msgspec

from eventserver.counters import ListenerCounters
from eventserver.interfaces import Entry
from eventserver.replies import Connections

from .world import World


class Writer:
    def __init__(self) -> None:
        self.counters = ListenerCounters()
        self.written: list[bytes] = []

    def reply(self, payload: bytes) -> None:
        self.written.append(payload)


class Scene:
    """One listener `l`, one connection, and batches that came on it."""

    def __init__(self) -> None:
        self.counters = {"l": ListenerCounters()}
        self.connections = Connections(self.counters)
        self.writer = Writer()
        self.number = self.connections.add(self.writer)  # type: ignore[arg-type]  # what replies call is there
        self.world = World()
        self.head = 0

    def entry(self, *lines: str, connection: int | list[int] | None = None) -> Entry:
        batch = self.world.batch(*lines)
        number = self.number if connection is None else connection
        self.head += len(lines)
        return Entry(self.head, msgspec.structs.replace(batch, connection=number), 1)

    def reply(self, entry: Entry, frame: str, payload: bytes) -> None:
        self.connections.reply(entry, f"{entry.batch.id}-{frame}", payload)

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.counters["l"].replies.items() if count}


def test_replies_go_to_the_connection_that_the_frame_came_on() -> None:
    scene = Scene()
    other = Writer()
    number = scene.connections.add(other)  # type: ignore[arg-type]
    entry = scene.entry("a", "b", connection=[scene.number, number])
    scene.reply(entry, "0", b"A")
    scene.reply(entry, "1", b"B")
    assert (scene.writer.written, other.written) == ([b"A"], [b"B"])
    assert scene.outcomes == {"sent": 2}


def test_what_was_answered_is_not_answered_again() -> None:
    scene = Scene()
    entry = scene.entry("a")
    scene.reply(entry, "0", b"A")
    scene.reply(entry, "0", b"A")
    assert scene.writer.written == [b"A"]
    assert scene.outcomes == {"sent": 1, "repeated": 1}


def test_a_late_reply_never_overtakes() -> None:
    """An event that failed is answered by nothing; when it succeeds later, later events have been answered."""
    scene = Scene()
    entry = scene.entry("a", "b")
    scene.reply(entry, "0", b"")
    scene.reply(entry, "1", b"B")
    scene.reply(entry, "0", b"A")
    assert scene.writer.written == [b"B"]
    assert scene.outcomes == {"sent": 1, "repeated": 1}


def test_each_event_of_one_frame_is_answered() -> None:
    scene = Scene()
    entry = scene.entry("[1, 2]")
    scene.reply(entry, "0", b"1")
    scene.reply(entry, "0.1", b"2")
    assert scene.writer.written == [b"1", b"2"]


def test_a_connection_that_is_gone_is_counted() -> None:
    scene = Scene()
    scene.connections.remove(scene.number)
    scene.reply(scene.entry("a"), "0", b"A")
    assert scene.outcomes == {"gone": 1}


def test_frames_without_a_connection_have_no_answer() -> None:
    scene = Scene()
    scene.reply(scene.entry("a", connection=0), "0", b"A")
    assert scene.outcomes == {}
