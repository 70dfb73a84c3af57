"""The relay handler: its settings, and what follows from them before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import endpoints
from twisted.internet.task import Clock

from eventserver import options
from eventserver.handlers._destinations import Destination, make_endpoint, parse_destination
from eventserver.handlers._tls_client import TlsOptions
from eventserver.handlers.relay import RelayHandler
from tests.handlers.relayworld import make

Options = RelayHandler.Options


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "destination"),
        [
            ("tcp:logs.example:514", ("tcp", "logs.example", 514)),
            ("tls:192.0.2.1:6514", ("tls", "192.0.2.1", 6514)),
            ("udp:[2001:db8::1]:514", ("udp", "2001:db8::1", 514)),
            ("tcp:2001:db8::1:514", ("tcp", "2001:db8::1", 514)),
            ("unix:/run/x:y", ("unix", "/run/x:y", 0)),
            ("unix-datagram:/dev/log", ("unix-datagram", "/dev/log", 0)),
        ],
    )
    def test_destinations_are_read(self, text: str, destination: tuple[str, str, int]) -> None:
        assert parse_destination(text) == destination

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tcp",
            "tcp:",
            "tcp:host",
            "tcp:host:",
            "tcp::5",
            "tcp:h:0",
            "tcp:h:65536",
            "unix:",
            "http:h:80",
            "tcp:h:+5",
        ],
    )
    def test_what_is_no_destination_is_told(self, text: str) -> None:
        parsed, problems = options.parse(Options, {"to": text})
        assert parsed is None
        assert "is no destination; write tcp:HOST:PORT" in problems[0][1]

    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ({"to": "tcp:h:1", "tls": {"ca": "x"}}, "tls"),
            ({"to": "tls:h:1", "tls": {"cert": "x"}}, "tls.key"),
            ({"to": "tls:h:1", "tls": {"key": "x"}}, "tls.cert"),
            ({"to": "tls:h:1", "tls": {"certificate": "x"}}, "tls.certificate"),
            ({"to": "tcp:h:1", "reconnect": {"initial_interval": "2 min"}}, "reconnect.max_interval"),
        ],
    )
    def test_settings_that_do_not_go_together_are_told(self, table: dict[str, Any], key: str) -> None:
        assert [name for name, _ in options.parse(Options, table)[1]] == [key]

    def test_frames_are_enough_for_raw_streams(self) -> None:
        assert make("tcp:h:1").wants == "frames"
        assert make("tcp:h:1", encoder="json").wants == "events"
        handler = make("tcp:h:1", needs_events=True)
        assert (handler.wants, handler.wants_raw) == ("events", True)
        handler = make("udp:h:1")
        assert (handler.wants, handler.wants_raw) == ("events", True)

    def test_endpoints_for_names_and_addresses(self) -> None:
        clock = Clock()
        kinds = {
            "logs.example": endpoints.HostnameEndpoint,
            "192.0.2.1": endpoints.TCP4ClientEndpoint,
            "2001:db8::1": endpoints.TCP6ClientEndpoint,
        }
        for host, kind in kinds.items():
            from twisted.internet import reactor

            assert isinstance(make_endpoint(Destination("tcp", host, 1), TlsOptions(), 10, reactor), kind)
        unix = make_endpoint(Destination("unix", "/x"), TlsOptions(), 10, clock)
        assert isinstance(unix, endpoints.UNIXClientEndpoint)
