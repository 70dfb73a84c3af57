"""The alarm of examples/ssh_alarm, on lines as sshd and syslog daemons write them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from eventserver.testing import Harness
from tests.examples.conftest import Example

LINE = "<38>Jan  1 00:{:02d}:{:02d} gate {}[4711]: {}\n"
FAILED = "Failed password for invalid user admin from {} port 50022 ssh2"


@pytest.fixture
def server(example: Example, folder: Path) -> Harness:
    example("ssh_alarm")
    return Harness(tomllib.loads((folder / "ssh_alarm" / "ssh_alarm.toml").read_text()))


def send(server: Harness, seconds: int, message: str, program: str = "sshd") -> None:
    server.send(LINE.format(*divmod(seconds, 60), program, message).encode())


def test_five_failures_within_a_minute_are_one_alarm(server: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    with server:
        for seconds in range(9):
            send(server, 5 * seconds, FAILED.format("203.0.113.9"))
    assert capsys.readouterr().out == (
        "ALARM on gate: 203.0.113.9 failed to log in 5 times within 60 s, last as 'admin'\n"
    )


def test_slow_failures_and_those_of_many_addresses_are_none(
    server: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    with server:
        for number in range(9):
            send(server, 20 * number, FAILED.format("203.0.113.9"))
            send(server, number, FAILED.format(f"203.0.113.{number}"), "sshd-session")
    assert capsys.readouterr().out == ""


def test_other_lines_never_reach_the_function(server: Harness) -> None:
    with server:
        send(server, 1, "Accepted publickey for root from 203.0.113.9 port 50022 ssh2")
        send(server, 1, FAILED.format("203.0.113.9"), "imitator")
        send(server, 1, FAILED.format("203.0.113.9"))
        counters = server.counters()
        assert (counters.filtered, counters.delivered) == (2, 1)


def test_a_user_name_that_imitates_the_line_does_not_choose_the_address(example: Example, folder: Path) -> None:
    """The user's name is the attacker's to choose; sshd's own words stand behind it."""
    ssh_alarm = example("ssh_alarm")
    found = ssh_alarm.FAILED.search(
        "Failed password for invalid user x from 192.0.2.1 port 1 from 203.0.113.9 port 50022 ssh2"
    )
    assert found["address"] == "203.0.113.9"


def test_the_number_of_addresses_is_bounded(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh_alarm = example("ssh_alarm")
    monkeypatch.setattr(ssh_alarm, "MAX_ADDRESSES", 3)
    with Harness(ssh_alarm.on_event, decoder="syslog") as server:
        for number in range(9):
            send(server, number, FAILED.format(f"203.0.113.{number}"))
    assert len(ssh_alarm.failures) == 3
