"""Handlers that are slow, peers that send too much, and the end of a server that has work left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import DEADLINE, TERMINATED, beside_python, run

pytestmark = pytest.mark.real
RealProgram = Callable[[str], str]

#: The first call waits for the test, which opens the gate by writing to a FIFO; then it is quick.
GATED = """
import os
from eventserver import Event
opened = False
def on_events(events: list[Event]):
    global opened
    if not opened:
        with open("gate") as gate:
            gate.read()
        opened = True
    for event in events:
        os.write(1, (event.message[:12].strip() + "\\n").encode())
"""
SETTINGS = """
memory = "64 KiB"
drain_timeout = "{drain_timeout}"
[listener.lines]
endpoints = ["{scheme}:0:interface=127.0.0.1"]
[handler.slow]
call = "gated:on_events"
thread = true
replies = false
"""


class Gate:
    """What the handler's first call waits at."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "gate"
        os.mkfifo(self._path)
        (folder / "gated.py").write_text(GATED)

    def open(self) -> None:
        """Let the handler go on; waits until it stands there."""
        self._path.write_text("")

    def leave_open(self) -> None:
        """Let the handler go on, if its server has not ended meanwhile."""
        with contextlib.suppress(OSError):  # ENXIO: nobody stands there
            os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def gate(start: StartServer) -> Gate:
    return Gate(start.folder)


def settings(scheme: str = "tcp", drain_timeout: str = "120 s") -> str:
    return SETTINGS.format(scheme=scheme, drain_timeout=drain_timeout)


@contextmanager
def writing_to(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that the test feeds through a pipe."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            yield process
        finally:
            process.kill()


def write_until_blocked(process: subprocess.Popen[bytes], data: memoryview, server: Server) -> int:
    """Write until the server has paused and the program takes nothing for a second; the bytes that it took.

    Also until all is written. A program that takes nothing while the server still reads is only slow.
    """
    assert process.stdin is not None
    descriptor = process.stdin.fileno()
    written = 0
    while written < len(data):
        if select.select([], [descriptor], [], 1.0)[1]:
            written += os.write(descriptor, data[written : written + 65536])
        elif "listeners are paused" in server.get("/ready")[1]:
            break
    return written


def test_a_slow_handler_stops_the_sender_and_nothing_is_lost(
    real_program: RealProgram, start: StartServer, gate: Gate
) -> None:
    """The server holds no more than its bound, the kernels' buffers fill up, and nc waits."""
    lines = [f"{number:012}" + "x" * 16_000 for number in range(1500)]
    data = memoryview("".join(f"{line}\n" for line in lines).encode())
    server = start(settings())
    with writing_to([real_program("nc"), "-N", "-O", "65536", "127.0.0.1", str(server.port("lines"))]) as nc:
        written = write_until_blocked(nc, data, server)
        assert written < len(data)
        assert nc.poll() is None
        metrics = server.metrics()
        assert metrics.total("journal_bytes") <= metrics.total("journal_max_bytes") == 65536
        assert metrics.total("received_bytes_total", listener="lines") < written
        assert "listeners are paused" in server.get("/ready")[1]
        assert nc.stdin is not None
        os.set_blocking(nc.stdin.fileno(), True)
        gate.open()
        nc.stdin.write(data[written:])
        nc.stdin.close()
        assert server.lines(len(lines)) == [line[:12] for line in lines]
        assert nc.wait(DEADLINE) == 0
    metrics = server.finish()
    assert metrics.total("frames_journaled_total") == len(lines)
    assert metrics.total("frames_rejected_total") == 0


def test_datagrams_beyond_the_bound_are_counted(real_program: RealProgram, start: StartServer, gate: Gate) -> None:
    """A datagram's sender cannot be held up: what there is no room for is rejected as full, the rest delivered."""
    server = start(settings("udp"))
    lines = "".join(f"{number:012}{'x' * 500}\n" for number in range(2000)).encode()
    port = str(server.port("lines", "udp"))
    done = run([real_program("logger"), "-d", "-n", "127.0.0.1", "-P", port, "--rfc3164"], lines)
    assert done.returncode == 0, done.stderr
    metrics = server.metrics_when("frames_received_total", 2000, listener="lines")
    journaled = metrics.total("frames_journaled_total", listener="lines")
    rejected = metrics.total("frames_rejected_total", listener="lines", reason="full")
    # How many depends on how many the first reads found: a batch for which there is no room is rejected as a whole.
    assert (journaled > 0, rejected > 0, journaled + rejected) == (True, True, 2000)
    gate.open()
    server.lines(journaled)
    assert server.finish().total("frames_rejected_total") == rejected


def send(server: Server, number: int) -> None:
    with socket.create_connection(server.place("lines", "tcp")) as peer:
        peer.sendall("".join(f"{each}\n" for each in range(number)).encode())
    server.metrics_when("frames_journaled_total", number)


def test_sigterm_delivers_what_is_queued(start: StartServer, gate: Gate) -> None:
    """With the handler busy: it finishes, gets the rest, and only then the server ends."""
    server = start(settings())
    send(server, 500)
    server.send_signal(signal.SIGTERM)
    server.wait_for("Received SIGTERM")
    gate.open()
    assert server.lines(500) == [str(number) for number in range(500)]
    assert server.wait() == TERMINATED
    assert server.trouble() == [], server.output()


def test_what_is_not_delivered_in_time_is_counted_in_the_log(start: StartServer, gate: Gate) -> None:
    server = start(settings(drain_timeout="200 ms"))
    send(server, 500)
    server.send_signal(signal.SIGTERM)
    lost = server.wait_for(r"handler slow did not get (\d+) frames and events within 0.2 s: they are lost")
    assert int(lost[1]) == 500
    gate.leave_open()
    assert server.wait() == TERMINATED


def test_sigterm_takes_what_open_connections_have_sent(start: StartServer) -> None:
    """The unterminated line of a peer that would go on is an event too, marked as cut."""
    server = start(settings().replace('call = "gated:on_events"\nthread = true\nreplies = false', 'type = "console"'))
    with socket.create_connection(server.place("lines", "tcp")) as peer:
        peer.sendall(b"whole\nhal")
        assert server.event()["message"] == "whole"
        assert server.stop() == TERMINATED
        assert peer.recv(1) == b""
    event = server.event()
    assert (event["message"], event["context"]) == ("hal", {"truncated": True})
    assert server.trouble() == []


def test_sigterm_closes_connections_politely(real_program: RealProgram, start: StartServer) -> None:
    """A peer that waits for answers gets those that are due, and the end of the stream: no reset."""
    (start.folder / "answering.py").write_text(
        "import asyncio\nasync def answer(event):\n    await asyncio.sleep(0.1)\n    return event.message * 10_000\n"
    )
    server = start(settings().replace('"gated:on_events"\nthread = true\nreplies = false', '"answering:answer"'))
    with socket.create_connection(server.place("lines", "tcp")) as peer:
        peer.sendall(b"".join(b"%d\n" % number for number in range(10)))
        server.metrics_when("frames_journaled_total", 10)
        server.send_signal(signal.SIGTERM)
        with peer.makefile("rb") as answers:
            assert answers.read() == b"".join(b"%d" % number * 10_000 + b"\n" for number in range(10))
    assert server.wait() == TERMINATED
    assert server.trouble() == []


def test_sigterm_delivers_what_waited_for_room(real_program: RealProgram, start: StartServer, gate: Gate) -> None:
    """Everything that was read from a peer that was held up is delivered; what was not read is the peer's."""
    data = memoryview("".join(f"{number:012}{'x' * 16_000}\n" for number in range(1500)).encode())
    server = start(settings())
    with writing_to([real_program("nc"), "-N", "-O", "65536", "127.0.0.1", str(server.port("lines"))]) as nc:
        assert write_until_blocked(nc, data, server) < len(data)
        read = server.metrics().total("received_bytes_total", listener="lines")
        server.send_signal(signal.SIGTERM)
        server.wait_for("Received SIGTERM")
        gate.open()
        assert server.wait() == TERMINATED
    # The last one may be the head of a line.
    whole, part = divmod(read, 16_013)
    assert server.stdout == [f"{number:012}" for number in range(whole + (part > 0))]
    assert server.trouble() == [], server.output()


def test_a_port_in_use_is_named_and_ends_the_server(real_program: RealProgram, start: StartServer) -> None:
    """Every endpoint that cannot be opened is an error of its own; nothing half-started is left."""
    server = start(settings().replace('call = "gated:on_events"\nthread = true\nreplies = false', 'type = "console"'))
    port = server.port("lines")
    unix = start.folder / "other.sock"
    toml = start.folder / "other.toml"
    toml.write_text(
        f'[listener.a]\nendpoints = ["tcp:{port}:interface=127.0.0.1", "unix:{unix}"]\n'
        f'[listener.b]\nendpoints = ["udp:0:interface=192.0.2.1"]\n[handler.console]\ntype = "console"\n'
    )
    done = run([beside_python("twistd"), "-n", "eventserver", "-c", str(toml)])
    assert (done.returncode, done.stdout) == (1, b"")
    log = done.stderr.decode()
    assert "Traceback" not in log
    errors = [line.partition(" error ")[2] for line in log.splitlines() if " error " in line]
    assert len(errors) == 2, log
    assert f"tcp:{port}:interface=127.0.0.1: Address already in use" in errors[0]
    assert "udp:0:interface=192.0.2.1: Cannot assign requested address" in errors[1]
    assert not unix.exists()
    run([real_program("nc"), "-N", "127.0.0.1", str(port)], b"still here\n")
    assert server.event()["message"] == "still here"
    server.finish()


def test_the_server_tunes_its_own_process(start: StartServer) -> None:
    """As `eventserver.limits.keep_memory` does; and a read may bring more then."""
    (start.folder / "tuned.py").write_text(
        "import gc\nlines = []\n"
        "def look(event):\n    lines.append(event.id)\n"
        "    if event.message == 'end':\n"
        "        most = max(int(id.rpartition('-')[2]) for id in lines)\n"
        "        open('said', 'w').write(f'{gc.get_threshold()[0]} {most}')\n"
    )
    gated = '"gated:on_events"\nthread = true\nreplies = false'
    server = start(settings().replace(gated, '"tuned:look"\nreplies = false').replace('memory = "64 KiB"\n', ""))
    with socket.create_connection(server.place("lines", "tcp")) as peer:
        peer.sendall((b"x" * 199 + b"\n") * 50_000 + b"end\n")
        server.metrics_when("events_delivered_total", 50_001, handler="slow")
    threshold, most = map(int, (server.folder / "said").read_text().split())
    assert threshold == 2000
    # With 64 KiB it would be 328 lines at most.
    assert most > 400
    server.finish()


#: A file for each line that comes.
FILES = """
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.files]
type = "file"
path = "out/{message}"
format = "raw"
[journal]
path = "journal"
"""


def test_connections_leave_file_descriptors_for_all_else(real_program: RealProgram, start: StartServer) -> None:
    """Of 256 that the process may have: a new file, a new journal segment, the admin endpoint and SIGHUP need some."""
    limited = [real_program("prlimit"), "--nofile=256:256"]
    server = start(FILES, before=limited)
    server.wait_until_ready()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.create_connection(server.place("lines", "tcp"))) for _ in range(300)]
        # They are accepted in order, so when this one has been refused, all have had their turn.
        assert stack.enter_context(socket.create_connection(server.place("lines", "tcp"))).recv(1) == b""
        for number in range(20):
            peers[0].sendall(b"file%d\n" % number)
        server.metrics_when("events_delivered_total", 20, handler="files")
        server.send_signal(signal.SIGHUP)
        server.wait_for("files are opened again")
        peers[0].sendall(b"last\n")
        metrics = server.metrics_when("events_delivered_total", 21, handler="files")
        refused = metrics.total("connections_closed_total", listener="lines", reason="descriptors")
        assert metrics.total("connections", listener="lines") + refused == 301
        assert 100 < metrics.total("connections", listener="lines") < 192
        assert "too few file descriptors are left" in server.output()
    assert sorted(path.read_text() for path in (server.folder / "out").iterdir()) == sorted(
        ["last\n", *(f"file{number}\n" for number in range(20))]
    )
    server.metrics_when("connections_closed_total", refused, listener="lines", reason="descriptors")
    with socket.create_connection(server.place("lines", "tcp")) as peer:
        peer.sendall(b"after\n")
        server.metrics_when("events_delivered_total", 22, handler="files")
    server.finish()


def test_a_slow_handler_delays_no_other(start: StartServer, gate: Gate) -> None:
    """The console has everything while the slow handler still stands at the gate."""
    server = start(settings().replace('memory = "64 KiB"', "") + '[handler.console]\ntype = "console"\n')
    send(server, 500)
    assert [event["message"] for event in server.events(500)] == [str(number) for number in range(500)]
    metrics = server.metrics_when("events_delivered_total", 500, handler="console")
    assert metrics.total("handler_lag_frames", handler="slow") == 500
    assert metrics.total("handler_lag_frames", handler="console") == 0
    gate.open()
    assert server.lines(500) == [str(number) for number in range(500)]
    server.finish()
