"""What systemd is told, read from a real unix datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from eventserver.sdnotify import Notifier, watchdog_interval

PID = 4711


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """The datagrams that came since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.close()


def notifier(tmp_path: Path, clock: Clock | None = None, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}, clock or Clock(), PID)


def test_ready_is_one_datagram_with_its_status(tmp_path: Path, manager: Manager) -> None:
    notifier(tmp_path).ready("listening on tcp:5140\nand more")
    assert manager.heard() == ["READY=1\nSTATUS=listening on tcp:5140 and more"]


def test_stopping_is_said_once(tmp_path: Path, manager: Manager) -> None:
    service = notifier(tmp_path)
    service.startService()
    service.stopping("draining")
    service.stopService()
    assert manager.heard() == ["STOPPING=1\nSTATUS=draining"]


def test_status_is_one_line(tmp_path: Path, manager: Manager) -> None:
    notifier(tmp_path).status("2 handlers\nREADY=1")
    assert manager.heard() == ["STATUS=2 handlers READY=1"]


def test_the_watchdog_is_fed_at_half_its_time_while_the_service_runs(tmp_path: Path, manager: Manager) -> None:
    clock = Clock()
    service = notifier(tmp_path, clock, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(PID))
    service.startService()
    assert manager.heard() == ["WATCHDOG=1"]
    clock.advance(14.9)
    assert manager.heard() == []
    clock.advance(0.1)
    assert manager.heard() == ["WATCHDOG=1"]
    service.stopService()
    clock.advance(60)
    assert manager.heard() == ["STOPPING=1"]
    assert clock.getDelayedCalls() == []


def test_a_stalled_reactor_feeds_no_watchdog(tmp_path: Path, manager: Manager) -> None:
    """The messages come from the reactor's own clock, so a reactor that hangs goes silent and is restarted."""
    clock = Clock()
    service = notifier(tmp_path, clock, WATCHDOG_USEC="2000000")
    service.startService()
    manager.heard()
    assert manager.heard() == []
    clock.advance(5)
    assert manager.heard() == ["WATCHDOG=1"]
    service.stopService()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None),
    ],
)
def test_the_watchdog_is_only_fed_where_systemd_asks_this_process(environ: dict[str, str], seconds: float) -> None:
    assert watchdog_interval(environ, PID) == seconds


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"@eventserver-test-{os.getpid()}"
    manager = Manager("\0" + name[1:])
    Notifier({"NOTIFY_SOCKET": name}, Clock(), PID).ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_outside_systemd_nothing_happens(environ: dict[str, str]) -> None:
    clock = Clock()
    service = Notifier({**environ, "WATCHDOG_USEC": "1000000"}, clock, PID)
    assert not service.enabled
    service.startService()
    service.ready()
    service.status("fine")
    assert clock.getDelayedCalls() == []
    service.stopService()


def test_a_gone_manager_is_logged_once_and_harms_nothing(tmp_path: Path) -> None:
    service = notifier(tmp_path)
    assert service.enabled
    service.ready()
    assert not service.enabled
    service.stopping()
