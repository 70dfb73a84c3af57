"""haproxy in front: TCP, TLS passed through and TLS ended there, HTTP; with the configuration that the page shows."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docexamples import blocks_of
from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd
from tests.real.server import Server
from tests.real.test_relp import SEND, Forwarder, numbers, rsyslogd, started
from tests.realprograms import DEADLINE, ROOT, Program, find

__all__ = ["rsyslogd"]  # a fixture of the tests of RELP

pytestmark = pytest.mark.real

#: A client that is not where haproxy is.
HERE = "127.0.0.2"
#: By hand: what the page does not show. FD and PORT are those of the frontend and of our listener.
MORE = """
frontend {name}
    bind fd@FD {bind}
    default_backend {name}
backend {name}
    server es1 {place} {server}
"""
START = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
"""

SETTINGS = """
[listener.plain]
endpoints = ["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1", "unix:es.sock"]
tls = {{cert = "{cert}", key = "{key}", client_ca = "{ca}"}}
proxy_protocol = {{trusted = ["127.0.0.1", "unix"]}}

[listener.web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
proxy_protocol = {{trusted = ["127.0.0.1"]}}

[handler.console]
type = "console"
"""


class Haproxy(Program):
    """haproxy as a foreground process. It gets the sockets of its frontends from here, so no port has to be guessed."""

    def __init__(self, program: str, folder: Path, parts: dict[str, str], sockets: dict[str, socket.socket]) -> None:
        texts = [part.replace("fd@FD", f"fd@{sockets[name].fileno()}") for name, part in parts.items()]
        (folder / "haproxy.cfg").write_text(START + "".join(texts))
        command = [program, "-db", "-f", str(folder / "haproxy.cfg")]
        super().__init__(command, cwd=folder, pass_fds=[sock.fileno() for sock in sockets.values()])
        self.places = {name: sock.getsockname() for name, sock in sockets.items()}


@contextlib.contextmanager
def frontends(names: Iterable[str]) -> Iterator[dict[str, socket.socket]]:
    """Listening sockets, by name."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}


def shown(number: int) -> str:
    """A configuration of the page."""
    page = (ROOT / "docs" / "proxy-protocol.md").read_text()
    return [block.text for block in blocks_of(page) if "tested by" in block.markers][number]


def adapted(text: str, name: str, place: str) -> str:
    """A configuration of the page, with the test's names, sockets and files."""
    text = re.sub(r"bind :\d+", "bind fd@FD", text)
    text = text.replace("10.0.0.20:5140", place).replace("/etc/haproxy/", "").replace("inter 2s", "inter 50ms")
    return re.sub(r"(backend|frontend) \w+", rf"\1 {name}", text)


def by_hand(name: str, place: str, server: str, bind: str = "") -> str:
    return MORE.format(name=name, place=place, server=server, bind=bind)


class World:
    """A server behind haproxy, and what a client of it needs."""

    def __init__(self, server: Server, haproxy: Haproxy, authority: Authority) -> None:
        self.server = server
        self.haproxy = haproxy
        self.authority = authority

    def tls(self, name: str = "") -> ssl.SSLContext:
        """What a client needs for TLS, with a certificate of that name."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        if name:
            context.load_cert_chain(*self.authority.issue(name))
        return context

    def send(self, frontend: str, data: bytes, context: ssl.SSLContext | None = None) -> str:
        """Send through a frontend; the address that it was sent from."""
        place = self.haproxy.places[frontend]
        with socket.create_connection(place, DEADLINE, source_address=(HERE, 0)) as sock:
            host, port = sock.getsockname()
            if context is None:
                sock.sendall(data)
            else:
                with context.wrap_socket(sock, server_hostname="localhost") as safe:
                    safe.sendall(data)
                    # Whoever closes with something unread, a session ticket of TLS 1.3, resets the connection.
                    with contextlib.suppress(OSError):
                        safe.unwrap()
        return f"{host}:{port}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    program = find("haproxy")
    folder = tmp_path_factory.mktemp("haproxy")
    cert, key = authority.server()
    (folder / "logs.pem").write_bytes(Path(cert).read_bytes() + Path(key).read_bytes())
    (folder / "ca.pem").write_bytes(Path(authority.ca).read_bytes())
    settings = SETTINGS.format(cert=cert, key=key, ca=authority.ca)
    with contextlib.ExitStack() as stack:
        server = Server(folder, settings)
        stack.enter_context(server)
        plain = server.address("plain", "tcp")
        parts = {
            "v2": adapted(shown(0), "v2", plain),
            "ended": adapted(shown(1), "ended", plain),
            "v1": by_hand("v1", plain, "send-proxy"),
            "crc": by_hand("crc", plain, "send-proxy-v2 proxy-v2-options crc32c"),
            "passed": by_hand("passed", server.address("plain", "tls"), "send-proxy-v2"),
            "unix": by_hand("unix", f"unix@{folder}/es.sock", "send-proxy-v2"),
            "web": by_hand("web", server.address("web", "tcp"), "send-proxy-v2"),
        }
        haproxy = Haproxy(program, folder, parts, stack.enter_context(frontends(parts)))
        stack.enter_context(haproxy)
        yield World(server, haproxy, authority)


def proxied(world: World, frontend: str, **more: Any) -> dict[str, Any]:
    """What events that came through a frontend have as `context.proxy`."""
    host, port = world.haproxy.places[frontend]
    return {"address": "127.0.0.1", "destination": f"{host}:{port}", **more}


@pytest.mark.parametrize("frontend", ["v1", "v2", "crc"])
def test_tcp(world: World, frontend: str, exchanges: Exchanges) -> None:
    """Both versions, and with a checksum."""
    sender = world.send(frontend, b"one\ntwo\n")
    events = world.server.events(2)
    assert [event["message"] for event in events] == ["one", "two"]
    assert {event["peer"] for event in events} == {sender}
    assert events[0]["context"] == {"proxy": proxied(world, frontend)}
    if frontend == "v1":
        exchanges.note("haproxy", "PROXY v1, TCP", sent=2, received=len(events))


def test_unix(world: World) -> None:
    sender = world.send("unix", b"one\n")
    event = world.server.event()
    assert event["peer"] == sender
    assert event["context"]["proxy"] == {**proxied(world, "unix"), "address": "unix"}


def test_many_senders_keep_their_names(world: World, exchanges: Exchanges) -> None:
    senders = {str(number): world.send("v2", b"%d\n" % number) for number in range(50)}
    found = {event["message"]: event["peer"] for event in world.server.events(50)}
    assert found == senders
    exchanges.note("haproxy", "PROXY v2, TCP", sent=50, received=len(found))


def test_tls_is_passed_through(world: World, exchanges: Exchanges) -> None:
    """The handshake is with the server, behind the header."""
    sender = world.send("passed", b"secret\n", world.tls("web1"))
    event = world.server.event()
    assert (event["message"], event["peer"]) == ("secret", sender)
    assert event["context"] == {"tls": {"subject": "web1"}, "proxy": proxied(world, "passed")}
    exchanges.note("haproxy", "PROXY v2, TLS passed through", sent=1, received=1)


@pytest.mark.parametrize("name", ["web2", ""])
def test_tls_is_ended(world: World, name: str, exchanges: Exchanges) -> None:
    """The extensions say what haproxy knows of the client."""
    sender = world.send("ended", b"secret\n", world.tls(name))
    event = world.server.event()
    assert (event["message"], event["peer"]) == ("secret", sender)
    found = event["context"]["proxy"]
    tls = found.pop("tls")
    # haproxy writes the two parts of an address in hexadecimal, as the page's format asks for.
    assert re.fullmatch(r"7F000002:[0-9A-F]+_7F000001:[0-9A-F]+_[0-9A-F]+_[0-9A-F]+", found.pop("unique_id"))
    assert found == proxied(world, "ended", authority="localhost")
    assert (tls["verified"], tls.get("cn"), tls["version"]) == (bool(name), name or None, "TLSv1.3")
    assert "AES" in tls["cipher"] or "CHACHA" in tls["cipher"]
    if name:
        exchanges.note("haproxy", "PROXY v2, TLS ended there", sent=1, received=1)


def test_http(world: World, exchanges: Exchanges) -> None:
    """And the answer finds its way back."""
    host, port = world.haproxy.places["web"]
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE, source_address=(HERE, 0))
    with contextlib.closing(connection):
        connection.request("POST", "/", b"posted", {"Content-Type": "text/plain"})
        assert connection.sock is not None
        sender = connection.sock.getsockname()
        assert connection.getresponse().status == 200
    event = world.server.event()
    assert (event["message"], event["peer"]) == ("posted", f"{sender[0]}:{sender[1]}")
    exchanges.note("haproxy", "PROXY v2, HTTP", sent=1, acknowledged=1, received=1)


def test_health_checks_are_no_events(world: World) -> None:
    """They go on all the time; what they cost is a connection."""
    before = world.server.metrics().total("connections_accepted_total", listener="plain")
    world.server.metrics_when("connections_accepted_total", before + 3, listener="plain")


def test_nothing_was_refused(world: World) -> None:
    """Last: all that haproxy sent was understood."""
    metrics = world.server.balanced()
    assert metrics.total("frames_rejected_total") == 0
    assert metrics.total("connections_closed_total") == 0
    assert world.server.trouble() == []
    assert world.server.no_more()


def test_a_direct_connection_is_cut(world: World, real_program: Callable[[str], str]) -> None:
    """Whether a header is there is not guessed, even where the peer is trusted."""
    with socket.create_connection(world.server.place("plain", "tcp"), DEADLINE) as sock:
        sock.sendall(b"hello\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    metrics = world.server.metrics_when("connections_closed_total", 1, listener="plain", reason="proxy_header")
    assert metrics.total("frames_rejected_total", listener="plain", reason="proxy_header") == 1


RELP = """
[listener.safe]
type = "relp"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "syslog"
proxy_protocol = {trusted = ["127.0.0.1"]}
[handler.console]
type = "console"
"""


def test_rsyslog_loses_nothing_when_the_proxy_between_is_killed(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, real_program: Callable[[str], str], tmp_path: Path,
    exchanges: Exchanges,
) -> None:  # fmt: skip
    """RELP through haproxy: what was not acknowledged is sent again through the next one."""
    server = start(RELP)
    parts = {"relp": by_hand("relp", server.address("safe", "tcp"), "send-proxy-v2")}
    with frontends(parts) as sockets:
        port = sockets["relp"].getsockname()[1]
        first = Haproxy(real_program("haproxy"), tmp_path, parts, sockets)
        with first:
            forwarder = Forwarder(
                rsyslogd, tmp_path / "rsyslog", SEND.format(port=port, more='queue.type="LinkedList"')
            )
            started(server)
            forwarder.send(1000)
        with Haproxy(real_program("haproxy"), tmp_path, parts, sockets):
            forwarder.send(1000)
            found: set[int] = set()
            while len(found) < 2000:
                [text] = server.lines()
                found |= set(numbers([text]))
                assert json.loads(text)["context"]["proxy"]["destination"] == f"127.0.0.1:{port}"
            assert found == set(range(2000))
            assert forwarder.program.stop() == 0, forwarder.program.output()
    acknowledged = server.finish(farewell=True).total("frames_acknowledged_total")
    exchanges.note(
        "haproxy", "PROXY v2, RELP, killed", sent=2000, received=len(found), acknowledged=acknowledged, more=True
    )
