"""telnet: somebody types, and gets answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.real.conftest import StartServer
from tests.real.terminal import Terminal
from tests.realprograms import DEADLINE

pytestmark = pytest.mark.real

SETTINGS = """
[listener.device]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.answers]
call = "device:answer"
"""
DEVICE = """
async def answer(event):
    if event.message == "status":
        return "all is well"
    if event.message == "length":
        return {"length": len(event.message)}
    if event.message == "fail":
        raise ValueError("asked to")
    return None
"""


@pytest.fixture
def telnet(real_program: Callable[[str], str]) -> Iterator[Callable[[int], Terminal]]:
    program = real_program("telnet")
    with contextlib.ExitStack() as stack:

        def connect(port: int) -> Terminal:
            terminal = Terminal([program, "127.0.0.1", str(port)])
            stack.callback(terminal.close)
            terminal.wait_for("Escape character is")
            return terminal

        yield connect


def test_a_session_gets_its_answers(telnet: Callable[[int], Terminal], start: StartServer) -> None:
    """telnet ends lines with CR LF, and shows what comes back."""
    (start.folder / "device.py").write_text(DEVICE)
    server = start(SETTINGS)
    terminal = telnet(server.port("device"))
    terminal.type("status\n")
    terminal.wait_for(r"all is well\r?\n")
    terminal.type("length\n")
    terminal.wait_for(r'\{"length":6\}\r?\n')
    terminal.type("\x1d")
    terminal.wait_for("telnet>")
    terminal.type("quit\n")
    assert terminal.process.wait(DEADLINE) == 0
    metrics = server.finish()
    assert metrics.total("replies_total", outcome="sent") == 2
    assert metrics.total("events_delivered_total", handler="answers") == 2


def test_two_sessions_do_not_hear_each_other(telnet: Callable[[int], Terminal], start: StartServer) -> None:
    """An event that fails holds up neither its own session nor the other one."""
    (start.folder / "device.py").write_text(DEVICE)
    server = start(SETTINGS + 'on_error_reply = "ERROR"\nretry = {max_attempts = 1}\n')
    first, second = telnet(server.port("device")), telnet(server.port("device"))
    first.type("fail\n")
    first.wait_for(r"ERROR\r?\n")
    second.type("length\n")
    second.wait_for(r'\{"length":6\}\r?\n')
    first.type("status\n")
    first.wait_for(r"all is well\r?\n")
    assert "all is well" not in second.shown
    assert server.metrics().total("connections", listener="device") == 2
    metrics = server.finish(allowed="handler.answers|asked to")
    assert metrics.total("events_dead_lettered_total", handler="answers") == 1
