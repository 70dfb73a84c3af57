"""The unix socket of the control API: who can connect, and what is done about one that was left behind."""

from __future__ import annotations

import http.client
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from eventserver.admin.control import Control
from eventserver.admin.control_socket import LONGEST_PATH, NAME, ControlSocket
from tests.admin.server import Status
from tests.realprograms import beside_python, run
from tests.replaying.history import World


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def service(path: Path, world: Path) -> ControlSocket:
    from twisted.internet import reactor

    made = World(world)
    return ControlSocket(path.parent, Control(made.journal, made.replays, now=made.now), Status(), reactor)


def problem(path: Path) -> str:
    """Why nobody can listen there; the server goes on without."""
    made = service(path, path.parent)
    made.startService()
    assert made.problem is not None
    return made.problem


@pytest.fixture
def control(path: Path, tmp_path: Path) -> Iterator[ControlSocket]:
    made = service(path, tmp_path)
    yield made
    pytest_twisted.blockon(made.stopService())


def get(path: Path, page: str) -> tuple[int, bytes]:
    """Asks as a program would, in a thread."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(60)
            self.sock.connect(str(path))

    connection = Connection("localhost")
    connection.request("GET", page)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest_twisted.ensureDeferred
async def test_it_answers_and_goes_away(control: ControlSocket, path: Path) -> None:
    control.startService()
    code, body = await deferToThread(get, path, "/v1")
    assert (code, body[:12]) == (200, b'{"api":"v1",')
    assert (await deferToThread(get, path, "/ready"))[0] == 200
    await control.stopService()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_only_its_user_may_connect_whatever_the_umask(control: ControlSocket, path: Path) -> None:
    before = os.umask(0)
    try:
        control.startService()
    finally:
        after = os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert after == 0, "the umask of the process is what it was"


def test_there_is_no_moment_in_which_others_may_connect(tmp_path: Path) -> None:
    masks: list[int] = []

    class Reactor:
        def listenUNIX(self, path: str, factory: Any, mode: int) -> None:
            masks.append(os.umask(0))
            os.umask(masks[0])

    made = World(tmp_path)
    control = Control(made.journal, made.replays, now=made.now)
    ControlSocket(tmp_path, control, Status(), Reactor()).startService()
    assert masks == [0o177]


@pytest_twisted.ensureDeferred
async def test_one_that_was_left_behind_is_replaced(control: ControlSocket, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    control.startService()
    assert (await deferToThread(get, path, "/v1"))[0] == 200


@pytest_twisted.ensureDeferred
async def test_one_that_is_answered_is_left_alone(control: ControlSocket, path: Path, tmp_path: Path) -> None:
    control.startService()
    other = service(path, tmp_path)
    other.startService()
    assert other.problem == "somebody answers there already"
    assert (await deferToThread(get, path, "/v1"))[0] == 200


def test_a_socket_whose_queue_is_full_is_somebodys(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        assert "cannot be used" in problem(path)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_is_not_touched(path: Path, tmp_path: Path, make: Any) -> None:
    make(path)
    assert "is no socket" in problem(path)
    assert path.exists()


def test_a_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (LONGEST_PATH - len(str(tmp_path)))) / NAME
    path.parent.mkdir()
    assert "too long for a unix socket" in problem(path)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    assert problem(tmp_path / "no" / NAME) == "there is no such folder"


def test_a_server_that_nobody_asks_does_not_pay_for_it() -> None:
    """twisted.web and prometheus_client take 15 MB."""
    script = (
        "import sys, eventserver.admin.control_socket as c\n"
        "c.control_of(None, None, None)\n"
        "print(sorted({'twisted.web', 'prometheus_client', 'twisted.internet.reactor'} & set(sys.modules)))\n"
    )
    done = run([beside_python("python"), "-c", script])
    assert done.stdout == b"[]\n", done.stderr
