"""The handler `statsd`: when it flushes, what happens while Graphite is away, its page, and its settings."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from eventserver import options
from eventserver.errors import TemporaryFailure
from eventserver.event import Event
from eventserver.handlers import _statsd_sending
from eventserver.handlers._statsd_sending import datagrams
from eventserver.handlers._statsd_web import MAX_CONNECTIONS
from eventserver.handlers._tls_client import TlsOptions
from eventserver.handlers.relay import Reconnect
from eventserver.handlers.statsd import StatsdHandler
from eventserver.options import Duration, Size
from eventserver.testing.handlers import HandlerConformance
from tests.handlers.fakes import NOON, FakeReactor, Log, PullTransport, make_context, make_event
from tests.handlers.relayworld import certificate

Options = StatsdHandler.Options
TIME = round(NOON.timestamp())


class ThreadedMemoryReactor(MemoryReactorClock):
    """With threads that run calls at once, or, with `hold`, when `run_thread` is called."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = FakeReactor()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._threads, name)

    def getThreadPool(self) -> Any:
        return self._threads

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)


class World:
    """A handler that sends to a Graphite in memory."""

    def __init__(self, **changes: Any) -> None:
        self.reactor = ThreadedMemoryReactor()
        self.log = Log()
        self.context = make_context(self.reactor, self.log)
        self.handler = StatsdHandler(
            Options(to="tcp:192.0.2.1:2003", **changes), self.context, lambda: 0.0  # no jitter
        )  # fmt: skip
        self.handler.start()
        self.transports: list[PullTransport] = []

    def accept(self) -> PullTransport:
        """Graphite takes the connection that is being made."""
        transport = PullTransport()
        self.protocol = self.reactor.tcpClients.pop()[2].buildProtocol(None)
        self.protocol.makeConnection(transport)
        self.transports.append(transport)
        return transport

    def refuse(self) -> None:
        """Nobody listens there."""
        self.reactor.tcpClients.pop()[2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def taken(self) -> list[str]:
        """The lines that the kernel has taken since the last time, without what statsd says of itself."""
        lines = self.transports[-1].value().decode().splitlines()
        self.transports[-1].clear()
        self.transports[-1].drain()
        return [line for line in lines if "statsd" not in line]


def counter(name: str, value: float = 1) -> Event:
    return make_event(fields={"name": name, "metric_type": "counter", "value": value})


class TestConformanceOverUdp(HandlerConformance):
    @pytest.fixture
    def port(self) -> Iterator[int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            yield receiver.getsockname()[1]

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        return StatsdHandler(Options(to=f"udp:127.0.0.1:{request.getfixturevalue('port')}"), make_context())


class TestConformanceOfThePage(HandlerConformance):
    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        return StatsdHandler(Options(endpoint="tcp:9102"), make_context(ThreadedMemoryReactor()))


class TestFlushes:
    def test_figures_come_once_an_interval(self) -> None:
        world = World()
        world.accept()
        world.handler.handle([counter("a"), counter("a"), counter("b", 5)])
        world.reactor.advance(9.9)
        assert world.taken() == []
        world.reactor.advance(0.1)
        assert world.taken() == [
            f"stats.a 0.2 {TIME}", f"stats_counts.a 2 {TIME}", f"stats.b 0.5 {TIME}", f"stats_counts.b 5 {TIME}",
        ]  # fmt: skip
        world.reactor.advance(10)
        assert world.taken()[:2] == [f"stats.a 0 {TIME}", f"stats_counts.a 0 {TIME}"]

    def test_the_last_interval_is_sent_when_it_stops(self) -> None:
        world = World()
        transport = world.accept()
        world.handler.handle([counter("a")])
        stopped: list[Any] = []
        world.handler.stop().addBoth(stopped.append)
        assert f"stats_counts.a 1 {TIME}\n" in transport.value().decode()
        assert not stopped
        transport.drain()
        assert transport.disconnecting
        world.protocol.connectionLost(Failure(ConnectionDone()))
        assert stopped == [None]
        world.reactor.advance(100)
        assert not world.reactor.getDelayedCalls()
        assert world.log.lines[-1].endswith("disconnected from tcp:192.0.2.1:2003")

    def test_flushes_wait_while_graphite_is_away_and_come_in_order(self) -> None:
        world = World()
        world.refuse()
        for name in ("a", "b"):
            world.handler.handle([counter(name)])
            world.reactor.advance(10)
            if world.reactor.tcpClients:
                world.refuse()
        world.reactor.advance(30)
        world.accept()
        lines = world.taken() + world.taken() + world.taken()
        counts = [line.split()[:2] for line in lines if line.startswith("stats_counts")]
        assert counts[:4] == [["stats_counts.a", "1"], ["stats_counts.a", "0"], ["stats_counts.b", "1"],
                              ["stats_counts.a", "0"]]  # fmt: skip

    def test_what_waits_is_tried_at_once_on_sighup(self) -> None:
        world = World(reconnect=Reconnect(initial_interval=Duration(20), max_interval=Duration(30)))
        world.refuse()
        world.handler.handle([counter("a")])
        world.reactor.advance(10)
        world.refuse()
        assert not world.reactor.tcpClients
        world.handler.reopen()
        world.accept()
        assert [line.split()[:2] for line in world.taken()][-1] == ["stats_counts.a", "1"]
        world.handler.reopen()

    def test_a_flush_that_was_cut_is_sent_again(self) -> None:
        world = World()
        world.accept()
        world.handler.handle([counter("a")])
        world.reactor.advance(10)
        world.protocol.connectionLost(Failure(ConnectionDone()))
        world.reactor.advance(0.5)
        world.accept()
        assert f"stats_counts.a 1 {TIME}" in world.taken()

    def test_no_more_events_are_taken_when_max_pending_waits(self) -> None:
        """They are safe where they are: the handler is unwell, and goes on once Graphite has taken what waits."""
        world = World(max_pending=Size(100))
        world.refuse()
        world.handler.handle([counter("a")])
        world.reactor.advance(10)
        with pytest.raises(TemporaryFailure, match=r"tcp:192\.0\.2\.1:2003 does not take the figures"):
            world.handler.handle([counter("a")])
        world.accept()
        assert f"stats_counts.a 1 {TIME}" in world.taken()
        world.handler.handle([counter("a")])
        assert world.context.counters.ignored == {}

    def test_what_cannot_be_sent_at_the_end_is_logged(self) -> None:
        world = World()
        world.refuse()
        world.handler.handle([counter("a")])
        stopped: list[Any] = []
        world.handler.stop().addBoth(stopped.append)
        world.refuse()
        assert stopped == [None]
        assert world.log.lines[-1] == "under-test: 7 lines of figures could not be sent and are lost"
        assert not world.reactor.getDelayedCalls()

    def test_a_graphite_that_hangs_does_not_hold_up_the_end(self) -> None:
        world = World()
        transport = world.accept()
        world.handler.handle([counter("a")])
        stopped: list[Any] = []
        world.handler.stop().addBoth(stopped.append)
        world.reactor.advance(5)
        assert transport.aborted
        world.protocol.connectionLost(Failure(ConnectionDone()))
        assert stopped == [None]
        assert "could not be sent and are lost" in "".join(world.log.lines)

    def test_many_figures_are_made_in_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_statsd_sending, "_SMALL", 2)
        world = World()
        world.accept()
        world.reactor._threads.hold = True
        world.handler.handle([counter(name) for name in "abc"])
        world.reactor.advance(10)
        assert world.taken() == []
        stopped: list[Any] = []
        world.handler.stop().addBoth(stopped.append)
        world.reactor._threads.run_thread()
        world.reactor._threads.run_thread()
        assert f"stats_counts.c 1 {TIME}" in world.taken() + world.taken()
        world.protocol.connectionLost(Failure(ConnectionDone()))
        assert stopped == [None]

    def test_what_is_ignored_is_counted_and_logged_once_a_minute(self) -> None:
        world = World(max_names=1)
        for _ in range(5):
            world.handler.handle([counter("a"), counter("b"), make_event()])
        assert world.context.counters.ignored == {"too_many_names": 5, "not_a_metric": 5}
        warnings = [line for line in world.log.lines if "ignored" in line]
        assert warnings == ["under-test: some events are ignored: too_many_names 1, not_a_metric 1"]

    def test_what_is_no_metric_at_all_is_logged_once(self) -> None:
        """It may be there on purpose; what is wrong with metrics is logged each minute."""
        world = World()
        for _ in range(3):
            world.handler.handle([make_event()])
            world.reactor.advance(100)
        assert len([line for line in world.log.lines if "ignored" in line]) == 1
        for _ in range(2):
            world.handler.handle([make_event(fields={"error": "no value"})])
            world.reactor.advance(100)
        assert len([line for line in world.log.lines if "ignored" in line]) == 3


class TestDatagrams:
    def test_lines_share_datagrams_up_to_a_size(self) -> None:
        lines = [b"n%d 1 2\n" % number for number in range(1000)]
        parts = list(datagrams(b"".join(lines)))
        assert b"".join(parts) == b"".join(lines)
        assert all(len(part) <= 1432 and part.endswith(b"\n") for part in parts)
        assert len(parts) < 10
        assert list(datagrams(b"x" * 2000 + b"\ny\n")) == [b"x" * 2000 + b"\n", b"y\n"]
        assert list(datagrams(b"")) == []

    def test_they_arrive(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(60)
            reactor = ThreadedMemoryReactor()
            handler = StatsdHandler(Options(to=f"udp:127.0.0.1:{receiver.getsockname()[1]}"), make_context(reactor))
            handler.start()
            handler.handle([counter("a")])
            reactor.advance(10)
            assert f"stats_counts.a 1 {TIME}\n" in receiver.recv(65535).decode()
            handler.stop()

    def test_what_nobody_takes_is_sent_again(self) -> None:
        """ECONNREFUSED is about the datagram before; it is not sent again, what comes after it is."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            port = receiver.getsockname()[1]
        reactor, log = ThreadedMemoryReactor(), Log()
        handler = StatsdHandler(Options(to=f"udp:127.0.0.1:{port}"), make_context(reactor, log), lambda: 0.0)
        handler.start()
        reactor.advance(10)
        reactor.advance(10)
        assert "cannot be reached" in "".join(log.lines)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", port))
            receiver.settimeout(60)
            reactor.advance(1)
            assert b"statsd.numStats" in receiver.recv(65535)
        handler.stop()
        assert not reactor.getDelayedCalls()


class TestPage:
    def ask(self, handler: Any, reactor: Any, request: bytes) -> bytes:
        """What the page's server answers."""
        factory = reactor.tcpServers[0][1]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        protocol.connectionLost(Failure(ConnectionDone()))
        assert not factory.open_channels
        return transport.value()

    def start(self, **changes: Any) -> tuple[StatsdHandler, ThreadedMemoryReactor]:
        reactor = ThreadedMemoryReactor()
        handler = StatsdHandler(Options(endpoint="tcp:9102", **changes), make_context(reactor))
        handler.start()
        return handler, reactor

    def test_it_is_served_after_each_interval(self) -> None:
        handler, reactor = self.start()
        handler.handle([counter("a"), counter("a")])
        get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        assert b"a_total" not in self.ask(handler, reactor, get)
        reactor.advance(10)
        answer = self.ask(handler, reactor, get)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/plain; version=0.0.4" in answer.lower()
        assert b"\na_total 2.0\n" in answer
        assert b"a_total" not in self.ask(handler, reactor, get.replace(b"GET", b"HEAD"))
        handler.stop()

    @pytest.mark.parametrize(
        ("request_line", "status"), [(b"GET /", b"404"), (b"POST /metrics", b"405"), (b"GET /metrics/x", b"404")]
    )
    def test_there_is_nothing_else(self, request_line: bytes, status: bytes) -> None:
        handler, reactor = self.start()
        answer = self.ask(handler, reactor, request_line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
        handler.stop()

    def test_a_body_is_not_read(self) -> None:
        handler, reactor = self.start()
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 1000
        assert self.ask(handler, reactor, request).startswith(b"HTTP/1.1 413")
        handler.stop()

    def test_connections_are_bounded_in_number_and_time(self) -> None:
        handler, reactor = self.start()
        factory = reactor.tcpServers[0][1]
        aborted: list[StringTransport] = []
        for _ in range(MAX_CONNECTIONS):
            transport = StringTransport()
            transport.abortConnection = lambda transport=transport: aborted.append(transport)  # type: ignore[method-assign]
            factory.buildProtocol(None).makeConnection(transport)
        assert factory.buildProtocol(None) is None
        reactor.advance(30)
        assert len(aborted) == MAX_CONNECTIONS
        handler.stop()


class TestSettings:
    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ({}, "to"),
            ({"to": "tcp:h:1", "endpoint": "tcp:1"}, "to"),
            ({"to": "graphite"}, "to"),
            ({"to": "tcp:h:1", "tls": {"ca": "x"}}, "tls"),
            ({"endpoint": "9102"}, "endpoint"),
            ({"endpoint": "tcp:port"}, "endpoint"),
            ({"endpoint": "nothing:1"}, "endpoint"),
            ({"to": "tcp:h:1", "percentiles": [0]}, "percentiles"),
            ({"to": "tcp:h:1", "percentiles": [101]}, "percentiles"),
            ({"to": "tcp:h:1", "flush_interval": "0 s"}, "flush_interval"),
            ({"to": "tcp:h:1", "names": {"prefix": "x"}}, "names.legacy"),
            ({"to": "tcp:h:1", "names": {"prefixes": "x"}}, "names.prefixes"),
            ({"to": "tcp:h:1", "reconnect": {"initial_interval": "2 min"}}, "reconnect.max_interval"),
        ],
    )
    def test_wrong_ones_are_told(self, table: dict[str, Any], key: str) -> None:
        assert [name for name, _ in options.parse(Options, table)[1]] == [key]

    def test_a_port_in_use_is_told(self) -> None:
        from twisted.internet import reactor

        with socket.create_server(("127.0.0.1", 0)) as server:
            where = f"tcp:{server.getsockname()[1]}:interface=127.0.0.1"
            handler = StatsdHandler(Options(endpoint=where), make_context(reactor))
            failed: list[Any] = []
            handler.start().addErrback(lambda failure: failed.append(failure.value))
        assert isinstance(failed[0], ValueError)
        assert f"cannot listen on {where}" in str(failed[0])
        handler.stop()

    def test_certificates_are_read_again_for_graphite(self, tmp_path: Path) -> None:
        """The page has none."""
        cert, _ = certificate(tmp_path)
        tls = TlsOptions(ca=str(cert))
        handler = StatsdHandler(Options(to="tls:192.0.2.1:2003", tls=tls), make_context(ThreadedMemoryReactor()))
        handler.start()
        handler.reopen()
        cert.write_text("broken")
        with pytest.raises(ValueError, match=r"cert\.pem holds no certificate"):
            handler.reopen()
        page = StatsdHandler(Options(endpoint="tcp:9102"), make_context(ThreadedMemoryReactor()))
        page.start()
        page.reopen()
        for each in (handler, page):
            each.stop()

    def test_intervals_are_those_of_the_setting(self) -> None:
        world = World(flush_interval=Duration(0.5))
        world.accept()
        world.handler.handle([counter("a")])
        world.reactor.advance(0.5)
        assert world.taken()[0] == f"stats.a 2 {TIME}"
