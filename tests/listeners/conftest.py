"""Fixtures of the listeners' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from eventserver.counters import ListenerCounters
from tests.listeners.certificates import Authority
from tests.listeners.fakes import FakeIntake, MemoryReactor


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
