"""Fixtures of the listeners' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from eventserver.counters import ListenerCounters
from eventserver.listeners.stream import StreamListener
from eventserver.options import Duration
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeConnections, FakeIntake, MemoryReactor, make_context
from tests.listeners.streamworld import Start


@pytest.fixture
def reactor() -> MemoryReactor:
    """A reactor in memory, with its clock."""
    return MemoryReactor()


@pytest.fixture
def intake() -> FakeIntake:
    """An intake that records."""
    return FakeIntake()


@pytest.fixture
def counters() -> Iterator[ListenerCounters]:
    """Counters that have to balance when the test ends."""
    counters = ListenerCounters()
    yield counters
    assert counters.balanced(), counters


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines that are logged during the test."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "tests.listeners":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority with a server and a client; making keys takes time, so there is one."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def connections() -> FakeConnections:
    """Connections that record what is replied."""
    return FakeConnections()


@pytest_twisted.async_yield_fixture
async def start(intake: FakeIntake, counters: ListenerCounters, connections: FakeConnections) -> AsyncIterator[Start]:
    """Starts stream listeners on the real reactor, and stops them at the end."""
    from twisted.internet import reactor

    started: list[StreamListener] = []

    async def make(*endpoints: str, **settings: Any) -> StreamListener:
        context = {key: settings.pop(key) for key in ("replies", "batch_context", "now") if key in settings}
        context = {"intake": intake, "connections": connections, **context}
        made = StreamListener.Options(endpoints=endpoints, close_timeout=Duration(2), **settings)
        listener = StreamListener(made, make_context(reactor, counters, **context))
        await listener.listen()
        listener.startService()
        started.append(listener)
        return listener

    yield make
    for listener in started:
        if listener.running:
            await listener.stopService()
        assert listener.connections() == []
    assert counters.connections == 0
