"""The fault tests find the bugs that they are for. Those that power cuts find are in `test_power_cut`."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from tests.faults.clients import RelpClient
from tests.faults.figures import Figures
from tests.faults.oracle import Oracle
from tests.faults.servers import Crashing

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("bug", ["ack before commit", "cursor before handler"])
def test_planted_bugs_are_found_by_kills(tmp_path: Path, bug: str, figures: Figures) -> None:
    """Each of these bugs loses acknowledged events within ten kills."""
    kill, problems = kill_until_lost(tmp_path, bug, bug == "cursor before handler", 10)
    assert any("acknowledged and lost" in each for each in problems), f"{bug} was not found by ten kills"
    figures(f"planted: {bug}: found by kill {kill} ({problems[0]})")


@pytest.mark.parametrize("slow", [False, True])
def test_without_a_bug_the_same_kills_lose_nothing(tmp_path: Path, slow: bool) -> None:
    """What is found above is the bug, not the slow disk or the slow handler."""
    _, problems = kill_until_lost(tmp_path, None, slow, 3)
    assert problems == []


def kill_until_lost(tmp_path: Path, bug: str | None, slow: bool, most: int) -> tuple[int, list[str]]:
    """Kills a server under load, on a slow disk or with a slow handler, until something is lost.

    Returns the number of kills, and what is wrong then.
    """
    never = threading.Event()
    oracle = Oracle()
    numbers = itertools.count(1)
    with Crashing(tmp_path / "server", call="record_slowly" if slow else "record") as crashing:
        for kill in range(1, most + 1):
            server = crashing.start(bug=bug, crash_at=None if slow else "slow")
            with RelpClient(oracle, numbers, crashing.relp, rate=1000) as client:
                assert client.wait_acked(20), client.said
                # The slow handler's second call lasts from 0.6 to 1.2 s; 0.2 s after it has begun cursors are written.
                never.wait(0.92 + 0.02 * kill if slow else 0.05)
                server.kill()
                # What is left is delivered without waiting.
                (crashing.folder / "quick").touch()
                server = crashing.start()
                assert client.finish(), client.said
            crashing.drained()
            problems = oracle.problems(crashing.recorded())
            server.kill()
            (crashing.folder / "quick").unlink()
            if problems:
                break
    return kill, problems
