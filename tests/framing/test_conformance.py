"""Every framer keeps the promises of `IFramer`."""

from __future__ import annotations

from typing import Any

from eventserver.framing.auto import AutoFramer
from eventserver.framing.counted import LengthFramer, NetstringFramer, OctetFramer
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.testing.framers import FramerConformance
from tests.framing.building import build, multiline


class TestLines(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(LinesFramer, max_frame=max_frame, oversize=oversize)


class TestLinesWithCrLf(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(LinesFramer, max_frame=max_frame, oversize=oversize)

    def wrapped(self, *payloads: bytes) -> bytes:
        return b"".join(payload + b"\r\n" for payload in payloads)


class TestLinesWithADelimiterThatOverlapsItself(FramerConformance):
    alphabet = b"|-\n<a"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(LinesFramer, max_frame=max_frame, oversize=oversize, delimiter="||-||")


class TestNul(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(NulFramer, max_frame=max_frame, oversize=oversize)


class TestOctet(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(OctetFramer, max_frame=max_frame, oversize=oversize)


class TestLength(FramerConformance):
    alphabet = b"\0\0\0\1\2\3"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(LengthFramer, max_frame=max_frame, oversize=oversize)


class TestLittleEndianLength(FramerConformance):
    alphabet = b"\0\0\0\1\2\3"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(LengthFramer, max_frame=max_frame, oversize=oversize, byte_order="little")


class TestNetstring(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(NetstringFramer, max_frame=max_frame, oversize=oversize)


class TestAutoWithLines(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(AutoFramer, max_frame=max_frame, oversize=oversize)


class TestAutoWithCounts(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return build(AutoFramer, max_frame=max_frame, oversize=oversize)

    def wrapped(self, *payloads: bytes) -> bytes:
        return b"".join(b"%d %s" % (len(payload), payload) for payload in payloads)


class TestMultilineRoundLines(FramerConformance):
    alphabet = b"\n\n\r<a"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        inner = build(LinesFramer, max_frame=max_frame, oversize=oversize)
        return multiline(inner, start="^<", max_frame=max_frame, oversize=oversize)


class TestMultilineRoundCounts(FramerConformance):
    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        inner = build(OctetFramer, max_frame=max_frame, oversize=oversize)
        return multiline(inner, start="^<", max_frame=max_frame, oversize=oversize)


class TestMultilineWhoseEventsAreTheLargerOnes(FramerConformance):
    """The limit of the joined bytes does what the limit of a line does elsewhere."""

    alphabet = b"\n\n\r<a"

    def make(self, max_frame: int = 65536, oversize: str = "truncate") -> Any:
        return multiline(build(LinesFramer), start="^<", max_frame=max_frame, oversize=oversize)

    def test_no_bytes_make_it_raise_or_hold_more_than_its_limit(self) -> None:
        """Its own limit is for the event; the line in progress has the inner framer's."""
        framer = self.make(20)
        for chunk in (self.garbage(seed, 200) for seed in range(20)):
            framer.feed(chunk)
            assert framer.held <= 20

    def test_it_is_partial_while_a_frame_is_skipped(self) -> None:
        """Lines that are passed over come whole: nothing is stuck between them."""
        framer = self.make(10)
        framer.feed(b"<" + b"x" * 30 + b"\n more\n")
        assert not framer.partial
