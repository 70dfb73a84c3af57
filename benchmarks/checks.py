"""Is the output complete and right? Nothing shall be won by not doing the work."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.scenarios import Scenario

NUMBER = re.compile(rb"seq=(\d{10})")
#: Keys of an event of eventserver, all of them, in their order.
KEYS = ["id", "time", "received", "listener", "peer", "type", "message", "fields"]
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}-\d+")
SAMPLES = 400


class WrongOutput(Exception):
    """A server's output is not what was asked for."""


def sample(path: Path, count: int = SAMPLES) -> Iterator[bytes]:
    """Whole lines from all over a file, the first and the last one among them."""
    size = path.stat().st_size
    if size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield text[: text.find(b"\n") + 1 or size]
        for number in range(1, count):
            start = text.find(b"\n", size * number // count) + 1
            if 0 < start < size:
                yield text[start : text.find(b"\n", start) + 1 or size]
        last = text.rfind(b"\n", 0, size - 1) + 1
        yield text[last:]


def _same(name: str, wanted: object, got: object) -> bool:
    """Whether a peer's value is the wanted one, be it written as another type or in another zone."""
    if name == "time":
        first, second = (datetime.fromisoformat(str(value)) for value in (wanted, got))
        return first.replace(tzinfo=first.tzinfo or UTC) == second.replace(tzinfo=second.tzinfo or UTC)
    if name == "message":
        # RFC 3164 leaves open whether the space behind the tag belongs to the message; rsyslog keeps it.
        return str(wanted) == str(got).removeprefix(" ")
    if isinstance(wanted, float):
        return wanted == float(str(got))
    return str(wanted) == str(got)


def check_peer_line(scenario: Scenario, keys: frozenset[str], line: bytes, number: int) -> None:
    """One line of a peer: every value that its configuration asks for."""
    variant = scenario.payload.variant(number)
    event = variant.event(number)
    wanted = {**{name: value for name, value in event.items() if name != "fields"}, **event["fields"]}
    wanted["structured_data"] = variant.structured_data
    got = json.loads(line)
    for name in sorted(keys):
        if name not in got or not _same(name, wanted[name], got[name]):
            raise WrongOutput(f"line {number}: {name} is {got.get(name)!r}, not {wanted[name]!r}")


def check_event(scenario: Scenario, line: bytes, number: int, began: datetime, ended: datetime) -> str:
    """One line of eventserver: everything it holds. Returns the event's id."""
    event: dict[str, Any] = json.loads(line)
    wanted: Mapping[str, Any] = scenario.payload.variant(number).event(number)
    if list(event) != KEYS:
        raise WrongOutput(f"line {number}: the keys are {list(event)}")
    received = datetime.fromisoformat(event["received"])
    for name in ("message", "type", "fields"):
        if event[name] != wanted[name]:
            raise WrongOutput(f"line {number}: {name} is {event[name]!r}, not {wanted[name]!r}")
    if datetime.fromisoformat(event["time"]) != (
        datetime.fromisoformat(wanted["time"]).replace(tzinfo=UTC) if "time" in wanted else received
    ):
        raise WrongOutput(f"line {number}: time is {event['time']!r}, not {wanted.get('time', event['received'])!r}")
    listener = "syslog" if scenario.work == "syslog" else "lines"
    if not began <= received <= ended or event["listener"] != listener:
        raise WrongOutput(f"line {number}: received at {event['received']!r} by {event['listener']!r}")
    if not event["peer"].startswith("127.0.0.1:") or not ID.fullmatch(event["id"]):
        raise WrongOutput(f"line {number}: peer is {event['peer']!r}, id is {event['id']!r}")
    return str(event["id"])


def check_sample(
    scenario: Scenario, role: str, keys: frozenset[str] | None, path: Path, began: datetime, ended: datetime
) -> int:
    """Compare lines from all over the output with what was sent; returns how many. Raises `WrongOutput`."""
    ids: dict[str, int] = {}
    checked = 0
    for line in sample(path):
        found = NUMBER.search(line)
        if found is None:
            raise WrongOutput(f"a line without a number: {line[:200]!r}")
        number = int(found.group(1))
        try:
            if keys is None:
                if line != scenario.payload.variant(number).line(number) + b"\n":
                    raise WrongOutput(f"line {number} was changed: {line[:200]!r}")
            elif role == "ours":
                identity = check_event(scenario, line, number, began, ended)
                if ids.setdefault(identity, number) != number:
                    raise WrongOutput(f"lines {number} and {ids[identity]} have the same id")
            else:
                check_peer_line(scenario, keys, line, number)
        except (ValueError, TypeError, AttributeError) as error:
            # Not JSON, or JSON of another shape.
            raise WrongOutput(f"line {number} cannot be read: {error}: {line[:200]!r}") from error
        checked += 1
    return checked


def check_lines(scenario: Scenario, path: Path) -> dict[str, int]:
    """Count every line: `missing`, `duplicates` and `foreign` ones. Only over UDP may lines be missing."""
    counts = load.call("check", file=path, lines=scenario.lines, keep=scenario.payload.keep or None)
    if counts["duplicates"] or counts["foreign"] or counts["unfinished"] or (counts["missing"] and not scenario.udp):
        raise WrongOutput(f"of {scenario.expected} lines: {counts}")
    return counts
