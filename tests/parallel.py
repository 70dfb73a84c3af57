"""The suite on several processes (pytest-xdist): who runs with whom, and what is printed at the end of the run.

A file's tests stay together. Those with real programs and with faults, which measure times and count what real clients
did, are one group that begins first: one process runs it while the others run all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Folders that are one group.
TOGETHER = ("real", "faults")

_SECTIONS = pytest.StashKey[dict[str, Callable[[], list[str]]]]()
_FROM_WORKERS = pytest.StashKey[list[tuple[str, list[str]]]]()


def section(config: pytest.Config, title: str, lines: Callable[[], list[str]]) -> None:
    """Print lines under a title when the run is over, if there are any then."""
    config.stash.setdefault(_SECTIONS, {})[title] = lines


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Who gets which tests: `--dist loadfile`, but for the group. The largest come first."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "together" if Path(file).parts[1] in TOGETHER else file

    return ByFile(config, log)


def hand_over(config: pytest.Config) -> None:
    """In a worker at its end: what it would print goes to the process that prints."""
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output["sections"] = list(_found(config))


def take_over(config: pytest.Config, node: Any) -> None:
    """A worker has ended."""
    config.stash.setdefault(_FROM_WORKERS, []).extend(getattr(node, "workeroutput", {}).get("sections", ()))


def write(config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
    """All sections, those of workers included."""
    for title, lines in [*_found(config), *config.stash.get(_FROM_WORKERS, [])]:
        reporter.section(title)
        for line in lines:
            reporter.write_line(line)


def _found(config: pytest.Config) -> list[tuple[str, list[str]]]:
    found = ((title, lines()) for title, lines in config.stash.get(_SECTIONS, {}).items())
    return [(title, lines) for title, lines in found if lines]
