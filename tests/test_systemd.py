"""The systemd units: their hardening, and socket activation as systemd does it, without systemd as process 1."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import realprograms
from tests.realprograms import ROOT, Program

UNITS = ROOT / "systemd"
SERVICE = UNITS / "eventserver.service"

#: Does what systemd does before it starts a service: the sockets as descriptors 3, 4, ..., and three variables.
LAUNCHER = """
import os, sys
descriptors, names, *argv = sys.argv[1:]
descriptors = [int(number) for number in descriptors.split(",")]
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, place, inheritable=True)
os.environ |= {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": names, "LISTEN_PID": str(os.getpid())}
os.execv(argv[0], argv)
"""
#: Where the sockets wait for the launcher, out of the way of 3, 4, ...
SPARE = 500


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


# The units


@pytest.mark.real
def test_the_service_is_hardened(real_program: Callable[[str], str]) -> None:
    """systemd's own score, from 0 (locked up) to 10 (exposed)."""
    command = [real_program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(SERVICE)]
    done = realprograms.run(command)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout.decode())
    assert found is not None, done.stdout.decode() + done.stderr.decode()
    assert float(found[1]) <= 2.0


@pytest.mark.real
def test_systemd_understands_every_line_of_the_units(real_program: Callable[[str], str], tmp_path: Path) -> None:
    for unit in UNITS.glob("eventserver.s*"):
        # The programs need not be installed where tests run.
        text = re.sub(r"^(Exec\w+=)\S+", r"\1/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = realprograms.run([real_program("systemd-analyze"), "verify", "--man=no", *units])
    assert [line for line in done.stderr.decode().splitlines() if str(tmp_path) in line or "eventserver" in line] == []


def test_the_service_says_when_it_is_ready_and_alive() -> None:
    assert values(SERVICE, "Type") == ["notify"]
    assert values(SERVICE, "NotifyAccess") == ["main"]
    assert values(SERVICE, "WatchdogSec") == ["30s"]
    assert values(SERVICE, "ExecStart") == ["/opt/eventserver/bin/eventserver run -c /etc/eventserver"]


def test_the_sample_settings_take_every_socket_of_the_unit_once() -> None:
    """By index: the Listen lines in their order."""
    lines = re.findall(r"^Listen(Stream|Datagram)=", (UNITS / "eventserver.socket").read_text(), re.MULTILINE)
    taken = re.findall(
        r'"(systemd(?:-datagram)?):(?:domain=INET6:)?index=(\d+)"', (UNITS / "eventserver.toml").read_text()
    )
    kinds = {int(index): {"systemd": "Stream", "systemd-datagram": "Datagram"}[kind] for kind, index in taken}
    assert len(taken) == len(kinds)
    assert kinds == dict(enumerate(lines))


# Socket activation and notification


class Activated:
    """What systemd holds for the service: its listening sockets, and the socket that it is told things on."""

    def __init__(self, folder: Path) -> None:
        self.sockets: list[socket.socket] = []
        unit = (UNITS / "eventserver.socket").read_text()
        for kind in re.findall(r"^Listen(Stream|Datagram)=", unit, re.MULTILINE):
            self.sockets.append(_dual_stack(socket.SOCK_STREAM if kind == "Stream" else socket.SOCK_DGRAM))
        self.notify_path = str(folder / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self.notify_path)
        self._notify.settimeout(realprograms.DEADLINE)

    def launch(self, argv: list[str], **environ: str) -> Program:
        names = ":".join(values(UNITS / "eventserver.socket", "FileDescriptorName") * len(self.sockets))
        spare = [os.dup2(each.fileno(), SPARE + n) for n, each in enumerate(self.sockets)]
        try:
            return Program(
                [sys.executable, "-c", LAUNCHER, ",".join(map(str, spare)), names, *argv],
                env={**os.environ, "NOTIFY_SOCKET": self.notify_path, **environ},
                pass_fds=spare,
            )
        finally:
            for descriptor in spare:
                os.close(descriptor)

    def told(self, wanted: str) -> list[str]:
        """The messages up to one that begins with `wanted`; a `TimeoutError` if it does not come."""
        messages: list[str] = []
        while not messages or not messages[-1].startswith(wanted):
            messages.append(self._notify.recv(4096).decode())
        return messages

    def close(self) -> None:
        for each in (*self.sockets, self._notify):
            each.close()


def _dual_stack(kind: socket.SocketKind) -> socket.socket:
    """As systemd opens `ListenStream=5140`: IPv6 that takes IPv4 too; on a port of its own here."""
    opened = socket.socket(socket.AF_INET6, kind)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind(("::", 0))
    if kind == socket.SOCK_STREAM:
        opened.listen(64)
    return opened


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    held = Activated(tmp_path)
    yield held
    held.close()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The sample settings; only the places where it writes and listens besides are of the test."""
    text = (UNITS / "eventserver.toml").read_text()
    assert "/var/log/eventserver/" in text
    assert "tcp:9514:" in text
    path = tmp_path / "eventserver.toml"
    path.write_text(text.replace("/var/log/eventserver/", f"{tmp_path}/").replace("tcp:9514:", "tcp:0:"))
    return path


def archived(folder: Path, listener: str) -> list[dict[str, object]]:
    return [json.loads(line) for path in folder.glob(f"{listener}-*.jsonl") for line in path.read_text().splitlines()]


def test_the_service_takes_tcp_and_udp_sockets_and_tells_systemd_its_state(
    activated: Activated, settings: Path, tmp_path: Path
) -> None:
    """What was sent before the service ran is not lost: systemd held the ports."""
    ports = [each.getsockname()[1] for each in activated.sockets]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.create_connection(("127.0.0.1", ports[0])) as early, datagrams:
        early.sendall(b"sent before the start\n")
        datagrams.sendto(b"a datagram", ("127.0.0.1", ports[1]))
        datagrams.sendto(b"<13>1 2026-01-01T00:00:00Z h app - - - a message", ("127.0.0.1", ports[3]))
        run = [realprograms.beside_python("eventserver"), "run", "-c", str(settings)]
        with activated.launch(run, WATCHDOG_USEC="400000") as server:
            activated.told("READY=1")
            with socket.create_connection(("::1", ports[2])) as syslog:
                syslog.sendall(b"<13>1 2026-01-01T00:00:00Z h app - - - over tcp\n")
            # Twice: it comes again and again while the reactor turns.
            activated.told("WATCHDOG=1")
            activated.told("WATCHDOG=1")
            server.send_signal(signal.SIGTERM)
            activated.told("STOPPING=1")
            assert server.wait() == realprograms.TERMINATED, server.output()
    assert {event["message"] for event in archived(tmp_path, "lines")} == {"sent before the start", "a datagram"}
    assert {event["message"] for event in archived(tmp_path, "syslog")} == {"a message", "over tcp"}
