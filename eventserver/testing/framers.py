"""What every framer has to do, as a class to inherit: `class TestMine(FramerConformance)` with a method `make`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from zope.interface.verify import verifyObject

from eventserver.interfaces import Fault, IFramer, ILines

#: Frames, and faults whose indexes are counted over all calls, sorted: a framer round a framer reports some later.
Outcome = tuple[list[bytes], list[tuple[str, int, bool]]]


def outcome(framer: Any, chunks: Iterable[bytes], *, finish: bool = True, lines: bool = False) -> Outcome:
    """What a framer makes of a stream that comes in these chunks, and ends after them; with `lines` by that method."""
    frames: list[bytes] = []
    faults: list[tuple[str, int, bool]] = []

    def note(found: Sequence[bytes]) -> None:
        for fault in framer.faults:
            assert fault.frame is None or 0 <= fault.frame < len(found), "a fault's index is one of the call's frames"
            faults.append((fault.reason, -1 if fault.frame is None else len(frames) + fault.frame, fault.fatal))
        frames.extend(found)

    feed = framer.lines if lines else framer.feed
    for chunk in chunks:
        note(feed(chunk))
    if finish:
        note(framer.finish())
    return frames, sorted(faults)


def cuts(data: bytes, size: int) -> Iterator[bytes]:
    """A stream in chunks of `size` bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))


class FramerConformance:
    """The promises of `IFramer`. Depends on nothing but the interface."""

    #: Frames that `wrap` can express and that come back as they are.
    payloads: ClassVar[tuple[bytes, ...]] = (b"<13>one", b"<14>two and more", b"<", b"<15>" + bytes(range(128, 256)))
    #: Bytes that `rest` may return over `max_frame`: a header, the beginning of a delimiter.
    slack = 16
    #: The reason of the fault for a frame over `max_frame`.
    oversize = "oversize"
    #: Bytes that garbage is made of, besides all others.
    alphabet = b"\n\r\0 <0123456789:,|a"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        """A fresh framer."""
        raise NotImplementedError

    def wrapped(self, *payloads: bytes) -> bytes:
        """Frames as bytes for the wire."""
        return b"".join(map(self.make().wrap, payloads))

    def garbage(self, seed: int, length: int) -> bytes:
        """Bytes that are often almost right; the same ones for the same seed."""
        draw = random.Random(seed)
        pieces = [bytes([draw.choice(self.alphabet)]) for _ in range(length)]
        for at in range(0, length, 7):
            pieces[at] = draw.choice([bytes([draw.randrange(256)]), self.wrapped(*self.payloads[: draw.randrange(3)])])
        return b"".join(pieces)

    def test_it_provides_the_interface(self) -> None:
        assert verifyObject(IFramer, self.make())

    def test_a_fresh_framer_holds_nothing(self) -> None:
        framer = self.make()
        assert (list(framer.faults), bool(framer.partial), framer.rest()) == ([], False, b"")
        assert (framer.feed(b""), framer.expire(0.0), framer.finish()) == ([], [], [])

    def test_what_is_wrapped_comes_back(self) -> None:
        assert outcome(self.make(), [self.wrapped(*self.payloads)]) == (list(self.payloads), [])

    def test_chunking_changes_neither_frames_nor_faults(self) -> None:
        for seed in range(20):
            data = self.wrapped(*self.payloads) + self.garbage(seed, 60)
            for oversize in ("truncate", "drop", "close"):
                for max_frame in (1, 7, 65536):
                    whole = outcome(self.make(max_frame, oversize), [data])
                    for size in (1, 2, 3, 11):
                        assert outcome(self.make(max_frame, oversize), cuts(data, size)) == whole

    def test_lines_are_what_feed_gives(self) -> None:
        """For a framer that provides `ILines`: in large reads and small ones, and lines as long as may be."""
        if not ILines.providedBy(self.make()):
            return
        for seed in range(20):
            draw = random.Random(seed)
            pieces = [self.garbage(seed, 300)]
            for _ in range(draw.randrange(2, 60)):
                length = draw.choice([0, 1, 80, 200, 4095, 4096, 4097, 9000])
                pieces.append(b"x" * length + draw.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r", b""]))
            data = b"".join(pieces)
            for oversize in ("truncate", "drop", "close"):
                for size in (100, 2047, 2048, 3000, 4096, 5000):
                    for max_frame in (4096, 65536):
                        chunks = list(cuts(data, size))
                        expected = outcome(self.make(max_frame, oversize), chunks)
                        assert outcome(self.make(max_frame, oversize), chunks, lines=True) == expected

    def test_no_bytes_make_it_raise_or_hold_more_than_its_limit(self) -> None:
        for seed in range(20):
            for max_frame in (1, 20):
                framer = self.make(max_frame)
                copy = self.make(max_frame)
                data = self.garbage(seed, 200)
                for at, chunk in enumerate(cuts(data, 1 + seed)):
                    assert all(type(frame) is bytes for frame in framer.feed(chunk))
                    copy.feed(chunk)
                    if at % 10 == 9:
                        assert len(copy.rest()) <= max_frame + self.slack

    def test_the_head_of_a_frame_over_the_limit_is_kept_and_the_next_survives(self) -> None:
        data = self.wrapped(b"<" + b"x" * 20, b"<13>next")
        assert outcome(self.make(10), [data]) == ([b"<" + b"x" * 9, b"<13>next"], [(self.oversize, 0, False)])

    def test_a_frame_over_the_limit_is_refused_if_asked_for_and_the_next_survives(self) -> None:
        data = self.wrapped(b"<" + b"x" * 20, b"<13>next")
        assert outcome(self.make(10, "drop"), [data]) == ([b"<13>next"], [(self.oversize, -1, False)])

    def test_a_frame_over_the_limit_ends_the_stream_if_asked_for(self) -> None:
        data = self.wrapped(b"<13>first", b"<" + b"x" * 20, b"<13>next")
        for chunks in ([data], list(cuts(data, 1))):
            framer = self.make(10, "close")
            assert outcome(framer, chunks, finish=False) == ([b"<13>first"], [(self.oversize, -1, True)])
            assert not framer.partial

    def test_nothing_passes_after_a_fatal_fault(self) -> None:
        framer = self.make(10, "close")
        framer.feed(self.wrapped(b"<" + b"x" * 20))
        assert [fault.fatal for fault in framer.faults] == [True]
        assert outcome(framer, [self.wrapped(*self.payloads)]) == ([], [])
        assert framer.rest() == b""

    def test_a_frame_of_exactly_the_limit_is_whole(self) -> None:
        data = self.wrapped(b"<12345678>", b"<23456789>")
        for size in (1, 2, 3, len(data)):
            assert outcome(self.make(10), cuts(data, size)) == ([b"<12345678>", b"<23456789>"], [])

    def test_faults_are_those_of_the_latest_call(self) -> None:
        for again in ("feed", "expire", "finish"):
            framer = self.make(10, "drop")
            framer.feed(self.wrapped(b"<" + b"x" * 20))
            assert list(framer.faults) == [Fault(self.oversize, None, False)]
            getattr(framer, again)(*{"feed": (b"",), "expire": (0.0,)}.get(again, ()))
            assert list(framer.faults) == []

    def test_it_is_partial_in_the_middle_of_a_frame_only(self) -> None:
        framer = self.make()
        data = self.wrapped(b"<13>x")
        for at in range(len(data) - 1):
            framer.feed(data[at : at + 1])
            assert framer.partial
        framer.feed(data[-1:])
        assert not framer.partial

    def test_it_is_partial_while_a_frame_is_skipped(self) -> None:
        for oversize in ("truncate", "drop"):
            framer = self.make(10, oversize)
            framer.feed(self.wrapped(b"<" + b"x" * 30)[:25])
            assert framer.partial

    def test_rest_hands_over_what_is_unread_and_forgets_it(self) -> None:
        data = self.wrapped(*self.payloads, b"<16>three")
        for at in range(len(data)):
            first, second = self.make(), self.make()
            before = outcome(first, [data[:at]], finish=False)
            unread = first.rest()
            assert (first.rest(), first.partial, first.finish()) == (b"", False, [])
            after = outcome(second, [unread + data[at:]])
            assert before[0] + after[0] == [*self.payloads, b"<16>three"]

    def test_the_end_of_the_stream_loses_nothing(self) -> None:
        """All bytes of a frame that had come are in a frame."""
        data = self.wrapped(b"<16>three")
        for at in range(len(data)):
            frames, _ = outcome(self.make(), [data[:at]])
            assert not frames or data.find(frames[-1]) >= 0
            assert bool(frames) or b"<" not in data[:at]

    def test_it_can_be_used_again_after_the_end(self) -> None:
        framer = self.make()
        outcome(framer, [self.wrapped(b"<16>three")[:-3]])
        assert not framer.partial
        assert framer.finish() == []
