"""Batches that carry the decoder which `auto` found: decoded by it now, and after the settings have changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from eventserver import journaling
from eventserver.errors import SettingsError
from eventserver.settings import from_mapping
from tests.delivery.fakejournal import Disk, FakeJournal
from tests.service.test_durable import Server, acked

AUTO: dict[str, dict[str, Any]] = {"safe": {"decoder": "auto", "time_zone": "Asia/Tokyo"}}
LINE = b"<13>Nov 22 12:00:00 host app: one"


def found(server: Server, decoder: str, *frames: bytes) -> None:
    """Have the listener take frames, and find out what they are."""
    server.listener.context = dataclasses.replace(server.listener.context, decoder=decoder)
    acked(server, *frames)


def test_a_batch_is_decoded_by_what_was_found() -> None:
    """And by `auto` itself where it carries that name."""
    server = Server(listeners=AUTO)
    server.journal.write()
    found(server, "syslog", LINE, b"no priority")
    found(server, "text", LINE)
    found(server, "auto", LINE, b"a line")
    assert [event.type for event in server.events["h"]] == ["syslog", "syslog", "text", "syslog", "text"]
    assert [event.time.hour for event in server.events["h"] if event.message == "one"] == [3, 3]
    server.check()


@pytest.mark.parametrize("today", [{"safe": {"decoder": "json"}}, {"other": {}}])
def test_old_batches_are_decoded_by_the_settings_of_then(today: dict[str, dict[str, Any]]) -> None:
    first = Server(listeners=AUTO)
    first.journal.write()
    first.waits = True
    found(first, "syslog", LINE)
    second = Server(first.kill(), listeners=today)
    [event] = second.events["h"]
    assert (event.type, event.message, event.time.hour) == ("syslog", "one", 3)
    second.check()


def test_todays_settings_of_a_decoder_count_before_those_of_then() -> None:
    first = Server(listeners=AUTO)
    first.journal.write()
    first.waits = True
    found(first, "syslog", LINE)
    second = Server(first.kill(), listeners={"safe": {"decoder": "syslog", "time_zone": "UTC"}})
    assert [event.time.hour for event in second.events["h"]] == [12]
    second.check()


def test_of_former_settings_those_of_the_decoder_itself_count_first() -> None:
    own = Server(listeners={"safe": {"decoder": "syslog", "time_zone": "UTC"}}).journal.kept_decoders()
    auto = Server(listeners=AUTO).journal.kept_decoders()
    server = Server(FakeJournal(Disk(decoders=[*own, *auto])), listeners={"x": {}})
    decoders = journaling.former_decoders(server.journal, server.settings)
    assert decoders["safe", "syslog"].decode is not decoders["safe", "auto"].choices["syslog"].decode  # type: ignore[attr-defined]
    assert decoders["safe", "syslog"] is not decoders["safe", "auto"].choices["syslog"]  # type: ignore[attr-defined]
    assert decoders["safe", "json"] is decoders["safe", "auto"].choices["json"]  # type: ignore[attr-defined]


# What the settings make of it


def test_one_listener_serves_streams_and_datagrams() -> None:
    table = {"type": "auto", "endpoints": ["tcp:5140", "udp:5140"], "ack": "memory", "max_frame": "8 KiB"}
    listener = from_mapping({"listener": {"all": table}}).listeners["all"]
    assert [(part.name, part.endpoints) for part in listener.parts] == [
        ("auto", ("tcp:5140",)),
        ("datagram", ("udp:5140",)),
    ]
    assert (listener.decoder.name, listener.ack) == ("auto", "memory")


def test_datagrams_alone_are_found_out_too() -> None:
    listener = from_mapping({"listener": {"all": {"type": "auto", "endpoints": ["udp:5140"]}}}).listeners["all"]
    assert (listener.decoder.name, [part.name for part in listener.parts]) == ("auto", ["datagram"])
    with pytest.raises(SettingsError, match=r"ack: this type of listener cannot acknowledge"):
        from_mapping({"listener": {"all": {"type": "auto", "endpoints": ["udp:5140"], "ack": "memory"}}})


def test_streams_of_the_decoder_are_cut_as_syslog() -> None:
    """With `type = "stream"`: each frame is looked at, whatever came before."""
    listener = from_mapping({"listener": {"all": {"decoder": "auto", "endpoints": ["tcp:5140"]}}}).listeners["all"]
    assert (listener.parts[0].name, listener.framer.name) == ("stream", "auto")
