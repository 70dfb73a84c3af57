"""The decoder `gelf`."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from msgspec import UNSET

from eventserver.decoders.gelf import GelfDecoder, GelfOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch

MESSAGE = {"version": "1.1", "host": "web1", "short_message": "hello", "timestamp": 1385053862.3072, "level": 3}


def frame(**changes: Any) -> bytes:
    """A message with some keys changed; None takes one out."""
    return json.dumps({key: value for key, value in {**MESSAGE, **changes}.items() if value is not None}).encode()


def decode(**changes: Any) -> Event:
    [event] = GelfDecoder().decode(batch(frame(**changes)))
    return event


class TestConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> GelfDecoder:
        return GelfDecoder()

    def samples(self) -> list[bytes]:
        return [frame(short_message=text, _n=number) for number, text in enumerate(["a", "grüße", "c\nd"])]


@pytest.mark.parametrize("frames", [1, 20])
def test_everything_goes_where_it_belongs(frames: int) -> None:
    """Whether they are decoded one by one, or all at once."""
    given = frame(full_message="hello\nworld", _user_id=9001, _some_info="foo", facility="app", line=3)
    for event in GelfDecoder().decode(batch(*[given] * frames)):
        assert (event.type, event.message) == ("gelf", "hello")
        assert event.time == dt.datetime(2013, 11, 21, 17, 11, 2, 307200, tzinfo=dt.UTC)
        assert event.fields == {
            "hostname": "web1",
            "full_message": "hello\nworld",
            "facility": "app",
            "line": 3,
            "severity": "err",
            "severity_code": 3,
            "user_id": 9001,
            "some_info": "foo",
        }
        assert event.raw is UNSET


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, ("emerg", 0, None)),
        (7, ("debug", 7, None)),
        ("4", ("warning", 4, None)),
        (6.0, ("info", 6, None)),
        (None, ("alert", 1, None)),
        (8, (None, None, 8)),
        (-1, (None, None, -1)),
        (40, (None, None, 40)),
        (2.5, (None, None, 2.5)),
        ("error", (None, None, "error")),
        (True, (None, None, True)),
        ([1], (None, None, [1])),
        ({}, (None, None, {})),
    ],
)
def test_levels(level: Any, expected: tuple[Any, ...]) -> None:
    """Those of syslog; any other stays as it came."""
    fields = decode(level=level).fields
    assert (fields.get("severity"), fields.get("severity_code"), fields.get("level")) == expected


def test_the_level_of_those_that_name_none_is_an_option() -> None:
    given = batch(frame(level=None))
    [event] = GelfDecoder(GelfOptions(default_level=6)).decode(given)
    assert (event.fields["severity"], event.fields["severity_code"]) == ("info", 6)
    [event] = GelfDecoder(GelfOptions(default_level=-1)).decode(given)
    assert "severity" not in event.fields


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (1385053862, 1385053862),
        (1385053862.5, 1385053862.5),
        ("1385053862.5", 1385053862.5),
        (1385053862500, 1385053862.5),
        ("2013-11-21T17:11:02.5Z", 1385053862.5),
        (None, None),
        ("soon", "soon"),
        ("nan", "nan"),
        ("1e400", "1e400"),
        ([], []),
    ],
)
def test_times(timestamp: Any, seconds: Any) -> None:
    """One that cannot be read stays as it came."""
    event = decode(timestamp=timestamp)
    if isinstance(seconds, (int, float)):
        assert (event.time.timestamp(), "timestamp" in event.fields) == (seconds, False)
    else:
        assert (event.time, event.fields.get("timestamp")) == (RECEIVED, seconds)


def test_the_message_may_be_elsewhere() -> None:
    """As Graylog reads it; and what there is is better than nothing."""
    event = decode(short_message=None, message="m", full_message="f")
    assert (event.message, event.fields["full_message"], "message" in event.fields) == ("m", "f", False)
    event = decode(short_message=None, full_message="f")
    assert (event.message, "full_message" in event.fields) == ("f", False)
    event = decode(short_message=12)
    assert (event.message, event.fields["short_message"]) == ("12", 12)
    event = decode(short_message="", full_message="f")
    assert (event.message, event.type) == ("f", "gelf")


@pytest.mark.parametrize("frames", [1, 20])
def test_without_any_message_it_is_undecodable(frames: int) -> None:
    given = batch(*[frame(short_message=None)] * frames, frame(short_message=""), frame())
    events = GelfDecoder().decode(given)
    assert [event.type for event in events] == ["undecodable"] * frames + ["gelf", "gelf"]
    assert events[0].fields == {"error": "no GELF: `short_message` is missing"}
    assert events[0].raw == given.frames[0].decode()
    assert [event.id for event in events] == [given.id_of(index) for index in range(frames + 2)]


def test_a_host_is_not_asked_for() -> None:
    event = decode(host=None)
    assert (event.type, "hostname" in event.fields) == ("gelf", False)


def test_fields_keep_their_underscore_where_the_name_is_taken() -> None:
    """Nothing is lost, and the sender's own field never stands for what GELF says."""
    fields = decode(_hostname="other", _severity="mine", _full_message="x", full_message="f", _id=7, _=1, __x=2).fields
    assert (fields["hostname"], fields["_hostname"]) == ("web1", "other")
    assert (fields["severity"], fields["_severity"]) == ("err", "mine")
    assert (fields["full_message"], fields["_full_message"]) == ("f", "x")
    assert (fields["_id"], fields["_"], fields["_x"]) == (7, 1, 2)


def test_fields_of_the_version_and_level_of_an_application_have_their_names() -> None:
    fields = decode(_version="2.4", _level="high", _host="inner").fields
    assert (fields["version"], fields["level"], fields["host"]) == ("2.4", "high", "inner")
    assert decode(version="7").fields["version"] == "7"
    assert decode(version=[]).fields["version"] == []


def test_names_that_gelf_has_not_are_left_as_they_are() -> None:
    """A sender's `severity` is not overwritten, and its level not lost."""
    fields = decode(severity="mine", hostname="other").fields
    assert (fields["severity"], fields["level"]) == ("mine", 3)
    assert (fields["hostname"], fields["host"]) == ("other", "web1")


def test_values_need_not_be_texts_or_numbers() -> None:
    fields = decode(_flag=True, _list=[1], _object={"_a": 1}).fields
    assert (fields["flag"], fields["list"], fields["object"]) == (True, [1], {"_a": 1})


def test_what_surrounds_a_message_is_skipped() -> None:
    """The LF before a NUL, and the NUL after an LF; only these are no event."""
    events = GelfDecoder().decode(batch(frame() + b"\n", b"\0" + frame(), b"\0", b""))
    assert [event.message for event in events] == ["hello", "hello"]


def test_event_type_names_them_all() -> None:
    decoder = GelfDecoder(GelfOptions(event_type="app"))
    ours, theirs = decoder.decode(batch(frame(), b"nope"))
    assert (ours.type, theirs.type) == ("app", "undecodable")


def test_limits_are_those_of_json() -> None:
    decoder = GelfDecoder(GelfOptions(max_keys=10, max_depth=3))
    many, deep = frame(**{f"_{n}": n for n in range(10)}), frame(_a={"b": {"c": {}}})
    assert [event.type for event in decoder.decode(batch(many, deep, frame()))] == ["undecodable"] * 2 + ["gelf"]


def test_what_is_remembered_of_keys_is_bounded() -> None:
    """A sender that makes new keys up for each message changes neither the events nor what others cost."""
    decoder = GelfDecoder()
    for start in range(0, 3000, 500):
        frames = [frame(**{f"_{number}": number, "_" + "k" * number: 1}) for number in range(start, start + 500)]
        events = decoder.decode(batch(*frames))
        assert [event.fields[str(start + n)] for n, event in enumerate(events)] == list(range(start, start + 500))
    assert len(decoder._plans) <= 512
    assert sum(len(key) for keys in decoder._plans for key in keys) <= 512 * 1024
