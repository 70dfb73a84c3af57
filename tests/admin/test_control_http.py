"""The control API over HTTP: who may ask, and what a hostile request can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventserver.admin.control import MAX_BODY, Control
from eventserver.admin.web import HEAD_TIMEOUT, AdminSite
from tests.admin.server import TOKEN, Exchange, Reply, Server
from tests.replaying.history import Keeper, World


class ControlServer(Server):
    """The admin site with the control API of a small world."""

    def __init__(self, world: World, token: str | None = None, hosts: Any = frozenset({"localhost"})) -> None:
        super().__init__(token, hosts)
        self.world = world
        self.clock = world.clock
        control = Control(world.journal, world.replays, now=world.now)
        self.site = AdminSite(self.status, token, hosts, self.clock, control)

    def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes. (The replay that it may have started has timers of its own.)"""
        exchange = self.connect()
        answer = exchange.send(data)
        assert exchange.closing
        exchange.end()
        return answer

    def post(self, path: str, body: Any = b"{}", **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"Host": "localhost:9514", "Content-Type": "application/json", **named}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items() if value)]
        head = "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""])
        return Reply(self.raw(head.encode() + data))


@pytest.fixture
def server(tmp_path: Path) -> ControlServer:
    server = ControlServer(World(tmp_path))
    server.world.add(Keeper())
    server.world.put("a", "b")
    return server


def test_answers_are_json_and_a_query_is_read(server: ControlServer) -> None:
    reply = server.ask("/v1/journal/frames?from=1&to=2")
    assert (reply.code, reply.headers["content-type"]) == (200, "application/json")
    assert json.loads(reply.text)["frames"][0]["frame"] == "b"
    assert server.ask("/v1/journal/frames?from=1&from=2").code == 400
    assert server.ask("/v1/").code == 200
    assert server.ask("/v1x").code == 404


def test_head_has_no_body(server: ControlServer) -> None:
    reply = server.ask("/v1/journal", "HEAD")
    assert (reply.code, reply.body) == (200, b"")


def test_a_post_is_done(server: ControlServer) -> None:
    reply = server.post("/v1/replays", {"handler": "h", "from": 0, "rate": 0.1})
    assert reply.code == 201
    assert json.loads(reply.text)["id"] == "1"
    assert server.post("/v1/replays/1/cancel").code == 200


def raw(server: ControlServer, data: bytes) -> Exchange:
    exchange = server.connect()
    exchange.send(data)
    return exchange


def test_an_answer_that_takes_a_while_comes_when_it_is_there(server: ControlServer) -> None:
    server.world.put(*["x"] * 10)
    body = json.dumps({"handler": "h", "from": 0, "dry_run": True}).encode()
    head = "POST /v1/replays HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    exchange = raw(server, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    server.clock.advance(0.1)
    reply = Reply(exchange.transport.value())
    assert (reply.code, json.loads(reply.text)["frames"]) == (200, 12)
    exchange.end()


def test_who_goes_away_before_the_answer_harms_nobody(server: ControlServer) -> None:
    server.world.journal.later = True
    exchange = server.connect()
    body = b'{"handler":"h","from":0,"dry_run":true}'
    head = "POST /v1/replays HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    exchange.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
    exchange.end()
    server.clock.advance(1)
    assert server.world.replays.all() == []


# Who may ask


def test_another_host_is_refused_with_421(server: ControlServer) -> None:
    assert server.ask("/v1/journal", host="evil.example").code == 421
    assert server.post("/v1/replays", {"handler": "h", "from": 0}, Host="evil.example:9514").code == 421
    assert server.world.replays.all() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:80"},
        {"Origin": "http://[::1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(server: ControlServer, headers: dict[str, str]) -> None:
    assert server.post("/v1/replays", {"handler": "h", "from": 0}, **headers).code == 403
    assert server.world.replays.all() == []


def test_a_page_of_ours_may(server: ControlServer) -> None:
    headers = {"Origin": "http://localhost:9514", "Sec_Fetch_Site": "same-origin"}
    assert server.post("/v1/replays", {"handler": "h", "from": 0}, **headers).code == 201


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_can_send_changes_nothing(server: ControlServer, content_type: str) -> None:
    reply = server.post("/v1/replays", {"handler": "h", "from": 0}, Content_Type=content_type)
    assert reply.code in (400, 415)
    assert server.world.replays.all() == []


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    server = ControlServer(World(tmp_path), TOKEN, None)
    assert server.ask("/v1/journal").code == 401
    assert server.post("/v1/deadletters/drop", {"all": True}).code == 401
    assert server.post("/v1/deadletters/drop", {"all": True}, Authorization=f"Bearer {TOKEN}x").code == 401
    assert server.ask("/v1/journal", Authorization=f"Bearer {TOKEN}").code == 200
    assert server.post("/v1/deadletters/drop", {"all": True}, Authorization=f"Bearer {TOKEN}").code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server: ControlServer, method: str) -> None:
    reply = server.ask("/v1/replays", method)
    assert (reply.code, reply.headers["allow"]) == (405, "GET, HEAD, POST")


def test_a_post_to_another_page_is_refused(server: ControlServer) -> None:
    assert server.ask("/live", "POST").code == 405


# Bodies


def test_a_body_over_the_bound_is_refused_unread(server: ControlServer) -> None:
    assert server.post("/v1/replays", b" " * MAX_BODY).code == 400
    exchange = raw(
        server, f"POST /v1/replays HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
    )
    assert exchange.transport.value().startswith(b"HTTP/1.1 413 ")
    exchange.end()


def test_a_chunked_body_is_refused_and_so_is_one_of_a_get(server: ControlServer) -> None:
    chunked = b"POST /v1/replays HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert server.raw(chunked).startswith(b"HTTP/1.1 413 ")
    get = b"GET /v1/replays HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    assert server.raw(get).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_trickles_in_is_cut_off(server: ControlServer) -> None:
    exchange = raw(server, b"POST /v1/replays HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
    for _ in range(HEAD_TIMEOUT):
        exchange.send(b" ")
        server.clock.advance(1)
    assert exchange.transport.disconnected


def test_a_second_request_behind_a_body_is_not_answered(server: ControlServer) -> None:
    one = b"POST /v1/replays/1/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    one += b"Content-Length: 2\r\n\r\n{}"
    assert server.raw(one + one).count(b"HTTP/1.1 ") == 1


def test_broken_json_is_refused_with_a_sentence(server: ControlServer) -> None:
    for body in (b"{", b"\xff", b"[" * 1000, b'{"handler": "h", "from": 1e999}'):
        reply = server.post("/v1/replays", body)
        assert reply.code == 400
        assert json.loads(reply.text)["error"]
