"""The real server, to be killed: started, killed and started again on the same ports and the same journal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.oracle import RECORDER, Recorded
from tests.real.server import Metrics, Server
from tests.realprograms import DEADLINE, ROOT, Program, beside_python, free_port

#: The usual settings: RELP and HTTP acknowledge when it is durable; a handler records.
SETTINGS = """
[listener.relp]
type = "relp"
endpoints = ["tcp:{relp}:interface=127.0.0.1"]
ack = "durable"

[listener.http]
type = "http"
endpoints = ["tcp:{http}:interface=127.0.0.1"]
decoder = "json"
ack = "durable"

[handler.recorder]
call = "recorder:{call}"
{handler}
[journal]
path = "journal"
{journal}
[admin]
endpoint = "tcp:0:interface=127.0.0.1"
"""
#: The last start-up line.
READY = r"frames are kept in the journal"


def with_root() -> dict[str, str]:
    """The environment of a process that imports modules of the tests, wherever it runs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Killed(Server):
    """One process of the server, plain or with something planted; `Crashing` makes them."""

    def __init__(self, folder: Path, command: Sequence[str], env: Mapping[str, str]) -> None:
        Program.__init__(self, command, cwd=folder, env=env)
        self.folder = folder
        self._taken = 0

    def kill(self) -> None:
        """SIGKILL for the process and what it runs under."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def ends(self, within: float) -> bool:
        """Waits for its end, at most so many seconds; whether it came."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        self.wait()
        return True

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def killed(self) -> bool:
        """Whether SIGKILL was its end, and not that it could not start, say; of what it runs under, strace says so."""
        return self._process.returncode == -signal.SIGKILL


class Crashing:
    """A folder with settings, a journal and a recording; `start` runs a server in it.

    `handler` and `journal` are further lines of those tables, `call` is the handler (see `RECORDER`). Ports are the
    same every time, as clients expect.
    """

    def __init__(
        self, folder: Path, *, handler: str = "", journal: str = "", settings: str = SETTINGS, call: str = "record"
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.relp, self.http = free_port(), free_port()
        text = settings.format(relp=self.relp, http=self.http, handler=handler, journal=journal, call=call)
        (folder / "settings.toml").write_text(text)
        (folder / "recorder.py").write_text(RECORDER)
        self.processes: list[Killed] = []
        self.server: Killed | None = None
        #: Seconds from the start of each process until it listened.
        self.starts: list[float] = []

    def __enter__(self) -> Crashing:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if not process.ended():
                process.kill()

    def start(
        self, *, bug: str | None = None, crash_at: str | None = None, before: Sequence[str] = (), wait: bool = True,
        count_lines: bool = False, **journal: Any,
    ) -> Killed:  # fmt: skip
        """Starts a server; `before` is what it runs under (strace); `journal` are arguments without a setting.

        For the rest see `tests.faults.planted`.
        """
        env = with_root()
        arguments = ["-n", "eventserver", "-c", "settings.toml"]
        if not (bug or crash_at or journal or count_lines):
            command = [sys.executable, beside_python("twistd"), *arguments]
        else:
            command = [sys.executable, "-m", "tests.faults.planted", *arguments]
            env |= {"EVENTSERVER_PLANTED": bug or "", "EVENTSERVER_CRASH_AT": crash_at or ""}
            env["EVENTSERVER_JOURNAL_TEST"] = json.dumps(journal)
            env["EVENTSERVER_COUNT_LINES"] = "1" if count_lines else ""
        began = time.monotonic()
        self.server = Killed(self.folder, [*before, *command], env)
        self.processes.append(self.server)
        if wait:
            self.server.wait_for(READY)
            self.starts.append(time.monotonic() - began)
        return self.server

    def recorded(self) -> Recorded:
        """What the handler wrote so far."""
        return Recorded.read(self.folder / "recorded.txt")

    def drained(self, timeout: float = DEADLINE) -> Metrics:
        """Waits until no handler has anything before it; the counters then, whose sums hold."""
        assert self.server is not None
        deadline = time.monotonic() + timeout
        while (metrics := self.server.metrics()).total("handler_lag_frames") or metrics.total("events_parked"):
            if time.monotonic() > deadline:
                pytest.fail(f"not drained\n{self.server.output()[-5000:]}", pytrace=False)
        return self.server.balanced()

    def troubles(self) -> list[str]:
        """Lines of the logs that no run should have, a killed one neither."""
        pattern = re.compile(r"Traceback|Unhandled|never awaited|ResourceWarning")
        return [line for process in self.processes for line in process.stderr if pattern.search(line)]
