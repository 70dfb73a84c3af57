"""How the cost of eventserver grows with connections, handlers, sizes and time; each beside the line it has to keep.

    .venv/bin/python -m benchmarks.scaling                          # everything, three rounds
    .venv/bin/python -m benchmarks.scaling --only connections sizes --rounds 5

Only eventserver is measured. The cases of one measurement take turns. Of CPU the lowest round counts, because whatever
disturbs only adds to it; of memory the median, or the highest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import load, machine, pages, payloads
from benchmarks.processes import raise_file_limit
from benchmarks.rounds import ROOT, Result, run
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import PEERS, SERVERS
from benchmarks.tables import MOST_RSS

Rounds = Mapping[str, Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a measurement came to: its cases with their figures, and whether its line was kept."""

    name: str
    line: str
    unit: str
    figures: dict[str, float]
    found: str
    #: None where there is no line.
    held: bool | None


@dataclass(frozen=True)
class Measurement:
    """Cases to run in turn, and what to make of their results."""

    cases: Callable[[float], dict[str, Scenario]]
    judge: Callable[[Rounds], list[Finding]]


def cheapest(rounds: Rounds) -> dict[str, float]:
    """CPU per million events of each case."""
    return {case: min(result.cpu_per_million for result in results) for case, results in rounds.items()}


# Connections and handlers


def connections(share: float) -> dict[str, Scenario]:
    """The same lines over more connections."""
    base = SCENARIOS["S1J"]
    return {f"{count}": replace(base, connections=count, lines=int(base.lines * share)) for count in (1, 4, 20, 100)}


def excluded_handlers(share: float) -> dict[str, Scenario]:
    """Handlers that are for another listener."""
    base = SCENARIOS["S1J"]
    text = (PEERS / "eventserver-text.toml").read_text()
    text += '\n[listener.other]\nendpoints = ["tcp:0:interface=127.0.0.1"]\n'
    # The one that writes is for the listener under load too, so that all cases differ in the others only.
    text = text.replace('path = "@OUT@"', 'path = "@OUT@"\nlisteners = ["lines"]')
    other = '\n[handler.other{}]\ntype = "null"\nlisteners = ["other"]\n'
    lines = int(base.lines * share)
    return {
        str(count): replace(base, eventserver=text + "".join(map(other.format, range(count))), lines=lines)
        for count in (1, 20)
    }


def _flat(name: str, line: str) -> Callable[[Rounds], list[Finding]]:
    def judge(rounds: Rounds) -> list[Finding]:
        figures = cheapest(rounds)
        first, *more = figures.values()
        growth = max(more) / first - 1
        return [Finding(name, line, "CPU s/M", figures, f"{growth:+.1%} at most", growth <= 0.10)]

    return judge


MOST_PER_MATCH = 0.05


def matching_handlers(share: float) -> dict[str, Scenario]:
    """Further handlers whose match looks at a field and is never true."""
    base = SCENARIOS["S2"]
    text = (PEERS / "eventserver-syslog.toml").read_text()
    further = '\n[handler.further{0}]\ntype = "null"\nmatch = \'app_name == "nobody{0}"\'\n'
    lines = int(base.lines * share)
    return {
        str(count): replace(base, eventserver=text + "".join(map(further.format, range(count))), lines=lines)
        for count in (0, 1, 3, 5)
    }


def _per_match(rounds: Rounds) -> list[Finding]:
    """The first one apart, and without a line: for it the events are made that a file alone does without."""
    figures = cheapest(rounds)
    line = f"at most {MOST_PER_MATCH} CPU s/M each"
    first = figures["1"] - figures["0"]
    further = (figures["5"] - figures["1"]) / 4
    beginning, others = dict(list(figures.items())[:2]), dict(list(figures.items())[1:])
    return [
        Finding(
            "the first handler whose match looks at a field (S2)", "has the events made", "CPU s/M", beginning,
            f"{first:.3f}", None,
        ),
        Finding("each further one", line, "CPU s/M", others, f"{further:.3f} each", further <= MOST_PER_MATCH),
    ]  # fmt: skip


# Sizes

SIZES = (60, 200, 1000, 4096, 16384)
#: Two figures that are this close are the same.
SAME = 1.03


def sizes(share: float) -> dict[str, Scenario]:
    """Longer lines, the same number of bytes."""
    cases = {}
    for name in ("S1J", "S1"):
        base = SCENARIOS[name]
        for size in SIZES:
            lines = int(base.lines * 80 * share / size)
            cases[f"{name} {size}"] = replace(base, payload=payloads.lines(size), lines=lines)
    return cases


def _per_byte(rounds: Rounds) -> list[Finding]:
    findings = []
    for name in ("S1J", "S1"):
        figures = {
            str(size): min(r.cpu / r.events / (size + 1) * 1e9 for r in rounds[f"{name} {size}"]) for size in SIZES
        }
        values = list(figures.values())
        steps = [later / earlier for earlier, later in itertools.pairwise(values)]
        worst = max(steps)
        rising = f"{worst:.2f} times the next smaller size's, at worst"
        line = "CPU per byte never rises"
        findings.append(Finding(f"bytes in a line ({name})", line, "CPU ns/byte", figures, rising, worst <= SAME))
    return findings


# Memory

MOST_GROWTH = 1.0
MOST_IDLE_KIB = 6.0


def long_run(share: float) -> dict[str, Scenario]:
    """Many lines, of which one in eight is written, so that the output stays small."""
    base = SCENARIOS["S1J"]
    text = (PEERS / "eventserver-text.toml").read_text() + "match = '\"out of range\" in message'\n"
    keep = "".join("1" if b"out of range" in variant.text else "0" for variant in base.payload.variants)
    payload = replace(base.payload, keep=keep)
    return {"S1J": replace(base, payload=payload, eventserver=text, lines=int(20_000_000 * share))}


def _growth(rounds: Rounds) -> list[Finding]:
    held = [result.rss_samples for result in rounds["S1J"] if len(result.rss_samples) >= 8]
    if not held:
        return [Finding("memory over a long run", "flat", "RSS MiB", {}, "the run was too short", False)]
    figures = {
        f"{percent} %": statistics.median(samples[(len(samples) - 1) * percent // 100] for samples in held)
        for percent in (25, 50, 75, 100)
    }
    growth = figures["100 %"] - figures["25 %"]
    lines = statistics.median(result.events for result in rounds["S1J"])
    name = f"memory over a long run ({lines / 1e6:.0f}M lines)"
    return [Finding(name, f"grows by at most {MOST_GROWTH} MiB", "RSS MiB", figures, f"{growth:+.1f}", growth <= 1.0)]


IDLE = 5_000


def idle_connections(share: float) -> dict[str, Scenario]:
    """Thousands of connections, and a few lines over them."""
    return {"idle": replace(SCENARIOS["S6"], connections=IDLE, lines=IDLE)}


def _per_connection(rounds: Rounds) -> list[Finding]:
    each = statistics.median((r.rss_connected - r.rss_before) * 1024 / IDLE for r in rounds["idle"])
    after = statistics.median((r.rss_end - r.rss_before) * 1024 / IDLE for r in rounds["idle"])
    figures = {"connected": each, "after a line on each": after}
    line = f"at most {MOST_IDLE_KIB:g} KiB each"
    worst = max(figures.values())
    return [Finding(f"{IDLE:,} idle connections", line, "KiB", figures, f"{worst:.1f} KiB", worst <= MOST_IDLE_KIB)]


def loads(share: float) -> dict[str, Scenario]:
    """The benchmarks' own loads."""
    names = ("S1", "S1J", "S1H", "S2", "S2O", "S3")
    return {name: replace(SCENARIOS[name], lines=int(SCENARIOS[name].lines * share)) for name in names}


def _peaks(rounds: Rounds) -> list[Finding]:
    figures = {name: max(result.rss_peak for result in results) for name, results in rounds.items()}
    worst = max(figures.values())
    line = f"at most {MOST_RSS:.0f} MiB"
    return [Finding("memory under load", line, "peak RSS MiB", figures, f"{worst:.0f} MiB", worst <= MOST_RSS)]


MEASUREMENTS = {
    "connections": Measurement(connections, _flat("connections (S1J)", "never 10 % above the first")),
    "excluded": Measurement(
        excluded_handlers, _flat("handlers for another listener (S1J)", "never 10 % above the first")
    ),
    "matching": Measurement(matching_handlers, _per_match),
    "sizes": Measurement(sizes, _per_byte),
    "long": Measurement(long_run, _growth),
    "idle": Measurement(idle_connections, _per_connection),
    "loads": Measurement(loads, _peaks),
}


def measure(name: str, rounds: int, share: float) -> list[Finding]:
    """Run the cases of one measurement in turns, and judge them."""
    measurement = MEASUREMENTS[name]
    cases = measurement.cases(share)
    results: dict[str, list[Result]] = {case: [] for case in cases}
    for number in range(rounds):
        for case, scenario in cases.items():
            result = run(scenario, SERVERS["eventserver"])
            assert result is not None
            results[case].append(result)
            print(f"{name} round {number + 1}: {case} {result.cpu_per_million:.3f} s/M", file=sys.stderr, flush=True)
    return measurement.judge(results)


def figure(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def table(findings: Sequence[Finding]) -> str:
    """In Markdown."""
    lines = ["| what | figures | line | found | held |", "|---|---|---|---|---|"]
    for finding in findings:
        figures = ", ".join(f"{case}: {figure(value)}" for case, value in finding.figures.items())
        held = "" if finding.held is None else "yes" if finding.held else "**no**"
        lines.append(f"| {finding.name} | {finding.unit}: {figures} | {finding.line} | {finding.found} | {held} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, an eighth of the lines")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--update-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    load.build()
    raise_file_limit()
    findings: list[Finding] = []
    for name in options.only:
        findings += measure(name, 1 if options.quick else options.rounds, 1 / 8 if options.quick else 1.0)
    text = f"{machine.sentence()}\n\n{table(findings)}"
    print(text)
    if options.json:
        options.json.write_text(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    if options.update_docs:
        pages.update(ROOT / "docs" / "performance.md", "scaling", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
