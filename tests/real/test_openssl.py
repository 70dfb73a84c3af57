"""openssl s_client: TLS, with and without a client's certificate."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.listeners.certificates import Authority
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.real.terminal import END_OF_FILE, Terminal
from tests.realprograms import DEADLINE, run

pytestmark = pytest.mark.real


def settings(authority: Authority, more: str = "") -> str:
    cert, key = authority.server()
    return f"""
[listener.safe]
endpoints = ["tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}"{more}}}
[handler.console]
type = "console"
"""


@pytest.fixture
def openssl(real_program: Callable[[str], str]) -> str:
    return real_program("openssl")


def command(openssl: str, server: Server, authority: Authority) -> list[str]:
    place = f"127.0.0.1:{server.port('safe', 'tls')}"
    trust = ["-CAfile", authority.ca, "-verify_return_error", "-verify_ip", "127.0.0.1"]
    return [openssl, "s_client", "-connect", place, *trust, "-nocommands"]


def send(openssl: str, server: Server, authority: Authority, words: Sequence[str], data: bytes) -> tuple[int, str]:
    """Send the data, and close; the exit code, and all that openssl said."""
    done = run([*command(openssl, server, authority), "-no_ign_eof", *words], data)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def be_refused(openssl: str, server: Server, authority: Authority, words: Sequence[str]) -> str:
    """Send a line, and wait until the server closes; all that openssl said."""
    done = run([*command(openssl, server, authority), "-ign_eof", *words], b"nothing of this may arrive\n")
    return (done.stdout + done.stderr).decode(errors="replace")


def serial(openssl: str, server: Server, authority: Authority) -> str:
    """The number of the certificate that the server shows."""
    _, said = send(openssl, server, authority, client(authority, "web1"), b"")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    shown = begin + said.partition(begin)[2].partition(end)[0] + end + "\n"
    return run([openssl, "x509", "-noout", "-serial"], shown.encode()).stdout.decode()


def client(authority: Authority, name: str) -> list[str]:
    cert, key = authority.issue(name)
    return ["-cert", cert, "-key", key]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_mutual_tls(openssl: str, start: StartServer, authority: Authority, version: str) -> None:
    """The name of the client's certificate goes into the event's context."""
    server = start(settings(authority))
    code, said = send(openssl, server, authority, [version, *client(authority, "web1")], b"one\ntwo\nx")
    assert code == 0, said
    assert "Verify return code: 0 (ok)" in said
    events = server.events(3)
    assert [event["message"] for event in events] == ["one", "two", "x"]
    assert [event["context"] for event in events] == [{"tls": {"subject": "web1"}}] * 3
    server.finish()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_without_a_certificate_is_refused(
    openssl: str, start: StartServer, authority: Authority, version: str
) -> None:
    server = start(settings(authority))
    assert "alert" in be_refused(openssl, server, authority, [version])
    metrics = server.metrics_when("connections_closed_total", 1, listener="safe", reason="tls")
    assert metrics.total("frames_received_total") == 0
    server.finish()


def test_a_certificate_of_somebody_else_is_refused(
    openssl: str, start: StartServer, authority: Authority, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    server = start(settings(authority))
    assert "alert" in be_refused(openssl, server, authority, client(Authority(other), "web1"))
    metrics = server.metrics_when("connections_closed_total", 1, listener="safe", reason="tls")
    assert metrics.total("frames_received_total") == 0
    server.finish()


def test_only_named_clients_may_connect(openssl: str, start: StartServer, authority: Authority) -> None:
    server = start(settings(authority, ', client_names = ["web1"]'))
    be_refused(openssl, server, authority, client(authority, "web2"))
    server.metrics_when("connections_closed_total", 1, listener="safe", reason="client_name")
    send(openssl, server, authority, client(authority, "web1"), b"welcome\n")
    assert server.event()["message"] == "welcome"
    assert server.finish().total("frames_received_total") == 1


@pytest.mark.parametrize("words", [["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "AES128-SHA"]])
def test_old_versions_and_ciphers_are_refused(
    openssl: str, start: StartServer, authority: Authority, words: list[str]
) -> None:
    server = start(settings(authority))
    said = be_refused(openssl, server, authority, [*words, *client(authority, "web1")])
    assert "Cipher is (NONE)" in said, said
    server.metrics_when("connections_closed_total", 1, listener="safe", reason="tls")
    assert server.finish().total("frames_received_total") == 0


def test_a_renewed_certificate_is_shown_after_sighup(openssl: str, start: StartServer, authority: Authority) -> None:
    """Without a restart, and a session that is open goes on."""
    server = start(settings(authority))
    session = Terminal([*command(openssl, server, authority), "-quiet", "-no_ign_eof", *client(authority, "web1")])
    try:
        session.type("one\n")
        assert server.event()["message"] == "one"
        before = serial(openssl, server, authority)
        authority.server()
        assert serial(openssl, server, authority) == before
        server.send_signal(signal.SIGHUP)
        server.wait_for("TLS certificate read again: it ends on 20")
        assert serial(openssl, server, authority) != before
        session.type("two\n")
        assert server.event()["message"] == "two"
        session.type(END_OF_FILE)
        assert session.process.wait(DEADLINE) == 0
    finally:
        session.close()
    server.finish()


def test_a_failed_handshake_hurts_no_other_connection(openssl: str, start: StartServer, authority: Authority) -> None:
    """A request in the clear on the TLS port is refused; a session that is open goes on, answers and all."""
    (start.folder / "echoing.py").write_text("def echo(event):\n    return 'got ' + event.message\n")
    server = start(settings(authority).replace('type = "console"', 'call = "echoing:echo"'))
    session = Terminal([*command(openssl, server, authority), "-quiet", "-no_ign_eof", *client(authority, "web1")])
    try:
        session.wait_for("verify return")
        session.type("before\n")
        session.wait_for("got before")
        with socket.create_connection(server.place("safe", "tls")) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(4096):  # an alert, then the end
                pass
        session.type("after\n")
        session.wait_for("got after")
        session.type(END_OF_FILE)
        assert session.process.wait(DEADLINE) == 0
    finally:
        session.close()
    metrics = server.metrics_when("connections_closed_total", 1, listener="safe", reason="tls")
    assert metrics.total("connections_accepted_total", listener="safe") == 2
    server.finish()
