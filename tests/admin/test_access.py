"""Who gets in to the admin endpoint: hosts, tokens, paths and methods, and the settings that are refused."""

from __future__ import annotations

import pytest

from eventserver.admin import problems_of_admin
from eventserver.admin.service import allowed_hosts
from tests.admin.server import TOKEN, Reply, Server

LOOPBACK = "tcp:0:interface=127.0.0.1"


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


def test_the_reason_phrase_says_so(server: Server) -> None:
    answer = server.raw(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")


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
    "token",
    [
        "",
        "short",
        "0123456789abcdef",
        "0123456789abcdef0123456789abcde",
        "LettersAndDigits12345",
        "nineteen bytes long",
        "a token with spaces in it",
        "t\u00f6ken-of-more-than-20-bytes",
    ],
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


@pytest.mark.parametrize("token", ["0123456789abcdef" * 2, "LettersAndDigits123456", "q8YJm2m9tq5Kf0zT1n8u3w=="])
def test_128_bits_are_enough(token: str) -> None:
    """Hexadecimal digits have 4 each, letters and digits just less than 6."""
    assert problems_of_admin("tcp:9514", token) == []
