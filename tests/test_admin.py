"""The admin endpoint: who gets in, what the pages say, and what a hostile client can do (nothing)."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from eventserver.admin import AdminService, IStatus, problems_of_admin, reference
from eventserver.admin.metrics import GAUGES, HANDLER, LISTENER, MAX_LABEL_VALUES, Page
from eventserver.admin.service import allowed_hosts
from eventserver.admin.status import Gauge
from eventserver.admin.web import ANSWER_TIMEOUT, HEAD_TIMEOUT, MAX_CONNECTIONS, AdminSite
from eventserver.counters import HandlerCounters, ListenerCounters
from tests import realprograms

TOKEN = "0123456789abcdef0123456789abcdef"
LOOPBACK = "tcp:0:interface=127.0.0.1"


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


@pytest.fixture
def server() -> Server:
    return Server()


# The pages


def test_live_answers_while_the_reactor_turns(server: Server) -> None:
    server.status.reasons = ["starting"]
    reply = server.ask("/live")
    assert (reply.code, reply.text) == (200, "live\n")


def test_ready_is_200_when_there_is_no_reason_against_it(server: Server) -> None:
    reply = server.ask("/ready")
    assert (reply.code, reply.text) == (200, "ready\n")


def test_ready_is_503_and_names_every_reason_on_a_line_of_its_own(server: Server) -> None:
    server.status.reasons = ["the intake is full", "handler `db` is unwell: refused\nby \x1b[31mpeer"]
    reply = server.ask("/ready")
    assert reply.code == 503
    assert reply.text == "the intake is full\nhandler `db` is unwell: refused by  [31mpeer\n"


def test_metrics_show_the_counters_as_they_are_now(server: Server) -> None:
    assert 'eventserver_frames_received_total{listener="lines"} 12.0' in server.ask("/metrics").text
    server.status.listener.received += 1
    reply = server.ask("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for line in (
        'eventserver_frames_received_total{listener="lines"} 13.0',
        'eventserver_frames_rejected_total{listener="lines",reason="oversize"} 2.0',
        'eventserver_frames_truncated_total{listener="lines"} 4.0',
        'eventserver_events_delivered_total{handler="archive"} 5.0',
        'eventserver_events_dead_lettered_total{handler="archive"} 1.0',
        'eventserver_events_parked{handler="archive"} 2.0',
        'eventserver_handler_lag_frames{handler="archive"} 3.0',
        'eventserver_handler_lag_seconds{handler="archive"} 0.25',
        "eventserver_journal_bytes 4096.0",
        "eventserver_ready 1.0",
    ):
        assert line in reply.text.splitlines()
    assert "\nprocess_resident_memory_bytes " in reply.text
    assert "\neventserver_build_info{" in reply.text


def test_every_metric_has_a_type_and_a_help_sentence_and_one_name_each(server: Server) -> None:
    lines = server.ask("/metrics").text.splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE eventserver")]
    helps = [line.split(" ", 3) for line in lines if line.startswith("# HELP eventserver")]
    assert len(types) == len(set(types))
    assert set(types) >= {reading.name for reading in (*LISTENER, *HANDLER)}
    assert {name for _, _, name, _ in helps} == set(types)
    assert all(text.endswith(".") for _, _, _, text in helps)


def test_label_values_are_bounded_and_the_sum_stays_right(server: Server) -> None:
    """However many reasons there are, the page names 200, and their sum is that of the counter."""
    server.status.listener.rejected = Counter({f"reason{n}": 1 for n in range(5000)})
    lines = [
        line for line in server.ask("/metrics").text.splitlines() if line.startswith("eventserver_frames_rejected")
    ]
    assert len(lines) == MAX_LABEL_VALUES
    assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) == 5000


def test_a_page_that_fails_is_a_500_without_a_traceback(server: Server, logged_failures: Any) -> None:
    server.status.ready = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]  # a bug, for the test
    reply = server.ask("/ready")
    assert (reply.code, reply.text) == (500, "internal error; see the log\n")
    assert len(logged_failures(ZeroDivisionError)) == 1


def test_head_gives_the_headers_alone(server: Server) -> None:
    reply = server.ask("/live", "HEAD")
    assert (reply.code, reply.body) == (200, b"")
    assert reply.headers["content-length"] == "5"


def test_the_headers_are_exactly_these(server: Server) -> None:
    assert set(server.ask("/live").headers) == {
        "date",
        "server",
        "content-type",
        "content-length",
        "cache-control",
        "x-content-type-options",
        "content-security-policy",
        "connection",
    }
    assert server.ask("/live").headers["server"] == "eventserver"


# Who gets in


@pytest.mark.parametrize("path", ["/", "/metrics/", "//live", "/live/../metrics", "/%6cive", "/admin", "*", "/Live"])
def test_other_paths_are_not_found(server: Server, path: str) -> None:
    assert server.ask(path).code in (404, 405)


def test_a_query_changes_nothing(server: Server) -> None:
    assert server.ask("/live?verbose=1").code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    reply = server.ask("/metrics", method)
    assert reply.code == 405
    assert reply.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9514", "127.0.0.1", "127.0.0.1:80", "[::1]:9514", "[::1]"])
def test_the_hosts_of_loopback_are_served(server: Server, host: str) -> None:
    assert server.ask("/metrics", host=host).code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9514",
        "localhost.evil.example",
        "127.0.0.1.nip.example",
        "localhost@evil.example",
        "localhost:9514:1",
        "localhost:99999999",
        "[::1",
        "",
        "localhost evil.example",
        "0.0.0.0",
    ],
)
def test_a_foreign_host_is_misdirected(server: Server, host: str) -> None:
    """DNS rebinding: a web page's own name that resolves to 127.0.0.1 gets nothing."""
    assert server.ask("/metrics", host=host).code == 421


def test_host_is_needed_once(server: Server) -> None:
    assert server.ask("/live", host=None).code == 400
    twice = b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert Reply(server.raw(twice)).code == 400
    assert Reply(server.raw(b"GET /live HTTP/1.0\r\n\r\n")).code == 200


@pytest.mark.parametrize("path", ["/metrics", "/ready"])
@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"],
)
def test_with_a_token_set_a_wrong_one_gets_no_page(path: str, header: str) -> None:
    server = Server(TOKEN, None)
    reply = server.ask(path, Authorization=header) if header else server.ask(path)
    assert reply.code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="eventserver"'
    assert TOKEN not in reply.text


def test_with_a_token_set_the_right_one_gets_every_page_from_any_host() -> None:
    server = Server(TOKEN, None)
    for path in ("/metrics", "/ready"):
        assert server.ask(path, host="events.example", Authorization=f"Bearer {TOKEN}").code == 200
        assert server.ask(path, host="events.example", Authorization=f"bearer {TOKEN}").code == 200


def test_live_is_open_for_health_checks() -> None:
    assert Server(TOKEN, None).ask("/live").code == 200


# Hostile clients


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_refused_unread(server: Server, request_bytes: bytes) -> None:
    answer = server.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /live HTTP/1.1\r\nno colon here\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000,
    ],
)
def test_broken_requests_are_refused_and_the_connection_closed(server: Server, request_bytes: bytes) -> None:
    answer = server.raw(request_bytes)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") <= 1


def test_a_second_request_on_one_connection_is_not_answered(server: Server) -> None:
    one = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert server.raw(one + one).count(b"HTTP/1.1 200") == 1


def test_a_request_that_trickles_in_is_cut_off_however_steady_it_is(server: Server) -> None:
    """Twisted's own timeout starts anew with every byte; this deadline does not."""
    exchange = server.connect()
    for _ in range(HEAD_TIMEOUT - 1):
        exchange.send(b"G")
        server.clock.advance(1)
    assert not exchange.closing
    server.clock.advance(1)
    assert exchange.transport.disconnected


def test_an_answer_that_nobody_reads_is_cut_off(server: Server) -> None:
    exchange = server.connect()
    exchange.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.clock.advance(ANSWER_TIMEOUT - 1)
    assert not exchange.transport.disconnected
    server.clock.advance(1)
    assert exchange.transport.disconnected


def test_connections_beyond_the_bound_are_closed_and_a_freed_place_is_used(server: Server) -> None:
    open_ones = [server.connect() for _ in range(MAX_CONNECTIONS)]
    assert server.site.buildProtocol(None) is None
    open_ones[0].end()
    assert server.site.buildProtocol(None) is not None


# Settings


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:9514:interface=127.0.0.1",
        "tcp:9514:127.0.0.1",
        "tcp:9514:interface=localhost",
        "tcp:port=9514:interface=127.3.2.1",
        r"tcp6:9514:interface=\:\:1",
        r"tcp:9514:interface=\:\:1",
        "unix:/run/eventserver/admin.sock:mode=600",
    ],
)
def test_what_stays_on_this_machine_needs_no_token(endpoint: str) -> None:
    assert problems_of_admin(endpoint, None) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:9514",
        "tcp:9514:interface=",
        "tcp:9514:interface=0.0.0.0",
        "tcp:9514:interface=192.0.2.1",
        "tcp:9514:interface=localhost.evil.example",
        r"tcp6:9514:interface=\:\:",
        "tcp6:9514",
        "ssl:9514:privateKey=key.pem",
        "systemd:domain=INET:index=0",
    ],
)
def test_what_others_can_reach_is_refused_without_a_token(endpoint: str) -> None:
    [(key, sentence)] = problems_of_admin(endpoint, None)
    assert (key, "is missing" in sentence) == ("token", True)
    assert problems_of_admin(endpoint, TOKEN) == []


@pytest.mark.parametrize("endpoint", ["9514", "udp:9514", "tcp", "http://localhost:9514", ""])
def test_what_is_no_endpoint_for_http_is_refused(endpoint: str) -> None:
    assert [key for key, _ in problems_of_admin(endpoint, TOKEN)] == ["endpoint"]


@pytest.mark.parametrize(
    "token", ["", "short", "fifteen bytes..", "a token with spaces in it", "t\u00f6ken-of-16-bytes"]
)
def test_a_weak_or_unsendable_token_is_refused(token: str) -> None:
    assert "token" in [key for key, _ in problems_of_admin(LOOPBACK, token)]


@pytest.mark.parametrize(
    ("endpoint", "hosts"),
    [
        ("tcp:9514:interface=127.0.0.2", {"localhost", "127.0.0.1", "::1", "127.0.0.2"}),
        (r"tcp6:9514:interface=\:\:1", {"localhost", "127.0.0.1", "::1"}),
        ("tcp:9514", None),
        ("unix:/run/admin.sock", None),
    ],
)
def test_only_loopback_looks_at_the_host(endpoint: str, hosts: set[str] | None) -> None:
    assert allowed_hosts(endpoint) == hosts


# The service, on a real reactor


def fetch(url: str, *options: str) -> Deferred[subprocess.CompletedProcess[bytes]]:
    """Asks from another process, by Python's own HTTP client."""
    script = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=30).read())"
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
    await lost.addTimeout(realprograms.DEADLINE, reactor)


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


# The reference page


def test_the_metrics_page_of_the_documentation_is_up_to_date() -> None:
    assert (realprograms.ROOT / "docs/metrics.md").read_text() == reference.page()


def test_the_reference_names_every_metric_that_the_server_exports() -> None:
    status = Status()
    gauges = [(name, dict.fromkeys(labels, "x"), 1.0) for name, (labels, _) in GAUGES.items()]
    status.gauges = lambda: gauges  # type: ignore[method-assign]  # all the gauges there are
    text = Page(status).text().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE eventserver")}
    assert names == {name for name in names if f"`{name}`" in reference.page()}
    assert names >= set(GAUGES)


def test_check_fails_for_a_stale_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.md"
    assert reference.main(["--check", str(path)]) == 1
    assert reference.main([str(path)]) == 0
    assert reference.main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + "more\n")
    assert reference.main(["--check", str(path)]) == 1
    assert "is not what the code says" in capsys.readouterr().err


def test_the_status_of_these_tests_is_one() -> None:
    assert verifyObject(IStatus, Status())
