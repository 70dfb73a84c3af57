"""The programs of examples/embedded, run as they are."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests import realprograms
from tests.realprograms import DEADLINE, Program

ANY_PORT = "tcp:0:interface=127.0.0.1"


def run(folder: Path, name: str) -> Program:
    # A coroutine that nobody awaited is a RuntimeWarning.
    argv = [realprograms.beside_python("python"), "-W", "error::RuntimeWarning", name, ANY_PORT]
    return Program(argv, cwd=folder / "embedded")


def visit(program: Program, data: bytes) -> None:
    port = int(program.wait_for(r"listening on tcp:127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
        peer.sendall(data)


@pytest.mark.parametrize("name", ["queue_asyncio.py", "queue_twisted.py"])
def test_the_queue_waits_for_events_and_ends_with_the_silence(folder: Path, name: str) -> None:
    with run(folder, name) as program:
        visit(program, b'{"celsius": 19}\n{"volts": 230}\n{"celsius": 22.5}\n{"celsius": 21}\n')
        assert program.wait() == 0, program.output()
        assert program.stdout[1:] == ["warmest: 22.5"]
        assert program.stderr == []


def test_the_function_is_called_with_every_event_that_matches(folder: Path) -> None:
    with run(folder, "callback.py") as program:
        visit(program, b"hello\n\nthat is all\n")
        assert program.wait() == 0, program.output()
        assert program.stdout[1:] == ["127.0.0.1 says 'hello'", "127.0.0.1 says 'that is all'"]
        assert program.stderr == []
