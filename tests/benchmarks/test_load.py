"""The load generator and its checker tell the truth: what is lost, there twice or changed is seen."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load, payloads
from benchmarks.payloads import Payload
from benchmarks.servers import Place
from tests.realprograms import DEADLINE, Program, find, free_port

LINES = payloads.lines()


@pytest.fixture(autouse=True, scope="module")
def compiler() -> None:
    """Without one there is nothing to test."""
    find("cc")


@contextlib.contextmanager
def sink(place: Place, *how: str) -> Iterator[Program]:
    """The C server that does nothing but count or write."""
    with Program([str(load.build()), "sink", "--port", str(place.port), *how]) as program:
        program.wait_for("listening")
        yield program


@contextlib.contextmanager
def careless(place: Place, size: int, write: Callable[[bytes], bytes]) -> Iterator[None]:
    """A server that takes `size` bytes over one connection and writes what `write` makes of them."""
    listening = socket.create_server(("127.0.0.1", place.port))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, place.out.open("wb") as out:
            held = b""
            while len(held) < size and (data := connection.recv(65536)):
                held += data
            out.write(write(held))

    thread = threading.Thread(target=serve)
    thread.start()
    with listening:
        yield
        thread.join()


def on_lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


def send(place: Place, payload: Payload, lines: int, **more: Any) -> dict[str, Any]:
    templates = place.folder / "templates"
    payload.write(templates)
    options: dict[str, Any] = {"watch": None if "counter" in more else place.out, "keep": payload.keep or None, **more}
    return load.call("send", port=place.port, lines=lines, templates=templates, **options)


def check(place: Place, lines: int, keep: str | None = None) -> dict[str, int]:
    return load.call("check", file=place.out, lines=lines, keep=keep)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, free_port())


@pytest.mark.parametrize("connections", [1, 7])
@pytest.mark.parametrize("payload", [LINES, payloads.rfc5424(), payloads.json_lines()], ids=["text", "syslog", "json"])
def test_what_arrives_is_what_the_payload_says(place: Place, payload: Payload, connections: int) -> None:
    """Every line with its number, and its microseconds where it has some; more of them than fit into one chunk."""
    count = 3001
    with sink(place, "--out", str(place.out)):
        got = send(place, Payload(payload.variants), count, connections=connections)
    assert (got["verdict"], got["sent"], got["lines"]) == ("complete", count, count)
    written = place.out.read_bytes().splitlines()
    assert sorted(written) == sorted(payload.variant(number).line(number) for number in range(count))
    assert got["bytes"] == place.out.stat().st_size == count * (payload.size + 1)


def test_counted_frames_say_their_length(place: Place) -> None:
    payload = payloads.rfc5424(counted=True)
    frames = [b"180 " + payload.variant(number).line(number) for number in range(500)]
    with careless(place, 500 * 184, lambda data: data.replace(b"180 <", b"\n180 <")[1:] + b"\n"):
        got = send(place, payload, 500)
    assert got["verdict"] == "complete"
    assert place.out.read_bytes().splitlines() == frames


def test_a_lost_line_is_missed(place: Place) -> None:
    with careless(place, 200 * 81, on_lines(lambda lines: lines[:50] + lines[51:])):
        got = send(place, LINES, 200, quiet=3)
    assert (got["verdict"], got["lines"]) == ("incomplete", 199)
    assert check(place, 200) == {
        "lines": 199,
        "bytes": 199 * 81,
        "missing": 1,
        "duplicates": 0,
        "foreign": 0,
        "unfinished": False,
    }


def test_a_line_written_twice_does_not_make_up_for_a_lost_one(place: Place) -> None:
    with careless(place, 200 * 81, on_lines(lambda lines: [*lines[:50], lines[0], *lines[51:]])):
        got = send(place, LINES, 200)
    assert (got["verdict"], got["lines"]) == ("complete", 200), "counting alone does not see it"
    counts = check(place, 200)
    assert (counts["missing"], counts["duplicates"], counts["foreign"]) == (1, 1, 0)


@pytest.mark.parametrize("line", [b"seq=0000000200 x", b"seq=00000000x0 x", b"no number", b"seq=00001", b""])
def test_a_line_that_was_never_sent_is_foreign(place: Place, line: bytes) -> None:
    place.out.write_bytes(b"".join(LINES.variant(n).line(n) + b"\n" for n in range(200)) + line + b"\n")
    counts = check(place, 200)
    assert (counts["lines"], counts["missing"], counts["foreign"]) == (201, 0, 1)


def test_a_line_that_should_have_been_filtered_is_foreign(place: Place) -> None:
    place.out.write_bytes(b"seq=0000000001 \nseq=0000000002 \nseq=0000000003 \nseq=0000000007")
    counts = check(place, 8, "01")
    assert (counts["missing"], counts["foreign"], counts["unfinished"]) == (1, 1, True)


def test_the_number_may_stand_anywhere_in_the_line(place: Place) -> None:
    place.out.write_bytes(b'{"m":"seq=0000000001 "}\n{"other":1,"m":"seq=0000000000 "}\n{"m":"seq=0000000002 "}\n')
    assert check(place, 3)["missing"] == 0


def test_a_sink_without_output_counts(place: Place) -> None:
    counter = place.folder / "counter"
    with sink(place, "--counter", str(counter)):
        got = send(place, LINES, 5000, counter=counter, connections=3)
    assert (got["verdict"], got["lines"]) == ("complete", 5000)


def test_paced_lines_are_timed(place: Place) -> None:
    """200 lines at 2,000 a second take a tenth of a second, and each is seen once."""
    with sink(place, "--out", str(place.out)) as server:
        got = send(place, LINES, 200, rate=2000, latency=True, pid=server.pid)
    assert (got["verdict"], got["lines"]) == ("complete", 200)
    assert got["send_seconds"] >= 199 / 2000
    latency = got["latency_us"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert got["cpu"] > 0
    assert got["rss_kib"]["peak"] >= got["rss_kib"]["before"] > 0


def test_datagrams_go_out_one_a_message(place: Place) -> None:
    payload = payloads.rfc3164()
    count = 300
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving, place.out.open("wb", buffering=0) as out:
        # Room for all of them: the kernel drops what finds a full buffer.
        receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiving.bind(("127.0.0.1", place.port))
        receiving.settimeout(DEADLINE)

        def serve() -> None:
            for _ in range(count):
                out.write(receiving.recv(65536) + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        got = send(place, payload, count, udp=True, rate=10_000, burst_us=500)
        thread.join()
    assert (got["verdict"], got["sent"], got["lines"]) == ("complete", count, count)
    assert place.out.read_bytes().splitlines() == [payload.variant(n).line(n) for n in range(count)]


def test_wrong_options_are_refused(place: Place) -> None:
    with pytest.raises(load.LoadFailed, match="do not go together"):
        send(place, LINES, 10, latency=True)


def test_what_does_not_compile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.c").write_text("int main(void) { return nothing; }")
    monkeypatch.setattr(load, "SOURCES", tmp_path)
    with pytest.raises(load.LoadFailed, match="nothing"):
        load.build(tmp_path / "build")
