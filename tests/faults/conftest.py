"""Servers to be killed, and the figures of the fault tests, printed when the run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.figures import LONG, Figures
from tests.faults.servers import Crashing

_COLLECTED = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_COLLECTED] = Figures()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Call it with a line: it stands in the summary at the end."""
    if _COLLECTED not in request.config.stash:
        request.config.stash[_COLLECTED] = Figures()
    return request.config.stash[_COLLECTED]


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Callable[..., Crashing]]:
    """`crashing(handler=..., journal=...)` is a folder for a server."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Crashing(tmp_path / "server", **options))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    collected = config.stash.get(_COLLECTED, None)
    if collected is not None and collected.lines:
        terminalreporter.section(f"faults, {'long' if LONG else 'short'} form")
        for line in collected.lines:
            terminalreporter.write_line(line)
