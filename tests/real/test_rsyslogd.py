"""rsyslogd: forwarding to us in both framings, in the clear and over TLS, and taking what we relay."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.real.clients import Exchanges
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd, need_driver, tls_globals
from tests.real.server import Server
from tests.realprograms import free_port

pytestmark = pytest.mark.real

MESSAGES = 1000
DATAGRAMS = 100
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
      useSysTimeStamp="off" ignoreTimestamp="off" rateLimit.interval="0")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}" tcp_framing="{framing}"
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
    scheme: str, framing: str, template: str, before: str = "", more: str = "", messages: int = MESSAGES,
) -> list[dict[str, Any]]:  # fmt: skip
    """Have rsyslogd forward the messages; the events that came, less rsyslog's own."""
    port = server.port("syslog", scheme)
    folder = tmp_path / "rsyslog"
    forwarder = rsyslogd(
        before
        + FORWARD.format(
            folder=folder, port=port, protocol="udp" if scheme == "udp" else "tcp", framing=framing,
            template=TEMPLATES[template], more=more,
        )
    )  # fmt: skip
    first = server.event()  # rsyslogd says that it has started, and so that its socket is there
    assert first["fields"]["app_name"].startswith("rsyslogd"), first
    assert "start" in first["message"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as source:
        source.connect(str(folder / "in.sock"))
        for number in range(messages):
            source.send(line(number))
    events: list[dict[str, Any]] = []
    while len(events) < messages:
        batch = server.events(messages - len(events))
        events += [event for event in batch if event["fields"]["hostname"] != "forwarder"]
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
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, framing: str, template: str,
    exchanges: Exchanges,
) -> None:  # fmt: skip
    server = start(SETTINGS.format(scheme="tcp", tls=""))
    events = forward(rsyslogd, server, tmp_path, scheme="tcp", framing=framing, template=template)
    check(events, template)
    exchanges.note("rsyslog omfwd", f"TCP {framing}, RFC {template}", sent=MESSAGES, received=len(events))
    server.finish(farewell=True)


@pytest.mark.parametrize("framing", ["traditional", "octet-counted"])
@pytest.mark.parametrize("driver", ["gtls", "ossl"])
def test_a_thousand_messages_over_tls(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, authority: Authority, tmp_path: Path,
    driver: str, framing: str, exchanges: Exchanges,
) -> None:  # fmt: skip
    """Both sides show a certificate, and look at the other's."""
    need_driver(driver)
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
    exchanges.note("rsyslog omfwd", f"TLS ({driver}) {framing}", sent=MESSAGES, received=len(events))
    server.finish(farewell=True)


def test_messages_over_udp(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, exchanges: Exchanges
) -> None:
    """One datagram each; as few as fit into the smallest buffer that a system gives."""
    server = start(SETTINGS.format(scheme="udp", tls=""))
    events = forward(
        rsyslogd, server, tmp_path, scheme="udp", framing="traditional", template="5424", messages=DATAGRAMS
    )
    check(events, "5424")
    exchanges.note("rsyslog omfwd", "UDP, RFC 5424", sent=DATAGRAMS, received=len(events))
    server.finish(farewell=True)


# The other way: we relay, and rsyslogd takes it

TAKE = """
module(load="imtcp")
input(type="imtcp" port="{port}" address="127.0.0.1" {more})
template(name="seen" type="string"
         string="%pri% %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\\n")
action(type="omfile" file="{folder}/taken.log" template="seen")
action(type="omfile" file="/dev/stdout" template="seen")
"""

RELAY = """
[listener.syslog]
endpoints = ["udp:0:interface=127.0.0.1"]
decoder = "syslog"
[handler.relay]
type = "relay"
to = "{to}"
encoder = "syslog"
framing = "{framing}"
reconnect = {{initial_interval = "50 ms"}}
{more}
"""


def relay_a_thousand(server: Server, receiver: Rsyslogd) -> list[str]:
    """Send the messages to the server; the lines that rsyslogd wrote of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.connect(server.place("syslog", "udp"))
        for number in range(MESSAGES):
            source.send(line(number))
    receiver.wait_for(rf" {MESSAGES - 1} - - message {MESSAGES - 1} ")
    return [line for line in receiver.stdout if " rsyslogd " not in line]


def expected(number: int) -> str:
    facility, severity, host, app, message = sent(number)
    return f"{facility * 8 + severity} 2026-02-03T04:05:06.789000Z {host} {app} {number} - - {message}"


@pytest.mark.parametrize("framing", ["lines", "octet"])
def test_rsyslogd_takes_what_is_relayed(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path, framing: str
) -> None:
    """Every field survives the way through both programs, into a file."""
    port = free_port()
    receiver = rsyslogd(TAKE.format(port=port, folder=tmp_path / "rsyslog", more=""))
    receiver.wait_for("start")
    server = start(RELAY.format(to=f"tcp:127.0.0.1:{port}", framing=framing, more=""))
    lines = relay_a_thousand(server, receiver)
    assert lines == [expected(number) for number in range(MESSAGES)]
    server.finish()
    assert receiver.stop() == 0, receiver.output()
    written = (tmp_path / "rsyslog" / "taken.log").read_text().splitlines()
    assert [line for line in written if " rsyslogd " not in line] == lines


@pytest.mark.parametrize("driver", ["gtls", "ossl"])
def test_rsyslogd_takes_what_is_relayed_over_tls(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, authority: Authority, tmp_path: Path, driver: str
) -> None:
    """RFC 5425: counted frames over TLS, with certificates on both sides."""
    need_driver(driver)
    port = free_port()
    cert, key = authority.issue("relay")
    more = f'streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer="relay"'
    receiver = rsyslogd(
        tls_globals(driver, authority.ca, *authority.server())
        + TAKE.format(port=port, folder=tmp_path / "rsyslog", more=more)
    )
    receiver.wait_for("start")
    tls = f'tls = {{ca = "{authority.ca}", cert = "{cert}", key = "{key}", server_name = "localhost"}}'
    server = start(RELAY.format(to=f"tls:127.0.0.1:{port}", framing="octet", more=tls))
    lines = relay_a_thousand(server, receiver)
    assert [line for line in lines if " message " in line] == [expected(number) for number in range(MESSAGES)]
    server.finish()


def test_a_relay_waits_for_a_receiver_that_comes_later(
    rsyslogd: Callable[[str], Rsyslogd], start: StartServer, tmp_path: Path
) -> None:
    """While the destination is away `/ready` says so, and nothing is lost or dead-lettered."""
    port = free_port()
    more = 'retry = {initial_interval = "50 ms", max_interval = "100 ms"}'
    server = start(RELAY.format(to=f"tcp:127.0.0.1:{port}", framing="octet", more=more))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.connect(server.place("syslog", "udp"))
        source.send(line(0))
    server.metrics_when("handler_failures_total", 2, handler="relay", kind="temporary")
    status, reasons = server.get("/ready")
    assert status == 503
    assert "handler relay is unwell" in reasons
    receiver = rsyslogd(TAKE.format(port=port, folder=tmp_path / "rsyslog", more=""))
    receiver.wait_for(" 0 - - message 0 ")
    assert server.finish().total("events_dead_lettered_total") == 0
