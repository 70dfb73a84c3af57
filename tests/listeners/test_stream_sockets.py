"""The stream listener with real sockets on loopback."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.python.systemd import ListenFDs

from eventserver.counters import ListenerCounters
from eventserver.listeners import _systemd
from eventserver.listeners._endpoints import CannotListen
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.fakes import FakeConnections, FakeIntake, make_context
from tests.listeners.streamworld import Start, connect, inet, until

pytestmark = pytest.mark.reactors


@pytest.mark.parametrize(("scheme", "host", "text"), [("tcp", "127.0.0.1", "127.0.0.1"), ("tcp6", "::1", "[::1]")])
@pytest_twisted.ensureDeferred
async def test_tcp(start: Start, intake: FakeIntake, logged: list[str], scheme: str, host: str, text: str) -> None:
    listener = await start(inet(scheme, host))
    [address] = listener.addresses()
    assert address.startswith(f"{scheme}:{text}:")
    assert f"listening on {address.replace(':', ' ', 1)}" in logged[0]
    client = await connect(address)
    client.transport.write(b"a\nb\n")
    await until(lambda: intake.batches)
    assert intake.frames == [b"a", b"b"]
    assert intake.peers[0] == f"{text}:{client.transport.getHost().port}"
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_a_killed_process_with_our_number_is_followed(start: Start, intake: FakeIntake, tmp_path: Path) -> None:
    """As in a container, where every server is process 1."""
    path = tmp_path / "es"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(str(path))
    Path(f"{path}.lock").symlink_to(str(os.getpid()))
    await start(f"unix:{path}")
    client = await connect(f"unix:{path}")
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    client.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_unix_names_the_process(start: Start, intake: FakeIntake, tmp_path: Path) -> None:
    path = tmp_path / "es"
    listener = await start(f"unix:{path}:mode=660")
    assert listener.addresses() == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    client = await connect(f"unix:{path}")
    client.transport.write(b"a\n")
    await until(lambda: intake.batches)
    assert intake.peers == [f"unix:pid={os.getpid()},uid={os.getuid()}"]
    client.transport.loseConnection()
    await until(lambda: not listener.connections())
    await listener.stopService()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_half_close_is_answered(start: Start, intake: FakeIntake, connections: FakeConnections) -> None:
    """`printf 'ping' | nc -N`: the peer ends its side, gets its answer, and then the end."""
    listener = await start(inet("tcp", "127.0.0.1"), replies=True)
    client = await connect(listener.addresses()[0])
    client.transport.write(b"ping")
    client.transport.loseWriteConnection()
    await until(lambda: intake.watches)
    assert intake.frames == [b"ping"]
    connections.writers[1].reply(b"pong")
    intake.deliver()
    await until(lambda: client.reason)
    assert client.got == b"pong\n"


@pytest_twisted.ensureDeferred
async def test_peer_that_does_not_read_is_cut_off(
    start: Start, connections: FakeConnections, counters: ListenerCounters
) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), replies=True)
    client = await connect(listener.addresses()[0])
    await until(lambda: connections.writers)
    client.transport.pauseProducing()
    writer = connections.writers[1]
    for _ in range(2000):
        if not connections.writers:
            break
        writer.reply(b"x" * 65536)
        await until(lambda: True)
    await until(lambda: not listener.connections())
    assert counters.closed == {"unread_replies": 1}
    client.transport.resumeProducing()
    await until(lambda: client.reason)


@pytest_twisted.ensureDeferred
async def test_port_in_use_names_the_endpoint(start: Start, counters: ListenerCounters) -> None:
    from twisted.internet import reactor

    first = await start(inet("tcp", "127.0.0.1"))
    taken = f"tcp:{first.addresses()[0].rpartition(':')[2]}:interface=127.0.0.1"
    made = StreamListener.Options(endpoints=(inet("tcp", "127.0.0.1"), taken))
    second = StreamListener(made, make_context(reactor, counters))
    with pytest.raises(CannotListen, match=f"^cannot listen on {taken}: Address already in use$"):
        await second.listen()
    assert second.addresses() == []


@pytest_twisted.ensureDeferred
async def test_optional_endpoint_may_fail(start: Start, logged: list[str]) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), optional_endpoints=("tcp:0:interface=192.0.2.1",))
    assert len(listener.addresses()) == 1
    assert "tcp:0:interface=192.0.2.1: Cannot assign requested address; it is optional" in logged[-1]


@pytest_twisted.ensureDeferred
async def test_peers_wait_until_the_listener_runs(intake: FakeIntake, counters: ListenerCounters) -> None:
    """Bound is not started, and paused is not stopped: the kernel keeps those who connect."""
    from twisted.internet import reactor

    made = StreamListener.Options(endpoints=(inet("tcp", "127.0.0.1"),))
    listener = StreamListener(made, make_context(reactor, counters, intake=intake))
    await listener.listen()
    client = await connect(listener.addresses()[0])
    client.transport.write(b"early\n")
    await deferLater(reactor, 0.02)
    assert counters.connections_total == 0
    listener.startService()
    await until(lambda: intake.frames == [b"early"])
    listener.pause()
    late = await connect(listener.addresses()[0])
    late.transport.write(b"late\n")
    client.transport.write(b"paused\n")
    await deferLater(reactor, 0.02)
    assert (counters.connections_total, intake.frames) == (1, [b"early"])
    listener.resume()
    await until(lambda: sorted(intake.frames) == [b"early", b"late", b"paused"])
    await listener.stopService()
    await until(lambda: client.reason and late.reason)


@pytest_twisted.ensureDeferred
async def test_full_intake_holds_the_sender_up_and_loses_nothing(start: Start, intake: FakeIntake) -> None:
    listener = await start(inet("tcp", "127.0.0.1"))
    client = await connect(listener.addresses()[0])
    intake.room = 1
    sent = [b"%06d" % number for number in range(100_000)]
    client.transport.write(b"\n".join(sent) + b"\n")
    await until(lambda: intake.room == 0 and listener._holding)
    intake.room = None
    listener.resume()
    await until(lambda: len(intake.frames) == len(sent))
    assert intake.frames == sent
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_accepted_sockets_have_keepalive(start: Start) -> None:
    """Linux hands it down from the listening socket."""
    listener = await start(inet("tcp", "127.0.0.1"), keepalive_idle=Duration(33))
    client = await connect(listener.addresses()[0])
    await until(listener.connections)
    [connection] = listener._connections
    sock = connection.transport.getHandle()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    values = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
    assert values == [33, 10]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 6
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"keepalive": False}, (0, None, None)),
        ({"keepalive_interval": Duration(7), "keepalive_probes": 3}, (1, 7, 3)),
    ],
)
async def test_keepalive_is_as_the_settings_say(start: Start, options: dict[str, Any], values: tuple[Any, ...]) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), **options)
    client = await connect(listener.addresses()[0])
    await until(listener.connections)
    [connection] = listener._connections
    sock = connection.transport.getHandle()
    on, interval, probes = values
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == on
    if on:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == probes
    client.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_backlog_is_what_the_kernel_was_told(start: Start, real_program: Callable[[str], str]) -> None:
    """Of a listening socket `ss` shows the backlog as Send-Q."""
    listener = await start(inet("tcp", "127.0.0.1"), backlog=37)
    port = listener.addresses()[0].rpartition(":")[2]
    command = [real_program("ss"), "-ltnH", f"sport = :{port}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split()[2] == "37"


@pytest_twisted.ensureDeferred
async def test_refused_connection_is_closed_at_once(start: Start, counters: ListenerCounters) -> None:
    listener = await start(inet("tcp", "127.0.0.1"), max_connections=1)
    first = await connect(listener.addresses()[0])
    await until(listener.connections)
    second = await connect(listener.addresses()[0])
    await until(lambda: second.reason)
    assert first.reason is None
    assert counters.closed == {"max_connections": 1}
    first.transport.loseConnection()
    await until(lambda: not listener.connections())


@pytest_twisted.ensureDeferred
async def test_sockets_of_systemd_are_adopted(
    start: Start, intake: FakeIntake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stream sockets with the name; their files and permissions are left alone, and so are the descriptors."""
    path = str(tmp_path / "es")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(path)
        os.chmod(path, 0o620)
        unix.listen()
        passed = ListenFDs([sock.fileno() for sock in (udp, tcp, unix)], ["es", "es", "es"])
        monkeypatch.setattr(_systemd, "inherited", lambda: passed)
        addresses = [f"tcp:127.0.0.1:{tcp.getsockname()[1]}", f"unix:{path}"]
        wanted: list[bytes] = []
        for endpoints in (["systemd:name=es"], ["systemd:domain=INET:index=1", "systemd:domain=UNIX:index=2"]):
            listener = await start(*endpoints)
            assert listener.addresses() == addresses
            for address in addresses:
                client = await connect(address)
                wanted.append(address.encode())
                client.transport.write(wanted[-1] + b"\n")
                await until(lambda: intake.frames == wanted)
                client.transport.loseConnection()
            await until(lambda running=listener: not running.connections())
            await listener.stopService()
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o620
