"""The server that most tests of the admin endpoint ask."""

from __future__ import annotations

import pytest

from tests.admin.server import Server


@pytest.fixture
def server() -> Server:
    return Server()
