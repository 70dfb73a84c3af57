"""Threads of a `FakeReactor` run when the test says so; with a real reactor they are real."""

from __future__ import annotations

from typing import Any

import pytest

from eventserver.awaiting import asyncio_loop
from eventserver.handlers import _threads
from eventserver.interfaces import HandlerContext
from tests.handlers.fakes import FakeReactor


@pytest.fixture(autouse=True)
def threads_of_the_fake_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor stands in for the threads."""
    real = _threads.Workers

    def workers(context: HandlerContext) -> Any:
        return context.reactor if isinstance(context.reactor, FakeReactor) else real(context)

    monkeypatch.setattr(_threads, "Workers", workers)


@pytest.fixture
def asyncio_reactor() -> Any:
    from twisted.internet import reactor

    if asyncio_loop(reactor) is None:
        pytest.skip("these tests are about the asyncio reactor, and another one runs")
    return reactor
