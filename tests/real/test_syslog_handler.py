"""Python's own logging.handlers.SysLogHandler, in every way that it connects."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import SysLogHandler
from typing import Any

import pytest

from tests.real.clients import Exchanges
from tests.real.conftest import StartServer

SETTINGS = """
[listener.syslog]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix-datagram:log.sock", "unix:stream.sock"]
decoder = "syslog"
[handler.console]
type = "console"
"""


@contextmanager
def logging_to(address: Any, kind: socket.SocketKind | None, form: str = "%(message)s") -> Iterator[logging.Logger]:
    """A logger whose records go to the address, and to nothing else."""
    handler = SysLogHandler(address, SysLogHandler.LOG_LOCAL5, kind)
    handler.setFormatter(logging.Formatter(form))
    logger = logging.Logger("tests", logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("udp", socket.SOCK_DGRAM),
        ("tcp", socket.SOCK_STREAM),
        ("unix-datagram", socket.SOCK_DGRAM),
        ("unix", socket.SOCK_STREAM),
    ],
)
def test_records_arrive_with_their_level(
    start: StartServer, scheme: str, kind: socket.SocketKind, exchanges: Exchanges
) -> None:
    """Each record ends with NUL and no line feed, over streams too, so a record of several lines stays one event."""
    server = start(SETTINGS)
    with logging_to(server.place("syslog", scheme), kind, "app[%(process)d]: %(message)s") as logger:
        logger.debug("one")
        logger.info("two")
        logger.warning("three")
        logger.error("four ünïcödé")
        logger.critical("five")
    events = server.events(5)
    assert [event["message"] for event in events] == ["one", "two", "three", "four ünïcödé", "five"]
    severities = [event["fields"]["severity"] for event in events]
    assert severities == ["debug", "info", "warning", "err", "crit"]
    assert {event["fields"]["facility"] for event in events} == {"local5"}
    assert {event["fields"]["app_name"] for event in events} == {"app"}
    exchanges.note("Python SysLogHandler", scheme, sent=5, received=len(events))
    server.finish()


def test_a_record_without_the_trailing_nul_needs_a_line_end(start: StartServer) -> None:
    """`append_nul = False` leaves nothing between two records of a TCP connection: a line feed in the format helps."""
    server = start(SETTINGS)
    with logging_to(server.place("syslog", "tcp"), socket.SOCK_STREAM, "app: %(message)s\n") as logger:
        handler = logger.handlers[0]
        assert isinstance(handler, SysLogHandler)
        handler.append_nul = False
        logger.info("one")
        logger.info("two")
    assert [event["message"] for event in server.events(2)] == ["one", "two"]
    server.finish()


def test_a_datagram_keeps_the_lines_of_a_traceback(start: StartServer) -> None:
    server = start(SETTINGS)
    with logging_to(server.place("syslog", "udp"), socket.SOCK_DGRAM, "app: %(message)s") as logger:
        try:
            raise ValueError("on purpose")
        except ValueError:
            logger.exception("it failed")
    event = server.event()
    lines = event["message"].split("\n")
    assert (lines[0], lines[1], lines[-1]) == (
        "it failed", "Traceback (most recent call last):", "ValueError: on purpose",
    )  # fmt: skip
    server.finish()
