"""How long the fault tests run, and the figures that they print."""

from __future__ import annotations

import os

#: `EVENTSERVER_FAULTS=long` (`make faults`): as many faults as the project promises. Else a short form.
LONG = os.environ.get("EVENTSERVER_FAULTS", "") == "long"


def scaled(short: int, long: int) -> int:
    """How many: in the short form, or in the long one."""
    return long if LONG else short


class Figures:
    """Collects lines for the end of the run: `figures("R1: 0 acknowledged events lost, 20 kills")`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
