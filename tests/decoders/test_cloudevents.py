"""The decoder `cloudevents`."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from msgspec import UNSET

from eventserver.decoders.cloudevents import CloudEventsDecoder, CloudEventsOptions
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

EVENT = {"specversion": "1.0", "id": "A-1", "source": "/shop", "type": "com.example.order"}


def frame(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


class TestConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> CloudEventsDecoder:
        return CloudEventsDecoder()

    def samples(self) -> list[bytes]:
        return [frame(id=str(number), data=text) for number, text in enumerate(["a", "grüße", "c\nd"])]


@pytest.mark.parametrize("frames", [1, 20])
def test_attributes_go_where_they_belong(frames: int) -> None:
    """Whether they are decoded one by one, or all at once."""
    given = frame(time="2026-11-22T13:00:00+01:00", subject="order 7", data="a new order", mine="x")
    for event in CloudEventsDecoder().decode(batch(*[given] * frames)):
        assert (event.type, event.message) == ("com.example.order", "a new order")
        assert event.time == dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
        assert event.fields == {
            "specversion": "1.0",
            "id": "A-1",
            "source": "/shop",
            "subject": "order 7",
            "mine": "x",
        }


def test_data_that_is_no_text_stays_a_field() -> None:
    [event] = CloudEventsDecoder().decode(batch(frame(data={"n": [1]}, datacontenttype="application/json")))
    assert (event.fields["data"], event.message, event.time) == ({"n": [1]}, '{"n":[1]}', RECEIVED)
    [event] = CloudEventsDecoder().decode(batch(frame(data_base64="AAEC")))
    assert (event.fields["data_base64"], event.message) == ("AAEC", "")


@pytest.mark.parametrize("name", sorted(EVENT))
@pytest.mark.parametrize("frames", [1, 20])
def test_what_is_no_cloudevent_is_undecodable(name: str, frames: int) -> None:
    wrong = json.dumps({key: value for key, value in EVENT.items() if key != name}).encode()
    events = CloudEventsDecoder().decode(batch(*[wrong] * frames, frame(**{name: None}), frame()))
    assert [event.type for event in events] == ["undecodable"] * (frames + 1) + ["com.example.order"]
    assert [event.id[-2:] for event in events][-1] == f"-{frames + 1}"[-2:]
    assert events[0].fields == {"error": f"no CloudEvent: `{name}` is missing"}
    assert events[0].raw == wrong.decode()
    assert events[-1].raw is UNSET


def test_an_array_gives_several() -> None:
    given = b"[" + frame(id="1") + b"," + b'{"a":1}' + b"]"
    first, second = CloudEventsDecoder().decode(batch(given))
    assert (first.fields["id"], second.type, second.id) == ("1", "undecodable", f"{first.id}.1")


def test_event_type_names_them_all() -> None:
    decoder = CloudEventsDecoder(CloudEventsOptions(event_type="order"))
    ours, theirs = decoder.decode(batch(frame(), b"nope"))
    assert (ours.type, theirs.type) == ("order", "undecodable")


def test_what_is_wrong_in_an_array_keeps_its_own_json_and_not_the_array() -> None:
    """Else 64 KiB of `{},` would become gigabytes."""
    wrong = {"type": "t", "time": "2026-11-22T13:00:00Z", "data": "text", "mine": 1}
    given = b"[{}," + json.dumps(wrong).encode() + b",{},{" + b'"data":{"n":1}}]'
    first, second, third, fourth = CloudEventsDecoder().decode(batch(given))
    assert [event.type for event in (first, second, third, fourth)] == ["undecodable"] * 4
    assert first.raw_bytes == given
    assert json.loads(second.raw_bytes or b"") == wrong
    assert (second.message, second.time) == (second.raw, RECEIVED)
    assert (third.raw, fourth.raw) == ("{}", '{"data":{"n":1}}')
