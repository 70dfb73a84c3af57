"""One round of one server: start it, send, wait until its output is complete, check it, and end it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import load
from benchmarks.checks import WrongOutput, check_lines, check_sample
from benchmarks.processes import environment, running
from benchmarks.scenarios import Scenario
from benchmarks.servers import Place, Server

ROOT = load.HERE.parent
COMPLAINT = re.compile(r"(?i:\bwarn|\berror)|Error\b")
#: Output goes to memory where there is some, so that no disk is measured.
MEMORY = Path("/dev/shm")
#: Bytes of a line of output that are not its payload, at most.
WRITTEN_BESIDES = 260
#: Paced senders gather what is due within half a millisecond into one burst of datagrams.
UDP_BURST = 500
#: How long the output may stand still before the rest counts as lost, in seconds.
QUIET = 3.0
QUIET_UDP = 1.0


@dataclass(frozen=True)
class Result:
    """What one round of one server came to."""

    scenario: str
    server: str
    events: int
    seconds: float
    #: User and system time of the process tree from the first byte sent to the last byte written.
    cpu: float
    rss_peak: float
    rss_end: float
    #: The share of the lines that is not in the output.
    loss: float
    #: Lines a second that were really sent.
    offered: float
    checked: int
    latency_us: dict[str, float] = field(default_factory=dict)
    rss_before: float = 0.0
    rss_connected: float = 0.0
    #: Every 100 ms under load.
    rss_samples: tuple[float, ...] = ()
    #: The share of the machine's cores that went to neither the server nor the load generator: others disturb.
    elsewhere: float = 0.0

    @property
    def rate(self) -> float:
        """Events a second: of the lines sent, those that became events, filtered ones included."""
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds per million events."""
        return self.cpu / self.events * 1e6


def free_port() -> int:
    """A port that nobody has now, neither of TCP nor of UDP: rsyslog listens on both.

    It is one that the system gives to nobody by itself, so that nobody gets it before the server does.
    """
    while True:
        port = random.SystemRandom().randint(12_000, 32_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            contextlib.suppress(OSError),
        ):
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            return port


def _busy_seconds() -> float:
    """CPU seconds of all cores so far that were neither idle nor waiting for a disk (/proc/stat)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    """CPU seconds of processes that were ended and waited for: servers and load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def complaints(log: Path) -> list[str]:
    """The last warnings and errors in a server's log."""
    return [line[:300] for line in log.read_text(errors="replace").splitlines() if COMPLAINT.search(line)][-5:]


def run(scenario: Scenario, server: Server) -> Result | None:
    """One round; None where the server is not installed. Raises `WrongOutput` where the output is not right."""
    folder = Path(tempfile.mkdtemp(prefix="eventserver-bench-", dir=MEMORY if MEMORY.is_dir() else None))
    busy, ours, began = _busy_seconds(), _children_seconds() + time.process_time(), time.monotonic()
    try:
        result = _run(scenario, server, Place(folder, free_port()))
        if result is None:
            return None
        others = _busy_seconds() - busy - (_children_seconds() + time.process_time() - ours)
        return replace(result, elsewhere=max(0.0, others / (time.monotonic() - began) / (os.cpu_count() or 1)))
    finally:
        shutil.rmtree(folder)


def touch_memory(path: Path, size: int) -> None:
    """Have so many bytes of memory in use and free them again, just before an output of that size is written.

    Under a hypervisor that takes free memory back, the one who uses it next pays for having it fetched, which can be
    more than writing the output costs. It would be added to every server's figure, whatever that server does.
    """
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    path.unlink()


def _run(scenario: Scenario, server: Server, place: Place) -> Result | None:
    argv = server.command(scenario, place)
    if argv is None:
        return None
    templates = place.folder / "templates"
    scenario.payload.write(templates)
    handled = place.folder / "handled"
    env = {**environment(server.tree or ROOT), "BENCHMARK_HANDLED": str(handled)}
    # Its function is found in the folder that it is started in, whatever else is importable.
    shutil.copy(load.HERE / "handlers.py", place.folder / "benchmark_handlers.py")
    counter = place.folder / "counter"
    began = datetime.now(UTC)
    transport = "udp" if scenario.udp else "tcp"
    with running(argv, transport=transport, port=place.port, folder=place.folder, env=env) as process:
        counts_only = counter.exists()
        if scenario.rate is None:
            touch_memory(place.folder / "touched", scenario.expected * (scenario.payload.size + WRITTEN_BESIDES))
        got = load.call(
            "send",
            port=place.port,
            lines=scenario.lines,
            connections=scenario.connections,
            templates=templates,
            keep=scenario.payload.keep or None,
            pid=process.pid,
            udp=scenario.udp,
            rate=scenario.rate,
            burst_us=UDP_BURST if scenario.udp else None,
            latency=scenario.latency,
            watch=None if counts_only else place.out,
            counter=counter if counts_only else None,
            quiet=QUIET_UDP if scenario.udp else QUIET,
        )
    ended = datetime.now(UTC)
    # Over UDP some may be lost, and then the rest is the result.
    if got["verdict"] != "complete" and not (scenario.udp and got["lines"]):
        found = f"{got['verdict']}: {got['lines']} of {scenario.expected} lines"
        raise WrongOutput("\n".join([found, *complaints(place.folder / "log")]))
    missing = checked = 0
    if not counts_only:
        missing = check_lines(scenario, place.out)["missing"]
        checked = check_sample(scenario, server.role, server.keys(scenario), place.out, began, ended)
    if scenario.work == "handler" and server.role == "ours":
        seen = handled.read_text().split()[0] if handled.exists() else "no"
        if seen != str(scenario.lines):
            raise WrongOutput(f"the function was called for {seen} of {scenario.lines} events")
    rss = got["rss_kib"]
    return Result(
        scenario=scenario.name,
        server=server.name,
        events=scenario.lines - missing,
        seconds=got["seconds"],
        cpu=got["cpu"],
        rss_peak=rss["peak"] / 1024,
        rss_end=rss["end"] / 1024,
        loss=missing / scenario.expected,
        offered=got["sent"] / got["send_seconds"],
        checked=checked,
        latency_us=got.get("latency_us", {}),
        rss_before=rss["before"] / 1024,
        rss_connected=rss["connected"] / 1024,
        rss_samples=tuple(sample / 1024 for sample in got["rss_samples"]),
    )
