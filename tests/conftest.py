"""What every test runs under: the reactor, hypothesis' profile, and a guard against errors that nobody noticed.

pytest-twisted overlooks what trial reports: failures that no callback took, errors that were only logged, and
delayed calls, ports and connections that outlive their test. The guard here fails the test that left them.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure

from eventserver import _patterns
from tests import parallel, realprograms

LoggedFailures = Callable[..., list[Failure]]

#: A busy machine is no failure, neither of an example nor of making one: the first one reads hypothesis' own tables.
_PATIENT: dict[str, Any] = {
    "deadline": None, "max_examples": 100, "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}  # fmt: skip
hypothesis.settings.register_profile("dev", **_PATIENT)
hypothesis.settings.register_profile("ci", **_PATIENT, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if realprograms.required() or os.environ.get("CI") else "dev")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Install the reactor that the server runs on, before pytest-twisted installs Twisted's of the same name.

    With EVENTSERVER_TEST_REACTOR=uvloop it is the one on uvloop; `--reactor=default` asks for epoll (on Linux).
    """
    config.pluginmanager.register(_Workers(config))
    if config.getoption("reactor") != "asyncio":
        return
    from eventserver import asyncio_reactor, uvloop_reactor

    if os.environ.get("EVENTSERVER_TEST_REACTOR") == "uvloop":
        uvloop_reactor.install()
    else:
        asyncio_reactor.install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a worker would print goes to the process that prints."""
    parallel.hand_over(session.config)


class _Workers:
    """What only pytest-xdist calls."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Who gets which tests."""
        return parallel.scheduler(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended."""
        parallel.take_over(self._config, node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tables and figures that tests have collected."""
    parallel.write(config, terminalreporter)


def pytest_report_header() -> str:
    """Which reactor the tests run on."""
    from twisted.internet import reactor

    loop = getattr(reactor, "_asyncioEventloop", None)
    on = f" on {type(loop).__module__}.{type(loop).__qualname__}" if loop is not None else ""
    return f"reactor: {type(reactor).__qualname__}{on}"


class _Noticed(logging.Handler):
    """Keeps the errors that were logged since the last test: Twisted's failures, and asyncio's complaints."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.events: list[LogEvent] = []
        self.asyncio: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical or event.get("isError"):
            self.events.append(event)

    def emit(self, record: logging.LogRecord) -> None:
        self.asyncio.append(self.format(record))

    def flush_failures(self, *types: type[BaseException]) -> list[Failure]:
        """Takes the logged failures of these types (all, without types) out, and returns them."""
        gc.collect()
        taken = [e for e in self.events if not types or (e.get("log_failure") and e["log_failure"].check(*types))]
        self.events = [e for e in self.events if e not in taken]
        return [e["log_failure"] for e in taken if e.get("log_failure") is not None]

    def take(self) -> list[str]:
        """What was noticed, for people; afterwards it is forgotten."""
        found = [_describe(event) for event in self.events] + self.asyncio
        self.events, self.asyncio = [], []
        return found


def _describe(event: LogEvent) -> str:
    failure = event.get("log_failure")
    text = formatEvent(event)
    return f"logged: {text}\n{failure.getTraceback()}" if failure is not None else f"logged: {text}"


@pytest.fixture(scope="session")
def noticed(twisted_greenlet: object) -> Iterator[_Noticed]:
    """The one observer of the test run; the reactor runs when this returns."""
    from twisted.internet import reactor

    observer = _Noticed()
    # Without this Twisted keeps the last 65,536 events, and everything that they refer to, for a log that never opens.
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    logging.getLogger("asyncio").addHandler(observer)
    pytest_twisted.blockon(deferLater(reactor, 0))
    # What exists now stays: without it in the way, a collection after each test takes a millisecond, not fifty.
    gc.collect()
    gc.freeze()
    yield observer
    logging.getLogger("asyncio").removeHandler(observer)


@pytest.fixture
def logged_failures(noticed: _Noticed) -> LoggedFailures:
    """Call it with exception types (or none, for all) to take the expected failures out of the log.

    Returns them as a list of `Failure`. A test that logs a failure and does not take it out fails.
    """
    return noticed.flush_failures


@pytest.fixture(autouse=True)
def nothing_overlooked(noticed: _Noticed) -> Iterator[None]:
    """Fails a test that leaves a lost Deferred failure, a logged failure, a delayed call or an open descriptor."""
    from twisted.internet import reactor

    noticed.take()
    before = _open(reactor)
    yield
    left = _left_over(reactor, before)
    gc.collect()
    problems = noticed.take() + left
    if problems:
        pytest.fail("the test left behind:\n" + "\n".join(problems), pytrace=False)


def _open(reactor: Any) -> set[Any]:
    return set(reactor.getReaders()) | set(reactor.getWriters())


def _left_over(reactor: Any, before: set[Any]) -> list[str]:
    """Delayed calls, ports and connections that the test left behind; they are ended here.

    As with trial, what is just closing gets two turns of the reactor first.
    """
    turns = 0
    while turns < 2 and (reactor.getDelayedCalls() or _open(reactor) - before):
        pytest_twisted.blockon(deferLater(reactor, 0))
        turns += 1
    calls = [call for call in reactor.getDelayedCalls() if call.active()]
    descriptors = _open(reactor) - before
    found = [f"delayed call: {call}" for call in calls] + [f"open: {descriptor!r}" for descriptor in descriptors]
    for call in calls:
        call.cancel()
    for descriptor in descriptors:
        reactor.removeReader(descriptor)
        reactor.removeWriter(descriptor)
        descriptor.connectionLost(Failure(RuntimeError("left open by a test")))
    return found


@pytest.fixture
def real_program() -> Callable[[str], str]:
    """`real_program("nc")` is the path of a real program; without it the test is skipped (see `realprograms.find`)."""
    return realprograms.find


@pytest.fixture
def without_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if google-re2 were not installed: patterns are Python's own, and measured."""
    monkeypatch.setattr(_patterns, "_re2", lambda: None)
