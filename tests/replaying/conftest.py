"""The server's middle that most tests of replay are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replaying.history import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
