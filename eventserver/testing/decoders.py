"""What every decoder promises, as tests: subclass `DecoderConformance`, name the decoder, and pytest runs them."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import msgspec
import pytest
from zope.interface.verify import verifyObject

from eventserver.blocks import Lines
from eventserver.encoders import JsonEncoder
from eventserver.event import Batch, Event, frame_index
from eventserver.interfaces import IDecoder, IJsonLines

RECEIVED = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)

#: Frames that have broken decoders: nothing, wrong encodings, half characters, brackets, numbers, format strings.
NASTY = [
    *(b"", b" ", b"\0", b"\n", b"\r\n", b"\xff\xfe\xfd", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"a\nb\n\nc"),
    *(b"<", b"<>", b"<13>", b"<13>1", b"<13>1 ", b"<13>1 - - - - - [", b"<999>x", b"<13>Nov 31 99:99:99 h t: m"),
    *(b"{", b"}", b"[]", b"{}", b"null", b"NaN", b"1e999", b'{"a":', b'{"a":"\\ud800"}', b'"\\', b"%s{}\\"),
    *(b"9" * 5000, b'{"time":' + b"9" * 400 + b"}", b"[" * 5000, b'{"a":' * 5000, b"\x1b[31m\xe2\x80\xae"),
    *(b" " * 70000, b"[a" * 20000, b"a:" * 20000),
]  # fmt: skip


def batch(*frames: bytes, **changes: Any) -> Batch:
    """A batch of these frames from one peer; `changes` are other attributes of it."""
    given: dict[str, Any] = {
        "id": "01JD0000000000000000000000",
        "listener": "test",
        "decoder": "test",
        "received": RECEIVED,
        "peers": ["192.0.2.7:51123"],
        "frames": list(frames),
    }
    return Batch(**given | changes)


def check_json_lines(decoder: Any, given: Batch) -> bool:
    """Whether the decoder has JSON lines for this batch; they are what the encoder `json` writes for its events.

    For decoders that provide `IJsonLines`.
    """
    lines = decoder.json_lines(given)
    events = decoder.decode(given)
    assert len(events) == len(given.frames)
    expected = JsonEncoder(JsonEncoder.Options()).encode_lines(events)
    assert lines is None or lines == expected, first_difference(lines, expected)
    return lines is not None


def first_difference(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """The first lines that differ, for people."""
    pairs = zip(one.split(b"\n"), other.split(b"\n"), strict=False)
    return next((pair for pair in pairs if pair[0] != pair[1]), (one, other))


class DecoderConformance:
    """The contract of `IDecoder`, and of `IJsonLines` where it is provided. Subclasses define `make` and `samples`."""

    def make(self) -> Any:
        """A new decoder."""
        raise NotImplementedError

    def samples(self) -> list[bytes]:
        """At least two frames that the decoder reads, each as exactly one event, all different."""
        raise NotImplementedError

    def test_it_provides_the_interface(self) -> None:
        """The decoder declares itself, and has what `IDecoder` asks for."""
        verifyObject(IDecoder, self.make())

    def test_a_batch_without_frames_has_no_events(self) -> None:
        assert self.make().decode(batch()) == []

    def test_samples_are_decoded_one_event_each_in_order(self) -> None:
        """Ids are `<batch>-<frame>`, and an event tells where it came from and when."""
        frames = self.samples() * 3
        given = batch(*frames)
        events = self.make().decode(given)
        assert [event.id for event in events] == [f"{given.id}-{index}" for index in range(len(frames))]
        assert {(e.received, e.listener, e.peer) for e in events} == {(RECEIVED, "test", "192.0.2.7:51123")}
        assert "undecodable" not in {event.type for event in events}
        assert len({_content(event) for event in events}) == len(self.samples())

    def test_each_frame_has_its_own_peer_where_there_are_several(self) -> None:
        frames = self.samples()[:2]
        events = self.make().decode(batch(*frames, peers=["192.0.2.1:1", "192.0.2.2:2"]))
        assert [event.peer for event in events] == ["192.0.2.1:1", "192.0.2.2:2"]

    def test_marks_are_in_the_context_of_their_frame_only(self) -> None:
        frames = self.samples()[:2]
        events = self.make().decode(batch(*frames, marks={1: ("truncated",)}, context={"labels": {"site": "hq"}}))
        assert [event.context for event in events] == [
            {"labels": {"site": "hq"}},
            {"labels": {"site": "hq"}, "truncated": True},
        ]

    def test_a_part_of_a_batch_has_the_events_of_its_frames(self) -> None:
        """Ids count from the part's `offset`."""
        decoder, whole = self.make(), batch(*self.samples() * 3, peers=["a", "b", "c"] * len(self.samples()))
        events = decoder.decode(whole)
        for start, end in ((0, 2), (1, 3), (2, len(events))):
            assert decoder.decode(whole.part(start, end)) == events[start:end]

    def test_json_lines_are_those_of_the_events(self) -> None:
        """With one peer and several, with labels, for parts, with marks, and for texts that need escapes."""
        decoder = self.make()
        if not IJsonLines.providedBy(decoder):
            return
        frames = self.samples() * 2
        assert check_json_lines(decoder, batch(*frames)), "not even for the usual frames"
        several = batch(*frames, peers=['"a"', "b"] * len(self.samples()), context={"labels": {"s": 'h"q'}})
        assert check_json_lines(decoder, several)
        check_json_lines(decoder, several.part(1, len(frames)))
        check_json_lines(decoder, batch(*frames, marks={1: ("truncated",)}, listener='"', id="a\\b"))
        for odd in (b'"', b"\\n", b"\\", b"\x7f", b"\t\x01", "\u2028ä\U0001f600".encode(), b"\xff"):
            check_json_lines(decoder, batch(*[frame + odd for frame in frames]))
            check_json_lines(decoder, batch(*frames, frames[0] + odd))
        check_json_lines(decoder, batch())

    def test_lines_that_are_not_cut_yet_are_frames_as_any(self) -> None:
        """See `eventserver.blocks.Lines`."""
        decoder = self.make()
        if any(b"\n" in frame for frame in self.samples()):
            return
        for more in ([], *([frame] for frame in NASTY if len(frame) < 1000 and b"\n" not in frame)):
            given = batch(*[*self.samples(), *more] * 3)
            lines = batch(frames=Lines(b"".join([frame + b"\n" for frame in given.frames])))
            assert decoder.decode(lines) == decoder.decode(given)
            if IJsonLines.providedBy(decoder):
                assert decoder.json_lines(lines) == decoder.json_lines(given)

    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_nasty_frame_changes_no_other_frames_event(self, place: str) -> None:
        """What one peer sends never gets into the events of another."""
        samples = self.samples()
        expected = [_content(event) for event in self.make().decode(batch(*samples))]
        for nasty in NASTY:
            frames = [nasty, *samples] if place == "first" else [*samples, nasty]
            own = 0 if place == "first" else len(samples)
            events = self.make().decode(batch(*frames))
            assert [_content(event) for event in events if frame_index(event.id) != own] == expected, nasty[:60]

    def test_nasty_frames_never_raise_and_their_events_can_be_written(self) -> None:
        self.check(NASTY)
        for frame in NASTY:
            self.check([frame])

    def test_random_and_damaged_frames_never_raise(self) -> None:
        """Random bytes, and samples with bytes changed, cut and doubled."""
        rng = random.Random(20261122)
        frames = [rng.randbytes(rng.randrange(60)) for _ in range(300)]
        for sample in self.samples() * 40:
            damaged = bytearray(sample)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            cut = rng.randrange(len(sample))
            frames += [bytes(damaged), sample[:cut], sample[cut:], sample[:cut] + sample]
        for size in (1, 7, 100):
            for start in range(0, len(frames), size):
                self.check(frames[start : start + size])

    def test_decoding_again_gives_the_same_events(self) -> None:
        """Redelivery and replay: what is remembered between batches changes nothing."""
        decoder = self.make()
        given = batch(*self.samples(), *NASTY)
        assert decoder.decode(given) == decoder.decode(given) == self.make().decode(given)

    def check(self, frames: list[bytes]) -> None:
        """These frames decode: unique ids, in the order of the frames, UTC, and all of it can be written as JSON."""
        decoder = self.make()
        events = decoder.decode(batch(*frames))
        msgspec.json.encode(events)
        if IJsonLines.providedBy(decoder):
            check_json_lines(decoder, batch(*frames))
        assert len({event.id for event in events}) == len(events)
        indexes = [frame_index(event.id) for event in events]
        assert indexes == sorted(indexes)
        assert set(indexes) <= set(range(len(frames)))
        assert all(event.time.tzinfo is dt.UTC for event in events)


def _content(event: Event) -> bytes:
    """An event without its id."""
    return msgspec.json.encode(event.replace(id=""), order="deterministic")
