"""From the rounds to tables: median and range, ratios of the same round, and whether the lines were reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Result
from benchmarks.scenarios import Scenario
from benchmarks.servers import SERVERS

#: The peer that the lines are drawn beside.
REFERENCE = "rsyslog"
#: Below this share, loss is none.
NO_LOSS = 0.0005
#: The most memory a process of ours may take under any of these loads, in MiB.
MOST_RSS = 75.0

#: The results of one server in one scenario, by the number of the round.
Rounds = Mapping[int, Result]
Value = Callable[[Result], float]


def events_per_second(result: Result) -> float:
    """How much was done."""
    return result.rate


def cpu_per_million(result: Result) -> float:
    """What it cost."""
    return result.cpu_per_million


def p99(result: Result) -> float:
    """How long all but one percent of the lines were under way."""
    return result.latency_us["p99"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range round it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        held = list(values)
        return cls(statistics.median(held), min(held), max(held))

    def text(self, form: Callable[[float], str]) -> str:
        """`median (low..high)`."""
        return f"{form(self.median)} ({form(self.low)}..{form(self.high)})"


def ratio(ours: Rounds, theirs: Rounds, value: Value) -> Spread | None:
    """`value` beside another server's in the same round; None where they have no round in common."""
    common = sorted(set(ours) & set(theirs))
    quotients = [value(ours[number]) / value(theirs[number]) for number in common if value(theirs[number])]
    return Spread.of(quotients) if quotients else None


def count(value: float) -> str:
    """1.25M, 430K, 97."""
    if value >= 9_995_000:
        return f"{value / 1e6:.1f}M"
    if value >= 999_500:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1e3:.0f}K" if value >= 9_995 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """CPU seconds, three digits of them."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def whole(value: float) -> str:
    """MiB."""
    return f"{value:,.0f}"


def best_peer(results: Mapping[str, Rounds], value: Value, *, most: bool) -> str | None:
    """The name of the peer with the highest (or lowest) median; the reference, where it is within a percent of that."""
    medians = {
        name: Spread.of(value(result) for result in rounds.values()).median
        for name, rounds in results.items()
        if rounds and name in SERVERS and SERVERS[name].role == "peer"
    }
    if not medians:
        return None
    best = (max if most else min)(medians, key=lambda name: medians[name])
    return REFERENCE if abs(medians.get(REFERENCE, 0.0) / medians[best] - 1) <= 0.01 else best


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line, what came out, and whether it was reached."""

    line: str
    found: str
    held: bool


def judge(scenario: Scenario, server: str, results: Mapping[str, Rounds]) -> list[Verdict]:
    """The lines of one of our servers in one scenario; none where the reference is missing."""
    ours, theirs = results.get(server, {}), results.get(REFERENCE, {})
    if not ours or not theirs:
        return []
    wanted = scenario.line
    epoll = server.endswith("-epoll")
    most_cpu = wanted.cpu_epoll if epoll and wanted.cpu_epoll is not None else wanted.cpu
    verdicts = []
    speed = ratio(ours, theirs, events_per_second)
    if wanted.speed is not None and speed is not None:
        found = f"{speed.median:.2f}x"
        verdicts.append(Verdict(f"speed >= {wanted.speed:g}x", found, speed.median >= wanted.speed))
    cpu = ratio(ours, theirs, cpu_per_million)
    if most_cpu is not None and cpu is not None:
        verdicts.append(Verdict(f"CPU <= {most_cpu:g}x", f"{cpu.median:.2f}x", cpu.median <= most_cpu))
    if wanted.p99 is not None:
        late = ratio(ours, theirs, p99)
        if late is not None:
            verdicts.append(Verdict(f"p99 <= {wanted.p99:g}x", f"{late.median:.2f}x", late.median <= wanted.p99))
    if wanted.loss:
        lost = statistics.median(result.loss for result in ours.values())
        allowed = max(NO_LOSS, statistics.median(result.loss for result in theirs.values()))
        verdicts.append(Verdict("loss <= rsyslog's", f"{lost:.2%}", lost <= allowed))
    rss = max(result.rss_peak for result in ours.values())
    verdicts.append(Verdict(f"RSS <= {MOST_RSS:.0f} MiB", f"{rss:.0f} MiB", rss <= MOST_RSS))
    return verdicts


def _held(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """The two last columns of a row."""
    missed = [verdict for verdict in verdicts if not verdict.held]
    lines = ", ".join(verdict.line for verdict in verdicts)
    if not verdicts:
        return "", ""
    return lines, "yes" if not missed else "no: " + ", ".join(f"{v.line.split()[0]} {v.found}" for v in missed)


HEAD = "| work | server | events/s | CPU s/M | RSS MiB | x rsyslog | x best peer | loss, latency | line | held |"


def _beside(name: str, results: Mapping[str, Rounds], faster: str | None, cheaper: str | None) -> str:
    """`events/s, CPU` as multiples of other servers', with their names where these are not rsyslog."""
    parts = []
    for other, value in ((faster, events_per_second), (cheaper, cpu_per_million)):
        spread = None if other in (None, name) else ratio(results[name], results.get(other or "", {}), value)
        named = "" if other in (REFERENCE, None) or spread is None else f" ({other})"
        parts.append("-" if spread is None else f"{spread.median:.2f}{named}")
    return "" if parts == ["-", "-"] else ", ".join(parts)


def _besides(scenario: Scenario, held: Sequence[Result]) -> str:
    """What counts besides cost: loss over UDP, latency where it was measured."""
    if scenario.udp:
        return Spread.of(result.loss for result in held).text(lambda share: f"{share:.2%}")
    if scenario.latency:
        marks = {mark: statistics.median(result.latency_us[mark] for result in held) for mark in held[0].latency_us}
        return ", ".join(f"{mark} {value:,.0f}" for mark, value in marks.items()) + " us"
    return ""


def rows(scenario: Scenario, results: Mapping[str, Rounds]) -> list[str]:
    """One scenario, a row for each server, in Markdown."""
    fastest = best_peer(results, events_per_second, most=True)
    cheapest = best_peer(results, cpu_per_million, most=False)
    lines: list[str] = []
    for name, rounds in results.items():
        if not rounds:
            continue
        held = list(rounds.values())
        ours = name.startswith("eventserver")
        cells = [
            f"{scenario.name}: {scenario.title}" if not lines else scenario.name,
            f"**{name}**" if ours else name,
            Spread.of(map(events_per_second, held)).text(count),
            Spread.of(map(cpu_per_million, held)).text(seconds),
            whole(max(result.rss_peak for result in held)),
            _beside(name, results, REFERENCE, REFERENCE),
            _beside(name, results, fastest, cheapest),
            _besides(scenario, held),
            *(_held(judge(scenario, name, results)) if ours else ("", "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(measured: Iterable[tuple[Scenario, Mapping[str, Rounds]]]) -> str:
    """All scenarios."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for scenario, results in measured:
        lines += rows(scenario, results)
    return "\n".join(lines) + "\n"
