"""The admin endpoint on a real reactor, asked by real clients."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from eventserver.admin import AdminService, reference
from eventserver.admin.web import HEAD_TIMEOUT
from eventserver.service import EventServer
from tests import realprograms
from tests.admin.server import Status
from tests.listeners.certificates import Authority

LOOPBACK = "tcp:0:interface=127.0.0.1"


def fetch(url: str, *options: str) -> Deferred[subprocess.CompletedProcess[bytes]]:
    """Asks from another process, by Python's own HTTP client."""
    script = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=120).read())"
    return realprograms.run_beside([sys.executable, "-c", script, url, *options])


@pytest.mark.reactors
@pytest_twisted.ensureDeferred
async def test_a_started_service_answers_and_a_stopped_one_does_not() -> None:
    from twisted.internet import reactor

    service = AdminService(LOOPBACK, None, Status(), reactor)
    assert service.addresses() == []
    service.startService()
    [address] = service.addresses()
    done = await fetch(f"{address}/live")
    assert (done.returncode, done.stdout) == (0, b"live\n")
    done = await fetch(f"{address}/metrics")
    assert b"\neventserver_frames_received_total" in done.stdout
    await service.stopService()
    assert service.addresses() == []
    assert (await fetch(f"{address}/live")).returncode != 0


@pytest_twisted.ensureDeferred
async def test_a_connection_that_hangs_does_not_delay_the_stop() -> None:
    from twisted.internet import reactor
    from twisted.internet.endpoints import clientFromString
    from twisted.internet.protocol import Protocol

    service = AdminService(LOOPBACK, None, Status(), reactor)
    service.startService()
    lost: Deferred[None] = Deferred()

    class Hanging(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            lost.callback(None)

    port = service.addresses()[0].rsplit(":", 1)[1]
    client = await clientFromString(reactor, f"tcp:127.0.0.1:{port}").connect(Factory.forProtocol(Hanging))
    client.transport.write(b"GET /li")
    while not service._site or not service._site.open_channels:
        await _turn(reactor)
    await service.stopService()
    # Well before the deadline of the request, which would end the connection too.
    await lost.addTimeout(HEAD_TIMEOUT / 2, reactor)


def _turn(reactor: Any) -> Deferred[None]:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    return turn


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    from twisted.internet import reactor

    service = AdminService(f"unix:{tmp_path}/admin.sock:mode=600", None, Status(), reactor)
    service.startService()
    assert service.addresses() == [f"unix:{tmp_path}/admin.sock"]
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /ready HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.makefile().read())"
    )
    done = await realprograms.run_beside([sys.executable, "-c", script, f"{tmp_path}/admin.sock"])
    assert b"200 OK" in done.stdout
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_is_raised_at_start() -> None:
    from twisted.internet import reactor

    taken = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    service = AdminService(f"tcp:{taken.getHost().port}:interface=127.0.0.1", None, Status(), reactor)
    with pytest.raises(CannotListenError):
        service.startService()
    await service.stopService()
    await taken.stopListening()


def test_neither_web_nor_prometheus_is_imported_without_an_endpoint() -> None:
    script = (
        "import sys, eventserver.admin; print([m for m in sys.modules if m in ('twisted.web', 'prometheus_client')])"
    )
    assert realprograms.run([sys.executable, "-c", script]).stdout == b"[]\n"


def test_importing_the_site_installs_no_reactor() -> None:
    script = "import sys, eventserver.admin.web; print('twisted.internet.reactor' in sys.modules)"
    assert realprograms.run([sys.executable, "-c", script]).stdout == b"False\n"


@pytest.mark.reactors
@pytest_twisted.ensureDeferred
async def test_a_whole_server_is_ready_and_exports_every_metric_of_the_reference_page(tmp_path: Path) -> None:
    from twisted.internet import reactor

    cert, key = Authority(tmp_path).server()
    settings = {
        "listener": {"lines": {"endpoints": ["tls:0:interface=127.0.0.1"], "tls": {"cert": cert, "key": key}}},
        "handler": {"nothing": {"type": "null"}},
        "journal": {"path": str(tmp_path / "journal")},
        "admin": {"endpoint": LOOPBACK},
    }
    server = EventServer(settings, reactor)
    await server.start()
    [address] = server.addresses()["admin"]
    assert (await fetch(f"{address}/ready")).stdout == b"ready\n"
    text = (await fetch(f"{address}/metrics")).stdout.decode()
    exported = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE eventserver_")}
    assert exported == set(re.findall(r"^\| `(\w+)`", reference.page(), re.MULTILINE))
    await server.stop()
