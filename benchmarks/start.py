"""How fast eventserver starts, what it takes when idle, and whether it imports only what its settings need.

.venv/bin/python -m benchmarks.start [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine, pages
from benchmarks.processes import cpu_seconds, environment, running
from benchmarks.rounds import ROOT, free_port
from benchmarks.scaling import Finding, table
from benchmarks.servers import PEERS, Place, filled

MOST_SECONDS = 0.7
MOST_IDLE_RSS = 58.0
#: What is for parts that are not configured here: [admin], relays and other clients, tests. (twistd itself reads the
#: plugins of all of Twisted, and with them a few interfaces of twisted.words and twisted.trial.)
OPTIONAL = re.compile(
    r"^(twisted\.(web|conch|mail|names)|twisted\.internet\.testing|prometheus_client|http\.server|wsgiref|sqlite3"
    r"|hypothesis|pytest|sphinx|uvloop|eventserver\.testing|eventserver\.admin\.(web|metrics)"
    r"|eventserver\.handlers\.(relay|_peer_connection|_tls_client)|eventserver\.cli\.(reference|schema))(\.|$)"
)
ADMIN = '\n[admin]\nendpoint = "tcp:0:interface=127.0.0.1"\n'


@dataclass(frozen=True, slots=True)
class Start:
    """One start."""

    seconds: float
    cpu: float
    rss: float


def command(place: Place, *python: str, more: str = "") -> list[str]:
    """eventserver with lines to a file, and what is in `more`."""
    path = place.folder / "eventserver.toml"
    path.write_text(filled((PEERS / "eventserver-text.toml").read_text(), place) + more)
    twistd = str(Path(sys.executable).with_name("twistd"))
    return [*([sys.executable, *python] if python else []), twistd, "-n", "eventserver", "--config", str(path)]


def start_once() -> Start:
    """From exec until the kernel knows the listening port; then its memory, half a second later."""
    with tempfile.TemporaryDirectory(prefix="eventserver-bench-") as folder:
        place = Place(Path(folder), free_port())
        argv = command(place)
        began = time.monotonic()
        with running(argv, transport="tcp", port=place.port, folder=place.folder, env=environment(ROOT)) as process:
            seconds = time.monotonic() - began
            cpu = cpu_seconds(process.pid)
            time.sleep(0.5)
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"^VmRSS:\s*(\d+)", status, re.MULTILINE)
            return Start(seconds, cpu, int(found.group(1)) / 1024 if found else 0.0)


def loaded_modules(more: str = "") -> set[str]:
    """The modules of a running server, as `python -X importtime` tells of them."""
    with tempfile.TemporaryDirectory(prefix="eventserver-bench-") as folder:
        place = Place(Path(folder), free_port())
        argv = command(place, "-X", "importtime", more=more)
        with running(argv, transport="tcp", port=place.port, folder=place.folder, env=environment(ROOT)):
            time.sleep(0.5)
        return set(re.findall(r"^import time:.*\|\s+([\w.]+)$", (place.folder / "log").read_text(), re.MULTILINE))


def unneeded(modules: Iterable[str]) -> list[str]:
    """Those that are for parts that are not configured."""
    return sorted(name for name in modules if OPTIONAL.match(name))


def findings(starts: list[Start], modules: set[str], with_admin: set[str]) -> list[Finding]:
    """Beside their lines."""
    seconds = statistics.median(start.seconds for start in starts)
    rss = max(start.rss for start in starts)
    cpu = statistics.median(start.cpu for start in starts)
    more = unneeded(modules)
    said = ", ".join(more[:8]) + (f" and {len(more) - 8} more" if len(more) > 8 else "") if more else "none"
    # Without this nobody would notice that the list of modules is empty for another reason.
    sees = "twisted.web.server" in with_admin
    return [
        Finding(
            "exec to listening",
            f"within {MOST_SECONDS} s",
            "s",
            {"median": seconds, "longest": max(start.seconds for start in starts), "CPU": cpu},
            f"{seconds:.2f} s",
            seconds <= MOST_SECONDS,
        ),
        Finding("idle", f"at most {MOST_IDLE_RSS:.0f} MiB", "RSS MiB", {"highest": rss}, f"{rss:.1f}", rss <= 58.0),
        Finding(
            "imports",
            "none of parts that are not configured",
            "modules",
            {"all": float(len(modules)), "with [admin]": float(len(with_admin)), "not needed": float(len(more))},
            said if sees else "they cannot be seen",
            not more and sees,
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--update-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    start_once()  # compiles the modules where that was not done yet
    starts = [start_once() for _ in range(options.rounds)]
    found = findings(starts, loaded_modules(), loaded_modules(ADMIN))
    text = f"{machine.sentence()}\n\n{table(found)}"
    print(text)
    if options.json:
        options.json.write_text(json.dumps([asdict(finding) for finding in found], indent=1) + "\n")
    if options.update_docs:
        pages.update(ROOT / "docs" / "performance.md", "start", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
