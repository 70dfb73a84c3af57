"""The log that is thinned out, and never silent."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent

from eventserver.thinned_log import LOG_INTERVAL, ThinnedLog


def test_a_burst_a_minute_for_each_reason_and_then_the_number_left_out() -> None:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    clock = Clock()
    log = ThinnedLog(Logger(namespace="test", observer=observe), clock, burst=2)
    for number in range(5):
        log.warn("one", "one {number}", number=number)
    log.error("two", "two {text}", text="{not a format}")
    log.info("three", "three")
    assert lines == ["one 0", "one 1", "two {not a format}", "three"]
    clock.advance(LOG_INTERVAL)
    log.warn("one", "one {number}", number=5)
    log.warn("one", "one {number}", number=6)
    assert lines[4:] == ["one 5 (3 more like this since the last such line)", "one 6"]
