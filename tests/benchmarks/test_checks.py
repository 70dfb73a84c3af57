"""The comparison with what was sent: one wrong value is found, whoever wrote it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checks import WrongOutput, check_event, check_lines, check_peer_line, check_sample, sample
from benchmarks.scenarios import SCENARIOS, Scenario, choose
from benchmarks.servers import PEERS, SERVERS, SYSLOG_KEYS
from tests.realprograms import find

NOW = datetime.now(UTC)
BEGAN, ENDED = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
NUMBER = 1_000_007


def written(scenario: Scenario, number: int = NUMBER, **changes: Any) -> bytes:
    """The event that eventserver should make of a line, with some values changed; None takes a key out."""
    wanted = scenario.payload.variant(number).event(number)
    received = NOW.isoformat()
    event: dict[str, Any] = {
        "id": f"01M826E86A8A3JPGXJQZ61B4J4-{number}",
        "time": wanted.get("time", received),
        "received": received,
        "listener": "syslog" if scenario.work == "syslog" else "lines",
        "peer": "127.0.0.1:45478",
        "type": wanted["type"],
        "message": wanted["message"],
        "fields": wanted["fields"],
    }
    event |= changes
    return json.dumps({key: value for key, value in event.items() if value is not None}).encode() + b"\n"


@pytest.mark.parametrize("name", ["S1J", "S2", "S3", "S4-50K"])
def test_the_right_event_passes(name: str) -> None:
    scenario = SCENARIOS[name]
    assert check_event(scenario, written(scenario), NUMBER, BEGAN, ENDED).endswith(str(NUMBER))


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "seq=0001000007 something else"},
        {"type": "json"},
        {"fields": {}},
        {"time": "2026-01-01T00:00:00Z"},
        {"received": "2026-01-01T00:00:00Z"},
        {"listener": "other"},
        {"peer": "192.0.2.1:5"},
        {"id": "1-1"},
        {"peer": None},
        {"context": {}},
    ],
    ids=str,
)
def test_one_wrong_value_is_found(changes: dict[str, Any]) -> None:
    scenario = SCENARIOS["S2"]
    with pytest.raises(WrongOutput, match=str(NUMBER)):
        check_event(scenario, written(scenario, **changes), NUMBER, BEGAN, ENDED)


def test_each_wrong_field_is_found() -> None:
    """Deep ones too."""
    for name in ("S2", "S3", "S4-50K"):
        scenario = SCENARIOS[name]
        fields = scenario.payload.variant(NUMBER).event(NUMBER)["fields"]
        for field in fields:
            with pytest.raises(WrongOutput, match="fields"):
                check_event(scenario, written(scenario, fields=fields | {field: "x"}), NUMBER, BEGAN, ENDED)
    scenario = SCENARIOS["S2"]
    fields = scenario.payload.variant(NUMBER).event(NUMBER)["fields"]
    data = {"ex@32473": fields["structured_data"]["ex@32473"] | {"iut": "4"}}
    with pytest.raises(WrongOutput, match="fields"):
        check_event(scenario, written(scenario, fields=fields | {"structured_data": data}), NUMBER, BEGAN, ENDED)


def flat(scenario: Scenario, **changes: Any) -> bytes:
    """What a peer writes."""
    variant = scenario.payload.variant(NUMBER)
    event = variant.event(NUMBER)
    values = {**event, **event["fields"], "structured_data": variant.structured_data, **changes}
    return json.dumps({key: value for key, value in values.items() if key != "fields" and value is not None}).encode()


def test_a_peer_may_write_numbers_as_texts_and_times_in_another_zone() -> None:
    scenario = SCENARIOS["S2"]
    code = scenario.payload.variant(NUMBER).event(NUMBER)["fields"]["facility_code"]
    time = datetime.fromisoformat(scenario.payload.variant(NUMBER).event(NUMBER)["time"])
    other = time.astimezone(tz=None).isoformat()
    check_peer_line(scenario, SYSLOG_KEYS, flat(scenario, facility_code=str(code), time=other), NUMBER)


@pytest.mark.parametrize("key", sorted(SYSLOG_KEYS | {"msgid", "structured_data"}))
def test_a_wrong_or_missing_value_of_a_peer_is_found(key: str) -> None:
    scenario = SCENARIOS["S2"]
    keys = SERVERS["rsyslog"].keys(scenario)
    assert keys is not None
    check_peer_line(scenario, keys, flat(scenario), NUMBER)
    wrong = "2026-01-01T00:00:00Z" if key == "time" else "x"
    for value in (wrong, None):
        with pytest.raises(WrongOutput, match=key):
            check_peer_line(scenario, keys, flat(scenario, **{key: value}), NUMBER)


# Whole outputs


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_sample_is_of_whole_lines_from_the_first_to_the_last(out: Path) -> None:
    lines = [b"%d " % number + b"x" * (number % 50) + b"\n" for number in range(5000)]
    out.write_bytes(b"".join(lines))
    found = list(sample(out))
    assert set(found) <= set(lines)
    assert (found[0], found[-1]) == (lines[0], lines[-1])
    assert len(set(found)) > 350


def test_two_events_with_one_id_are_found(out: Path) -> None:
    scenario = SCENARIOS["S1J"]
    identity = "01M826E86A8A3JPGXJQZ61B4J4-0"
    out.write_bytes(b"".join(written(scenario, number, id=identity) for number in range(20)))
    with pytest.raises(WrongOutput, match="the same id"):
        check_sample(scenario, "ours", None if scenario.work == "raw" else frozenset(), out, BEGAN, ENDED)


def test_a_changed_raw_line_is_found(out: Path) -> None:
    scenario = SCENARIOS["S1"]
    lines = [scenario.payload.variant(number).line(number) + b"\n" for number in range(300)]
    out.write_bytes(b"".join(lines))
    assert check_sample(scenario, "ours", None, out, BEGAN, ENDED) > 100
    out.write_bytes(b"".join(lines[:-1]) + lines[-1].upper().replace(b"SEQ=", b"seq="))
    with pytest.raises(WrongOutput, match="was changed"):
        check_sample(scenario, "ours", None, out, BEGAN, ENDED)


@pytest.mark.parametrize("line", [b"seq=0000000003", b'["seq=0000000003"]', b'{"time": "seq=0000000003"}', b"{}"])
@pytest.mark.parametrize("role", ["ours", "peer"])
def test_what_cannot_be_read_is_wrong(out: Path, role: str, line: bytes) -> None:
    out.write_bytes(line + b"\n")
    with pytest.raises(WrongOutput):
        check_sample(SCENARIOS["S2"], role, SYSLOG_KEYS, out, BEGAN, ENDED)


def test_a_missing_line_fails_unless_it_went_over_udp(out: Path) -> None:
    find("cc")
    tcp, udp = (choose([name])[0] for name in ("S1", "S4-50K"))
    out.write_bytes(b"".join(tcp.payload.variant(n).line(n) + b"\n" for n in range(tcp.lines // 1000)))
    with pytest.raises(WrongOutput, match="missing"):
        check_lines(tcp, out)
    out.write_bytes(b"seq=0000000003\n")
    assert check_lines(udp, out)["missing"] == udp.lines - 1
    out.write_bytes(b"seq=0000000003\nseq=0000000003\n")
    with pytest.raises(WrongOutput, match="duplicates"):
        check_lines(udp, out)


# The payloads are what the table says


@pytest.mark.parametrize(("name", "size"), [("S1", 80), ("S2", 180), ("S2O", 180), ("S3", 200), ("S4-50K", 136)])
def test_lines_have_the_size_that_is_quoted(name: str, size: int) -> None:
    payload = SCENARIOS[name].payload
    assert payload.size == size
    assert {len(payload.variant(number).line(NUMBER + number)) for number in range(len(payload.variants))} == {size}


def test_half_of_the_json_lines_are_kept() -> None:
    payload = SCENARIOS["S3"].payload
    kept = [json.loads(payload.variant(number).line(number))["status"] >= 500 for number in range(240)]
    assert "".join("01"[keep] for keep in kept) == payload.keep
    assert [payload.kept(lines) for lines in (0, 1, 2, 241, 242)] == [0, 0, 1, 120, 121]


def test_structured_data_and_time_stamps_vary() -> None:
    """So that remembering the last ones is not all it takes."""
    payload = SCENARIOS["S2"].payload
    lines = [payload.variant(number).line(number).split(b" ", 6) for number in range(2000)]
    assert len({line[1] for line in lines}) == 2000
    assert len({line[6].split(b"]")[0] for line in lines}) == 360


def test_every_scenario_has_its_configurations() -> None:
    for scenario in SCENARIOS.values():
        for server in scenario.servers:
            kind = server.removesuffix("-epoll").removesuffix("-2")
            work = "text" if scenario.work == "handler" and kind != "eventserver" else scenario.work
            suffix = "toml" if kind == "eventserver" else "conf"
            assert (PEERS / f"{kind}-{work}.{suffix}").exists() or SERVERS[kind].role == "floor" or kind == "naive"
