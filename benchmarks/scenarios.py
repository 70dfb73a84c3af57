"""The work that is measured: one table of plain data, with the lines that eventserver has to reach in each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import payloads
from benchmarks.payloads import Payload

EVERYBODY = ("rsyslog", "syslog-ng", "naive", "eventserver")
#: Where a server is given all that it can take, rsyslog is measured with two workers as well.
BULK = ("rsyslog", "rsyslog-2", *EVERYBODY[1:])


@dataclass(frozen=True, slots=True)
class Line:
    """What eventserver has to reach beside rsyslog, in the same round."""

    #: events/s, as a multiple.
    speed: float | None = None
    #: CPU per event, as a multiple, at most.
    cpu: float | None = None
    #: The same with `--reactor=epoll`.
    cpu_epoll: float | None = None
    #: The 99th percentile of latency, as a multiple, at most.
    p99: float | None = None
    #: Whether it may lose no more than rsyslog.
    loss: bool = False


@dataclass(frozen=True)
class Scenario:
    """One kind of work."""

    name: str
    title: str
    #: Names the configurations in peers/.
    work: str
    payload: Payload
    lines: int
    servers: tuple[str, ...] = EVERYBODY
    connections: int = 4
    #: Lines a second in all; None: as fast as the server reads.
    rate: int | None = None
    udp: bool = False
    latency: bool = False
    line: Line = Line()
    #: A configuration of its own instead of peers/eventserver-WORK.toml.
    eventserver: str | None = None

    @property
    def expected(self) -> int:
        """The lines that the output has to have."""
        return self.payload.kept(self.lines)


TEXT = payloads.lines()


def _udp(rate: int) -> Scenario:
    return Scenario(
        f"S4-{rate // 1000}K",
        f"UDP RFC 3164 (136 bytes), {rate:,}/s offered, to JSON events; receive buffer 4 MiB",
        "syslog",
        payloads.rfc3164(),
        lines=2 * rate,
        rate=rate,
        udp=True,
        connections=1,
        line=Line(cpu=1.0, loss=True) if rate <= 200_000 else Line(),
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "S1",
            "TCP lines (80 bytes, 4 connections) to a file as they came",
            "raw",
            TEXT,
            lines=4_000_000,
            servers=(*BULK, "sink", "sink-count"),
            line=Line(speed=2.5, cpu=0.25),
        ),
        Scenario(
            "S1J",
            "the same lines to JSON events",
            "text",
            TEXT,
            lines=2_000_000,
            servers=(*BULK, "eventserver-epoll"),
            line=Line(speed=1.7, cpu=0.42),
        ),
        Scenario(
            "S1H",
            "as S1J, with a Python function called for every event",
            "handler",
            TEXT,
            lines=2_000_000,
            servers=("rsyslog", "rsyslog-2", "eventserver"),
            line=Line(speed=1.5, cpu=0.5),
        ),
        Scenario(
            "S2",
            "RFC 5424 (180 bytes, newlines, 4 connections) to JSON events",
            "syslog",
            payloads.rfc5424(),
            lines=1_000_000,
            servers=BULK,
            line=Line(speed=1.3, cpu=0.6),
        ),
        Scenario(
            "S2O",
            "the same, octet counted",
            "syslog",
            payloads.rfc5424(counted=True),
            lines=1_000_000,
            servers=("rsyslog", "rsyslog-2", "syslog-ng", "eventserver"),
            line=Line(speed=1.3, cpu=0.6),
        ),
        Scenario(
            "S3",
            "JSON lines (200 bytes) to a match that keeps half, one field added, JSON",
            "filter",
            payloads.json_lines(),
            lines=1_600_000,
            servers=BULK,
            line=Line(speed=4.0, cpu=0.2),
        ),
        *(_udp(rate) for rate in (50_000, 100_000, 200_000, 400_000)),
        Scenario(
            "S6",
            "5,000 connections with one line a second each, to JSON events",
            "text",
            TEXT,
            lines=40_000,
            connections=5_000,
            rate=5_000,
            servers=(*EVERYBODY, "eventserver-epoll"),
            line=Line(cpu=1.6, cpu_epoll=1.1, loss=True),
        ),
        Scenario(
            "S7",
            "latency at 5,000 lines/s on one connection, until the line is in the file",
            "text",
            TEXT,
            lines=25_000,
            connections=1,
            rate=5_000,
            latency=True,
            line=Line(cpu=0.9, p99=1.5),
        ),
    )
}


def choose(names: list[str]) -> list[Scenario]:
    """The scenarios of these names; `S4` names all its rates."""
    chosen = []
    for name in names or list(SCENARIOS):
        found = [s for s in SCENARIOS.values() if s.name.lower() == name.lower()]
        found = found or [s for s in SCENARIOS.values() if s.name.lower().startswith(name.lower() + "-")]
        if not found:
            raise SystemExit(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
        chosen += found
    return chosen
