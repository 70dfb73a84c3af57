"""Peers that send as fast as they can, and a quiet one beside them."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import DEADLINE

pytestmark = pytest.mark.real

FUNCTIONS = """
def look(event):
    return None if "nothing" not in event.message else "found"
def echo(event):
    return event.message
"""
SETTINGS = """
[listener.busy]
endpoints = ["tcp:0:interface=127.0.0.1"]
[listener.quiet]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.file]
type = "file"
path = "out"
format = "raw"
listeners = ["busy"]
[handler.look]
call = "functions:look"
listeners = ["busy"]
[handler.echo]
call = "functions:echo"
listeners = ["quiet"]
"""
#: Sends to the port of its first argument over as many connections as the second says: as fast as it can until it is
#: killed, half a minute at most, or, with a third one, so many lines over each, and then no more.
SENDER = """
import select, socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
lines = int(sys.argv[3]) if len(sys.argv) > 3 else 0
left, poll = {}, select.poll()
for peer in range(count):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    data = b"".join(b"%04d %06d %067d\\n" % (peer, n, n) for n in range(lines or 800))
    left[sock.fileno()] = sock, data, 0
    poll.register(sock, select.POLLOUT)
end = time.monotonic() + 30
while left and time.monotonic() < end:
    for descriptor, _ in poll.poll(1000):
        sock, data, sent = left[descriptor]
        sent += sock.send(data[sent : sent + (1 << 18)])
        left[descriptor] = sock, data, sent if lines else sent % len(data)
        if lines and sent == len(data):
            poll.unregister(sock)
            left.pop(descriptor)[0].close()
"""


@pytest.fixture
def server(start: StartServer) -> Server:
    (start.folder / "functions.py").write_text(FUNCTIONS)
    return start(SETTINGS)


@contextmanager
def busy_peers(server: Server, count: int) -> Iterator[None]:
    argv = [sys.executable, "-c", SENDER, str(server.port("busy")), str(count)]
    with subprocess.Popen(argv) as sender:
        try:
            # Not for less: they are to be in full swing.
            before = server.metrics().total("frames_received_total", listener="busy")
            server.metrics_when("frames_received_total", before + 5000 * count, listener="busy")
            yield
        finally:
            sender.kill()


def answers(server: Server, count: int = 40) -> float:
    """The median of the seconds that a line takes to be answered."""
    with socket.create_connection(("127.0.0.1", server.port("quiet")), DEADLINE) as quiet:
        quiet.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = []
        for number in range(count):
            began = time.perf_counter()
            quiet.sendall(b"%d\n" % number)
            assert quiet.recv(100) == b"%d\n" % number
            found.append(time.perf_counter() - began)
    return statistics.median(found)


def test_a_quiet_peer_waits_for_one_busy_peer_and_not_for_all_of_them(server: Server) -> None:
    """Where each of them is read before it, fifteen times as many take it fifteen times as long."""
    with busy_peers(server, 4):
        beside_few = answers(server)
    with busy_peers(server, 60):
        beside_many = answers(server)
    assert beside_many < 6 * beside_few


def test_what_many_peers_send_at_once_all_comes_in_order(server: Server) -> None:
    peers, lines = 30, 20_000
    argv = [sys.executable, "-c", SENDER, str(server.port("busy")), str(peers), str(lines)]
    subprocess.run(argv, timeout=60, check=True)
    server.metrics_when("frames_journaled_total", peers * lines, listener="busy")
    server.finish()
    found: dict[bytes, list[int]] = {}
    for line in (server.folder / "out").read_bytes().splitlines():
        peer, number, again = line.split()
        assert int(number) == int(again)
        found.setdefault(peer, []).append(int(number))
    assert len(found) == peers
    assert all(numbers == list(range(lines)) for numbers in found.values())
