"""logger of util-linux: syslog over TCP, UDP and a unix socket, in every form that it writes."""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.realprograms import run

pytestmark = pytest.mark.real

SETTINGS = """
[listener.syslog]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix-datagram:log.sock", "unix:stream.sock"]
decoder = "syslog"
[handler.console]
type = "console"
"""
TRANSPORTS = {"tcp": "--tcp", "udp": "--udp"}


@pytest.fixture
def logger(real_program: Callable[[str], str]) -> str:
    return real_program("logger")


def log(logger: str, server: Server, *words: str, scheme: str = "tcp", data: bytes = b"") -> None:
    """Have logger send; it runs in the server's folder."""
    if scheme in TRANSPORTS:
        place = ["--server", "127.0.0.1", "--port", str(server.port("syslog", scheme)), TRANSPORTS[scheme]]
    else:
        place = ["--socket", server.place("syslog", scheme)]
    done = run([logger, *place, *words], data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


def fields(event: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(event["fields"].get(name) for name in names)


def is_now(event: dict[str, Any]) -> bool:
    time = dt.datetime.fromisoformat(event["time"])
    return abs(dt.datetime.now(dt.UTC) - time) < dt.timedelta(minutes=5)


WHO = ("severity", "severity_code", "facility", "facility_code", "hostname", "app_name", "procid", "msgid")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_rfc5424_with_structured_data(logger: str, start: StartServer, scheme: str) -> None:
    server = start(SETTINGS)
    log(
        logger, server,
        "--rfc5424", "--id=4711", "--tag", "app", "--priority", "local3.warning", "--msgid", "ID47",
        "--sd-id", "es@32473", "--sd-param", 'key="a \\"quoted\\" value"', "--sd-param", 'n="2"', "hällo wörld",
        scheme=scheme,
    )  # fmt: skip
    event = server.event()
    assert event["message"] == "hällo wörld"
    assert event["type"] == "syslog"
    host = socket.gethostname()
    assert fields(event, *WHO) == ("warning", 4, "local3", 19, host, "app", "4711", "ID47")
    assert event["fields"]["structured_data"]["es@32473"] == {"key": 'a "quoted" value', "n": "2"}
    assert "timeQuality" in event["fields"]["structured_data"]
    assert is_now(event)
    server.finish()


def test_rfc5424_with_nothing_but_the_message(logger: str, start: StartServer) -> None:
    """Neither time, time quality nor host: the fields are missing, and the time is when it came."""
    server = start(SETTINGS)
    log(logger, server, "--rfc5424=notime,notq,nohost", "--tag", "app", "bare")
    event = server.event()
    assert event["message"] == "bare"
    assert event["time"] == event["received"]
    assert fields(event, "hostname", "structured_data") == (None, None)
    server.finish()


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_rfc3164(logger: str, start: StartServer, scheme: str) -> None:
    server = start(SETTINGS.replace("[handler", f'time_zone = "{_zone()}"\n[handler', 1))
    log(logger, server, "--rfc3164", "--id=42", "--tag", "sshd", "-p", "auth.err", "Failed password", scheme=scheme)
    event = server.event()
    assert event["message"] == "Failed password"
    assert fields(event, *WHO) == ("err", 3, "auth", 4, _short_host(), "sshd", "42", None)
    assert is_now(event)
    server.finish()


def _zone() -> str:
    """The time zone that logger writes local time in."""
    target = os.path.realpath(os.environ.get("TZ") or "/etc/localtime")
    return target.partition("/zoneinfo/")[2].removeprefix("Etc/") or "UTC"


def _short_host() -> str:
    return socket.gethostname().partition(".")[0]


@pytest.mark.parametrize("form", ["--rfc5424", "--rfc3164"])
def test_octet_counting(logger: str, start: StartServer, form: str) -> None:
    """The listener sees by itself that one connection counts octets, and the next ends lines."""
    server = start(SETTINGS)
    log(logger, server, "--octet-count", form, "--tag", "app", "counted")
    log(logger, server, form, "--tag", "app", "not counted")
    assert [event["message"] for event in server.events(2)] == ["counted", "not counted"]
    server.finish()


@pytest.mark.parametrize(("scheme", "framing"), [("tcp", []), ("tcp", ["--octet-count"]), ("udp", [])])
def test_a_file_of_lines(
    logger: str, start: StartServer, scheme: str, framing: list[str], exchanges: Exchanges
) -> None:
    """Every line of its input is a message, in order."""
    server = start(SETTINGS)
    lines = [f"{number} of many" for number in range(500)]
    log(logger, server, "--rfc5424", *framing, scheme=scheme, data="".join(f"{line}\n" for line in lines).encode())
    events = server.events(500)
    assert [event["message"] for event in events] == lines
    assert not any("error" in event["fields"] for event in events)
    exchanges.note("logger", f"{scheme.upper()} {' '.join(framing)}", sent=len(lines), received=len(events))
    server.finish()


@pytest.mark.parametrize("scheme", ["unix-datagram", "unix"])
def test_a_unix_socket(logger: str, start: StartServer, scheme: str) -> None:
    """As on /dev/log: a short form of RFC 3164 without a host; over a stream, NUL ends the message."""
    server = start(SETTINGS)
    log(logger, server, "--tag", "app", "-p", "daemon.info", "first", scheme=scheme)
    log(logger, server, "--tag", "app", "-p", "daemon.info", "--id=7", "second", scheme=scheme)
    first, second = server.events(2)
    assert first["message"] == "first"
    assert fields(first, "severity", "facility", "app_name") == ("info", "daemon", "app")
    assert first["fields"].get("hostname") is None
    assert (second["message"], second["fields"]["procid"]) == ("second", "7")
    assert "\0" not in first["message"] + second["message"]
    assert first["peer"].startswith("unix:pid=")
    server.finish()


def test_a_trailing_line_feed_or_nul_is_no_part_of_a_datagram(logger: str, start: StartServer) -> None:
    """logger ends datagrams with neither; older ones and other programs do."""
    server = start(SETTINGS)
    log(logger, server, "--tag", "app", "real", scheme="udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for end in (b"\0", b"\n", b"\n\0"):
            other.sendto(b"<13>app: older" + end, server.place("syslog", "udp"))
    assert [event["message"] for event in server.events(4)] == ["real", "older", "older", "older"]
    server.finish()
