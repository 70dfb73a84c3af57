"""rsyslogd: forwarding to us in both framings, in the clear and over TLS, and taking what we relay."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd, tls_globals
from tests.real.server import Server

pytestmark = pytest.mark.real

MESSAGES = 1000
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
#: The facilities of the messages: kern, which rsyslog keeps from nobody else, is left out.
FACILITIES = {1: "user", 3: "daemon", 4: "auth", 16: "local0", 23: "local7"}

TEMPLATES = {"5424": "RSYSLOG_SyslogProtocol23Format", "3164": "RSYSLOG_ForwardFormat"}

SETTINGS = """
[listener.syslog]
endpoints = ["{scheme}:0:interface=127.0.0.1"]
decoder = "syslog"
{tls}
[handler.console]
type = "console"
"""

#: In: a unix datagram socket that takes the lines of the test. Out: TCP to the server.
FORWARD = """
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="{folder}/in.sock" useSpecialParser="off" parseHostname="on"
      useSysTimeStamp="off" rateLimit.interval="0")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" tcp_framing="{framing}"
       template="{template}" action.resumeInterval="1" action.resumeRetryCount="-1" {more})
"""


def sent(number: int) -> tuple[int, int, str, str, str]:
    """Facility, severity, host, program and message of one line."""
    facility = list(FACILITIES)[number % len(FACILITIES)]
    return facility, number % 8, f"host{number % 7}", f"app{number % 3}", f"message {number} of many, with <13> in it"


def line(number: int) -> bytes:
    facility, severity, host, app, message = sent(number)
    return f"<{facility * 8 + severity}>1 2026-02-03T04:05:06.789Z {host} {app} {number} - - {message}".encode()


@pytest.fixture
def rsyslogd(real_program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[str], Rsyslogd]]:
    program = real_program("rsyslogd")
    with contextlib.ExitStack() as stack:
        yield lambda configuration: stack.enter_context(Rsyslogd(program, tmp_path / "rsyslog", configuration))


def forward(
    rsyslogd: Callable[[str], Rsyslogd], server: Server, tmp_path: Path, *,
    scheme: str, framing: str, template: str, before: str = "", more: str = "",
) -> list[dict[str, Any]]:  # fmt: skip
    """Have rsyslogd forward the messages; the events that came, less rsyslog's own."""
    port = server.port("syslog", scheme)
    folder = tmp_path / "rsyslog"
    forwarder = rsyslogd(
        before + FORWARD.format(folder=folder, port=port, framing=framing, template=TEMPLATES[template], more=more)
    )
    first = server.event()  # rsyslogd says that it has started, and so that its socket is there
    assert first["fields"]["app_name"].startswith("rsyslogd"), first
    assert "start" in first["message"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as source:
        source.connect(str(folder / "in.sock"))
        for number in range(MESSAGES):
            source.send(line(number))
    events = server.events(MESSAGES)
    assert forwarder.stop() == 0, forwarder.output()
    return events


def check(events: list[dict[str, Any]], template: str) -> None:
    """All messages came, in order, with everything that the form keeps of them."""
    for number, event in enumerate(events):
        facility, severity, host, app, message = sent(number)
        fields = event["fields"]
        assert event["message"] == message
        assert (fields["facility"], fields["facility_code"]) == (FACILITIES[facility], facility)
        assert (fields["severity"], fields["severity_code"]) == (SEVERITIES[severity], severity)
        assert (fields["hostname"], fields["app_name"], fields["procid"]) == (host, app, str(number))
        assert event["time"].startswith("2026-02-03T04:05:06.789"), template
        assert "error" not in fields


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("framing", ["traditional", "octet-counted"])
def test_a_thousand_messages_over_tcp(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, framing: str, template: str
) -> None:
    server = start(SETTINGS.format(scheme="tcp", tls=""))
    events = forward(rsyslogd, server, tmp_path, scheme="tcp", framing=framing, template=template)
    check(events, template)
    server.finish(farewell=True)


@pytest.mark.parametrize("framing", ["traditional", "octet-counted"])
@pytest.mark.parametrize("driver", ["gtls", "ossl"])
def test_a_thousand_messages_over_tls(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, authority: Authority, tmp_path: Path,
    driver: str, framing: str,
) -> None:  # fmt: skip
    """Both sides show a certificate, and look at the other's."""
    cert, key = authority.server()
    tls = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}", client_names = ["forwarder"]}}'
    server = start(SETTINGS.format(scheme="tls", tls=tls))
    events = forward(
        rsyslogd, server, tmp_path, scheme="tls", framing=framing, template="5424",
        before=tls_globals(driver, authority.ca, *authority.issue("forwarder")),
        more=f'streamDriver="{driver}" streamDriverMode="1" streamDriverAuthMode="x509/name" '
        'streamDriverPermittedPeers="localhost"',
    )  # fmt: skip
    check(events, "5424")
    assert {event["context"]["tls"]["subject"] for event in events} == {"forwarder"}
    server.finish(farewell=True)
