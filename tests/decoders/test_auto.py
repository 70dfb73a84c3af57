"""The decoder `auto`."""

from __future__ import annotations

import json

import pytest

from eventserver.decoders._kinds import kind_of, kind_of_all
from eventserver.decoders.auto import AutoDecoder, AutoOptions
from eventserver.options import parse
from eventserver.testing.decoders import DecoderConformance, batch

SYSLOG = b"<11>1 2026-11-22T10:00:00Z web1 app 7 - - broken"
GELF = b'{"version":"1.1","host":"web1","short_message":"hello","level":3}'
CLOUD = b'{"specversion":"1.0","id":"1","source":"/x","type":"made","data":"cloud"}'
JSON = b'{"message":"plain json","n":1}'


class TestConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> AutoDecoder:
        return AutoDecoder()

    def samples(self) -> list[bytes]:
        return [SYSLOG, GELF, JSON, b"a line", CLOUD, b"another line"]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (SYSLOG, "syslog"),
        (b"<13>Nov 22 10:00:00 web1 app: x", "syslog"),
        (b"<13>", "syslog"),
        (b"<>", "text"),
        (b"<html>", "text"),
        (GELF, "gelf"),
        (b" \n" + GELF, "gelf"),
        (b'{"short_message":"no host"}', "json"),
        (CLOUD, "cloudevents"),
        (b"[" + CLOUD + b"]", "cloudevents"),
        (JSON, "json"),
        (b"{}", "json"),
        (b'[ {"a":1}]', "json"),
        (b'{"cut off', "json"),
        (b"{x}", "text"),
        (b"[info] started", "text"),
        (b"", "text"),
        (b"\xff", "text"),
    ],
)
def test_the_first_bytes_tell(frame: bytes, kind: str) -> None:
    assert kind_of(frame) == kind


def test_a_batch_of_one_kind_has_that_kind() -> None:
    assert kind_of_all([SYSLOG, SYSLOG]) == "syslog"
    assert kind_of_all([SYSLOG, JSON]) is None
    assert kind_of_all([]) is None


def test_each_frame_is_decoded_as_what_it_is() -> None:
    """Ids, peers and marks stay with their frames."""
    peers = [f"192.0.2.{number}:1" for number in range(6)]
    frames = [SYSLOG, JSON, b'{"message":"two"}', b"a line", GELF, CLOUD]
    events = AutoDecoder().decode(batch(*frames, peers=peers, marks={3: ("truncated",)}))
    assert [event.type for event in events] == ["syslog", "json", "json", "text", "gelf", "made"]
    assert [event.message for event in events] == ["broken", "plain json", "two", "a line", "hello", "cloud"]
    assert [event.id.rpartition("-")[2] for event in events] == ["0", "1", "2", "3", "4", "5"]
    assert [event.peer for event in events] == peers
    assert [event.context for event in events] == [{}, {}, {}, {"truncated": True}, {}, {}]


def test_what_is_like_an_object_and_is_none_is_undecodable() -> None:
    [event] = AutoDecoder().decode(batch(b'{"a":}'))
    assert event.type == "undecodable"


def test_options_go_to_those_that_have_them() -> None:
    options = AutoOptions(time_zone="Europe/Paris", year=2025, message_key="msg", event_type="any")
    frames = [b"<13>Jul  1 12:00:00 web1 app: x", json.dumps({"msg": "y"}).encode(), b"z"]
    events = AutoDecoder(options).decode(batch(*frames))
    assert events[0].time.isoformat() == "2025-07-01T10:00:00+00:00"
    assert [event.message for event in events] == ["x", "y", "z"]
    assert {event.type for event in events} == {"any"}


def test_options_that_cannot_be_meant_are_named() -> None:
    keys = {"time_zone": "Nowhere/At all", "encoding": "klingon", "year": 3}
    assert [key for key, _ in parse(AutoOptions, keys)[1]] == ["time_zone", "year", "encoding"]
