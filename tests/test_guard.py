"""The guard of conftest.py: a test that leaves something behind fails, and one that cleans up does not."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests import realprograms

CASES = """
import asyncio

import pytest_twisted
from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.logger import Logger


def test_clean(logged_failures):
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Logger().failure("expected")
    assert len(logged_failures(ZeroDivisionError)) == 1


def test_lost_failure():
    defer.fail(RuntimeError("lost"))


def test_lost_failure_in_a_cycle():
    cycle = [defer.fail(RuntimeError("lost"))]
    cycle.append(cycle)


def test_logged_failure():
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Logger().failure("something broke")


def test_another_logged_failure(logged_failures):
    test_logged_failure()
    assert logged_failures(KeyError) == []


def test_delayed_call():
    from twisted.internet import reactor

    reactor.callLater(100, print)


def test_open_port():
    from twisted.internet import reactor

    reactor.listenTCP(0, Factory(), interface="127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_asyncio_exception():
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.call_exception_handler({"message": "a task was lost"})


@pytest_twisted.ensureDeferred
async def test_closed_port():
    from twisted.internet import reactor

    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    await port.stopListening()
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What became of each case, in a run of pytest of its own."""
    path = tmp_path_factory.mktemp("guard") / "test_cases.py"
    path.write_text(CASES)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, "--reactor=asyncio", "-rA"]
    env = {**os.environ, "PYTHONPATH": str(realprograms.ROOT), "EVENTSERVER_TEST_REACTOR": ""}
    done = realprograms.run([*command, str(path)], env=env)
    found: dict[str, set[str]] = {}
    for word, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout.decode(), re.MULTILINE):
        found.setdefault(name, set()).add(word)
    assert len(found) == CASES.count("\ndef test") + CASES.count("\nasync def test"), done.stdout.decode()
    return found


@pytest.mark.parametrize("name", ["test_clean", "test_closed_port"])
def test_what_leaves_nothing_passes(outcome: dict[str, set[str]], name: str) -> None:
    assert outcome[name] == {"PASSED"}


@pytest.mark.parametrize("name", re.findall(r"def (test_(?!clean|closed)\w+)", CASES))
def test_what_leaves_something_is_an_error(outcome: dict[str, set[str]], name: str) -> None:
    assert "ERROR" in outcome[name]


def test_a_missing_program_skips_or_fails_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSERVER_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        realprograms.find("no-such-program")
    monkeypatch.setenv("EVENTSERVER_REQUIRE_REAL", "0")
    with pytest.raises(pytest.skip.Exception):
        realprograms.find("no-such-program")
    assert Path(realprograms.find("sh")).is_file()
