"""What `EventServer.reopen` (SIGHUP) makes a running server do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import capturedLogs, formatEvent
from zope.interface import alsoProvides

from eventserver.errors import TemporaryFailure
from eventserver.event import Event
from eventserver.interfaces import IReopen
from eventserver.service import EventServer
from tests.conftest import LoggedFailures
from tests.listeners.certificates import Authority

from .conftest import Site

pytestmark = pytest.mark.reactors


class Mended:
    """A destination that is down until it is mended; it asks to be left alone for an hour."""

    def __init__(self) -> None:
        self.down = True
        self.seen: list[str] = []

    def __call__(self, event: Event) -> None:
        if self.down:
            raise TemporaryFailure("the database does not answer", retry_after=3600)
        self.seen.append(event.message)


@pytest_twisted.ensureDeferred
async def test_a_handler_that_waits_for_its_destination_tries_at_once(site: Site) -> None:
    destination = Mended()
    server = await site.serve({"handler": {"h": {"call": destination}}})
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        await subscription.get(60)
    said = ["handler h is unwell: TemporaryFailure: the database does not answer"]
    assert server.status.ready() == said
    server.reopen()
    assert server.status.ready() == said
    destination.down = False
    server.reopen()
    assert destination.seen == ["one"]
    assert server.status.ready() == []


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_open_its_files_again_keeps_nobody_else_waiting(
    site: Site, logged_failures: LoggedFailures
) -> None:
    def fail() -> None:
        raise OSError("no such folder")

    destination = Mended()
    server = await site.serve({"handler": {"a": {"type": "null"}, "h": {"call": destination}}})
    assert server._parts is not None
    handler: Any = server._parts.deliveries["a"].handler
    handler.reopen = fail
    alsoProvides(handler, IReopen)
    async with server.subscribe() as subscription:
        client = await site.connect(server)
        client.transport.write(b"one\n")
        await subscription.get(60)
    destination.down = False
    server.reopen()
    assert destination.seen == ["one"]
    assert len(logged_failures(OSError)) == 1


@pytest_twisted.ensureDeferred
async def test_renewed_certificates_are_read(site: Site, tmp_path: Path) -> None:
    """One that cannot be used is said, and keeps neither its listener nor the others from going on."""
    authority = Authority(tmp_path)
    listeners = {}
    for name in ("first", "second"):
        cert, key = authority.server(name)
        listeners[name] = {"endpoints": ["tls:0:interface=127.0.0.1"], "tls": {"cert": cert, "key": key}}
    server = await site.serve({"listener": listeners, "handler": {"h": {"type": "null"}}})

    def ends() -> dict[str, float]:
        name = "eventserver_tls_certificate_expiry_timestamp_seconds"
        return {labels["listener"]: value for found, labels, value in server.status.gauges() if found == name}

    before = ends()
    assert before.keys() == {"first", "second"}
    (tmp_path / "first.pem").write_text("broken")
    authority.server("second", days=20)
    with capturedLogs() as captured:
        server.reopen()
    after = ends()
    assert after["first"] == before["first"]
    assert after["second"] - before["second"] == pytest.approx(19 * 86400, abs=60)
    said = f"listener first goes on with what it had: {tmp_path}/first.pem holds no certificate in PEM"
    assert said in [formatEvent(event) for event in captured]


def test_before_the_start_there_is_nothing_to_do() -> None:
    EventServer({}).reopen()
