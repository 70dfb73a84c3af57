"""Every handler of ours runs the conformance suite; and the suite finds what it is meant to find."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver import options
from eventserver.handlers.console import ConsoleHandler
from eventserver.handlers.file import FileHandler
from eventserver.handlers.null import NullHandler
from eventserver.handlers.python import PythonHandler
from eventserver.handlers.relay import RelayHandler
from eventserver.interfaces import HandlerContext, IHandler
from eventserver.testing.handlers import HandlerConformance
from tests.handlers.fakes import PullTransport, make_context


class TestNull(HandlerConformance):
    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        return NullHandler(NullHandler.Options(), make_context())


class TestNullWithMatch(HandlerConformance):
    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        return NullHandler(NullHandler.Options(), make_context(needs_events=True))


class TestConsole(HandlerConformance):
    @pytest.fixture
    def fd(self, tmp_path: Any) -> Iterator[int]:
        fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        yield fd
        os.close(fd)

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        context = make_context(parts={"format": "json"})
        return ConsoleHandler(ConsoleHandler.Options(), context, request.getfixturevalue("fd"))


class _File(HandlerConformance):
    encoder = "json"
    path = "{listener}-{time:%Y-%m-%d}.log"
    context: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        options = FileHandler.Options(path=f"{request.getfixturevalue('tmp_path')}/{self.path}", format=self.encoder)
        return FileHandler(options, make_context(parts={"format": self.encoder}, **self.context))


class TestFileOfEvents(_File):
    pass


class TestFileOfFrames(_File):
    encoder = "raw"
    path = "all.log"


class TestDurableFileByHost(_File):
    encoder = "raw"
    path = "{hostname}/all.log"
    context = {"durable": True}  # noqa: RUF012 - nobody changes it


def ignore(event: Any) -> None:
    pass


async def wait_for_nothing(event: Any) -> str:
    return await succeed("done")


def answer_all(pile: list[Any]) -> list[str]:
    answers = [event.message for event in pile]
    pile.clear()
    return answers


class _Python(HandlerConformance):
    call = ""
    thread = False

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        options = PythonHandler.Options(call=f"{__name__}:{self.call}", thread=self.thread)
        return PythonHandler(options, make_context(replies=True))


class TestPythonSync(_Python):
    call = "ignore"


class TestPythonAsync(_Python):
    call = "wait_for_nothing"


class TestPythonPile(_Python):
    call = "answer_all"


class TestPythonThread(_Python):
    call = "ignore"
    thread = True


class TestRelay(HandlerConformance):
    """Over UDP: nothing has to be waited for."""

    @pytest.fixture
    def port(self) -> Iterator[int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            yield receiver.getsockname()[1]

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        options = RelayHandler.Options(to=f"udp:127.0.0.1:{request.getfixturevalue('port')}", encoder="json")
        return RelayHandler(options, make_context(parts={"encoder": "json", "framing": "lines"}))


class TestStreamRelay(HandlerConformance):
    """Over TCP, in memory."""

    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        self.reactor, self.transport = MemoryReactorClock(), PullTransport()
        context = make_context(self.reactor, parts={"encoder": "raw", "framing": "lines"})
        return RelayHandler(RelayHandler.Options(to="tcp:127.0.0.1:514"), context)

    def settle(self, deferred: Deferred[Any]) -> None:
        """The peer accepts, the kernel takes what is written, and a connection that is being closed is gone."""
        if self.reactor.tcpClients:
            factory = self.reactor.tcpClients.pop()[2]
            self.protocol = factory.buildProtocol(None)
            self.protocol.makeConnection(self.transport)
        self.transport.drain()
        if self.transport.disconnecting:
            self.protocol.connectionLost(Failure(ConnectionDone()))


@implementer(IHandler)
class Meddler:
    """Does what no handler may."""

    class Options(options.Options, frozen=True, kw_only=True):
        """None."""

    wants = "events"
    wants_raw = False

    def __init__(self, options: Options, context: HandlerContext) -> None:
        pass

    def start(self) -> None:
        pass

    def handle(self, pile: list[Any]) -> Deferred[None] | None:
        pile[-1].fields["structured_data"]["id"]["key"].append("mine")
        return None

    def stop(self) -> None:
        pass


def test_the_suite_fails_a_handler_that_changes_fields() -> None:
    """However deep in `fields` the change is."""
    suite = HandlerConformance()
    with pytest.raises(AssertionError, match="changed an event"):
        suite.test_it_changes_neither_the_pile_nor_its_events(Meddler(Meddler.Options(), make_context()))


def test_the_suite_fails_a_handler_that_returns_something_else() -> None:
    with pytest.raises(AssertionError, match="return None or something to await"):
        HandlerConformance().finish(42)
