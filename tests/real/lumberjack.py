"""lumberjack-protocol, a client of Lumberjack 1 on Node: events of texts, over TLS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.carbon import programs
from tests.realprograms import required


def node_lumberjack() -> Path:
    """The folder of the package, which `.ci/run` installs; without it the test is skipped, or fails where required."""
    folder = programs() / "node_modules" / "lumberjack-protocol"
    if (folder / "package.json").is_file():
        return folder
    if required():
        pytest.fail(f"{folder} is missing, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
    pytest.skip(f"{folder} is missing")


def node_lumberjack_version() -> str:
    """Its version; empty where it is not installed."""
    path = programs() / "node_modules" / "lumberjack-protocol" / "package.json"
    return str(json.loads(path.read_text())["version"]) if path.is_file() else ""
