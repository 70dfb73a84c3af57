"""One port, and all the clients there are: each is understood, and each of those that ask for it is answered."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd, need_module
from tests.real.server import Server
from tests.realprograms import DEADLINE, required, run

pytestmark = pytest.mark.real

SETTINGS = """
[listener.everything]
type = "auto"
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
[handler.console]
type = "console"
[journal]
path = "journal"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """One server for all of it: at the end its sums hold, and its log has no trouble."""
    cert, key = authority.server()
    with ExitStack() as stack:
        folder: Path = tmp_path_factory.mktemp("auto")
        server = stack.enter_context(Server(folder, SETTINGS.format(cert=cert, key=key)))
        yield server
        metrics = server.finish(farewell=True)
        assert metrics.total("frames_rejected_total") == 0
        assert metrics.total("connections_closed_total") == 0


@pytest.fixture
def port(server: Server) -> int:
    return server.port("everything")


def package(name: str) -> Any:
    if required():
        return __import__(name)
    return pytest.importorskip(name)


def what(event: dict[str, Any]) -> tuple[str, str, str]:
    """The protocol that was found, the type of the event, and its message."""
    return event["context"]["protocol"], event["type"], event["message"]


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
        sock.sendall(data)


def test_lines(server: Server, port: int) -> None:
    send(port, b"hello\nworld")
    assert [what(event) for event in server.events(2)] == [("lines", "text", "hello"), ("lines", "text", "world")]


def test_json_lines(server: Server, port: int) -> None:
    send(port, b'{"message":"hello","n":1}\n')
    event = server.event()
    assert what(event) == ("json", "json", "hello")
    assert event["fields"] == {"n": 1}


@pytest.mark.parametrize("words", [["--octet-count"], []])
def test_logger_in_both_framings(
    server: Server, port: int, real_program: Callable[[str], str], words: list[str]
) -> None:
    where = ["--server", "127.0.0.1", "--port", str(port), "--tcp"]
    assert run([real_program("logger"), *where, *words, "--priority", "local3.err", "hello"]).returncode == 0
    event = server.event()
    assert what(event) == ("syslog", "syslog", "hello")
    assert event["fields"]["severity"] == "err"


def test_syslog_handler(server: Server, port: int) -> None:
    handler = SysLogHandler(("127.0.0.1", port), socktype=socket.SOCK_STREAM)
    handler.emit(logging.LogRecord("tests", logging.WARNING, "", 0, "hello", None, None))
    handler.close()
    assert what(server.event()) == ("syslog", "syslog", "hello")


def test_omrelp(server: Server, port: int, real_program: Callable[[str], str], tmp_path: Path) -> None:
    program = real_program("rsyslogd")
    need_module("omrelp")
    send_to = f'module(load="omrelp")\naction(type="omrelp" target="127.0.0.1" port="{port}")\n'
    before = server.metrics().total("frames_acknowledged_total")
    with Rsyslogd(program, tmp_path / "rsyslog", send_to) as rsyslogd:
        event = server.event()
        assert what(event)[:2] == ("relp", "syslog")
        assert "start" in event["message"]
        server.metrics_when("frames_acknowledged_total", before + 1)
        assert rsyslogd.stop() == 0
    assert "exiting" in server.event()["message"]


def test_curl(server: Server, port: int, real_program: Callable[[str], str], authority: Authority) -> None:
    for url in (f"http://127.0.0.1:{port}/events", f"https://localhost:{port}/events"):
        words = ["--silent", "--cacert", authority.ca, "--json", '{"message":"hello"}', url]
        done = run([real_program("curl"), *words])
        assert json.loads(done.stdout) == {"accepted": 1, "duplicates": 0}, done.stderr
        assert what(server.event()) == ("http", "json", "hello")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "protocol"), [("GELFTCPHandler", "gelf"), ("GELFHTTPHandler", "http")])
def test_graypy(server: Server, port: int, kind: str, protocol: str) -> None:
    """Over HTTP to /gelf, compressed."""
    handler = getattr(package("graypy"), kind)("127.0.0.1", port)
    handler.emit(logging.LogRecord("tests", logging.ERROR, "", 0, "hello", None, None))
    handler.close()
    event = server.event()
    assert what(event) == (protocol, "gelf", "hello")
    assert event["fields"]["severity"] == "err"


def test_fluent_logger(server: Server, port: int) -> None:
    package("fluent")
    from fluent.sender import FluentSender

    with FluentSender("app", "127.0.0.1", port) as sender:
        assert sender.emit("follow", {"message": "hello"})
    event = server.event()
    assert what(event) == ("fluent", "fluent", "hello")
    assert event["context"]["tag"] == "app.follow"


def test_datagrams(server: Server) -> None:
    """Each is looked at; chunked GELF is put together."""
    package("graypy")
    from graypy.handler import GELFUDPHandler, GELFWarningChunker

    place = server.place("everything", "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in (b"<13>hello\n", b"hello", b'{"message":"hello"}'):
            sock.sendto(data, place)
    handler = GELFUDPHandler(*place, gelf_chunker=GELFWarningChunker(100), compress=False)
    handler.emit(logging.LogRecord("tests", logging.ERROR, "", 0, "hello", None, None))
    handler.close()
    assert [event["type"] for event in server.events(4)] == ["syslog", "text", "json", "gelf"]


@pytest.mark.parametrize("tls", [False, True])
def test_pylogbeat(server: Server, port: int, authority: Authority, tls: bool) -> None:
    beats = package("pylogbeat")
    with beats.PyLogBeatClient("127.0.0.1", port, timeout=30, ssl_enable=tls, ca_certs=authority.ca) as client:
        client.send([{"message": "hello"}, {"message": "world"}])
    found = [("lumberjack", "json", "hello"), ("lumberjack", "json", "world")]
    assert [what(event) for event in server.events(2)] == found


def test_metrics_and_log_say_what_peers_speak(start: StartServer, authority: Authority) -> None:
    cert, key = authority.server()
    server = start(SETTINGS.format(cert=cert, key=key))
    server.wait_for("each peer may speak one of relp, .*, lines, TLS")
    send(server.port("everything"), b"<13>hello\n")
    server.event()
    assert len([line for line in server.stderr if "listening on tcp" in line]) == 1
    server.wait_for(r"listener.everything: 127\.0\.0\.1:\d+ speaks syslog")
    metrics = server.finish()
    assert metrics.total("connections_detected_total", protocol="syslog") == 1
