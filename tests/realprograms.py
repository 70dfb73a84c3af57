"""Real programs for tests: finding them, running them to their end, and keeping them running beside a test.

Nothing here sleeps: waiting is for a line of output, or for the end of a process, and has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

#: The folder of the project.
ROOT = Path(__file__).resolve().parent.parent
#: The exit code of twistd after SIGTERM and a clean shutdown: it ends itself by the signal that it got.
TERMINATED = -signal.SIGTERM
#: The deadline of everything that waits, in seconds: generous, because machines are sometimes ten times slower for a
#: while. A test that passes does not wait for it.
DEADLINE = 180.0


def required() -> bool:
    """Whether a missing real program is a failure (EVENTSERVER_REQUIRE_REAL=1) and not a reason to skip."""
    return os.environ.get("EVENTSERVER_REQUIRE_REAL", "") not in ("", "0")


def find(name: str) -> str:
    """The path of a program, `sbin` folders included.

    Without it the test that asks is skipped; under EVENTSERVER_REQUIRE_REAL=1 it fails.
    """
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")
    if path is not None:
        return path
    if required():
        pytest.fail(f"{name} is not installed, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
    pytest.skip(f"{name} is not installed")


def beside_python(name: str) -> str:
    """A command of the environment that the tests run in, such as `twistd` or `eventserver`."""
    return str(Path(sys.executable).parent / name)


def run(
    argv: Sequence[str], data: bytes = b"", *, timeout: float = DEADLINE, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end, with `data` as its standard input. Raises `TimeoutExpired` at the deadline."""
    return subprocess.run(argv, input=data, capture_output=True, timeout=timeout, env=env, check=False)


def of_its_own(argv: Sequence[str]) -> list[str]:
    """A command whose peak memory (`ru_maxrss`) is its own: what is started by a large process inherits its peak.

    So it does at `execve(2)`, but not what the shell between them forks.
    """
    return ["sh", "-c", '"$@"; exit $?', "sh", *argv]


def run_beside(
    argv: Sequence[str], data: bytes = b"", *, timeout: float = DEADLINE
) -> Deferred[subprocess.CompletedProcess[bytes]]:
    """As `run`, in a thread: for tests whose server runs in this process, on this reactor."""
    return deferToThread(run, argv, data, timeout=timeout)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago: for real servers that cannot be told to take port 0.

    It is one that the system gives to nobody by itself, neither to a client nor to who asks for port 0. So it stays
    free until it is taken, and while a server is away that comes back; and a client that connects again and again to
    that port does not get it for itself, which would connect it to itself.
    """
    while True:
        port = random.SystemRandom().randint(12_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Program:
    """A program that runs beside a test: its output can be waited for, and it is gone when the `with` block ends.

    `stdout` and `stderr` hold the lines seen so far.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.argv = list(argv)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            self.argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pipes = ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr))
        self._readers = [threading.Thread(target=self._read, args=pipe, daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The group: what the program has started goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def wait_for(self, pattern: str, *, timeout: float = DEADLINE) -> re.Match[str]:
        """Waits until a line of either output matches (`re.search`). Fails the test when it ends or time is up."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in (*self.stdout, *self.stderr):
                    if found := re.search(pattern, line):
                        return found
                left = deadline - time.monotonic()
                if left <= 0 or not any(reader.is_alive() for reader in self._readers):
                    break
                self._news.wait(min(left, 1.0))
        pytest.fail(f"no line matched {pattern!r}\n{self.output()}", pytrace=False)

    def lines_like(self, pattern: str, number: int) -> list[str]:
        """The lines of its standard output that match, once there are so many, or at the deadline."""
        deadline = time.monotonic() + DEADLINE
        with self._news:
            while True:
                found = [line for line in self.stdout if re.search(pattern, line)]
                left = deadline - time.monotonic()
                if len(found) >= number or left <= 0 or not self._readers[0].is_alive():
                    return found
                self._news.wait(min(left, 1.0))

    def send_signal(self, number: int) -> None:
        """Sends a signal, if the program still runs."""
        self._process.send_signal(number)

    def wait(self, *, timeout: float = DEADLINE) -> int:
        """Waits for the program's end, and returns its exit code; kills it and fails the test at the deadline."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"still running after {timeout:g} s\n{self.output()}", pytrace=False)
        finally:
            for reader in self._readers:
                reader.join(5)
            self._close()
        return code

    def stop(self, number: int = signal.SIGTERM, *, timeout: float = DEADLINE) -> int:
        """Sends a signal and waits for the end."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.send_signal(number)
        return self.wait(timeout=timeout)

    def output(self) -> str:
        """Everything that it wrote, for messages of failed tests."""
        lines = [f"$ {' '.join(self.argv)}", *self.stdout, "--- standard error ---", *self.stderr]
        return "\n".join(lines)

    def _read(self, pipe: IO[bytes], lines: list[str]) -> None:
        for line in pipe:
            with self._news:
                lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _close(self) -> None:
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
