"""rsyslogd's omrelp: every message arrives, in the clear and over TLS, and through restarts of the server."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.docexamples import blocks_of
from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd, need_module
from tests.real.server import Metrics, Server
from tests.realprograms import ROOT, TERMINATED, free_port

pytestmark = pytest.mark.real

MESSAGES = 10_000

SETTINGS = """
[listener.safe]
type = "relp"
endpoints = ["{scheme}:{port}:interface=127.0.0.1"]
decoder = "syslog"
{more}
[handler.console]
type = "console"
"""

JOURNAL = """
[journal]
path = "{path}"
"""

#: In: a unix datagram socket that takes the lines of the test.
TAKE = """
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="{folder}/in.sock" useSpecialParser="off" parseHostname="on"
      useSysTimeStamp="off" ignoreTimestamp="off" rateLimit.interval="0")
"""
SEND = """
module(load="omrelp")
action(type="omrelp" target="127.0.0.1" port="{port}" template="RSYSLOG_SyslogProtocol23Format"
       action.resumeInterval="1" action.resumeRetryCount="-1" {more})
"""


def line(number: int) -> bytes:
    return f"<13>1 2026-02-03T04:05:06.789Z host{number % 7} app {number} - - message {number} of many".encode()


@pytest.fixture
def rsyslogd(real_program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[str], Rsyslogd]]:
    """rsyslogd with omrelp, which Debian has in a package of its own."""
    program = real_program("rsyslogd")
    need_module("omrelp")
    with contextlib.ExitStack() as stack:
        yield lambda configuration: stack.enter_context(Rsyslogd(program, tmp_path / "rsyslog", configuration))


class Forwarder:
    """A rsyslogd with a socket of ours, and what it was given."""

    def __init__(self, rsyslogd: Callable[[str], Rsyslogd], folder: Path, send: str) -> None:
        self.program = rsyslogd(TAKE.format(folder=folder) + send)
        self._path = str(folder / "in.sock")
        self._sent = 0

    def send(self, count: int) -> None:
        """The next messages; waits where rsyslogd does not keep up."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as source:
            source.connect(self._path)
            for number in range(self._sent, self._sent + count):
                source.send(line(number))
        self._sent += count


def numbers(lines: Iterable[str]) -> Iterator[int]:
    """The numbers of messages, from events as the console prints them, less what rsyslogd says of itself."""
    for text in lines:
        event = json.loads(text)
        if event["fields"].get("hostname") != "forwarder":
            assert "error" not in event["fields"], event
            yield int(event["fields"]["procid"])


def started(server: Server) -> None:
    """rsyslogd's first message has come: it has a session, and its socket is there."""
    assert "start" in server.event()["message"]


def take(server: Server, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += numbers(server.lines(count - len(found)))
    return found


def everything_was_acknowledged(metrics: Metrics) -> None:
    assert metrics.total("frames_acknowledged_total") == metrics.total("frames_received_total") >= MESSAGES
    assert metrics.total("connections_closed_total") == 0
    assert metrics.total("frames_rejected_total") == 0


def note(exchanges: Exchanges, over: str, found: list[int], metrics: Metrics) -> None:
    """For the table of clients; rsyslogd has its own words acknowledged too."""
    acknowledged = metrics.total("frames_acknowledged_total")
    exchanges.note("rsyslog omrelp", over, sent=MESSAGES, received=len(found), acknowledged=acknowledged, more=True)


def shown(number: int, **changes: str) -> str:
    """What the page on RELP tells people to write into rsyslog.conf, with other places in it."""
    page = (ROOT / "docs" / "relp.md").read_text()
    text = [block.text for block in blocks_of(page) if "tests/real/test_relp.py" in block.markers.values()][number]
    for old, new in changes.items():
        assert f'{old}="' in text, old
        text = re.sub(rf'{re.escape(old)}="[^"]*"', f'{old}="{new}"', text)
    return text


def test_ten_thousand_messages(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, exchanges: Exchanges
) -> None:
    """In order, once each, and every one acknowledged, as the documentation shows it."""
    server = start(SETTINGS.format(scheme="tcp", port=0, more="") + JOURNAL.format(path=tmp_path / "journal"))
    forwarder = Forwarder(rsyslogd, tmp_path / "rsyslog", shown(0, port=str(server.port("safe"))))
    started(server)
    forwarder.send(MESSAGES)
    found = take(server, MESSAGES)
    assert found == list(range(MESSAGES))
    assert forwarder.program.stop() == 0, forwarder.program.output()
    metrics = server.finish(farewell=True)
    everything_was_acknowledged(metrics)
    note(exchanges, "RELP, TCP", found, metrics)


@pytest.mark.parametrize("library", ["gnutls", "openssl"])
def test_ten_thousand_messages_over_tls(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, authority: Authority, tmp_path: Path, library: str,
    exchanges: Exchanges,
) -> None:  # fmt: skip
    """TLS begins with the connection; both sides show a certificate, and look at the other's."""
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}", client_names = ["forwarder"]}}'
    server = start(SETTINGS.format(scheme="tls", port=0, more=tls))
    my_cert, my_key = authority.issue("forwarder")
    places = {"tls.caCert": authority.ca, "tls.myCert": my_cert, "tls.myPrivKey": my_key}
    send = shown(1, port=str(server.port("safe", "tls")), **places)
    send = send.replace('load="omrelp"', f'load="omrelp" tls.tlslib="{library}"')
    forwarder = Forwarder(rsyslogd, tmp_path / "rsyslog", send)
    first = server.event()
    assert "start" in first["message"]
    assert first["context"]["tls"]["subject"] == "forwarder"
    forwarder.send(MESSAGES)
    found = take(server, MESSAGES)
    assert found == list(range(MESSAGES))
    assert forwarder.program.stop() == 0, forwarder.program.output()
    metrics = server.finish(farewell=True)
    everything_was_acknowledged(metrics)
    note(exchanges, f"RELP, TLS ({library})", found, metrics)


def test_a_client_without_a_certificate_is_not_heard(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}"}}'
    server = start(SETTINGS.format(scheme="tls", port=0, more=tls))
    port = server.port("safe", "tls")
    with Forwarder(rsyslogd, tmp_path / "rsyslog", SEND.format(port=port, more='tls="on"')).program:
        metrics = server.metrics_when("connections_closed_total", 1, reason="tls")
    assert metrics.total("frames_received_total") == 0
    server.finish()


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("ack", ["delivered", "durable"])
def test_nothing_is_lost_when_the_server_goes_and_comes_back(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, ack: str, end: str
) -> None:
    """With `delivered` no journal is needed for that: what no handler has had was not acknowledged."""
    settings = SETTINGS.format(scheme="tcp", port=free_port(), more=f'ack = "{ack}"')
    if ack == "durable":
        settings += JOURNAL.format(path=tmp_path / "journal")
    lives = [start(settings, "life0")]
    port = lives[0].port("safe")
    # With a queue the action fills librelp's window, so that there is something to lose. It has to hold what comes
    # while the server is away: rsyslogd drops what finds a full queue for two seconds.
    forwarder = Forwarder(rsyslogd, tmp_path / "rsyslog", shown(0, port=str(port)))
    started(lives[0])
    sending = threading.Thread(target=forwarder.send, args=(MESSAGES,))
    sending.start()
    found: list[int] = []
    for life in range(1, 4):
        found += take(lives[-1], MESSAGES // 10)
        if end == "kill":
            lives[-1].__exit__(None, None, None)
        else:
            assert lives[-1].stop() == TERMINATED, lives[-1].output()
        left = lives[-1].lines_left()
        if left and not left[-1].endswith("}"):
            left.pop()  # the kill came in the middle of a write
        found += numbers(left)
        lives.append(start(settings, f"life{life}"))
    while len(set(found)) < MESSAGES:
        found += numbers(lives[-1].lines(1))
    sending.join()
    assert set(found) == set(range(MESSAGES))
    assert forwarder.program.stop() == 0, forwarder.program.output()
    assert lives[-1].stop() == TERMINATED, lives[-1].output()
    assert [life.trouble() for life in lives] == [[], [], [], []]
