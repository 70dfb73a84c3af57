"""The datagram listener: real sockets on loopback, read by a reactor without a loop, so nothing waits."""

from __future__ import annotations

import array
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.systemd import ListenFDs

from eventserver.counters import ListenerCounters
from eventserver.framing.counted import OctetFramer
from eventserver.listeners import _sockets, _systemd, _udp
from eventserver.listeners._endpoints import CannotListen
from eventserver.listeners.datagram import DatagramListener
from eventserver.options import Size
from tests.listeners.fakes import FakeConnections, FakeIntake, MemoryReactor, lines, make_context

Start = Callable[..., DatagramListener]


def outcome(deferred: Deferred[None]) -> None:
    """Raises what a Deferred that has fired failed with."""
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    assert deferred.called
    if failures:
        failures[0].raiseException()


@pytest.fixture
def start(
    reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, connections: FakeConnections
) -> Iterator[Start]:
    """Starts listeners, and stops them at the end."""
    started: list[DatagramListener] = []

    def make(endpoint: str, options: dict[str, Any] | None = None, **context: Any) -> DatagramListener:
        context = {"intake": intake, "connections": connections, **context}
        made = DatagramListener.Options(**{"endpoints": (endpoint,), **(options or {})})
        listener = DatagramListener(made, make_context(reactor, counters, **context))
        outcome(listener.listen())
        listener.startService()
        started.append(listener)
        return listener

    yield make
    for listener in started:
        listener.stopService()
        assert listener.addresses() == []
    assert not reactor.readers
    assert reactor.getDelayedCalls() == []


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    """An IPv4 socket to send from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def port_of(listener: DatagramListener) -> int:
    [address] = listener.addresses()
    return int(address.rpartition(":")[2])


UDP = "udp:0:interface=127.0.0.1"


def test_what_has_arrived_is_one_batch(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    """Many datagrams, one call of the intake, and one peer where there is only one."""
    listener = start(UDP)
    target = ("127.0.0.1", port_of(listener))
    for data in (b"a", b"b\n", b"c\r\n\0", b" d "):
        sender.sendto(data, target)
    reactor.read_all()
    [batch] = intake.batches
    assert batch.frames == [b"a", b"b", b"c", b" d "]
    assert list(batch.peers) == [f"127.0.0.1:{sender.getsockname()[1]}"]


def test_each_datagram_has_its_peer(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    target = ("127.0.0.1", port_of(start(UDP)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        for sock in (sender, other, sender):
            sock.sendto(b"x", target)
        reactor.read_all()
        expected = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (sender, other, sender)]
    assert len(intake.batches) == 1
    assert intake.peers == expected


def test_ipv6(start: Start, reactor: MemoryReactor, intake: FakeIntake) -> None:
    listener = start("udp:0:interface=::1")
    assert listener.addresses()[0].startswith("udp:[::1]:")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.sendto(b"x", ("::1", port_of(listener)))
        reactor.read_all()
        assert intake.peers == [f"[::1]:{sock.getsockname()[1]}"]


def test_largest_datagram_is_read_whole(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    """Twisted's own port cuts at 8 KiB."""
    listener = start(UDP)
    sender.sendto(b"x" * 65507, ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert list(map(len, intake.frames)) == [65507]
    assert intake.marks == [()]


@pytest.mark.parametrize("oversize", ["truncate", "drop", "close"])
def test_datagram_over_max_frame(
    start: Start,
    reactor: MemoryReactor,
    intake: FakeIntake,
    counters: ListenerCounters,
    sender: socket.socket,
    oversize: str,
) -> None:
    listener = start(UDP, {"max_frame": Size(4), "oversize": oversize})
    for data in (b"ab", b"abcdefgh", b"cd", b"abcd\r\n"):
        sender.sendto(data, ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    if oversize == "truncate":
        assert intake.frames == [b"ab", b"abcd", b"cd", b"abcd"]
        assert intake.marks == [(), ("truncated",), (), ()]
        assert counters.truncated == 1
    else:
        assert intake.frames == [b"ab", b"cd", b"abcd"]
        assert counters.rejected == {"oversize": 1}
    assert counters.received == 4


def test_empty_datagram_is_counted_and_no_frame(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    listener = start(UDP)
    for data in (b"", b"\r\n\0", b"x"):
        sender.sendto(data, ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert intake.frames == [b"x"]
    assert counters.rejected == {"empty": 2}


def test_full_intake_is_counted(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    """And a pause changes nothing: the listener goes on reading, and counting."""
    listener = start(UDP)
    listener.pause()
    intake.room = 0
    for _ in range(3):
        sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert counters.rejected == {"full": 3}
    intake.refusal = "journal"
    sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert counters.rejected == {"full": 3, "journal": 1}
    intake.room = None
    listener.resume()
    sender.sendto(b"y", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert intake.frames == [b"y"]


def test_wake_up_reads_a_bounded_number(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    listener = start(UDP)
    for _ in range(_udp.DRAIN + 10):
        sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    reactor.read_all()
    assert [len(batch.frames) for batch in intake.batches] == [_udp.DRAIN, 10]


def test_wake_up_reads_a_bounded_number_of_bytes(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_udp, "DRAIN_BYTES", 100)
    listener = start(UDP)
    for _ in range(4):
        sender.sendto(b"x" * 60, ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    reactor.read_all()
    assert [len(batch.frames) for batch in intake.batches] == [2, 2]


def test_few_datagrams_are_followed_by_a_pause(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    """So that more come together; many, or someone who waits for an answer, are not kept waiting."""
    listener = start(UDP)
    target = ("127.0.0.1", port_of(listener))
    [reader] = reactor.readers
    assert reader.patient == (reader.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 << 20)
    reader.patient = True
    sweeps = reactor.getDelayedCalls()
    for count, reading in ((_udp.SMALL, True), (1, False)):
        for _ in range(count):
            sender.sendto(b"x", target)
        reader.doRead()
        assert (reader in reactor.readers) == reading
    sender.sendto(b"y", target)
    assert len(intake.batches) == 2
    reactor.advance(_udp.PAUSE)
    assert intake.frames[-1] == b"y"
    assert reader not in reactor.readers
    # After a silence the next one does not have to wait.
    reactor.advance(_udp.PAUSE)
    assert reader in reactor.readers
    assert reactor.getDelayedCalls() == sweeps
    sender.sendto(b"z", target)
    reader.doRead()
    assert intake.frames[-1] == b"z"
    # What gathered and is much: then the reactor has to say at once that there is more.
    for _ in range(_udp.SMALL):
        sender.sendto(b"x", target)
    reactor.advance(_udp.PAUSE)
    assert reader in reactor.readers
    listener.stopService()
    assert reactor.getDelayedCalls() == []
    start(UDP, replies=True)
    [reader] = reactor.readers
    assert not reader.patient


def test_a_server_that_is_stopped_by_a_datagram_reads_no_more(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket
) -> None:
    """The pause that would follow the datagram does not bring the closed socket back."""
    listener = start(UDP)
    [reader] = reactor.readers
    reader.patient = True
    intake.on_put = listener.stopService
    sender.sendto(b"stop", ("127.0.0.1", port_of(listener)))
    reader.doRead()
    assert intake.frames == [b"stop"]
    assert reactor.getDelayedCalls() == []
    assert not reactor.readers


def test_inside_of_each_datagram_is_framed_by_itself(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    """The rest of one datagram never becomes the beginning of the next."""
    listener = start(UDP, new_datagram_framer=lines(max_frame=Size(4)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        sender.sendto(b"a\nb", ("127.0.0.1", port_of(listener)))
        other.sendto(b"c\nabcdef\nd\n", ("127.0.0.1", port_of(listener)))
        reactor.read_all()
        peers = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (sender, sender, other, other, other)]
    assert intake.frames == [b"a", b"b", b"c", b"abcd", b"d"]
    assert intake.peers == peers
    assert intake.marks == [(), (), (), ("truncated",), ()]
    assert counters.truncated == 1


def test_fault_in_one_datagram_hurts_no_other(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    listener = start(UDP, new_datagram_framer=lambda: OctetFramer(OctetFramer.Options()))
    for data in (b"2 ab99999999 x", b"2 cd9 ef", b"2 gh"):
        sender.sendto(data, ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert intake.frames == [b"ab", b"cd", b"ef", b"gh"]
    assert intake.marks == [(), (), ("truncated",), ()]
    assert sum(counters.rejected.values()) == 1


def test_framer_that_raises_does_not_end_the_listener(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, sender: socket.socket, logged: list[str]
) -> None:
    broken = True

    def framer() -> Any:
        if broken:
            raise RuntimeError("a bug")
        return lines()()

    listener = start(UDP, new_datagram_framer=framer)
    sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert "a bug" in logged[-1]
    broken = False
    sender.sendto(b"y", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    assert intake.frames == [b"y"]


def test_stop_takes_what_the_kernel_has(start: Start, intake: FakeIntake, sender: socket.socket) -> None:
    listener = start(UDP)
    for _ in range(_udp.DRAIN + 1):
        sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    listener.stopService()
    assert len(intake.frames) == _udp.DRAIN + 1


def test_drops_of_the_kernel_are_counted(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, counters: ListenerCounters, sender: socket.socket
) -> None:
    """Outside the sums: nobody has received them."""
    listener = start(UDP, {"receive_buffer": Size(4096)})
    for sent in (200, 400):
        for _ in range(200):
            sender.sendto(b"x" * 500, ("127.0.0.1", port_of(listener)))
        reactor.advance(1)
        reactor.read_all()
        assert counters.kernel_drops > 0
        assert counters.kernel_drops + len(intake.frames) == sent


def test_log_says_which_port_and_which_buffer(start: Start, logged: list[str]) -> None:
    listener = start(UDP, {"receive_buffer": Size(1 << 30)})
    [line] = logged
    assert f"listening on udp 127.0.0.1:{port_of(listener)} (receive buffer " in line
    assert "of 1 GiB asked for" in line


def test_receive_buffer_is_what_was_asked_for_also_beyond_the_limit_where_that_may_be(start: Start) -> None:
    """Less than the default is granted too; more than net.core.rmem_max only to those who administer the network."""
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    for size, most in ((8192, 8192), (limit + 4096, limit + 4096 if os.geteuid() == 0 else limit)):
        listener = start(UDP, {"receive_buffer": Size(size)})
        [reader] = listener._readers
        assert limit < size or _sockets.granted_buffer(reader.socket) == size
        assert _sockets.granted_buffer(reader.socket) <= most


def test_reply_goes_to_the_sender(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, connections: FakeConnections, sender: socket.socket
) -> None:
    """Without framing, and each to its own."""
    listener = start(UDP, replies=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for sock in (sender, other, sender):
            sock.settimeout(60)
            sock.sendto(b"ping", ("127.0.0.1", port_of(listener)))
        reactor.read_all()
        [batch] = intake.batches
        assert batch.connection == [1, 2, 1]
        connections.writers[2].reply(b"two")
        connections.writers[1].reply(b"one")
        assert (sender.recv(10), other.recv(10)) == (b"one", b"two")
    listener.stopService()
    assert connections.writers == {}


def test_peers_that_can_be_answered_are_bounded(
    start: Start, reactor: MemoryReactor, connections: FakeConnections, sender: socket.socket
) -> None:
    """Forged addresses cost no memory: who was silent longest is forgotten."""
    listener = start(UDP, {"max_reply_peers": 2}, replies=True)
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in (sender, socks[0], sender, socks[1]):
        sock.sendto(b"x", ("127.0.0.1", port_of(listener)))
        reactor.read_all()
    assert list(connections.writers) == [1, 3]
    for sock in socks:
        sock.close()


def test_reply_that_cannot_be_sent_is_counted(
    start: Start,
    reactor: MemoryReactor,
    connections: FakeConnections,
    counters: ListenerCounters,
    sender: socket.socket,
) -> None:
    listener = start(UDP, replies=True)
    sender.sendto(b"x", ("127.0.0.1", port_of(listener)))
    reactor.read_all()
    connections.writers[1].reply(b"x" * 70000)
    assert counters.replies == {"unsent": 1}


def test_multicast_group_is_joined(start: Start, reactor: MemoryReactor, intake: FakeIntake) -> None:
    listener = start("udp:0", {"multicast_groups": ("239.1.2.3",), "multicast_interface": "lo"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.sendto(b"to all", ("239.1.2.3", port_of(listener)))
    reactor.read_all()
    assert intake.frames == [b"to all"]


def test_ipv6_multicast_group_is_joined(start: Start) -> None:
    """As the kernel lists it; sending there would need a route that not every machine has."""
    group = socket.inet_pton(socket.AF_INET6, "ff12::1234").hex()

    def joined() -> bool:
        return any(line.split()[1:3] == ["lo", group] for line in Path("/proc/net/igmp6").read_text().splitlines())

    listener = start("udp:0:interface=::", {"multicast_groups": ("ff12::1234",), "multicast_interface": "lo"})
    assert joined()
    listener.stopService()
    assert not joined()


def test_port_in_use_names_the_endpoint(start: Start, reactor: MemoryReactor, counters: ListenerCounters) -> None:
    """And leaves no other endpoint of the listener open."""
    taken = f"udp:{port_of(start(UDP))}:interface=127.0.0.1"
    listener = DatagramListener(
        DatagramListener.Options(endpoints=(UDP, taken, "udp:0:interface=192.0.2.1")), make_context(reactor, counters)
    )
    with pytest.raises(CannotListen) as caught:
        outcome(listener.listen())
    assert f"cannot listen on {taken}: Address already in use; " in str(caught.value)
    assert "udp:0:interface=192.0.2.1: Cannot assign requested address" in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert listener.addresses() == []


def test_optional_endpoint_may_fail(start: Start, logged: list[str]) -> None:
    listener = start(UDP, {"optional_endpoints": ("udp:0:interface=192.0.2.1",)})
    assert len(listener.addresses()) == 1
    assert "it is optional" in logged[-1]


# Unix datagrams


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def unix_sender(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect(str(path))
    return sock


def test_unix_datagram_names_the_process(start: Start, reactor: MemoryReactor, intake: FakeIntake, path: Path) -> None:
    listener = start(f"unix-datagram:{path}:mode=620")
    assert listener.addresses() == [f"unix-datagram:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    with unix_sender(path) as sock:
        sock.send(b"<13>hello\n\0")
    reactor.read_all()
    assert intake.frames == [b"<13>hello"]
    assert intake.peers == [f"unix:pid={os.getpid()},uid={os.getuid()}"]
    listener.stopService()
    assert not path.exists()


def test_unix_datagram_is_cut_at_the_largest(
    start: Start, reactor: MemoryReactor, intake: FakeIntake, path: Path
) -> None:
    start(f"unix-datagram:{path}", {"max_frame": Size(1 << 20)})
    with unix_sender(path) as sock:
        sock.send(b"x" * 70000)
        sock.send(b"y")
    reactor.read_all()
    assert list(map(len, intake.frames)) == [65535, 1]
    assert intake.marks == [("truncated",), ()]


def test_stale_socket_file_is_replaced(start: Start, path: Path) -> None:
    """A server that was killed left its file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
    assert path.exists()
    start(f"unix-datagram:{path}")


def test_socket_in_use_and_other_files_are_not_touched(
    start: Start, reactor: MemoryReactor, counters: ListenerCounters, path: Path, tmp_path: Path
) -> None:
    start(f"unix-datagram:{path}")
    inode = path.stat().st_ino
    file = tmp_path / "file"
    file.write_text("precious")
    for taken in (path, file):
        options = DatagramListener.Options(endpoints=(f"unix-datagram:{taken}",))
        with pytest.raises(CannotListen, match="Address already in use"):
            outcome(DatagramListener(options, make_context(reactor, counters)).listen())
    assert path.stat().st_ino == inode
    assert file.read_text() == "precious"


def test_passed_descriptors_are_not_kept(start: Start, reactor: MemoryReactor, intake: FakeIntake, path: Path) -> None:
    """Somebody could fill the server's table of descriptors with them."""
    start(f"unix-datagram:{path}")
    with unix_sender(path) as sock:
        before = len(os.listdir("/proc/self/fd"))
        passed = array.array("i", [sock.fileno()] * 10)
        sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        reactor.read_all()
        assert len(os.listdir("/proc/self/fd")) == before
    assert intake.frames == [b"x"]


def test_unix_peer_is_answered_where_it_is_bound(
    start: Start,
    reactor: MemoryReactor,
    connections: FakeConnections,
    counters: ListenerCounters,
    path: Path,
    tmp_path: Path,
) -> None:
    start(f"unix-datagram:{path}", replies=True)
    with unix_sender(path) as bound, unix_sender(path) as nameless:
        bound.bind(str(tmp_path / "me"))
        bound.settimeout(60)
        bound.send(b"x")
        nameless.send(b"y")
        reactor.read_all()
        connections.writers[1].reply(b"pong")
        connections.writers[2].reply(b"pong")
        assert bound.recv(10) == b"pong"
    assert counters.replies == {"unsent": 1}


# Sockets of systemd's


def inherit(monkeypatch: pytest.MonkeyPatch, *sockets: tuple[str, socket.socket]) -> None:
    """As if systemd had passed these sockets, under these names."""
    passed = ListenFDs([sock.fileno() for _, sock in sockets], [name for name, _ in sockets])
    monkeypatch.setattr(_systemd, "inherited", lambda: passed)


def test_sockets_of_systemd_are_adopted(
    start: Start,
    reactor: MemoryReactor,
    intake: FakeIntake,
    sender: socket.socket,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All datagram sockets with the name; the inherited ones stay open and keep what arrives while nobody listens."""
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(path))
        inherit(monkeypatch, ("es", tcp), ("es", udp), ("es", unix), ("other", udp))
        sender.sendto(b"before", udp.getsockname())
        listener = start("systemd-datagram:name=es")
        assert listener.addresses() == [f"udp:127.0.0.1:{udp.getsockname()[1]}", f"unix-datagram:{path}"]
        with unix_sender(path) as local:
            local.send(b"local")
        reactor.read_all()
        assert sorted(intake.frames) == [b"before", b"local"]
        listener.stopService()
        assert path.exists()
        sender.sendto(b"between", udp.getsockname())
        start("systemd-datagram:index=1")
        reactor.read_all()
        assert intake.frames[2:] == [b"between"]


def test_socket_of_another_type_is_refused(
    reactor: MemoryReactor, counters: ListenerCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as tcp:
        inherit(monkeypatch, ("es", tcp))
        for text in ("systemd-datagram:index=0", "systemd-datagram:index=7", "systemd-datagram:name=es"):
            listener = DatagramListener(DatagramListener.Options(endpoints=(text,)), make_context(reactor, counters))
            with pytest.raises(CannotListen, match="systemd passed no datagram socket of that"):
                outcome(listener.listen())
