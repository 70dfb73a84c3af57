"""Tables from fixed numbers: medians, ranges, ratios of the same round, and verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import pages
from benchmarks.rounds import Result
from benchmarks.scaling import MEASUREMENTS, Finding
from benchmarks.scaling import table as scaling_table
from benchmarks.scenarios import SCENARIOS, choose
from benchmarks.start import Start, findings, unneeded
from benchmarks.tables import Spread, best_peer, count, cpu_per_million, events_per_second, judge, ratio, rows, table


def result(rate: float, cpu: float, **more: Any) -> Result:
    """A million events at this rate, and these CPU seconds for them."""
    plain = Result("S1J", "x", 1_000_000, 1e6 / rate, cpu, 40.0, 40.0, 0.0, rate, 400)
    return replace(plain, **more)


RSYSLOG = {0: result(1e6, 1.0), 1: result(2e6, 1.2), 2: result(1.5e6, 1.1)}
OURS = {0: result(3e6, 0.4), 1: result(3.2e6, 0.3), 2: result(3.1e6, 0.44)}


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)
    assert Spread.of([1, 2]).text(str) == "1.5 (1..2)"


def test_ratios_are_of_the_same_round() -> None:
    """3.0, 1.6 and 2.07; the ratio of the medians would be the same here, of CPU it is not."""
    found = ratio(OURS, RSYSLOG, events_per_second)
    assert found is not None
    assert (found.median, found.low, found.high) == pytest.approx((3.1 / 1.5, 1.6, 3.0))
    cpu = ratio(OURS, RSYSLOG, cpu_per_million)
    assert cpu is not None
    assert (cpu.median, cpu.low, cpu.high) == pytest.approx((0.4, 0.25, 0.4))


def test_a_round_that_one_of_them_failed_in_does_not_count() -> None:
    found = ratio({1: OURS[1]}, RSYSLOG, events_per_second)
    assert found == Spread(1.6, 1.6, 1.6)
    assert ratio({7: OURS[0]}, RSYSLOG, events_per_second) is None


def test_the_best_peer_is_neither_ours_nor_the_floor() -> None:
    results = {
        "rsyslog": RSYSLOG,
        "syslog-ng": {0: result(5e5, 0.9)},
        "naive": {0: result(3e5, 4.0)},
        "eventserver": OURS,
        "sink": {0: result(2e7, 0.01)},
    }
    assert best_peer(results, events_per_second, most=True) == "rsyslog"
    assert best_peer(results, cpu_per_million, most=False) == "syslog-ng"
    assert best_peer({"eventserver": OURS}, events_per_second, most=True) is None


def test_where_all_do_what_is_offered_the_reference_is_the_best() -> None:
    results = {"naive": {0: result(5000, 4.0)}, "rsyslog": {0: result(4990, 1.0)}}
    assert best_peer(results, events_per_second, most=True) == "rsyslog"
    assert best_peer({**results, "rsyslog": {0: result(4900, 1.0)}}, events_per_second, most=True) == "naive"


@pytest.mark.parametrize(
    ("value", "text"),
    [(97, "97"), (5000, "5,000"), (9995, "10K"), (430_400, "430K"), (1.254e6, "1.25M"), (3e7, "30.0M")],
)
def test_counts_are_short(value: float, text: str) -> None:
    assert count(value) == text


def verdicts(name: str, ours: Result, theirs: Result, server: str = "eventserver") -> dict[str, bool]:
    found = judge(SCENARIOS[name], server, {"rsyslog": {0: theirs}, server: {0: ours}})
    return {verdict.line: verdict.held for verdict in found}


def test_lines_are_judged() -> None:
    theirs = result(1e6, 1.0)
    assert verdicts("S1J", result(1.7e6, 0.42), theirs) == dict.fromkeys(
        ("speed >= 1.7x", "CPU <= 0.42x", "RSS <= 75 MiB"), True
    )
    assert verdicts("S1J", result(1.69e6, 0.43, rss_peak=75.1), theirs) == dict.fromkeys(
        ("speed >= 1.7x", "CPU <= 0.42x", "RSS <= 75 MiB"), False
    )


def test_loss_is_judged_beside_the_peer() -> None:
    line = "loss <= rsyslog's"
    assert verdicts("S4-200K", result(2e5, 1, loss=0.0004), result(2e5, 1))[line]
    assert not verdicts("S4-200K", result(2e5, 1, loss=0.0006), result(2e5, 1))[line]
    assert verdicts("S4-200K", result(2e5, 1, loss=0.1), result(2e5, 1, loss=0.2))[line]


def test_the_epoll_reactor_has_a_line_of_its_own() -> None:
    theirs = result(5000, 1.0)
    assert verdicts("S6", result(5000, 1.5), theirs)["CPU <= 1.6x"]
    assert not verdicts("S6", result(5000, 1.5), theirs, "eventserver-epoll")["CPU <= 1.1x"]


def test_latency_is_judged_by_its_99th_percentile() -> None:
    theirs = result(5000, 1.0, latency_us={"p50": 1, "p99": 100})
    assert verdicts("S7", result(5000, 0.9, latency_us={"p50": 9, "p99": 150}), theirs)["p99 <= 1.5x"]
    assert not verdicts("S7", result(5000, 0.9, latency_us={"p50": 1, "p99": 151}), theirs)["p99 <= 1.5x"]


def test_without_the_reference_nothing_is_judged() -> None:
    assert judge(SCENARIOS["S1J"], "eventserver", {"eventserver": OURS}) == []


def test_a_row_for_each_server_that_has_rounds() -> None:
    text = table([(SCENARIOS["S1J"], {"rsyslog": RSYSLOG, "syslog-ng": {}, "eventserver": OURS})])
    head, line, first, second = text.splitlines()
    assert {row.count("|") for row in (head, line, first, second)} == {11}
    assert first == (
        "| S1J: the same lines to JSON events | rsyslog | 1.50M (1.00M..2.00M) | 1.10 (1.00..1.20) | 40 "
        "|  |  |  |  |  |"
    )
    assert second == (
        "| S1J | **eventserver** | 3.10M (3.00M..3.20M) | 0.400 (0.300..0.440) | 40 | 2.07, 0.40 | 2.07, 0.40 |  "
        "| speed >= 1.7x, CPU <= 0.42x, RSS <= 75 MiB | yes |"
    )


def test_a_missed_line_is_named_with_what_was_found() -> None:
    slow = {number: replace(found, seconds=found.seconds * 2) for number, found in OURS.items()}
    last = rows(SCENARIOS["S1J"], {"rsyslog": RSYSLOG, "eventserver": slow})[-1]
    assert last.endswith("| no: speed 1.03x |")


def test_the_best_peer_is_named_where_it_is_not_rsyslog() -> None:
    naive = {number: result(9e5, 0.2) for number in RSYSLOG}
    last = rows(SCENARIOS["S1J"], {"rsyslog": RSYSLOG, "naive": naive, "eventserver": OURS})[-1]
    assert "| 2.07, 2.00 (naive) |" in last


def test_loss_and_latency_have_their_cell() -> None:
    [lossy] = rows(SCENARIOS["S4-50K"], {"rsyslog": {0: result(5e4, 1, loss=0.25)}})
    assert "| 25.00% (25.00%..25.00%) |" in lossy
    [late] = rows(SCENARIOS["S7"], {"rsyslog": {0: result(5e3, 1, latency_us={"p50": 81.5, "max": 2500})}})
    assert "| p50 82, max 2,500 us |" in late


def test_scenarios_are_chosen_by_name_or_family() -> None:
    assert [scenario.name for scenario in choose(["s1", "S4"])] == ["S1", "S4-50K", "S4-100K", "S4-200K", "S4-400K"]
    assert len(choose([])) == len(SCENARIOS)
    with pytest.raises(SystemExit, match="S9"):
        choose(["S9"])


# The page


def test_only_what_is_between_the_marks_is_replaced() -> None:
    page = "# Page\n% one: begin\nold\n% one: end\nkept\n% two: begin\n% two: end\n"
    assert pages.between(page, "one", "new\n") == (
        "# Page\n% one: begin\n\nnew\n\n% one: end\nkept\n% two: begin\n% two: end\n"
    )
    again = pages.between(pages.between(page, "two", "a"), "two", "b")
    assert again == pages.between(page, "two", "b")


@pytest.mark.parametrize("page", ["", "% one: begin\n", "% one: end\n% one: begin\n"])
def test_a_page_without_the_marks_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="one"):
        pages.between(page, "one", "new")


# How cost grows


def judged(name: str, cases: dict[str, Result]) -> list[Finding]:
    return MEASUREMENTS[name].judge({case: [found] for case, found in cases.items()})


@pytest.mark.parametrize(("cpu", "held"), [(1.09, True), (1.11, False)])
def test_flat_is_within_ten_percent(cpu: float, held: bool) -> None:
    [found] = judged("connections", {"1": result(1e6, 1.0), "4": result(1e6, 1.05), "100": result(1e6, cpu)})
    assert (found.held, found.figures) == (held, {"1": 1.0, "4": 1.05, "100": cpu})


def test_each_further_match_is_paid_for() -> None:
    cases = {"0": result(1e6, 1.0), "1": result(1e6, 1.06), "3": result(1e6, 1.5), "5": result(1e6, 1.25)}
    first, further = judged("matching", cases)
    assert (first.held, first.figures) == (None, {"0": 1.0, "1": 1.06})
    assert (further.held, further.found) == (True, "0.047 each")
    first, further = judged("matching", {**cases, "1": result(1e6, 1.04)})
    assert (first.held, further.held) == (None, False)


def test_the_cheapest_round_counts() -> None:
    rounds = {"1": [result(1e6, 3.0), result(1e6, 1.0)], "4": [result(1e6, 1.05), result(1e6, 9.0)]}
    [found] = MEASUREMENTS["connections"].judge(rounds)
    assert found.held


def test_the_cost_of_a_byte_must_not_rise() -> None:
    sizes = (60, 200, 1000, 4096, 16384)
    flat = {f"{name} {size}": result(1e6, (size + 1) / 1000) for name in ("S1J", "S1") for size in sizes}
    assert [found.held for found in judged("sizes", flat)] == [True, True]
    dear = {**flat, "S1 4096": result(1e6, 4.5)}
    assert [found.held for found in judged("sizes", dear)] == [True, False]


def test_memory_is_flat_from_a_quarter_on() -> None:
    flat = [30.0] * 4 + [50.0] * 16
    [found] = judged("long", {"S1J": result(1e6, 1, rss_samples=tuple(flat))})
    assert (found.held, found.found) == (True, "+0.0")
    [found] = judged("long", {"S1J": result(1e6, 1, rss_samples=tuple(40 + n * 0.1 for n in range(20)))})
    assert not found.held
    [found] = judged("long", {"S1J": result(1e6, 1)})
    assert not found.held, "nothing was measured"


def test_connections_are_paid_for_one_by_one() -> None:
    [found] = judged("idle", {"idle": result(1, 1, rss_before=40.0, rss_connected=60.0, rss_end=65.0)})
    assert found.figures == pytest.approx({"connected": 4.096, "after a line on each": 5.12})
    assert found.held
    [found] = judged("idle", {"idle": result(1, 1, rss_before=40.0, rss_connected=60.0, rss_end=75.0)})
    assert not found.held


def test_the_scaling_table_has_a_row_for_each_finding() -> None:
    found = Finding("x", "at most 1", "s", {"a": 0.12345, "b": 1234.5}, "0.9", held=False)
    assert scaling_table([found]).splitlines()[-1] == "| x | s: a: 0.123, b: 1,234 | at most 1 | 0.9 | **no** |"


# The start


def test_modules_of_parts_that_are_not_configured_are_named() -> None:
    loaded = {"twisted.web", "twisted.web.server", "twisted.website", "prometheus_client.core", "twisted.internet.tcp"}
    assert unneeded(loaded) == ["prometheus_client.core", "twisted.web", "twisted.web.server"]


def test_a_start_is_judged() -> None:
    starts = [Start(0.5, 0.4, 50.0), Start(0.6, 0.4, 51.0), Start(0.9, 0.4, 52.0)]
    seen = {"twisted.web.server"}
    assert [found.held for found in findings(starts, {"twisted.internet"}, seen)] == [True, True, True]
    assert [found.held for found in findings(starts[2:], {"sqlite3"}, seen)] == [False, True, False]
    late = [Start(0.1, 0.1, 60.0)]
    assert [found.held for found in findings(late, set(), set())] == [True, False, False], "nothing was seen"
