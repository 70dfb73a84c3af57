"""CloudEvents over HTTP, in its three modes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.listeners.httpworld import World

STRUCTURED = "application/cloudevents+json; charset=UTF-8"
BATCH = "application/cloudevents-batch+json"
NAMES = {"ce_specversion": "1.0", "ce_id": "A-1", "ce_source": "/shop", "ce_type": "com.example.order"}
EVENT = {"specversion": "1.0", "id": "A-1", "source": "/shop", "type": "com.example.order"}


@pytest.fixture
def world() -> Any:
    world = World({"decoder": "cloudevents"})
    yield world
    assert world.counters.balanced(), world.counters


def test_a_structured_event_is_kept_byte_for_byte(world: World) -> None:
    body = b' {"specversion":"1.0", "id":"A-1","source" : "/shop","type":"t","data":{"a":1.0}}\n'
    assert world.asks(body, content_type=STRUCTURED).status == 200
    assert world.frames == [body.strip()]


def test_a_batch_is_one_frame_an_event(world: World) -> None:
    events = [{**EVENT, "id": str(number)} for number in range(3)]
    assert world.asks(json.dumps(events).encode(), content_type=BATCH).json["accepted"] == 3
    assert [json.loads(frame) for frame in world.frames] == events
    assert world.asks(b"[]", content_type=BATCH).json["accepted"] == 0


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json", b'{"n": 1}', {"data": {"n": 1}}),
        ("application/vnd.shop+json; v=2", b"[1]", {"data": [1]}),
        ("text/plain; charset=utf-8", "grüße".encode(), {"data": "grüße"}),
        ("application/xml", b"<a/>", {"data": "<a/>"}),
        ("application/octet-stream", b"\0\xff", {"data_base64": base64.b64encode(b"\0\xff").decode()}),
        ("text/plain", b"\xff", {"data_base64": "/w=="}),
        ("(none)", b'"text"', {"data": "text"}),
        ("(none)", b"plain", {"data": "plain"}),
        ("(none)", b"\xff", {"data_base64": "/w=="}),
        ("application/json", b"", {}),
    ],
)
def test_a_binary_event_becomes_json(world: World, content_type: str, body: bytes, data: dict[str, Any]) -> None:
    assert world.asks(body, content_type=content_type, **NAMES).status == 200
    [frame] = world.frames
    kind = {} if content_type == "(none)" else {"datacontenttype": content_type}
    assert json.loads(frame) == {**EVENT, **kind, **data}


def test_attributes_in_headers_are_percent_decoded_once(world: World) -> None:
    """And quotes, with which some senders write them, are undone."""
    world.asks(
        b"", **NAMES, ce_subject="Euro%20%E2%82%AC %2541", ce_mine='"a \\"b\\" c"', ce_time="2026-11-22T12:00:00Z"
    )
    found = json.loads(world.frames[0])
    assert (found["subject"], found["mine"], found["time"]) == ("Euro € %41", 'a "b" c', "2026-11-22T12:00:00Z")


@pytest.mark.parametrize("missing", sorted(NAMES))
def test_without_a_required_attribute_it_is_malformed(world: World, missing: str) -> None:
    name = missing.removeprefix("ce_")
    headers = {key: value for key, value in NAMES.items() if key != missing}
    binary = world.asks(b"", **headers)
    if binary.status == 400 and "empty" not in binary.json["error"]:
        assert f"`{name}` is missing" in binary.json["error"]
    event = {key: value for key, value in EVENT.items() if key != name}
    for wrong in (event, {**event, name: ""}):
        answer = world.asks(json.dumps(wrong).encode(), content_type=STRUCTURED)
        assert (answer.status, answer.json["error"]) == (400, f"no CloudEvent: `{name}` is missing")
    assert world.asks(json.dumps([EVENT, event]).encode(), content_type=BATCH).status == 400
    assert world.frames == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"text"', b"{", b'{"specversion":"0.3","id":"1","source":"/","type":"t"}', b'{"id": 1}', b"[" * 9999],
)
def test_what_is_no_cloudevent_1_0_is_malformed(world: World, body: bytes) -> None:
    assert world.asks(body, content_type=STRUCTURED).status == 400
    assert world.counters.rejected == {"malformed": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_specversion": "0.3"},
        {"ce_my-thing": "x"},
        {"ce_data": "x"},
        {"ce_datacontenttype": "text/plain"},
        {"ce_subject": "%FF"},
        {"content_type": "application/json"},
    ],
)
def test_wrong_headers_and_data_are_malformed(world: World, headers: dict[str, str]) -> None:
    assert world.asks(b"{nope", **{**NAMES, **headers}).status == 400


@pytest.mark.parametrize("content_type", ["application/cloudevents+avro", "application/cloudevents-batch+protobuf"])
def test_other_formats_are_not_supported(world: World, content_type: str) -> None:
    assert world.asks(b"x", content_type=content_type).status == 415
    assert world.counters.rejected == {"unsupported": 1}
