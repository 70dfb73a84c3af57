"""The servers that are measured: how each is found and started, and which of an event's values its output has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.scenarios import Scenario

PEERS = load.HERE / "peers"
#: Where `python -m benchmarks.syslog_ng` unpacks Debian's syslog-ng, which cannot be installed beside rsyslog.
UNPACKED = load.BUILT / "syslog-ng"

SYSLOG_KEYS = frozenset(
    {"time", "message", "type", "facility", "severity", "hostname", "app_name", "procid", "facility_code"}
    | {"severity_code"}
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run happens."""

    folder: Path
    port: int

    @property
    def out(self) -> Path:
        """The file that the server writes."""
        return self.folder / "out"


def configuration(name: str, place: Place, **more: str) -> str:
    """A file of peers/ with its places filled in."""
    return filled((PEERS / name).read_text(), place, **more)


def filled(text: str, place: Place, **more: str) -> str:
    """A configuration with its places (`@PORT@`, `@OUT@`, ...) filled in."""
    for key, value in {"PORT": str(place.port), "OUT": str(place.out), "FOLDER": str(place.folder), **more}.items():
        text = text.replace(f"@{key}@", value)
    return text


def find(program: str) -> str | None:
    """The path of a program, sbin folders included."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Server:
    """One that is measured. `command` writes its configuration and returns its argv, None where it is not installed."""

    name: str
    command: Callable[[Scenario, Place], list[str] | None]
    version: Callable[[], str]
    #: The values that its events have, by the kind of work; those that are compared. None: lines as they came.
    keys: Callable[[Scenario], frozenset[str] | None]
    #: What it stands for: "ours", "peer", or "floor".
    role: str = "peer"
    #: The checkout that it runs from, if not this one.
    tree: Path | None = None


def _said(argv: list[str], pattern: str) -> str:
    """What a program says of its version."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "?"


# eventserver


def _eventserver(reactor: str | None) -> Callable[[Scenario, Place], list[str]]:
    def command(scenario: Scenario, place: Place) -> list[str]:
        path = place.folder / "eventserver.toml"
        own = (PEERS / f"eventserver-{scenario.work}.toml").read_text()
        path.write_text(filled(scenario.eventserver or own, place))
        chosen = [f"--reactor={reactor}"] if reactor else []
        return [str(Path(sys.executable).with_name("twistd")), *chosen, "-n", "eventserver", "--config", str(path)]

    return command


def _eventserver_version() -> str:
    from importlib.metadata import version

    names = ("eventserver", "twisted", "msgspec")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", Python {sys.version.split()[0]}"


# rsyslog


def _rsyslog(workers: int) -> Callable[[Scenario, Place], list[str] | None]:
    def command(scenario: Scenario, place: Place) -> list[str] | None:
        program = find("rsyslogd")
        if program is None:
            return None
        path = place.folder / "rsyslog.conf"
        work = {"handler": "text"}.get(scenario.work, scenario.work)
        common = configuration("rsyslog-common.conf", place, WORKERS=str(workers))
        path.write_text(common + configuration(f"rsyslog-{work}.conf", place))
        return [program, "-n", "-f", str(path), "-i", str(place.folder / "rsyslog.pid")]

    return command


def _rsyslog_version() -> str:
    return _said([find("rsyslogd") or "false", "-v"], r"rsyslogd\s+([\d.]+)")


# syslog-ng


def _syslog_ng_program() -> tuple[str, list[str]] | None:
    """The program and its modules' options: installed, else as unpacked by `benchmarks.syslog_ng`."""
    program = find("syslog-ng")
    if program is not None:
        return program, []
    unpacked = UNPACKED / "run"
    return (str(unpacked), []) if unpacked.exists() else None


def _syslog_ng(scenario: Scenario, place: Place) -> list[str] | None:
    found = _syslog_ng_program()
    if found is None:
        return None
    program, options = found
    path = place.folder / "syslog-ng.conf"
    tuned = "max-connections(10000) log-iw-size(100000) log-fetch-limit(1000) keep-alive(yes)"
    at = f'ip("127.0.0.1") port({place.port})'
    source = f'network(transport("tcp") {at} flags(syslog-protocol) {tuned})'
    if scenario.payload.before:
        source = f'syslog(transport("tcp") {at} {tuned})'
    if scenario.udp:
        source = f'network(transport("udp") {at} so-rcvbuf(4194304) log-iw-size(100000) log-fetch-limit(1000))'
    # The window is divided by the connections; a paced line has to be written without waiting for more.
    many = scenario.connections > 100
    more = {
        "SOURCE": source,
        "WINDOW": "1000000" if many else "100000",
        "FLUSH": "1" if scenario.rate else "1000",
    }
    work = {"handler": "text"}.get(scenario.work, scenario.work)
    common = configuration("syslog-ng-common.conf", place)
    path.write_text(common + configuration(f"syslog-ng-{work}.conf", place, **more))
    own = ("persist-file", "pidfile", "control")
    files = [f"--{name}={place.folder / name}" for name in own]
    return [program, *options, "--foreground", "--no-caps", f"--cfgfile={path}", *files]


def _syslog_ng_version() -> str:
    found = _syslog_ng_program()
    return _said([found[0], "--version"], r"syslog-ng \d* ?\(([\d.]+)\)") if found else "not installed"


# the naive server, and the floor


def _naive(scenario: Scenario, place: Place) -> list[str]:
    form = {"text": "json", "handler": "json"}.get(scenario.work, scenario.work)
    if scenario.udp:
        form = "udp"
    return [sys.executable, "-m", "benchmarks.naive", str(place.port), str(place.out), form]


def _sink(*, writes: bool) -> Callable[[Scenario, Place], list[str]]:
    def command(scenario: Scenario, place: Place) -> list[str]:
        how = ["--out", str(place.out)] if writes else ["--counter", str(place.folder / "counter")]
        return [str(load.build()), "sink", "--port", str(place.port), *how]

    return command


# What their outputs have


def _peer_keys(scenario: Scenario) -> frozenset[str] | None:
    if scenario.work == "raw":
        return None
    if scenario.work == "syslog":
        return SYSLOG_KEYS | (frozenset() if scenario.udp else {"msgid", "structured_data"})
    if scenario.work == "filter":
        return frozenset({"time", "message", "level", "status", "host", "path", "duration", "site"})
    return frozenset({"message", "type"})


def _naive_keys(scenario: Scenario) -> frozenset[str] | None:
    keys = _peer_keys(scenario)
    return None if keys is None else keys - {"type", "facility_code", "severity_code"}


def _no_keys(scenario: Scenario) -> frozenset[str] | None:
    return None


SERVERS = {
    server.name: server
    for server in (
        Server("rsyslog", _rsyslog(1), _rsyslog_version, _peer_keys),
        Server("rsyslog-2", _rsyslog(2), _rsyslog_version, _peer_keys),
        Server("syslog-ng", _syslog_ng, _syslog_ng_version, _peer_keys),
        Server("naive", _naive, _eventserver_version, _naive_keys),
        Server("eventserver", _eventserver(None), _eventserver_version, _peer_keys, "ours"),
        Server("eventserver-epoll", _eventserver("epoll"), _eventserver_version, _peer_keys, "ours"),
        Server("sink", _sink(writes=True), lambda: "", _no_keys, "floor"),
        Server("sink-count", _sink(writes=False), lambda: "", _no_keys, "floor"),
    )
}
