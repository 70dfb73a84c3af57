"""What `eventserver send` shows: a line while it works, and a report at the end."""

from __future__ import annotations

from typing import Any

from eventserver._escaping import escape_text
from eventserver.sending.statistics import PERCENTILES, Latencies, Statistics

_BAR = 24


def progress(statistics: Statistics, total: int | None, seconds: float, width: int) -> str:
    """One line of at most `width` characters: how far it is, how fast, and what the server has said."""
    done = statistics.acknowledged if statistics.acknowledges else statistics.sent
    parts = []
    if total:
        share = min(1.0, done / total)
        filled = int(share * _BAR)
        parts.append(f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%} {done}/{total}")
    else:
        parts.append(f"{statistics.sent} sent")
    parts.append(f"{done / seconds:.0f}/s" if seconds > 0 else "0/s")
    if statistics.acknowledges:
        waiting = statistics.sent - statistics.acknowledged
        parts.append(f"{waiting} unacknowledged")
        if statistics.latencies.count:
            parts.append(f"50% {_time(statistics.latencies.percentile(50))}")
    return "  ".join(parts)[: max(10, width - 1)]


def report(statistics: Statistics) -> str:
    """The whole run, a line for each figure."""
    rows = [
        ("sent", f"{statistics.sent}{f' (and {statistics.resent} of them again)' if statistics.resent else ''}"),
        ("acknowledged", str(statistics.acknowledged) if statistics.acknowledges else "- (the protocol has none)"),
        ("lost", _lost(statistics)),
        ("time", f"{_time(statistics.seconds)}, {_rate(statistics)} events/s"),
    ]
    if statistics.latencies.count:
        rows.append(("latency", _latency(statistics.latencies)))
    lines = [f"{name:13} {value}" for name, value in rows]
    for problem, times in statistics.problems.items():
        lines.append(f"{'problem':13} {escape_text(problem)}{f' ({times} times)' if times > 1 else ''}")
    return "\n".join(lines) + "\n"


def as_object(statistics: Statistics) -> dict[str, Any]:
    """The report for programs; times in seconds."""
    latencies = statistics.latencies
    found = {f"p{percent:g}": round(latencies.percentile(percent), 6) for percent in PERCENTILES}
    return {
        "taken": statistics.taken,
        "sent": statistics.sent,
        "acknowledged": statistics.acknowledged if statistics.acknowledges else None,
        "lost": statistics.lost,
        "refused": statistics.refused,
        "resent": statistics.resent,
        "connections": statistics.connections,
        "cut": statistics.cut,
        "bytes": statistics.bytes,
        "seconds": round(statistics.seconds, 6),
        "latency": {**found, "max": round(latencies.largest, 6)} if latencies.count else None,
        "problems": statistics.problems,
    }


def _lost(statistics: Statistics) -> str:
    text = str(statistics.lost)
    if statistics.acknowledges and statistics.refused:
        return f"{text} ({statistics.refused} refused)"
    return f"{text}, and what a cut connection held" if statistics.cut else text


def _rate(statistics: Statistics) -> str:
    done = statistics.acknowledged if statistics.acknowledges else statistics.sent
    return f"{done / statistics.seconds:.0f}" if statistics.seconds > 0 else "-"


def _latency(latencies: Latencies) -> str:
    parts = [f"{percent:g}% {_time(latencies.percentile(percent))}" for percent in PERCENTILES]
    return ", ".join([*parts, f"max {_time(latencies.largest)}"])


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
    return f"{seconds * 1000:.3g} ms"
