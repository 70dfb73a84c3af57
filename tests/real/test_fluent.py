"""The Forward protocol with a real server: fluent-logger, heartbeats, acks that survive a kill, TLS and a key."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fluent import asyncsender
from fluent.handler import FluentHandler, FluentRecordFormatter
from fluent.sender import EventTime, FluentSender

from tests.fluent_client import acks, decode, docker, entry, event_time, message, packed, ping, proves, values
from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import DEADLINE

pytestmark = pytest.mark.real

SETTINGS = """
[listener.forward]
type = "fluent"
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix:forward.sock"]
[handler.console]
type = "console"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for the tests that only send; its sums hold when they are done."""
    with Server(tmp_path_factory.mktemp("forward"), SETTINGS) as server:
        yield server
        server.finish()


@contextlib.contextmanager
def connected(place: Any) -> Iterator[socket.socket]:
    with socket.create_connection(place, timeout=DEADLINE) as sock:
        yield sock


def hear(sock: socket.socket, count: int) -> list[Any]:
    """So many values of the server's."""
    data = b""
    while True:
        with contextlib.suppress(ValueError):
            if len(found := values(data)) >= count:
                return found
        received = sock.recv(65536)
        assert received, "the server closed"
        data += received


@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_fluent_logger(server: Server, place: str, exchanges: Exchanges) -> None:
    """Message mode, as the library sends it: times in seconds, and then in nanoseconds."""
    host = "127.0.0.1" if place == "tcp" else f"unix://{server.place('forward', 'unix')}"
    for nanoseconds in (False, True):
        with FluentSender("app", host, server.port("forward"), nanosecond_precision=nanoseconds) as sender:
            for number in range(500):
                assert sender.emit("follow", {"message": f"message {number}", "n": number})
        events = server.events(500)
        assert [event["fields"]["n"] for event in events] == list(range(500))
        assert {event["message"] for event in events} == {f"message {number}" for number in range(500)}
        assert {event["context"]["tag"] for event in events} == {"app.follow"}
        assert all(("." in event["time"]) == nanoseconds for event in events)
        times = "nanoseconds" if nanoseconds else "seconds"
        exchanges.note("fluent-logger", f"Forward, {place}, {times}", sent=500, received=len(events))


def test_fluent_logger_from_a_thread_of_its_own(server: Server, exchanges: Exchanges) -> None:
    with asyncsender.FluentSender("app", "127.0.0.1", server.port("forward"), queue_circular=False) as sender:
        for number in range(300):
            assert sender.emit_with_time("", EventTime(1700000000, number * 1000), {"log": str(number)})
    events = server.events(300)
    assert [event["message"] for event in events] == [str(number) for number in range(300)]
    assert events[7]["time"] == "2023-11-14T22:13:20.000007Z"
    exchanges.note("fluent-logger", "Forward, tcp, asyncsender", sent=300, received=len(events))


def test_pythons_logging_with_fluent_loggers_handler(server: Server) -> None:
    handler = FluentHandler("py", "127.0.0.1", server.port("forward"))
    handler.setFormatter(FluentRecordFormatter({"level": "%(levelname)s", "where": "%(name)s"}))
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    logger.warning("out of %s", "tea")
    handler.close()
    event = server.event()
    assert event["fields"] == {"level": "WARNING", "where": "shop"}
    assert event["message"] == "out of tea"


def test_dockers_lines_in_parts_are_whole_again(server: Server) -> None:
    """As the log driver sends them: Message mode, 16 KiB a part, a character cut in two."""
    line = ("ä" * 20_000).encode()
    pieces = [line[start : start + 16383] for start in range(0, len(line), 16383)]
    with connected(server.place("forward", "tcp")) as sock:
        for ordinal, piece in enumerate(pieces, 1):
            record = docker("", part="b7e1", ordinal=ordinal, last=ordinal == len(pieces)) | {"log": piece}
            sock.sendall(message("4f66ad9c", event_time(1700000000 + ordinal), record))
    event = server.event()
    assert event["message"] == "ä" * 20_000
    assert event["fields"] == {"container_id": "4f66ad9c", "container_name": "/web", "source": "stdout"}
    assert event["time"] == "2023-11-14T22:13:21Z"


def test_heartbeats(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(DEADLINE)
        udp.connect(server.place("forward", "udp"))
        for datagram in (b"no heartbeat", b"\0"):
            udp.send(datagram)
        assert udp.recv(10) == b"\0", "and nothing before it"
    with connected(server.place("forward", "tcp")) as sock:
        sock.sendall(b"\xc0" + message("a", 1, {"log": "after a heartbeat"}))
    assert server.event()["message"] == "after a heartbeat"
    assert server.metrics().total("frames_rejected_total", reason="no_heartbeat") == 1


JOURNAL = """
[journal]
path = "journal"
"""


def test_what_was_acknowledged_is_there_after_a_kill_and_its_repeat_is_known(
    start: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the ack has come; another server, another connection, the same chunk."""
    monkeypatch.setattr("tests.real.server.READY", r"frames are kept in the journal")
    settings = SETTINGS.replace('type = "console"', 'type = "file"\npath = "events.jsonl"') + JOURNAL
    entries = [entry(event_time(1700000000, number), {"log": str(number)}) for number in range(2000)]
    for compressed in ({}, {"compressed": "gzip"}):
        server = start(settings)
        with connected(server.place("forward", "tcp")) as sock:
            sock.sendall(packed("app", entries, chunk="c1", size=2000, **compressed))
            assert acks(sock.recv(100)) == ["c1"]
            server.send_signal(signal.SIGKILL)
            assert server.wait() == -signal.SIGKILL
    server = start(settings)
    with connected(server.place("forward", "tcp")) as sock:
        sock.sendall(packed("app", entries, chunk="c1") + packed("app", entries[:1], chunk="c2"))
        assert [value["ack"] for value in hear(sock, 2)] == ["c1", "c2"]
    metrics = server.metrics()
    assert metrics.total("frames_duplicate_total") == metrics.total("frames_acknowledged_total") - 1 == 2000
    assert metrics.total("frames_received_total") == 1
    server.metrics_when("events_delivered_total", metrics.total("frames_pending_at_start") + 1)
    server.stop()
    ids = {line.partition(",")[0] for line in (tmp_path / "events.jsonl").read_text().splitlines()}
    assert len(ids) == 2001


def test_tls_and_a_shared_key(start: StartServer, authority: Authority) -> None:
    cert, key = authority.server()
    server = start(f"""
[listener.forward]
type = "fluent"
endpoints = ["tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
shared_key = "${{KEY}}"
users = {{web = "${{PASSWORD}}"}}
[handler.console]
type = "console"
""", env={"KEY": "the key", "PASSWORD": "secret"})  # fmt: skip
    context = ssl.create_default_context(cafile=authority.ca)
    context.check_hostname = False
    for password, right in (("wrong", False), ("secret", True)):
        with (
            connected(server.place("forward", "tls")) as plain,
            context.wrap_socket(plain) as sock,
        ):
            hello = sock.recv(1000)
            sock.sendall(ping(hello, "the key", user="web", password=password))
            pong = sock.recv(1000)
            assert decode(pong)[1] is right
            if right:
                assert proves(hello, pong, "the key")
                sock.sendall(message("app", 1, {"log": "hello"}, chunk="c"))
                assert acks(sock.recv(100)) == ["c"]
            else:
                assert sock.recv(100) == b""
    event = server.event()
    assert (event["message"], event["context"]) == ("hello", {"tag": "app", "user": "web"})
    assert server.metrics().total("connections_closed_total", reason="not_authorized") == 1
    server.finish()
