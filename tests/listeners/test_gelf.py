"""GELF through the listeners for datagrams and for HTTP."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.counters import ListenerCounters
from eventserver.decompression import BadCompression, TooLarge
from eventserver.framing.gelf_datagrams import encoding_of
from eventserver.framing.lines import LinesFramer
from eventserver.listeners._datagram_options import DatagramOptions
from eventserver.listeners._datagrams import Datagrams
from eventserver.listeners._gelf import source_of
from eventserver.listeners._http_gelf import Unpacker
from eventserver.listeners._ingest import Ingest
from eventserver.listeners.datagram import DatagramListener
from eventserver.options import Size
from eventserver.settings import from_mapping
from tests.framing.test_gelf_chunks import cut_up
from tests.listeners.fakes import FakeIntake, MemoryReactor, make_context
from tests.listeners.httpworld import World

MESSAGE = b'{"version":"1.1","host":"web1","short_message":"hello","_blank":"0000"}'
FIRST, SECOND = ("192.0.2.1", 1001), ("192.0.2.2", 1002)

Make = Callable[..., Datagrams]


@pytest.fixture
def make(reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters) -> Make:
    """What takes the datagrams of one socket; no socket is opened."""

    def make(decoder: str = "gelf", options: dict[str, Any] | None = None, **context: Any) -> Datagrams:
        made = make_context(reactor, counters, intake=intake, decoder=decoder, **context)
        settings = DatagramOptions(endpoints=("udp:0",), **(options or {}))
        log: Any = None
        return Datagrams(
            settings, made, Ingest(made), log, lambda sender: f"{sender[0]}:{sender[1]}", lambda payload, sender: None
        )

    return make


def test_messages_of_all_forms_are_the_frames_of_one_batch(
    make: Make, intake: FakeIntake, counters: ListenerCounters
) -> None:
    """A gzip trailer may well end with NUL, which a plain datagram does not keep."""
    datagrams = make()
    chunks = cut_up(zlib.compress(MESSAGE), 30)
    datas = [chunks[0], MESSAGE + b"\n\0", gzip.compress(MESSAGE), *chunks[1:]]
    datagrams.take(datas, [FIRST, SECOND, SECOND, *[FIRST] * (len(chunks) - 1)])
    [batch] = intake.batches
    assert batch.frames == [MESSAGE] * 3
    assert intake.peers == ["192.0.2.2:1002", "192.0.2.2:1002", "192.0.2.1:1001"]
    assert counters.bytes == sum(map(len, datas))
    assert (counters.received, counters.journaled) == (3, 3)


def test_chunks_of_one_message_may_come_in_several_reads(make: Make, intake: FakeIntake) -> None:
    datagrams = make()
    for chunk in cut_up(MESSAGE, 30):
        datagrams.take([chunk], [FIRST])
    assert intake.frames == [MESSAGE]


@pytest.mark.parametrize(
    ("decoder", "chunks", "expected"),
    [
        ("gelf", "auto", True),
        ("auto", "auto", True),
        ("json", "auto", False),
        ("json", "gelf", True),
        ("gelf", "off", False),
    ],
)
def test_where_chunks_are_looked_for(make: Make, intake: FakeIntake, decoder: str, chunks: str, expected: bool) -> None:
    packed = zlib.compress(MESSAGE)
    make(decoder, {"chunks": chunks}).take([packed], [FIRST])
    assert intake.frames == [MESSAGE if expected else packed.rstrip(b"\0\r\n")]


def test_what_is_refused_is_counted_and_the_sums_hold(
    make: Make, intake: FakeIntake, reactor: MemoryReactor, counters: ListenerCounters
) -> None:
    datagrams = make(options={"max_message": Size(100)})
    lost = cut_up(MESSAGE, 30)[0]
    datas = [MESSAGE, lost, b"\x1e\x0f", gzip.compress(MESSAGE)[:-1], zlib.compress(b"x" * 101), zlib.compress(b"")]
    datagrams.take(datas, [FIRST] * len(datas))
    datagrams.sweep(reactor.seconds())
    reactor.advance(5)
    datagrams.sweep(reactor.seconds())
    assert intake.frames == [MESSAGE]
    assert counters.rejected == {"bad_chunk": 1, "bad_compression": 1, "oversize": 1, "empty": 1, "incomplete": 1}
    assert (counters.received, counters.balanced()) == (6, True)


def test_what_waits_for_chunks_at_the_end_is_counted(make: Make, counters: ListenerCounters) -> None:
    datagrams = make()
    datagrams.take(cut_up(MESSAGE, 30)[:1], [FIRST])
    datagrams.close()
    assert counters.rejected == {"incomplete": 1}


def test_a_large_message_is_whole_though_a_datagram_cannot_be_as_large(make: Make, intake: FakeIntake) -> None:
    large = b'{"short_message":"' + bytes(range(97, 123)) * 30_000 + b'"}'
    make().take(cut_up(large, 8000), [FIRST] * (len(large) // 8000 + 1))
    assert intake.frames == [large]
    assert intake.marks == [()]


@pytest.mark.parametrize("oversize", ["truncate", "drop"])
def test_max_frame_is_for_datagrams_that_are_messages_as_they_are(
    make: Make, intake: FakeIntake, counters: ListenerCounters, oversize: str
) -> None:
    """Whatever else came with them; what is put together has its own limit."""
    datagrams = make(options={"max_frame": Size(20), "oversize": oversize})
    long, fits = b"{" + b"x" * 20, b"{" + b"y" * 19
    datagrams.take([long, fits + b"\n"], [FIRST] * 2)
    datagrams.take([long, zlib.compress(MESSAGE), fits + b"\n"], [FIRST] * 3)
    if oversize == "truncate":
        assert intake.frames == [long[:20], fits, long[:20], MESSAGE, fits]
        assert intake.marks == [("truncated",), (), ("truncated",), (), ()]
    else:
        assert intake.frames == [fits, MESSAGE, fits]
        assert counters.rejected == {"oversize": 2}


def test_what_unpacks_to_much_is_several_batches(make: Make, intake: FakeIntake, counters: ListenerCounters) -> None:
    """What has no room is counted message by message, not all that one read brought."""
    packed = zlib.compress(b"x" * 600_000)
    intake.room = 3
    make(options={"max_ratio": 2000}).take([packed] * 8, [FIRST] * 8)
    assert [len(batch.frames) for batch in intake.batches] == [2, 2, 2]
    assert counters.rejected == {"full": 2}


def test_lines_inside_are_cut_after_unpacking(make: Make, intake: FakeIntake) -> None:
    datagrams = make(new_datagram_framer=lambda: LinesFramer(LinesFramer.Options()))
    datagrams.take([zlib.compress(MESSAGE + b"\n" + MESSAGE)], [FIRST])
    assert intake.frames == [MESSAGE, MESSAGE]


def test_the_bound_for_one_source_is_for_all_ports_of_a_host(
    make: Make, intake: FakeIntake, counters: ListenerCounters
) -> None:
    datagrams = make(options={"max_chunked_per_peer": 2})
    first, *rest = cut_up(MESSAGE, 30)
    for port in (1, 2, 3):
        datagrams.take([first], [(FIRST[0], port)])
    datagrams.take([first], [SECOND])
    assert counters.rejected == {"chunks_evicted": 1}
    for sender in ((FIRST[0], 3), (FIRST[0], 2), SECOND, (FIRST[0], 1)):
        datagrams.take(rest, [sender] * len(rest))
    assert intake.peers == ["192.0.2.1:3", "192.0.2.1:2", "192.0.2.2:1002"]
    datagrams.close()


def test_a_source_is_a_host_or_a_network_or_a_process() -> None:
    assert source_of("192.0.2.1:1") == source_of("192.0.2.1:2") != source_of("192.0.2.2:1")
    assert source_of("[2001:db8::1]:1") == source_of("[2001:db8::2]:2") != source_of("[2001:db8:0:1::1]:1")
    assert source_of("[fe80::1%eth0]:1") == source_of("[fe80::2%eth0]:1")
    assert source_of("unix:pid=1,uid=0") != source_of("unix:pid=2,uid=0")
    for odd in ("", "[", "[x]:1", "proxy"):
        source_of(odd)


def test_settings_need_no_more_than_the_decoder() -> None:
    """The framing of streams follows it, and what UDP needs as well."""
    settings = from_mapping({"listener": {"a": {"endpoints": ["udp:12201", "tcp:12201"], "decoder": "gelf"}}})
    listener = settings.listeners["a"]
    assert (listener.framer.name, listener.decoder.name) == ("gelf", "gelf")
    assert [part.options.chunks for part in listener.parts if part.name == "datagram"] == ["auto"]


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_the_sweep_of_the_listener_gives_up_what_waited_too_long(
    reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    options = DatagramOptions(endpoints=("udp:0:interface=127.0.0.1",))
    listener = DatagramListener(options, make_context(reactor, counters, intake=intake, decoder="gelf"))
    listener.listen()
    listener.startService()
    sender.sendto(cut_up(MESSAGE, 30)[0], ("127.0.0.1", int(listener.addresses()[0].rpartition(":")[2])))
    reactor.read_all()
    assert counters.rejected == {}
    reactor.pump([1.0] * 6)
    assert counters.rejected == {"incomplete": 1}
    sender.sendto(cut_up(MESSAGE, 30)[0], ("127.0.0.1", int(listener.addresses()[0].rpartition(":")[2])))
    listener.stopService()
    assert counters.rejected == {"incomplete": 2}


def http(**options: Any) -> World:
    return World({"decoder": "gelf", "ack": "durable"}, **options)


def test_http_answers_202_when_the_message_is_safe() -> None:
    world = http()
    world.intake.ack_now = False
    peer = world.peer()
    peer.post(MESSAGE, "/gelf")
    assert peer.answers() == []
    world.intake.deliver()
    answer = peer.answer()
    assert (answer.status, answer.body) == (202, b"")
    assert world.frames == [MESSAGE]
    assert world.intake.batches[0].context["path"] == "/gelf"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip,deflate", zlib.compress),
        ("gzip, deflate", zlib.compress),
        ("gzip,deflate", gzip.compress),
        ("gzip,deflate", bytes),
        ("(none)", zlib.compress),
        ("(none)", gzip.compress),
        ("identity", gzip.compress),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
def test_http_bodies_are_unpacked_as_senders_pack_them(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    world = http()
    assert world.asks(pack(MESSAGE), "/gelf", content_encoding=encoding).status == 202
    assert world.frames == [MESSAGE]


def test_http_bodies_are_unpacked_however_they_come() -> None:
    world = http()
    peer = world.peer()
    body = zlib.compress(MESSAGE)
    head = f"POST /gelf HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for byte in head + body:
        peer.send(bytes([byte]))
    assert peer.answer().status == 202
    assert world.frames == [MESSAGE]


def test_http_refuses_what_is_broken_or_a_bomb() -> None:
    world = http(max_body=Size(1 << 20))
    assert world.asks(zlib.compress(MESSAGE)[:-1], "/gelf").status == 400
    assert world.asks(zlib.compress(bytes(2 << 20)), "/gelf").status == 413
    assert world.asks(b"", "/gelf").status == 400
    assert world.asks(MESSAGE, "/gelf", content_encoding="br").status == 415
    assert world.frames == []
    assert world.counters.balanced()


def test_http_takes_one_byte_that_could_be_the_beginning_of_more() -> None:
    """It is held until the second byte says whether the body is compressed."""
    world = http()
    assert world.asks(b"x", "/gelf").status == 202
    assert world.frames == [b"x"]


def test_http_takes_several_messages_one_a_line() -> None:
    world = http()
    assert world.asks(MESSAGE + b"\n" + MESSAGE + b"\r\n", "/gelf").status == 202
    assert world.frames == [MESSAGE, MESSAGE]
    indented = json.dumps(json.loads(MESSAGE), indent=1).encode()
    assert world.asks(indented, "/gelf").status == 202
    assert world.frames[2:] == [indented]


def test_http_with_another_decoder_is_as_ever() -> None:
    world = World({"decoder": "json"})
    assert world.asks(b"{}", "/gelf").status == 200
    assert world.asks(b"{}", "/gelf", content_encoding="gzip,deflate").status == 415


@given(
    st.binary(max_size=60),
    st.sampled_from([bytes, zlib.compress, gzip.compress]),
    st.integers(1, 9),
    st.integers(0, 80),
)
def test_bodies_unpack_to_the_same_however_they_come(text: bytes, pack: Any, size: int, damage: int) -> None:
    """Or are refused in both cases."""
    body = bytearray(pack(text))
    if damage < len(body):
        body[damage] ^= 1

    def unpacked(step: int) -> bytes | None:
        unpacker = Unpacker(1 << 20, 200)
        try:
            return b"".join([unpacker.feed(bytes(body[at : at + step])) for at in range(0, len(body), step)]) + (
                unpacker.finish()
            )
        except (BadCompression, TooLarge):
            return None

    assert unpacked(size) == unpacked(1000)
    if damage >= len(body) and encoding_of(text) is None:
        assert unpacked(size) == text
