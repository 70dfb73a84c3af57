"""nc: lines over TCP, UDP and unix sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from tests.real.conftest import StartServer
from tests.realprograms import run

pytestmark = pytest.mark.real
RealProgram = Callable[[str], str]

TCP = """
[listener.lines]
endpoints = ["tcp:0:interface=127.0.0.1"]
[handler.console]
type = "console"
"""


@pytest.fixture
def nc(real_program: RealProgram) -> str:
    return real_program("nc")


@pytest.mark.parametrize("end", [["-N"], ["-q", "0"]])
def test_lines_over_tcp(nc: str, start: StartServer, end: list[str]) -> None:
    server = start(TCP)
    done = run([nc, *end, "127.0.0.1", str(server.port("lines"))], b"hello\nworld\n\nlast\n")
    assert done.returncode == 0, done.stderr
    events = server.events(4)
    assert [event["message"] for event in events] == ["hello", "world", "", "last"]
    assert {event["listener"] for event in events} == {"lines"}
    assert all(event["peer"].startswith("127.0.0.1:") for event in events)
    assert server.finish().total("frames_received_total") == 4


def test_an_unterminated_last_line_is_an_event(nc: str, start: StartServer) -> None:
    server = start(TCP)
    run([nc, "-N", "127.0.0.1", str(server.port("lines"))], b"first\nx")
    assert [event["message"] for event in server.events(2)] == ["first", "x"]
    server.finish()


def test_ten_thousand_lines_arrive_once_and_in_order(nc: str, start: StartServer) -> None:
    server = start(TCP)
    sent = [f"line {number}" for number in range(10_000)]
    run([nc, "-N", "127.0.0.1", str(server.port("lines"))], "".join(f"{line}\n" for line in sent).encode())
    events = server.events(len(sent))
    assert [event["message"] for event in events] == sent
    assert len({event["id"] for event in events}) == len(sent)
    server.finish()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_lines_over_ipv6(nc: str, start: StartServer) -> None:
    server = start(TCP.replace('"tcp:0:interface=127.0.0.1"', '"tcp6:0:interface=::1", "udp:0:interface=::1"'))
    run([nc, "-N", "::1", str(server.port("lines", "tcp6"))], b"a line\n")
    assert server.event()["peer"].startswith("[::1]:")
    run([nc, "-u", "-q", "0", "::1", str(server.port("lines", "udp"))], b"a datagram\n")
    event = server.event()
    assert (event["message"], event["peer"][:6]) == ("a datagram", "[::1]:")
    server.finish()


@pytest.mark.parametrize("end", [["-q", "0"], ["-w1"]])
def test_a_datagram_over_udp(nc: str, start: StartServer, end: list[str]) -> None:
    """What one write brings is one event, without its last line end."""
    server = start(TCP.replace("tcp:", "udp:"))
    done = run([nc, "-u", *end, "127.0.0.1", str(server.port("lines", "udp"))], b"one\ntwo\n")
    assert done.returncode == 0, done.stderr
    event = server.event()
    assert event["message"] == "one\ntwo"
    assert event["peer"].startswith("127.0.0.1:")
    server.finish()


def test_lines_inside_a_datagram(nc: str, start: StartServer) -> None:
    server = start(TCP.replace("tcp:", "udp:").replace("[handler", 'datagram_framing = "lines"\n[handler', 1))
    run([nc, "-u", "-q", "0", "127.0.0.1", str(server.port("lines", "udp"))], b"one\ntwo")
    assert [event["message"] for event in server.events(2)] == ["one", "two"]
    server.finish()


def test_lines_over_a_unix_socket(nc: str, start: StartServer) -> None:
    """The peer is the process that connected."""
    server = start(TCP.replace("tcp:0:interface=127.0.0.1", "unix:lines.sock:mode=600"))
    path = server.folder / "lines.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    run([nc, "-N", "-U", str(path)], b"over unix\nx")
    events = server.events(2)
    assert [event["message"] for event in events] == ["over unix", "x"]
    assert all(event["peer"].startswith("unix:pid=") for event in events)
    assert all(event["peer"].endswith(f",uid={os.getuid()}") for event in events)
    server.finish()
    assert not path.exists()


def test_datagrams_over_a_unix_socket(nc: str, start: StartServer) -> None:
    server = start(TCP.replace("tcp:0:interface=127.0.0.1", "unix-datagram:datagrams.sock"))
    path = server.folder / "datagrams.sock"
    run([nc, "-u", "-U", "-q", "0", str(path)], b"over unix\n")
    event = server.event()
    assert event["message"] == "over unix"
    assert event["peer"].startswith("unix:pid=")
    server.finish()
    assert not path.exists()


def test_bytes_that_are_no_text_are_shown_and_kept(nc: str, start: StartServer) -> None:
    """One peer's rubbish is an event like any other, and hurts no line beside it."""
    server = start(TCP + "raw = true\n")
    run([nc, "-N", "127.0.0.1", str(server.port("lines"))], b"caf\xe9 \x00\x1b[31m\nafter\n")
    bad, good = server.events(2)
    assert bad["raw_base64"] == "Y2Fm6SAAG1szMW0="
    assert good["message"] == good["raw"] == "after"
    server.finish()


def test_a_line_over_the_limit_is_cut_and_the_next_survives(nc: str, start: StartServer) -> None:
    server = start(TCP.replace("[handler", 'max_frame = "1 KiB"\n[handler', 1))
    run([nc, "-N", "127.0.0.1", str(server.port("lines"))], b"x" * 300_000 + b"\nafter\n")
    long, after = server.events(2)
    assert long["message"] == "x" * 1024
    assert long["context"] == {"truncated": True}
    assert after["message"] == "after"
    assert server.finish().total("frames_truncated_total", listener="lines") == 1


def test_replies_come_back_in_order_to_a_client_that_half_closes(nc: str, start: StartServer) -> None:
    """`nc -N` says that it sends no more, and still gets every answer."""
    settings = TCP.replace('type = "console"', 'call = "answering:answer"')
    (start.folder / "answering.py").write_text("def answer(event):\n    return 'got ' + event.message\n")
    server = start(settings)
    sent = b"".join(b"%d\n" % number for number in range(1000))
    done = run([nc, "-N", "127.0.0.1", str(server.port("lines"))], sent)
    assert done.stdout == b"".join(b"got %d\n" % number for number in range(1000))
    assert server.finish().total("replies_total", outcome="sent") == 1000


@pytest.mark.parametrize(("family", "scheme"), [(["-u", "127.0.0.1"], "udp"), (["-N", "-U"], "unix")])
def test_replies_to_udp_and_unix_peers(nc: str, start: StartServer, family: list[str], scheme: str) -> None:
    endpoint = "udp:0:interface=127.0.0.1" if scheme == "udp" else "unix:replies.sock"
    settings = TCP.replace("tcp:0:interface=127.0.0.1", endpoint)
    settings = settings.replace('type = "console"', 'call = "answering:answer"\nreplies = true')
    (start.folder / "answering.py").write_text("async def answer(event):\n    return event.message.upper()\n")
    server = start(settings)
    where = [str(server.port("lines", "udp"))] if scheme == "udp" else [str(start.folder / "replies.sock")]
    one_answer = ["-W", "1"] if scheme == "udp" else []
    done = run([nc, *one_answer, *family, *where], b"hello\n")
    assert done.stdout.strip() == b"HELLO"
    server.finish()
