"""TCP lines to a file of JSON events: eventserver beside rsyslog, in turns, in one run.

    make bench                                                  # quick
    .venv/bin/python -m benchmarks --lines 1600000 --rounds 5   # to quote

Each round sends the same lines over four connections, waits until the file is complete, and checks it: every line is
there once, and a sample is compared field by field. Printed are events per second and CPU seconds (user and system, of
the whole process) per million events: median, and range over the rounds; and the ratio to rsyslog.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 4
PATIENCE = 120.0
#: Output goes to memory where there is some, so that no disk is measured.
MEMORY = Path("/dev/shm")

RSYSLOG = """\
module(load="imtcp")
template(name="json" type="list" option.jsonf="on") {{
    property(outname="received" name="timegenerated" dateFormat="rfc3339" format="jsonf")
    property(outname="peer" name="fromhost-ip" format="jsonf")
    property(outname="message" name="rawmsg" format="jsonf")
}}
ruleset(name="lines") {{ action(type="omfile" file="{out}" template="json") }}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="lines")
"""


@dataclass
class Round:
    """What one round of one server came to."""

    events_per_second: float
    cpu_per_million: float
    rss_mib: float


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(server: str, port: int, folder: Path) -> list[str]:
    """How a server is started, so that it writes `folder/out`."""
    out = folder / "out"
    if server == "rsyslog":
        conf = folder / "rsyslog.conf"
        conf.write_text(RSYSLOG.format(out=out, port=port))
        return [shutil.which("rsyslogd") or "/usr/sbin/rsyslogd", "-n", "-f", str(conf), "-i", str(folder / "pid")]
    twistd = Path(sys.executable).with_name("twistd")
    reactor = ["--reactor=epoll"] if server == "eventserver epoll" else []
    listen = f"tcp:{port}:interface=127.0.0.1"
    return [str(twistd), *reactor, "-n", "eventserver", "--listen", listen, "--handler", f"file path={out}"]


def payload(connection: int, lines: int) -> bytes:
    """The lines of one connection: 82 bytes each with the newline, numbered."""
    return b"".join(b"<13>c%d n%08d %s\n" % (connection, number, b"x" * 65) for number in range(lines))


def send(port: int, data: bytes) -> None:
    """All of it over one connection, in pieces of 256 KiB."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        view = memoryview(data)
        for at in range(0, len(view), 1 << 18):
            peer.sendall(view[at : at + (1 << 18)])
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)


def cpu_and_rss(pid: int) -> tuple[float, float]:
    """CPU seconds of a process so far, and its highest memory in MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return ticks / os.sysconf("SC_CLK_TCK"), peak / 1024


def wait_for_port(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server does not listen")


def wait_for_lines(out: Path, count: int) -> None:
    """Until the file has that many lines."""
    deadline = time.monotonic() + PATIENCE
    found, at = 0, 0
    while time.monotonic() < deadline:
        if out.exists():
            with out.open("rb") as file:
                file.seek(at)
                while chunk := file.read(1 << 22):
                    found += chunk.count(b"\n")
                    at += len(chunk)
        if found >= count:
            return
        time.sleep(0.005)
    raise RuntimeError(f"{found} of {count} lines arrived")


def check(server: str, out: Path, datas: list[bytes]) -> None:
    """Every line once; one in a thousand compared field by field."""
    expected = {line for data in datas for line in data.decode().splitlines()}
    with out.open() as file:
        for number, text in enumerate(file):
            event = json.loads(text)
            expected.remove(event["message"].rstrip("\n"))
            if server != "rsyslog" and number % 1000 == 0:
                assert list(event) == ["id", "time", "received", "listener", "peer", "type", "message", "fields"]
                assert event["time"] == event["received"]
                assert event["peer"].startswith("127.0.0.1:")
                assert (event["type"], event["fields"]) == ("text", {})
    assert not expected, f"{len(expected)} lines are missing"


def run(server: str, datas: list[bytes], lines: int, *, checked: bool) -> Round:
    """One round."""
    folder = Path(tempfile.mkdtemp(prefix="bench", dir=MEMORY if MEMORY.is_dir() else None))
    port = free_port()
    process = subprocess.Popen(command(server, port, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        before, _ = cpu_and_rss(process.pid)
        started = time.monotonic()
        senders = [threading.Thread(target=send, args=(port, data)) for data in datas]
        for sender in senders:
            sender.start()
        wait_for_lines(folder / "out", lines)
        seconds = time.monotonic() - started
        cpu, rss = cpu_and_rss(process.pid)
        for sender in senders:
            sender.join()
        if checked:
            check(server, folder / "out", datas)
        return Round(lines / seconds, (cpu - before) / lines * 1e6, rss)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few lines, two rounds")
    parser.add_argument("--servers", nargs="*", default=["rsyslog", "eventserver", "eventserver epoll"])
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.lines, chosen.rounds = 400_000, 2
    if shutil.which("rsyslogd", path=os.environ["PATH"] + ":/usr/sbin") is None:
        print("rsyslogd is not installed: there is nothing to compare with")
        chosen.servers.remove("rsyslog")
    lines = chosen.lines // CONNECTIONS * CONNECTIONS
    datas = [payload(connection, lines // CONNECTIONS) for connection in range(CONNECTIONS)]
    rounds: dict[str, list[Round]] = {server: [] for server in chosen.servers}
    for number in range(chosen.rounds):
        for server in chosen.servers:
            rounds[server].append(run(server, datas, lines, checked=number == 0))
    print("| server | events/s | CPU s per million | RSS MiB | events/s, ratio | CPU, ratio |")
    print("|---|---|---|---|---|---|")
    best = rounds[chosen.servers[0]]
    for server, results in rounds.items():
        speeds = [result.events_per_second for result in results]
        cpus = [result.cpu_per_million for result in results]
        ratio = statistics.median(r.events_per_second / b.events_per_second for r, b in zip(results, best, strict=True))
        cpu_ratio = statistics.median(r.cpu_per_million / b.cpu_per_million for r, b in zip(results, best, strict=True))
        print(
            f"| {server} | {statistics.median(speeds):,.0f} ({min(speeds):,.0f}..{max(speeds):,.0f}) "
            f"| {statistics.median(cpus):.2f} ({min(cpus):.2f}..{max(cpus):.2f}) "
            f"| {max(r.rss_mib for r in results):.0f} | {ratio:.2f} | {cpu_ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
