"""The stages of the hot path, each as work that can be done again and again in one process, without a network.

They are fed with what the benchmarks send, as reads of 64 KiB that end in the middle of a line; a few of them in turn,
so that nothing is won by remembering a whole read.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport

from benchmarks import payloads
from benchmarks.payloads import Payload
from eventserver import building
from eventserver.blocks import Lines
from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.syslog import SyslogDecoder
from eventserver.decoders.text import TextDecoder
from eventserver.encoders import JsonEncoder, RawEncoder
from eventserver.event import Batch, Event, with_raw
from eventserver.framing.auto import AutoFramer
from eventserver.framing.counted import OctetFramer
from eventserver.framing.lines import LinesFramer
from eventserver.interfaces import IJsonLines, ILines
from eventserver.settings import Settings, from_mapping
from eventserver.steps import Pipeline
from eventserver.ulid import Ulids

READ = 64 * 1024
#: How many different reads there are in turn.
READS = 8
MATCH = "status >= 500"
STEPS = [{"drop": "status == 503"}, {"set": {"site": "hq"}}]


@dataclass(frozen=True)
class Stage:
    """Some work, for how many events it is, and what is to be done after it without being measured."""

    name: str
    events: int
    run: Callable[[], object]
    tidy: Callable[[], object] = lambda: None


class Rig:
    """A server with one listener and one handler, on a reactor that never runs; bytes go in where Twisted has them."""

    def __init__(self, handler: Mapping[str, Any], decoder: str = "text") -> None:
        self._reactor = MemoryReactorClock()
        self.parts = building.build(settings_of(handler, decoder), self._reactor)
        [self._delivery] = self.parts.deliveries.values()
        self.handler = self._delivery.handler
        self.handler.start()
        self._delivery.start()
        [listener] = self.parts.listeners
        listener.startService()
        self._ports = itertools.count(1024)

    def connect(self) -> Any:
        """The protocol of a new connection."""
        address = IPv4Address("TCP", "127.0.0.1", next(self._ports))
        protocol: Any = self._reactor.tcpServers[0][1].buildProtocol(address)
        protocol.makeConnection(StringTransport(peerAddress=address))
        return protocol

    def delivered(self) -> int:
        """How many frames have been delivered. Raises `AssertionError` if any has not been."""
        late = self._delivery.lag_frames()
        assert not late, f"the handler is behind by {late} frames: {self._delivery.unwell}"
        counters = self._delivery.counters
        assert counters.decoded == counters.delivered + counters.filtered, counters
        return counters.passed


def settings_of(handler: Mapping[str, Any], decoder: str = "text") -> Settings:
    """One listener and one handler."""
    listener = {"endpoints": ["tcp:5140"], "decoder": decoder}
    return from_mapping({"listener": {"guard": listener}, "handler": {"guard": handler}})


def lines_of(payload: Payload, read: int) -> list[bytes]:
    """The lines that a read holds."""
    count = READ // (len(payload.before) + payload.size + 1)
    return [payload.variant(number).line(number) for number in range(read * count, (read + 1) * count)]


def reads_of(payload: Payload) -> tuple[bytes, list[bytes]]:
    """The beginning of a stream, and the reads that follow it in turn, for ever; each completes as many lines."""
    whole = [payload.before + line + payload.after for read in range(READS) for line in lines_of(payload, read)]
    stream, half = b"".join(whole), len(whole[0]) // 2
    head, stream = stream[:half], stream[half:] + stream[:half]
    size = len(stream) // READS
    return head, [stream[at : at + size] for at in range(0, len(stream), size)]


_new_id = Ulids(time.time_ns, secrets.randbits)


def batch_of(frames: Sequence[bytes]) -> Batch:
    """A batch as a stream listener makes it."""
    return Batch(
        id=_new_id(),
        listener="guard",
        decoder="text",
        received=building.utc_now(),
        peers=("127.0.0.1:51123",),
        frames=frames,
    )


def in_turn(name: str, events: int, call: Callable[[Any], object], inputs: Sequence[Any]) -> Stage:
    """A stage that is called with one of the inputs after the other."""
    turn = itertools.cycle(inputs)
    return Stage(name, events, lambda: call(next(turn)))


def _frame(name: str, framer: Any, payload: Payload) -> Stage:
    head, reads = reads_of(payload)
    feed = framer.lines if ILines.providedBy(framer) else framer.feed
    feed(head)
    counts = {len(feed(data)) for data in reads}
    assert counts == {len(lines_of(payload, 0))}, counts
    return in_turn(f"frame {name}", counts.pop(), feed, reads)


def decoding(name: str, decoder: Any, payload: Payload) -> Iterator[Stage]:
    """A decoder, and its short cut to JSON where it has one; both cut the lines if they need them cut."""
    blocks = [b"".join([line + b"\n" for line in lines_of(payload, read)]) for read in range(READS)]
    count = len(Lines(blocks[0]))
    yield in_turn(f"decode {name}", count, lambda block: decoder.decode(batch_of(Lines(block))), blocks)
    if IJsonLines.providedBy(decoder):
        assert decoder.json_lines(batch_of(Lines(blocks[0]))) is not None
        yield in_turn(f"json_lines {name}", count, lambda block: decoder.json_lines(batch_of(Lines(block))), blocks)


def handle(event: Event) -> None:
    """A Python function as people write them, reduced to a look at the event."""
    if event.fields["status"] == 666:
        raise ValueError(event.message)


def _with_events(payload: Payload) -> Iterator[Stage]:
    frames = [lines_of(payload, read) for read in range(READS)]
    decoder, count = JsonDecoder(), len(frames[0])
    events = [decoder.decode(batch_of(of_read)) for of_read in frames]
    raw = [[*map(with_raw, *both)] for both in zip(events, frames, strict=True)]
    steps = settings_of({"type": "null", "steps": STEPS}).handlers["guard"].make_steps()
    function = Rig({"call": handle}, "json").handler
    yield in_turn("match", count, Pipeline(MATCH), events)
    yield in_turn("steps", count, Pipeline(None, steps), events)
    yield in_turn("call a function", count, function.handle, events)
    yield in_turn("encode json", count, JsonEncoder(JsonEncoder.Options()).encode_lines, events)
    yield in_turn("encode raw", count, RawEncoder(RawEncoder.Options()).encode_lines, raw)


def _deliver(payload: Payload) -> Iterator[Stage]:
    reads = [batch_of(lines_of(payload, read)) for read in range(READS)]
    for name, batches in (("reads", reads), ("lines", [batch_of([line]) for line in reads[0].frames])):
        rig = Rig({"type": "null"})
        stage = in_turn(f"deliver {name}", len(batches[0].frames), rig.parts.intake.put, batches)
        yield Stage(stage.name, stage.events, stage.run, rig.delivered)


def path(file: Path, head: bytes, reads: Sequence[bytes], decoder: str = "text", **handler: Any) -> Stage:
    """The whole way from a connection to a file, whose name is the stage's."""
    rig = Rig({"type": "file", "path": str(file), **handler}, decoder)
    receive = rig.connect().dataReceived
    receive(head)
    for data in reads:
        receive(data)

    def tidy() -> None:
        rig.delivered()
        assert file.stat().st_size
        os.truncate(file, 0)

    stage = in_turn(f"path {file.name}", rig.delivered() // len(reads), receive, reads)
    return Stage(stage.name, stage.events, stage.run, tidy)


def stages(folder: Path) -> list[Stage]:
    """All of them; `folder` is for the files that are written."""
    lines, rfc5424, rfc3164, json = payloads.lines(), payloads.rfc5424(), payloads.rfc3164(), payloads.json_lines()
    return [
        _frame("lines", LinesFramer(LinesFramer.Options()), lines),
        _frame("octet", OctetFramer(OctetFramer.Options()), payloads.rfc5424(counted=True)),
        _frame("auto", AutoFramer(AutoFramer.Options()), rfc5424),
        *decoding("text", TextDecoder(), lines),
        *decoding("json", JsonDecoder(), json),
        *decoding("syslog 5424", SyslogDecoder(), rfc5424),
        *decoding("syslog 3164", SyslogDecoder(), rfc3164),
        *_with_events(json),
        *_deliver(lines),
        path(folder / "text to json", *reads_of(lines)),
        path(folder / "text to raw", *reads_of(lines), format="raw"),
        path(folder / "syslog to json", *reads_of(rfc5424), "syslog"),
        path(folder / "json to match to json", *reads_of(json), "json", match=MATCH, steps=STEPS),
        path(folder / "line by line", b"", [line + b"\n" for line in lines_of(lines, 0)]),
    ]
