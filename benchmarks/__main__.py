"""The benchmarks: eventserver beside rsyslog, syslog-ng and a naive Twisted server, in turns, in one run.

    make bench                                             # everything, five rounds
    make bench BENCH_ARGS="--quick"                        # everything, short
    .venv/bin/python -m benchmarks --scenarios S1J --servers rsyslog eventserver
    .venv/bin/python -m benchmarks --scenarios S1J --servers eventserver --tree before=/path/to/another/checkout

Every round starts each server anew, sends, waits until the output is complete, and checks it: every line once, and a
sample of events compared with what was sent, value by value.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import load, machine, pages
from benchmarks.checks import WrongOutput
from benchmarks.processes import ServerFailed, raise_file_limit
from benchmarks.rounds import ROOT, Result, run
from benchmarks.scenarios import SCENARIOS, Scenario, choose
from benchmarks.servers import SERVERS, Server
from benchmarks.tables import judge, table

#: What `--quick` makes of the numbers of lines.
QUICK = 8
QUICK_PACED = 4
#: The share of the cores that others may take before it is worth saying.
DISTURBED = 0.05

Results = dict[str, dict[str, dict[int, Result]]]
Failures = dict[str, dict[str, str]]


def say(text: str) -> None:
    """Progress goes where the table does not."""
    print(text, file=sys.stderr, flush=True)


def sized(scenario: Scenario, lines: int | None, quick: bool) -> Scenario:
    """With as many lines as the command line says; paced work keeps its pace and gets shorter."""
    if lines is not None:
        return replace(scenario, lines=lines)
    if quick:
        return replace(scenario, lines=scenario.lines // (QUICK_PACED if scenario.rate else QUICK))
    return scenario


def chosen_servers(scenario: Scenario, names: list[str] | None, trees: dict[str, Path]) -> list[Server]:
    """The scenario's servers, or those that were asked for; and the same program from other folders."""
    servers = [SERVERS[name] for name in scenario.servers]
    if names:
        servers = [SERVERS[name] for name in names if SERVERS[name].role != "floor" or name in scenario.servers]
    if trees:
        ours = SERVERS["eventserver"]
        servers += [replace(ours, name=f"eventserver:{name}", tree=path) for name, path in trees.items()]
    return servers


def measure(plan: list[tuple[Scenario, list[Server]]], rounds: int) -> tuple[Results, Failures]:
    """All rounds of one scenario, in each all servers in turn (beginning with another one), then the next scenario."""
    results: Results = {}
    failures: Failures = {}
    for scenario, servers in plan:
        found = results[scenario.name] = {server.name: {} for server in servers}
        failed = failures[scenario.name] = {}
        missing = set()
        for number in range(rounds):
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                if server.name in missing:
                    continue
                try:
                    result = run(scenario, server)
                except (WrongOutput, ServerFailed, load.LoadFailed) as error:
                    failed[server.name] = str(error)
                    say(f"{scenario.name} {server.name}: {error}")
                    continue
                if result is None:
                    missing.add(server.name)
                    hint = " (python -m benchmarks.syslog_ng fetches it)" if server.name == "syslog-ng" else ""
                    say(f"{server.name} is not installed: left out{hint}")
                    continue
                found[server.name][number] = result
                say(
                    f"{scenario.name} round {number + 1}: {server.name} {result.rate:,.0f} events/s,"
                    f" {result.cpu_per_million:.3f} s/M, {result.rss_peak:.0f} MiB"
                    + (f", loss {result.loss:.2%}" if scenario.udp else "")
                    + (f", p99 {result.latency_us['p99']:,.0f} us" if scenario.latency else "")
                    + (f" (others took {result.elsewhere:.0%} of the cores)" if result.elsewhere > DISTURBED else "")
                )
    return results, failures


def versions(plan: list[tuple[Scenario, list[Server]]]) -> dict[str, str]:
    """Of the programs that are measured."""
    names = {server.name: server for _, servers in plan for server in servers}
    return {name: said for name, server in names.items() if (said := server.version())}


def markdown(plan: list[tuple[Scenario, list[Server]]], rounds: int, results: Results, failures: Failures) -> str:
    """All tables, below what they were taken on."""
    said = dict.fromkeys(
        f"{name.removesuffix('-2')} {text}" if "syslog" in name else text for name, text in versions(plan).items()
    )
    everything = [result for found in results.values() for held in found.values() for result in held.values()]
    disturbed = statistics.median([result.elsewhere for result in everything] or [0.0])
    head = (
        f"{machine.sentence()}. {'; '.join(said)}. {rounds} rounds, in turns; median (lowest..highest)."
        f" Other processes took {disturbed:.1%} of the cores meanwhile (median of the rounds).\n"
    )
    failed = [
        f"- {name} {server} failed: {why.splitlines()[0]}"
        for name, servers in failures.items()
        for server, why in servers.items()
    ]
    measured = [(scenario, results[scenario.name]) for scenario, _ in plan]
    return "\n".join([head, table(measured), *failed])


def as_json(
    plan: list[tuple[Scenario, list[Server]]], rounds: int, results: Results, failures: Failures
) -> dict[str, Any]:
    """Every round's numbers, and the verdicts."""
    whole: dict[str, Any] = {"machine": machine.describe(), "versions": versions(plan), "rounds": rounds}
    whole["scenarios"] = {
        scenario.name: {
            "title": scenario.title,
            "lines": scenario.lines,
            "results": {
                server: [{"round": number, **asdict(result)} for number, result in found.items()]
                for server, found in results[scenario.name].items()
            },
            "verdicts": {
                server: [asdict(verdict) for verdict in judge(scenario, server, results[scenario.name])]
                for server in results[scenario.name]
                if server.startswith("eventserver")
            },
            "failures": failures[scenario.name],
        }
        for scenario, _ in plan
    }
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where an output was wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", nargs="+", default=[], metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), metavar="NAME", help=", ".join(SERVERS))
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=FOLDER", help="another checkout beside")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--lines", type=int, help="instead of each scenario's own number")
    parser.add_argument("--quick", action="store_true", help="few lines and two rounds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--update-docs", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (2 if options.quick else 5)
    trees = {name: Path(folder).resolve() for name, _, folder in (text.partition("=") for text in options.tree)}
    scenarios = [sized(scenario, options.lines, options.quick) for scenario in choose(options.scenarios)]
    plan = [(scenario, chosen_servers(scenario, options.servers, trees)) for scenario in scenarios]
    load.build()
    raise_file_limit()
    results, failures = measure(plan, rounds)
    text = markdown(plan, rounds, results, failures)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(as_json(plan, rounds, results, failures), indent=1) + "\n")
    if options.update_docs:
        pages.update(ROOT / "docs" / "performance.md", "benchmarks", text)
    return 1 if any(failures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
