"""The real clients that tests drive, their versions, and what was sent, acknowledged and received in a run.

A test that counts calls `exchanges.note("logger", "RFC 5424 over TCP", sent=500, received=len(events))`, which checks
the counts as well. When the run is over, `conftest.py` prints the table of all of them.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.real.carbon import carbon_version
from tests.real.forward import node_logger_version
from tests.real.lumberjack import node_lumberjack_version
from tests.realprograms import find, run


def _program(name: str, *words: str) -> str:
    """The version that a program says it has."""
    done = run([find(name), *words])
    found = re.search(r"\d+(?:\.\d+)+", (done.stdout + done.stderr).decode())
    return found[0] if found else ""


_package = importlib.metadata.version

#: How to ask each client for its version: by the name that the table has for it.
CLIENTS: dict[str, Callable[[], str]] = {
    "rsyslog omfwd": partial(_program, "rsyslogd", "-v"),
    "rsyslog omrelp": partial(_program, "rsyslogd", "-v"),
    "logger": partial(_program, "logger", "--version"),
    "Python SysLogHandler": platform.python_version,
    "Python http.client": platform.python_version,
    "curl": partial(_program, "curl", "--version"),
    "haproxy": partial(_program, "haproxy", "-v"),
    "carbon": carbon_version,
    "graypy": partial(_package, "graypy"),
    "pygelf": partial(_package, "pygelf"),
    "statsd": partial(_package, "statsd"),
    "datadog": partial(_package, "datadog"),
    "fluent-logger": partial(_package, "fluent-logger"),
    "@fluent-org/logger": node_logger_version,
    "pylogbeat": partial(_package, "pylogbeat"),
    "lumberjack-protocol": node_lumberjack_version,
}


@dataclass(frozen=True)
class Exchange:
    """What one client sent in one way, and what came of it; `acknowledged` is None where its protocol cannot."""

    client: str
    over: str
    sent: int
    acknowledged: int | None
    received: int


@dataclass
class Exchanges:
    """What was counted in a run."""

    found: list[Exchange] = field(default_factory=list)

    def note(
        self, client: str, over: str, *, sent: int, received: int, acknowledged: int | None = None, more: bool = False
    ) -> None:
        """Check the counts, and keep them for the table.

        `received` are different events, each counted once. With `more` the client may have had more acknowledged than
        the test sent: what it says of itself, and what it sent again.
        """
        assert client in CLIENTS, f"{client} is not in the list of clients"
        assert received == sent, f"{client} over {over}: {sent} sent, {received} received"
        if acknowledged is not None:
            assert acknowledged >= sent if more else acknowledged == sent, f"{acknowledged} of {sent} acknowledged"
        self.found.append(Exchange(client, over, sent, acknowledged, received))

    def table(self) -> list[str]:
        """The lines of the table, in the order of `CLIENTS`."""
        order = list(CLIENTS)
        rows = [("client", "version", "over", "sent", "acknowledged", "received")]
        for row in sorted(self.found, key=lambda row: (order.index(row.client), row.over)):
            acknowledged = "-" if row.acknowledged is None else str(row.acknowledged)
            rows.append((row.client, version(row.client), row.over, str(row.sent), acknowledged, str(row.received)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


def version(client: str) -> str:
    """The version of a client; empty where it is not installed."""
    try:
        return CLIENTS[client]()
    except importlib.metadata.PackageNotFoundError:
        return ""


def noted_in(folder: Path) -> set[str]:
    """The clients that tests in a folder have exchanges of, by the text of the tests."""
    return {
        name
        for path in folder.glob("test_*.py")
        for name in re.findall(r'exchanges\.note\(\s*"([^"]+)"', path.read_text())
    }
