"""What is fuzzed: callables that take any bytes, by name. They raise where something is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.logger import LogEvent, Logger, LogLevel
from twisted.python.failure import Failure

from eventserver import options
from eventserver.counters import ListenerCounters
from eventserver.decompression import BadCompression, Decompressor, TooLarge, encodings
from eventserver.encoders import JsonEncoder
from eventserver.event import frame_index
from eventserver.framing.multiline import MultilineFramer
from eventserver.interfaces import IJsonLines
from eventserver.registry import Registry
from eventserver.testing.decoders import batch, check_json_lines
from tests.corpus import cases
from tests.listeners.fakes import FakeIntake, FakeTransport, MemoryReactor, make_context

Target = Callable[[bytes], None]

MAX_FRAME = 4096
#: Options that a component needs to be made at all, and others that it is fuzzed with besides its defaults.
NEEDED: dict[str, dict[str, Any]] = {"decoder:regex": {"pattern": r"(?P<a>\w+)=(?P<b>\S*)"}}
BESIDES: dict[str, dict[str, Any]] = {
    "listener:fluent": {"shared_key": "key", "users": {"anna": "secret"}},
    "listener:stream": {"proxy_protocol": {"trusted": ["192.0.2.0/24"]}},
}
#: What one sender's frames are cut at for decoders, so that a batch has several.
CUT = b"\x1e\x1f"


def ours(kind: str) -> Iterator[tuple[str, Any]]:
    """The components of this project of one kind, by name."""
    registry = Registry.from_entry_points()
    for name in registry.names(kind):
        if any(source.distribution == "eventserver" for source in registry.sources(kind, name)):
            yield name, registry.get(kind, name)


def made_options(component: Any, table: dict[str, Any]) -> Any:
    """The options of a component from a table that has to be right."""
    made, problems = options.parse(component.Options, table)
    assert made is not None, (component, problems)
    return made


def targets() -> dict[str, Target]:
    """All targets by name: `framer:lines`, `decoder:json`, `listener:relp`, ..."""
    found: dict[str, Target] = {}
    for name, component in ours("framers"):
        for oversize in ("truncate", "drop", "close"):
            table = {"max_frame": MAX_FRAME, "oversize": oversize}
            found[f"framer:{name}/{oversize}"] = _framer(component, table)
    found["framer:multiline"] = _framer(dict(ours("framers"))["lines"], {"max_frame": MAX_FRAME}, joined=True)
    for name, component in ours("decoders"):
        key = f"decoder:{name}"
        found[key] = decoding(component(made_options(component, NEEDED.get(key, {}))))
    for case in cases():
        if case.path(".toml").exists():
            found[f"decoder:{case}"] = decoding(case.make_decoder())
    for name, component in ours("listeners"):
        key = f"listener:{name}"
        if name == "datagram":
            continue  # Its sockets are real; what it reads is among the targets below.
        found[key] = _listener(component, {})
        if key in BESIDES:
            found[f"{key}/other"] = _listener(component, BESIDES[key])
    for encoding in encodings():
        found[f"decompression:{encoding}"] = _decompression(encoding)
    return found | _datagrams()


def pieces(data: bytes) -> list[bytes]:
    """The bytes as a network might bring them: the first one says how they are cut."""
    size = data[0] if data else 0
    rest = data[1:]
    return [rest[start : start + size] for start in range(0, len(rest), size)] if size else [rest]


def _framer(component: Any, table: dict[str, Any], *, joined: bool = False) -> Target:
    made = made_options(component, table)

    def run(data: bytes) -> None:
        framer = component(made)
        if joined:
            framer = MultilineFramer(made_options(MultilineFramer, {"start": "^<", "max_frame": MAX_FRAME}), framer)
        for now, piece in enumerate(pieces(data)):
            for frames in (framer.feed(piece), framer.expire(float(now))):
                assert all(len(frame) <= MAX_FRAME for frame in frames)
                assert all(fault.frame is None or 0 <= fault.frame < len(frames) for fault in framer.faults)
            assert framer.partial in (True, False)
        assert all(len(frame) <= MAX_FRAME for frame in framer.finish())
        assert len(framer.rest()) <= MAX_FRAME

    return run


def decoding(decoder: Any) -> Target:
    """What every decoder promises, for the frames in some bytes."""
    encoder = JsonEncoder(JsonEncoder.Options())

    def run(data: bytes) -> None:
        given = batch(*data.split(CUT))
        events = decoder.decode(given)
        assert len({event.id for event in events}) == len(events)
        indexes = [frame_index(event.id) for event in events]
        assert indexes == sorted(indexes)
        for line in encoder.encode_lines(events).splitlines():
            msgspec.json.decode(line)
        if IJsonLines.providedBy(decoder) and len(events) == len(given.frames):
            check_json_lines(decoder, given)

    return run


class _SettlingIntake(FakeIntake):
    """Takes everything, and all that is taken is safe at once."""

    def watch(self, level: Any, position: int, done: Any, handlers: Any = None) -> None:
        done(None)


def _listener(component: Any, table: dict[str, Any]) -> Target:
    """Connections of one peer, each of which brings some bytes and goes; what a log would have as a failure raises."""
    failures: list[LogEvent] = []

    def notice(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            failures.append(event)

    reactor, counters = MemoryReactor(), ListenerCounters()
    levels = getattr(component, "ack_levels", ())
    changes: dict[str, Any] = {"decoder": getattr(component, "default_decoder", "text")}
    changes |= {"ack": "delivered"} if levels else {}
    intake = _SettlingIntake()
    context = make_context(reactor, counters, intake=intake, log=Logger("fuzz", observer=notice), **changes)
    listener = component(made_options(component, {"endpoints": ["tcp:5140"], **table}), context)
    listener.listen()
    listener.startService()
    factory = reactor.tcpServers[-1][1]
    ports = itertools.count(1024)

    def run(data: bytes) -> None:
        address = IPv4Address("TCP", "192.0.2.1", next(ports) % 60_000)
        protocol = factory.buildProtocol(address)
        assert protocol is not None, "the connections before are not forgotten"
        transport = FakeTransport(peerAddress=address)
        protocol.makeConnection(transport)
        for piece in pieces(data):
            if transport.disconnecting:
                break
            if piece:  # Twisted never calls it with nothing.
                protocol.dataReceived(piece)
        reactor.advance(1)
        protocol.connectionLost(Failure(ConnectionDone()))
        reactor.advance(1)
        intake.batches.clear()
        assert not failures, failures.pop()

    return run


def _decompression(encoding: str) -> Target:
    def run(data: bytes) -> None:
        decompressor = Decompressor(encoding, 1 << 20)
        try:
            for piece in pieces(data):
                assert len(decompressor.feed(piece)) <= 1 << 20
            decompressor.finish()
        except (BadCompression, TooLarge):
            pass

    return run


def _datagrams() -> dict[str, Target]:
    """What is read from datagrams before they are frames."""
    from eventserver.framing.gelf_chunks import ChunkLimits
    from eventserver.framing.gelf_datagrams import GelfDatagrams, GelfLimits
    from eventserver.listeners._proxy_header import read_header, read_v2

    def gelf(data: bytes) -> None:
        limits = ChunkLimits(timeout=5.0, messages=10, per_source=4, bytes=100_000, message=50_000)
        datagrams = GelfDatagrams(GelfLimits(limits, ratio=200, rate=1 << 20), lambda reason: None)
        for now, piece in enumerate(pieces(data)):
            messages, senders, _ = datagrams.take([piece], [("192.0.2.1", now % 3)], (), float(now))
            assert len(messages) == len(senders) <= 1
            assert all(len(message) <= max(limits.message, len(piece)) for message in messages)
            datagrams.expire(float(now))
        datagrams.finish()

    def proxy(data: bytes) -> None:
        for read in (read_header, read_v2):
            header = read(data, 4096)
            assert getattr(header, "size", 0) <= len(data)

    return {"datagrams:gelf": gelf, "datagrams:proxy": proxy}
