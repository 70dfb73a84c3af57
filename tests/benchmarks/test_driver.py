"""The driver on the real server, with few lines: every scenario's settings do what the scenario says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main, measure
from benchmarks.checks import WrongOutput
from benchmarks.rounds import complaints, run
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import PEERS, SERVERS
from tests.realprograms import find

FEW = 1500


@pytest.fixture(autouse=True)
def compiler() -> None:
    """The load generator is built when it is needed."""
    find("cc")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may make a server silent for a while: nobody measures anything here."""
    monkeypatch.setattr("benchmarks.rounds.QUIET", 20.0)
    monkeypatch.setattr("benchmarks.rounds.QUIET_UDP", 5.0)


def small(name: str) -> Scenario:
    """A scenario with few lines and connections."""
    scenario = SCENARIOS[name]
    return replace(scenario, lines=FEW, connections=min(scenario.connections, 50))


@pytest.mark.parametrize("name", ["S1", "S1H", "S2", "S2O", "S3", "S4-50K", "S6", "S7"])
def test_eventserver_does_the_work(name: str) -> None:
    """Complete and right, or `run` raises."""
    scenario = small(name)
    result = run(scenario, SERVERS["eventserver"])
    assert result is not None
    assert result.checked > 100
    assert result.cpu > 0
    assert result.rss_peak > 10
    assert result.events == FEW
    assert (set(result.latency_us) == {"p50", "p90", "p99", "p99.9", "max"}) is (name == "S7")


def test_a_wrong_value_fails_the_round() -> None:
    """As the payload was when the server had made something else of it."""
    scenario = small("S3")
    [first, *rest] = scenario.payload.variants
    wrong = [replace(variant, wanted={**variant.wanted, "fields": {}}) for variant in rest]
    with pytest.raises(WrongOutput, match="fields"):
        run(replace(scenario, payload=replace(scenario.payload, variants=(first, *wrong))), SERVERS["eventserver"])


def test_a_function_that_was_not_called_for_every_event_fails_the_round() -> None:
    text = (PEERS / "eventserver-handler.toml").read_text() + "match = '\"out of range\" in message'\n"
    with pytest.raises(WrongOutput, match=f"called for .* of {FEW} events"):
        run(replace(small("S1H"), eventserver=text), SERVERS["eventserver"])


def test_lines_that_do_not_come_fail_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that keep less than the scenario expects."""
    monkeypatch.setattr("benchmarks.rounds.QUIET", 3.0)
    scenario = replace(small("S3"), payload=replace(SCENARIOS["S3"].payload, keep=""))
    results, failures = measure([(scenario, [SERVERS["eventserver"]])], 1)
    assert results == {"S3": {"eventserver": {}}}
    assert failures["S3"]["eventserver"] == f"incomplete: {FEW // 2} of {FEW} lines"


def test_the_command_measures_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.json"
    code = main(
        ["--quick", "--scenarios", "S1J", "--servers", "eventserver", "sink", "--lines", "2000", "--json", str(found)]
    )
    assert code == 0
    out = capsys.readouterr().out
    assert "| S1J: the same lines to JSON events | **eventserver** |" in out
    assert "2 rounds" in out
    written = json.loads(found.read_text())
    assert set(written["machine"]) == {"processor", "cores", "memory", "kernel", "distribution"}
    assert "twisted" in written["versions"]["eventserver"]
    rounds = written["scenarios"]["S1J"]["results"]["eventserver"]
    assert [each["round"] for each in rounds] == [0, 1]
    assert all(each["events"] == 2000 and each["cpu"] > 0 for each in rounds)


def test_a_server_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.servers.find", lambda program: None)
    assert main(["--scenarios", "S1J", "--servers", "rsyslog", "--lines", "10"]) == 0
    assert "rsyslog is not installed: left out" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = replace(small("S1J"), eventserver="[listener.lines]\nendpoints = 5\n")
    _, failures = measure([(scenario, [SERVERS["eventserver"]])], 2)
    assert "listener.lines.endpoints" in failures["S1J"]["eventserver"]


def test_datagrams_of_which_none_arrives_fail_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is no result, though some loss is one."""
    monkeypatch.setattr("benchmarks.rounds.QUIET_UDP", 0.2)
    text = (PEERS / "eventserver-syslog.toml").read_text() + "match = 'False'\n"
    with pytest.raises(WrongOutput, match=f"incomplete: 0 of {FEW} lines"):
        run(replace(small("S4-50K"), eventserver=text), SERVERS["eventserver"])


def test_what_the_server_said_goes_with_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("info all well\nwarn  handler.out: disk is full\nno terror here\nTypeError: x\n")
    assert complaints(log) == ["warn  handler.out: disk is full", "TypeError: x"]


def test_rsyslog_does_the_work() -> None:
    """The peer that the lines are drawn beside: its configurations, and the comparison of its output."""
    find("rsyslogd")
    for name in ("S1J", "S2O", "S3"):
        result = run(small(name), SERVERS["rsyslog"])
        assert result is not None
        assert result.checked > 100
