"""Our log: one event, one line."""

from __future__ import annotations

import io
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from eventserver.logging import LineObserver, filtered, format_line


def line(**event: Any) -> str:
    return format_line(
        {"log_time": 1795341600.5, "log_level": LogLevel.info, "log_namespace": "listener.lines", **event}
    )


def test_a_line_has_time_level_origin_and_text():
    assert line(log_format="listening on {where}", where="tcp:127.0.0.1:5140") == (
        "2026-11-22T10:00:00Z info  listener.lines: listening on tcp:127.0.0.1:5140"
    )
    assert " fatal x: " in line(log_level=LogLevel.critical, log_namespace="x", log_format="")


def test_control_characters_are_escaped():
    """What a peer sends cannot begin a line of its own, nor colour the terminal."""
    text = line(log_format="{data}", data="a\nb\r\tc\x1b[31m\x9b\u2028d\x7f")
    assert text.endswith(r": a\nb\r\tc\x1b[31m\x9b\u2028d\x7f")


def test_a_failure_is_one_line_with_its_calls():
    def inner() -> None:
        raise ValueError("bad\nvalue")

    try:
        inner()
    except ValueError:
        failure = Failure()
    text = line(log_format="handler failed", log_failure=failure)
    assert r"handler failed: ValueError: bad\nvalue [" in text
    assert text.rpartition(" ")[2] == "inner]"
    assert "\n" not in text


def observed() -> tuple[Logger, io.StringIO, LogPublisher]:
    out = io.StringIO()
    publisher = LogPublisher(filtered(LineObserver(out)))
    return Logger(namespace="x", observer=publisher), out, publisher


def test_debug_and_twisteds_words_about_ports_are_left_out():
    log, out, publish = observed()
    log.debug("no")
    log.info("listening on 1 starting on 2")
    for text in ("Factory starting on 5140", "(TCP Port 5140 Closed)", "a user's words"):
        publish({"log_namespace": "log_legacy", "log_system": "-", "log_level": LogLevel.info, "log_text": text,
                 "log_format": "{log_text}", "log_time": 0.0})  # fmt: skip
    assert [line.partition(": ")[2] for line in out.getvalue().splitlines()] == [
        "listening on 1 starting on 2",
        "a user's words",
    ]


def test_a_stream_that_is_gone_loses_the_line_only():
    out = io.StringIO()
    out.close()
    LineObserver(out)({"log_format": "x"})
