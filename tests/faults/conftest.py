"""Servers to be killed, and the figures of the fault tests, printed when the run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.figures import LONG, Figures
from tests.faults.servers import Crashing
from tests.parallel import section


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Call it with a line: it stands in the summary at the end."""
    figures = Figures()
    section(pytestconfig, f"faults, {'long' if LONG else 'short'} form", lambda: figures.lines)
    return figures


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Callable[..., Crashing]]:
    """`crashing(handler=..., journal=...)` is a folder for a server."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Crashing(tmp_path / "server", **options))
