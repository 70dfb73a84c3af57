"""What every encoder promises (`IEncoder`), as a class of tests to inherit from::

class TestMyEncoder(EncoderConformance):
    def make(self) -> Any:
        return MyEncoder(MyEncoder.Options())
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from zope.interface.verify import verifyObject

from eventserver.event import Batch, Event, with_raw
from eventserver.interfaces import IEncoder

_TIME = dt.datetime(2026, 11, 22, 15, 3, 0, 123456, tzinfo=dt.UTC)


class _Awkward:
    """An object that answers nothing."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __bool__(self) -> bool:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__
    __hash__ = None  # type: ignore[assignment]  # as Python sets it for a class with __eq__


def _looped() -> list[Any]:
    loop: list[Any] = []
    loop += [loop, loop]
    return loop


#: Values that no decoder of ours makes, but a step or a decoder of one's own can.
AWKWARD_VALUES: list[Any] = [
    float("nan"),
    float("inf"),
    10**5000,
    -(2**70),
    "\ud800 lone surrogate",
    "two\nlines\r\x1b[31m\x00\u2028\u202e",
    b"\xff\x00\n",
    {1: 2, None: 3, (4,): 5, "\udfff": 6, b"\xff": 8},
    {"a", "b"},
    1j,
    _Awkward(),
    {"deep": [[[_Awkward()]]]},
    _looped(),
    dt.date(2026, 11, 22),
    dt.datetime(2026, 11, 22),
    None,
    "",
    [],
]


def sample_event(number: int = 0, **changes: Any) -> Event:
    """An ordinary event with its frame."""
    message = f"message {number}"
    fields = {"hostname": "web1", "app_name": "sshd", "severity": "err", "severity_code": 3}
    peer = "192.0.2.7:51123"
    event = Event(f"01BATCH-{number}", _TIME, _TIME, "lines", peer, "text", message, fields)
    return with_raw(event, message.encode()).replace(**changes)


def awkward_events() -> list[Event]:
    """Events with each awkward value, in each place where a value may stand."""
    names = ("hostname", "app_name", "severity", "severity_code", "facility_code", "structured_data", "\ud800", "x")
    return [
        sample_event(number, fields={name: value})
        for number, (value, name) in enumerate((value, name) for value in AWKWARD_VALUES for name in names)
    ] + [
        sample_event(0, **{name: value}) for value in AWKWARD_VALUES for name in ("message", "context", "type", "peer")
    ]


class EncoderConformance:
    """Inherit, and define `make`. `lines = False` for an encoder whose payloads may hold LF."""

    lines = True

    def make(self) -> Any:
        """A new encoder."""
        raise NotImplementedError

    def test_provides_the_interface(self) -> None:
        assert verifyObject(IEncoder, self.make())
        assert self.make().wants in ("frames", "events")
        assert isinstance(self.make().wants_raw, bool)

    def test_no_events_give_nothing(self) -> None:
        assert self.make().encode([]) == []
        assert self.make().encode_lines([]) == b""

    def test_one_payload_an_event_in_order(self) -> None:
        events = [sample_event(number) for number in range(12)]
        payloads = self.make().encode(events)
        assert len(payloads) == 12
        assert payloads == [self.make().encode([event])[0] for event in events]

    def test_lines_are_the_payloads_each_ended_by_a_line_feed(self) -> None:
        events = [sample_event(number) for number in range(12)]
        assert self.make().encode_lines(events) == b"".join(p + b"\n" for p in self.make().encode(events))

    def test_one_event_is_one_line_whatever_it_holds(self) -> None:
        events = [sample_event(0, message="a\nb\r\nc\x00\x85\u2028"), sample_event(1, type="undecodable")]
        encoded = self.make().encode_lines(events)
        assert encoded.endswith(b"\n")
        if self.lines:
            assert encoded.count(b"\n") == 2
            assert b"\r" not in encoded

    def test_awkward_values_never_raise_and_spoil_no_neighbour(self) -> None:
        encoder = self.make()
        good = sample_event(1)
        for event in awkward_events():
            payloads = encoder.encode([good, event, good])
            assert len(payloads) == 3
            assert payloads[0] == payloads[2] == encoder.encode([good])[0]
            if self.lines:
                assert encoder.encode_lines([good, event, good]).count(b"\n") == 3

    def test_events_are_not_changed(self) -> None:
        event = sample_event()
        before = (dict(event.fields), dict(event.context))
        self.make().encode_lines([event])
        assert (event.fields, event.context) == before

    def test_frames_are_encoded_where_frames_are_wanted(self) -> None:
        encoder = self.make()
        if encoder.wants == "frames":
            batch = Batch(id="b", listener="l", decoder="text", received=_TIME, peers=("p",), frames=[b"one", b"two"])
            assert len(encoder.encode_frames([batch, batch])) == 4
            assert encoder.encode_frames([]) == []
