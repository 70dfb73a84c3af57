"""Servers as processes: started, waited for until they listen, looked at, and ended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

#: The state LISTEN in /proc/net/tcp, and what a bound UDP socket has in /proc/net/udp.
STATES = {"tcp": "0A", "udp": "07"}
START_SECONDS = 30.0


class ServerFailed(Exception):
    """A server ended by itself, or does not listen."""


def raise_file_limit(wanted: int = 20_000) -> int:
    """Let servers hold thousands of connections; returns the limit that was granted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(limit, soft)


def is_bound(transport: str, port: int) -> bool:
    """Whether somebody listens there. Read from /proc, so that the server is not troubled with a connection."""
    place = f":{port:04X}"
    for line in Path(f"/proc/net/{transport}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(place) and fields[3] == STATES[transport]:
            return True
    return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, to the nanosecond (CPUCLOCK_SCHED of its process clock)."""
    return time.clock_gettime((~pid << 3) | 2)


def environment(root: Path) -> dict[str, str]:
    """What servers run in: UTC, the project importable, and compiled modules kept as an installation has them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "TZ": "UTC", "PYTHONPATH": str(root)}


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, transport: str, port: int, folder: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The server, once it listens; its output is in `folder/log`. Ended by SIGTERM, and SIGKILL after 20 s."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=dict(env), start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_bound(transport, port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{argv[0]} does not listen:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.002)
        yield process
        if process.poll() is not None:
            raise ServerFailed(f"{argv[0]} ended by itself:\n{(folder / 'log').read_text()[-2000:]}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
