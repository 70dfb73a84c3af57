"""Programs that people type into."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Sequence

from tests.realprograms import DEADLINE

#: What a person types to say that there is no more.
END_OF_FILE = "\x04"


class Terminal:
    """A program on a pseudo terminal, as a person has it."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Read what is shown up to the pattern, and forget it."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.shown)):
            readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"{pattern!r} was not shown: {self.shown!r}"
            self.shown += os.read(self._master, 4096).decode(errors="replace")
        self.shown = self.shown[found.end() :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
