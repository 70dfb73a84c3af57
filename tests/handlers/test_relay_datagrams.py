"""The relay handler by UDP and unix datagrams."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from eventserver.errors import PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.handlers import _datagrams
from eventserver.handlers.relay import RelayHandler
from tests.handlers.fakes import FakeReactor, Log, make_event, make_events
from tests.handlers.relayworld import deliver, make, results_of

Unread = tuple[RelayHandler, FakeReactor, socket.socket]


class TestDatagrams:
    """One datagram a payload."""

    @pytest.fixture
    def receiver(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(60)
            yield receiver

    @pytest.fixture
    def unread(self, tmp_path: Path) -> Iterator[Unread]:
        """A handler, its reactor, and a peer with a queue that gets full: it reads when the test does."""
        path, reactor = str(tmp_path / "socket"), FakeReactor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            handler = make(f"unix-datagram:{path}", reactor)
            handler.start()
            yield handler, reactor, receiver
            handler.stop()

    def test_each_event_is_a_datagram_without_framing(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        assert results_of(handler.handle(make_events(3))) == [None]
        assert [receiver.recv(100) for _ in range(3)] == [b"m0", b"m1", b"m2"]
        handler.stop()

    def test_a_datagram_with_several_events_is_passed_on_once(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        first, second = make_event(0), make_event(1)
        pile = [first, *[first.replace(id=f"{first.id}.{n}") for n in (1, 2)], second]
        assert results_of(handler.handle(pile)) == [None]
        assert [receiver.recv(100) for _ in range(2)] == [b"m0", b"m1"]
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        handler.stop()

    def test_names_are_looked_up_in_a_thread(self, receiver: socket.socket) -> None:
        reactor = FakeReactor()
        handler = make(f"udp:localhost:{receiver.getsockname()[1]}", reactor)
        handler.start()
        results_of(handler.handle(make_events(1)))
        assert reactor.hops == 1
        results_of(handler.handle(make_events(1)))
        assert reactor.hops == 1
        handler.stop()

    def test_what_does_not_fit_is_a_dead_letter(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        pile = [make_event(0), make_event(1, raw="x" * (_datagrams.MAX_DATAGRAM + 1)), make_event(2)]
        [error] = results_of(handler.handle(pile))
        assert isinstance(error, PartialFailure)
        assert {name: type(e) for name, e in error.errors.items()} == {"01BATCH-1": PermanentFailure}
        assert [receiver.recv(100) for _ in range(2)] == [b"m0", b"m2"]
        handler.stop()

    @pytest_twisted.ensureDeferred
    async def test_the_largest_datagram_passes(self, receiver: socket.socket) -> None:
        handler = make(f"udp:127.0.0.1:{receiver.getsockname()[1]}")
        handler.start()
        await deliver(handler, [make_event(raw="x" * _datagrams.MAX_DATAGRAM)])
        assert len(receiver.recv(70_000)) == _datagrams.MAX_DATAGRAM
        handler.stop()

    def test_a_full_queue_is_waited_for(self, unread: Unread) -> None:
        """Nothing is lost, and nothing is sent twice; after a while without progress the rest comes again."""
        handler, reactor, receiver = unread
        receiver.setblocking(False)
        events = make_events(3000)
        sent = results_of(handler.handle(events))
        assert sent == []
        received = [receiver.recv(100)]
        reactor.advance(0.01)
        for _ in range(100):
            reactor.advance(0.3)
        assert isinstance(sent[0], PartialFailure)
        while True:
            try:
                received.append(receiver.recv(100))
            except BlockingIOError:
                break
        waiting = set(sent[0].errors)
        assert received == [event.message.encode() for event in events if event.id not in waiting]
        assert len(received) + len(waiting) == 3000
        assert all(isinstance(error, TemporaryFailure) for error in sent[0].errors.values())
        assert next(iter(sent[0].errors.values())).retry_after == 0.5  # type: ignore[attr-defined]  # temporary

    def test_a_cancelled_pile_names_what_was_not_sent(self, unread: Unread) -> None:
        handler, reactor, _ = unread
        sending = handler.handle(make_events(3000))
        assert sending is not None
        sending.cancel()
        [error] = results_of(sending)
        assert isinstance(error, PartialFailure)
        assert "01BATCH-2999" in error.errors
        assert "01BATCH-0" not in error.errors
        assert not reactor.getDelayedCalls()

    def test_a_long_wait_can_be_cancelled(self, unread: Unread) -> None:
        """However often the socket was looked at meanwhile."""
        handler, reactor, _ = unread
        sending = handler.handle(make_events(3000))
        assert sending is not None
        reactor.pump([0.005] * 3500)
        sending.cancel()
        [error] = results_of(sending)
        assert isinstance(error, PartialFailure)
        assert str(error.errors["01BATCH-2999"]) == "the call was cancelled"
        assert not reactor.getDelayedCalls()

    def test_a_peer_that_is_not_there_is_a_temporary_failure(self, tmp_path: Path) -> None:
        path, log = str(tmp_path / "socket"), Log()
        handler = make(f"unix-datagram:{path}", log=log)
        handler.start()
        for expected in (0.5, 1.0):
            [error] = results_of(handler.handle(make_events(2)))
            assert isinstance(error, TemporaryFailure)
            assert error.retry_after == expected
        assert len(log.lines) == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            assert results_of(handler.handle(make_events(1))) == [None]
            assert receiver.recv(10) == b"m0"
        handler.stop()

    def test_a_refusal_concerns_the_rest_only(self) -> None:
        """ECONNREFUSED tells of an earlier datagram; what was not reached waits."""

        class Refusing:
            def __init__(self) -> None:
                self.answers = deque([None, errno.ECONNREFUSED])

            def send(self, payload: bytes) -> None:
                if (number := self.answers.popleft()) is not None:
                    raise OSError(number, "Connection refused")

        sending = _datagrams._Sending(deque([("a", b"1"), ("b", b"2"), ("c", b"3")]), 20, Clock())
        with pytest.raises(PartialFailure) as caught:
            sending.run(Refusing())  # type: ignore[arg-type]  # a stand-in
        assert list(caught.value.errors) == ["b", "c"]
        assert all(isinstance(error, TemporaryFailure) for error in caught.value.errors.values())
