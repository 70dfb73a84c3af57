"""systemd-socket-activate: the listening socket is open before the server runs, and is passed on to it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import free_port, run

pytestmark = pytest.mark.real

SETTINGS = """
[listener.lines]
endpoints = ["{endpoint}"]
[handler.console]
type = "console"
"""


@pytest.fixture
def activate(real_program: Callable[[str], str], start: StartServer) -> Callable[..., Server]:
    program = real_program("systemd-socket-activate")

    def activated(endpoint: str, *words: str) -> Server:
        """A server that will be started once something arrives."""
        server = start(SETTINGS.format(endpoint=endpoint), before=[program, *words])
        server.wait_for("Listening on")
        return server

    return activated


@pytest.mark.parametrize("endpoint", ["systemd:domain=INET:index=0", "systemd:domain=INET:name=lines"])
def test_a_tcp_socket(activate: Callable[..., Server], real_program: Callable[[str], str], endpoint: str) -> None:
    """The connection that woke the server up is served too."""
    port = free_port()
    server = activate(endpoint, "-l", f"127.0.0.1:{port}", "--fdname=lines")
    run([real_program("nc"), "-N", "127.0.0.1", str(port)], b"first\n")
    server.wait_until_ready()
    assert server.place("lines", "tcp") == ("127.0.0.1", port)
    assert server.event()["message"] == "first"
    run([real_program("nc"), "-N", "127.0.0.1", str(port)], b"second\n")
    assert server.event()["message"] == "second"
    server.finish()


def test_a_datagram_socket(activate: Callable[..., Server], real_program: Callable[[str], str]) -> None:
    """What came before the server ran waited in the socket's buffer."""
    port = free_port(socket.SOCK_DGRAM)
    server = activate("systemd-datagram:name=lines", "--datagram", "-l", f"127.0.0.1:{port}", "--fdname=lines")
    run([real_program("nc"), "-u", "-q", "0", "127.0.0.1", str(port)], b"first\n")
    server.wait_until_ready()
    run([real_program("nc"), "-u", "-q", "0", "127.0.0.1", str(port)], b"second\n")
    assert [event["message"] for event in server.events(2)] == ["first", "second"]
    server.finish()


def test_a_unix_socket_stays_systemds(
    activate: Callable[..., Server], real_program: Callable[[str], str], start: StartServer
) -> None:
    """Its file is still there when the server has stopped: systemd will hand it to the next one."""
    path = start.folder / "lines.sock"
    server = activate("systemd:domain=UNIX:index=0", "-l", str(path), "--fdname=lines")
    run([real_program("nc"), "-N", "-U", str(path)], b"first\n")
    server.wait_until_ready()
    assert server.event()["message"] == "first"
    server.finish()
    assert path.exists()
