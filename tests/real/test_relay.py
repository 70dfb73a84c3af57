"""One eventserver relays to another, over every transport."""

from __future__ import annotations

import socket

import pytest

from tests.listeners.certificates import Authority
from tests.real.conftest import StartServer

NUMBER = 1000

FIRST = """
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.relay]
type = "relay"
to = "{to}"
{more}
"""
SECOND = """
[listener.relayed]
endpoints = ["{endpoint}"]
{more}
[handler.console]
type = "console"
"""
ENDPOINTS = {
    "tcp": "tcp:0:interface=127.0.0.1",
    "udp": "udp:0:interface=127.0.0.1",
    "tls": "tls:0:interface=127.0.0.1",
    "unix": "unix:relayed.sock",
    "unix-datagram": "unix-datagram:relayed.sock",
}


def destination(scheme: str, place: object) -> str:
    return f"{scheme}:{place}" if isinstance(place, str) else "{}:{}:{}".format(scheme, *place)  # type: ignore[misc]


def send(place: tuple[str, int], lines: list[str]) -> None:
    with socket.create_connection(place) as source:
        source.sendall("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize("scheme", ["tcp", "udp", "unix", "unix-datagram"])
def test_lines_pass_through_in_order(start: StartServer, scheme: str) -> None:
    """Over UDP too, on loopback: the receiver's buffer holds them all."""
    second = start(SECOND.format(endpoint=ENDPOINTS[scheme], more=""), "second")
    to = destination(scheme, second.place("relayed", scheme))
    first = start(FIRST.format(to=to, more=""), "first")
    lines = [f"line {number}" for number in range(NUMBER)]
    send(first.place("lines", "tcp"), lines)
    assert [event["message"] for event in second.events(NUMBER)] == lines
    assert first.finish().total("events_delivered_total", handler="relay") == NUMBER
    second.finish()


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_events_pass_through_as_json_in_counted_frames(start: StartServer, authority: Authority, scheme: str) -> None:
    """The second server reads the first one's events: time and message are those of the first."""
    cert, key = authority.server()
    ours, our_key = authority.issue("first")
    on_second = f'tls = {{cert = "{cert}", key = "{key}", client_ca = "{authority.ca}", client_names = ["first"]}}\n'
    on_first = f'tls = {{ca = "{authority.ca}", cert = "{ours}", key = "{our_key}"}}\n'
    secure = scheme == "tls"
    framing = 'framing = "octet"\ndecoder = "json"\n'
    second = start(SECOND.format(endpoint=ENDPOINTS[scheme], more=framing + (on_second if secure else "")), "second")
    to = destination(scheme, second.place("relayed", scheme))
    more = 'encoder = "json"\nframing = "octet"\n' + (on_first if secure else "")
    first = start(FIRST.format(to=to, more=more), "first")
    lines = [f"line {number} ünïcödé" for number in range(NUMBER)]
    send(first.place("lines", "tcp"), lines)
    events = second.events(NUMBER)
    assert [event["message"] for event in events] == lines
    assert {event["fields"]["listener"] for event in events} == {"lines"}
    assert all(event["time"] == event["fields"]["received"] for event in events)
    if secure:
        assert {event["context"]["tls"]["subject"] for event in events} == {"first"}
    first.finish()
    second.finish()


def test_a_server_with_a_wrong_certificate_gets_nothing(start: StartServer, authority: Authority) -> None:
    """The name does not fit: the relay keeps the lines, and says why."""
    cert, key = authority.issue("somebody-else")
    second = start(SECOND.format(endpoint=ENDPOINTS["tls"], more=f'tls = {{cert = "{cert}", key = "{key}"}}'), "second")
    to = destination("tls", second.place("relayed", "tls"))
    more = f'tls = {{ca = "{authority.ca}"}}\nreconnect = {{initial_interval = "50 ms"}}'
    first = start("drain_timeout = 0\n" + FIRST.format(to=to, more=more), "first")
    send(first.place("lines", "tcp"), ["a secret"])
    first.metrics_when("handler_failures_total", 1, handler="relay", kind="temporary")
    assert first.get("/ready")[0] == 503
    assert first.stop() == -15, first.output()
    assert [line for line in first.stderr if "handler relay did not get 1 " in line], first.output()
    assert second.finish(allowed="").total("frames_received_total") == 0


def test_a_receiver_that_restarts_gets_what_comes_meanwhile(start: StartServer) -> None:
    """The relay connects again by itself."""
    endpoint = "unix:relayed.sock"
    second = start(SECOND.format(endpoint=endpoint, more=""), "second")
    more = 'reconnect = {initial_interval = "50 ms"}\nretry = {initial_interval = "50 ms", max_interval = "100 ms"}'
    first = start(FIRST.format(to=f"unix:{second.folder}/relayed.sock", more=more), "first")
    send(first.place("lines", "tcp"), ["before"])
    assert second.event()["message"] == "before"
    second.finish()
    first.wait_for("disconnected from")
    send(first.place("lines", "tcp"), ["meanwhile"])
    first.metrics_when("handler_failures_total", 1, handler="relay", kind="temporary")
    third = start(SECOND.format(endpoint=endpoint, more=""), "second")
    assert third.event()["message"] == "meanwhile"
    first.finish()
    third.finish()
