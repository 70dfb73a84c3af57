"""The list of real clients: each is installed, has a version, and a test that counts what it sent and what arrived."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.clients import CLIENTS, Exchanges, noted_in, version
from tests.realprograms import required

pytestmark = pytest.mark.real


@pytest.mark.parametrize("client", CLIENTS)
def test_it_is_installed(client: str) -> None:
    found = version(client)
    if not found and not required():
        pytest.skip(f"{client} is not installed")
    assert found, f"{client} is not installed"


def test_each_has_a_test_that_counts() -> None:
    assert noted_in(Path(__file__).parent) == set(CLIENTS)


def test_the_table_names_client_version_and_counts() -> None:
    exchanges = Exchanges()
    exchanges.note("rsyslog omrelp", "TCP", sent=1000, received=1000, acknowledged=1003, more=True)
    exchanges.note("Python SysLogHandler", "UDP", sent=5, received=5)
    head, first, second = exchanges.table()
    assert head.split() == ["client", "version", "over", "sent", "acknowledged", "received"]
    assert first.split()[-4:] == ["TCP", "1000", "1003", "1000"]
    assert second.split()[-4:] == ["UDP", "5", "-", "5"]


@pytest.mark.parametrize("counts", [{"received": 4}, {"received": 6}, {"received": 5, "acknowledged": 4}])
def test_counts_that_differ_fail_the_test_that_notes_them(counts: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        Exchanges().note("curl", "HTTP", sent=5, **counts)
