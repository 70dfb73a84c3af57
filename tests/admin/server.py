"""The admin site without a network: a service in a known state, and requests as bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from eventserver.admin import IStatus
from eventserver.admin.status import Gauge
from eventserver.admin.web import AdminSite
from eventserver.counters import HandlerCounters, ListenerCounters

TOKEN = "0123456789abcdef0123456789abcdef"


@implementer(IStatus)
class Status:
    """A service in a known state."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.listener = ListenerCounters(received=12, journaled=9, rejected=Counter(oversize=2, full=1), truncated=4)
        self.handler = HandlerCounters(decoded=9, delivered=5, filtered=1, dead_lettered=1, parked=2)

    def ready(self) -> list[str]:
        return self.reasons

    def listeners(self) -> dict[str, ListenerCounters]:
        return {"lines": self.listener}

    def handlers(self) -> dict[str, HandlerCounters]:
        return {"archive": self.handler}

    def gauges(self) -> list[Gauge]:
        return [
            ("eventserver_handler_lag_frames", {"handler": "archive"}, 3),
            ("eventserver_handler_lag_seconds", {"handler": "archive"}, 0.25),
            ("eventserver_journal_bytes", {}, 4096),
            ("eventserver_journal_commits_total", {}, 7),
            ("eventserver_journal_dead_letters", {"handler": "archive"}, 1),
        ]


class Exchange:
    """One connection to the site, in memory."""

    def __init__(self, site: AdminSite) -> None:
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        self.channel = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        self.channel.dataReceived(data)
        return self.transport.value()

    @property
    def closing(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected

    def end(self) -> None:
        if not self.transport.disconnected:
            self.channel.connectionLost()


class Server:
    """The site without a network: every request is a connection of its own."""

    def __init__(self, token: str | None = None, hosts: Any = frozenset({"localhost", "127.0.0.1", "::1"})) -> None:
        self.status = Status()
        self.clock = Clock()
        self.site = AdminSite(self.status, token, hosts, self.clock)

    def connect(self) -> Exchange:
        return Exchange(self.site)

    def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes; afterwards nothing may be left on the clock."""
        exchange = self.connect()
        answer = exchange.send(data)
        assert exchange.closing
        exchange.end()
        assert self.clock.getDelayedCalls() == []
        return answer

    def ask(self, path: str, method: str = "GET", host: str | None = "localhost:9514", **headers: str) -> Reply:
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return Reply(self.raw("\r\n".join([*lines, "", ""]).encode()))


class Reply:
    """An answer, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.code = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def text(self) -> str:
        return self.body.decode()
