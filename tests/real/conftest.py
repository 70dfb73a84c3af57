"""Real servers, certificates and programs for the tests of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.certificates import Authority
from tests.parallel import section
from tests.real.clients import Exchanges
from tests.real.server import Server


class StartServer:
    """`start(settings)` is a running server in the test's folder, or in a folder inside it; killed after the test."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def __call__(self, settings: str, folder: str = ".", **options: Any) -> Server:
        return self._stack.enter_context(Server(self.folder / folder, settings, **options))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Starts real servers; see `StartServer`."""
    with contextlib.ExitStack() as stack:
        yield StartServer(tmp_path, stack)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for the whole run."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def exchanges(pytestconfig: pytest.Config) -> Exchanges:
    """What clients sent, had acknowledged, and what was received: the table at the end of the run."""
    exchanges = Exchanges()
    section(pytestconfig, "real clients", lambda: exchanges.table() if exchanges.found else [])
    return exchanges
