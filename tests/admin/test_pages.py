"""What the admin pages say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from zope.interface.verify import verifyObject

from eventserver.admin import IStatus
from eventserver.admin.metrics import HANDLER, LISTENER, MAX_LABEL_VALUES
from tests.admin.server import Server, Status


def test_live_answers_while_the_reactor_turns(server: Server) -> None:
    server.status.reasons = ["starting"]
    reply = server.ask("/live")
    assert (reply.code, reply.text) == (200, "live\n")


def test_ready_is_200_when_there_is_no_reason_against_it(server: Server) -> None:
    reply = server.ask("/ready")
    assert (reply.code, reply.text) == (200, "ready\n")


def test_ready_is_503_and_names_every_reason_on_a_line_of_its_own(server: Server) -> None:
    server.status.reasons = ["the intake is full", "handler `db` is unwell: refused\nby \x1b[31mpeer"]
    reply = server.ask("/ready")
    assert reply.code == 503
    assert reply.text == "the intake is full\nhandler `db` is unwell: refused by  [31mpeer\n"


def test_metrics_show_the_counters_as_they_are_now(server: Server) -> None:
    assert 'eventserver_frames_received_total{listener="lines"} 12.0' in server.ask("/metrics").text
    server.status.listener.received += 1
    reply = server.ask("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for line in (
        'eventserver_frames_received_total{listener="lines"} 13.0',
        'eventserver_frames_rejected_total{listener="lines",reason="oversize"} 2.0',
        'eventserver_frames_truncated_total{listener="lines"} 4.0',
        'eventserver_events_delivered_total{handler="archive"} 5.0',
        'eventserver_events_dead_lettered_total{handler="archive"} 1.0',
        'eventserver_events_parked{handler="archive"} 2.0',
        'eventserver_handler_lag_frames{handler="archive"} 3.0',
        'eventserver_handler_lag_seconds{handler="archive"} 0.25',
        "# TYPE eventserver_journal_bytes gauge",
        "eventserver_journal_bytes 4096.0",
        "# TYPE eventserver_journal_commits_total counter",
        "eventserver_journal_commits_total 7.0",
        'eventserver_journal_dead_letters{handler="archive"} 1.0',
        "eventserver_ready 1.0",
    ):
        assert line in reply.text.splitlines()
    assert "\nprocess_resident_memory_bytes " in reply.text
    assert "\neventserver_build_info{" in reply.text


def test_every_metric_has_a_type_and_a_help_sentence_and_one_name_each(server: Server) -> None:
    lines = server.ask("/metrics").text.splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE eventserver")]
    helps = [line.split(" ", 3) for line in lines if line.startswith("# HELP eventserver")]
    assert len(types) == len(set(types))
    assert set(types) >= {reading.name for reading in (*LISTENER, *HANDLER)}
    assert {name for _, _, name, _ in helps} == set(types)
    assert all(text.endswith(".") for _, _, _, text in helps)


def test_label_values_are_bounded_and_the_sum_stays_right(server: Server) -> None:
    """However many reasons there are, the page names 200, and their sum is that of the counter."""
    server.status.listener.rejected = Counter({f"reason{n}": 1 for n in range(5000)})
    lines = [
        line for line in server.ask("/metrics").text.splitlines() if line.startswith("eventserver_frames_rejected")
    ]
    assert len(lines) == MAX_LABEL_VALUES
    assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) == 5000
    assert (
        f'eventserver_frames_rejected_total{{listener="lines",reason="other"}} {5000 - MAX_LABEL_VALUES + 1}.0' in lines
    )


def test_a_page_that_fails_is_a_500_without_a_traceback(server: Server, logged_failures: Any) -> None:
    server.status.ready = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]  # a bug, for the test
    reply = server.ask("/ready")
    assert (reply.code, reply.text) == (500, "internal error; see the log\n")
    assert len(logged_failures(ZeroDivisionError)) == 1


def test_head_gives_the_headers_alone(server: Server) -> None:
    reply = server.ask("/live", "HEAD")
    assert (reply.code, reply.body) == (200, b"")
    assert reply.headers["content-length"] == "5"


def test_the_headers_are_exactly_these(server: Server) -> None:
    assert set(server.ask("/live").headers) == {
        "date",
        "server",
        "content-type",
        "content-length",
        "cache-control",
        "x-content-type-options",
        "content-security-policy",
        "connection",
    }
    assert server.ask("/live").headers["server"] == "eventserver"


def test_the_status_of_these_tests_is_one() -> None:
    assert verifyObject(IStatus, Status())
