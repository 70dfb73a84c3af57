"""What a sender repeats is stored once, where its protocol names it: Idempotency-Key, CloudEvents' source and id."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from eventserver.listeners._http_repeats import KeyWindow
from tests.listeners.httpworld import World

NDJSON = "application/x-ndjson"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    assert world.counters.balanced(), world.counters


def event(number: int, source: str = "/shop") -> dict[str, Any]:
    return {"specversion": "1.0", "id": str(number), "source": source, "type": "order"}


def encoded(*numbers: int) -> bytes:
    return json.dumps([event(number) for number in numbers]).encode()


# Idempotency-Key


def test_a_repeated_request_is_answered_and_stored_once(world: World) -> None:
    first = world.asks(b"1\n2\n", content_type=NDJSON, idempotency_key="k")
    again = world.asks(b"1\n2\n", content_type=NDJSON, idempotency_key="k")
    assert (first.status, first.json) == (200, {"accepted": 2, "duplicates": 0})
    assert (again.status, again.json) == (200, {"accepted": 0, "duplicates": 2})
    assert world.frames == [b"1", b"2"]
    assert world.counters.duplicates == 2
    assert world.counters.received == 2
    assert world.counters.acknowledged == 4


def test_a_repeat_in_another_encoding_is_a_repeat(world: World) -> None:
    world.asks(b"x", idempotency_key="k")
    again = world.asks(gzip.compress(b"x"), content_encoding="gzip", idempotency_key="k")
    assert again.json["duplicates"] == 1


def test_a_key_with_another_body_is_refused(world: World) -> None:
    """To answer it 200 would lose it."""
    world.asks(b"x", idempotency_key="k")
    assert world.asks(b"y", idempotency_key="k").status == 422
    assert world.frames == [b"x"]
    assert world.counters.rejected == {"key_reused": 1}


def test_keys_of_other_paths_are_other_keys(world: World) -> None:
    world.asks(b"x", path="/a", idempotency_key="k")
    world.asks(b"x", path="/b", idempotency_key="k")
    assert world.frames == [b"x", b"x"]


@pytest.mark.parametrize(("key", "status"), [("", 400), ("k" * 255, 200), ("k" * 256, 400)])
def test_a_key_has_a_length(world: World, key: str, status: int) -> None:
    assert world.asks(b"x", idempotency_key=key).status == status


def test_a_repeat_in_flight_waits_for_the_first(world: World) -> None:
    world.intake.ack_now = False
    first, second = world.peer(), world.peer()
    first.post(b"x", idempotency_key="k")
    second.post(b"x", idempotency_key="k")
    assert first.answers() == second.answers() == []
    assert [position for position, _ in world.intake.watches] == [1, 1]
    world.intake.deliver()
    assert [first.answer().status, second.answer().status] == [200, 200]
    assert world.frames == [b"x"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"x", {"idempotency_key": "k"}), (encoded(1, 2), {"content_type": BATCH})],
    ids=["Idempotency-Key", "CloudEvents"],
)
@pytest.mark.parametrize("failure", [None, Failure(RuntimeError("expired"))], ids=["delivered", "expired"])
def test_a_repeat_is_read_while_the_intake_takes_the_first(
    world: World, body: bytes, headers: dict[str, str], failure: Failure | None
) -> None:
    """A handler takes all there is, or the oldest is given up: the request before it is answered, and then it comes."""
    intake = world.intake
    intake.ack_now = False
    other, first = world.peer(), world.peer()
    other.post(b"a")
    other.post(body, **headers)
    assert len(world.frames) == 1, "it waits in the connection"
    intake.meanwhile(lambda: intake.deliver(failure))
    first.post(body, **headers)
    assert [answer.status for answer in other.answers()] == [200 if failure is None else 503]
    count = len(world.frames)
    assert count == len({bytes(frame) for frame in world.frames}), "nothing is stored twice"
    intake.deliver()
    assert first.answer().json == {"accepted": count - 1, "duplicates": 0}
    assert other.answer().json == {"accepted": 0, "duplicates": count - 1}


def test_requests_that_are_read_while_one_is_stored_are_refused_one_by_one(world: World) -> None:
    intake = world.intake
    intake.ack_now = False
    other, first = world.peer(), world.peer()
    other.post(b"a")
    other.post(b"y", idempotency_key="k")
    other.post(b"x", idempotency_key="k")
    intake.on_put = intake.deliver
    first.post(b"x", idempotency_key="k")
    assert [answer.status for answer in other.answers()] == [200, 422]
    intake.deliver()
    assert [first.answer().status, other.answer().status] == [200, 200]
    assert world.frames == [b"a", b"x"]


def test_a_repeat_of_what_was_refused_is_stored(world: World) -> None:
    world.intake.room = 0
    assert world.asks(b"x", idempotency_key="k").status == 503
    world.intake.room = None
    assert world.asks(b"x", idempotency_key="k").json["accepted"] == 1


def test_a_repeat_of_what_was_not_acknowledged_waits_for_that(world: World) -> None:
    """The first one is stored, only its sender was not told."""
    world.intake.failure = Failure(RuntimeError("not now"))
    assert world.asks(b"x", idempotency_key="k").status == 503
    assert world.asks(b"x", idempotency_key="k").status == 503
    world.intake.failure = None
    assert world.asks(b"x", idempotency_key="k").json == {"accepted": 0, "duplicates": 1}
    assert world.frames == [b"x"]


# CloudEvents


def test_repeated_events_of_a_batch_are_left_out(world: World) -> None:
    assert world.asks(encoded(1, 2), content_type=BATCH).json == {"accepted": 2, "duplicates": 0}
    assert world.asks(encoded(2, 3, 3, 1, 4), content_type=BATCH).json == {"accepted": 2, "duplicates": 3}
    assert [json.loads(frame)["id"] for frame in world.frames] == ["1", "2", "3", "4"]
    assert world.counters.duplicates == 3


def test_an_event_is_the_same_in_every_mode(world: World) -> None:
    world.asks(json.dumps(event(1)).encode(), content_type=STRUCTURED)
    headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/shop", "ce_type": "order"}
    assert world.asks(b"", **headers).json == {"accepted": 0, "duplicates": 1}
    assert world.asks(encoded(1), content_type=BATCH).json["duplicates"] == 1


def test_source_and_id_together_name_an_event(world: World) -> None:
    for source, number in (("/a", 11), ("/a1", 1), ("/b", 11)):
        body = json.dumps(event(number, source)).encode()
        assert world.asks(body, content_type=STRUCTURED).json["accepted"] == 1


def test_a_batch_of_repeats_waits_for_the_last_of_them(world: World) -> None:
    world.intake.ack_now = False
    for numbers in ((1,), (2,), (2, 1)):
        world.peer().post(encoded(*numbers), content_type=BATCH)
    assert [position for position, _ in world.intake.watches] == [1, 2, 2]


def test_positions_are_those_of_the_frames(world: World) -> None:
    world.asks(b"x")
    world.asks(encoded(7, 8, 9), content_type=BATCH)
    world.intake.ack_now = False
    world.peer().post(encoded(8), content_type=BATCH)
    assert [position for position, _ in world.intake.watches] == [3]


def test_events_of_a_request_with_a_key_have_their_own_keys_too(world: World) -> None:
    world.asks(encoded(1, 2), content_type=BATCH, idempotency_key="k")
    assert world.asks(encoded(2, 3), content_type=BATCH, idempotency_key="l").json == {"accepted": 1, "duplicates": 1}
    assert world.asks(encoded(3), content_type=BATCH).json["duplicates"] == 1
    assert world.asks(encoded(1, 2), content_type=BATCH, idempotency_key="m").json["duplicates"] == 2
    assert world.asks(encoded(1, 2), content_type=BATCH, idempotency_key="m").json["duplicates"] == 2
    assert world.counters.received == 3


# Where keys are remembered


class Journal:
    """As much of a journal on disk as matters here."""

    unwell = None

    def __init__(self) -> None:
        self.keys: dict[tuple[str, str], int] = {}

    def recall(self, scope: str, key: str) -> int | None:
        return self.keys.get((scope, key))

    def remember(self, scope: str, keys: list[tuple[str, int]]) -> None:
        self.keys |= {(scope, key): position for key, position in keys}


def test_with_a_journal_keys_outlive_the_listener() -> None:
    journal = Journal()
    World({"journal": journal}).asks(b"x", idempotency_key="k")
    world = World({"journal": journal})
    assert world.asks(b"x", idempotency_key="k").json == {"accepted": 0, "duplicates": 1}
    assert world.frames == []
    assert {scope for scope, _ in journal.keys} == {"test/idempotency-key"}
    assert max(len(key) for _, key in journal.keys) <= 64


def test_listeners_do_not_share_keys() -> None:
    journal = Journal()
    World({"journal": journal}).asks(b"x", idempotency_key="k")
    other = World({"journal": journal, "name": "other"})
    assert other.asks(b"x", idempotency_key="k").json["accepted"] == 1


def test_without_one_the_window_is_bounded_by_number_and_age() -> None:
    clock = Clock()
    window = KeyWindow(clock.seconds, 3, 60.0)
    window.remember("s", [("a", 1), ("b", 2)])
    clock.advance(30)
    window.remember("s", [("c", 3), ("d", 4)])
    assert [window.recall("s", key) for key in "abcd"] == [None, 2, 3, 4]
    assert window.recall("t", "b") is None
    clock.advance(31)
    assert [window.recall("s", key) for key in "abcd"] == [None, None, 3, 4]
    assert len(window) == 2


def test_the_listeners_window_has_the_settings_bounds() -> None:
    world = World(max_repeat_keys=4, repeat_window=60.0)
    for key in "abc":
        world.asks(b"x", idempotency_key=key)
    assert world.asks(b"x", idempotency_key="a").json["accepted"] == 1
    assert world.asks(b"x", idempotency_key="c").json["accepted"] == 0
    world.reactor.advance(61)
    assert world.asks(b"x", idempotency_key="c").json["accepted"] == 1
