"""The figures of an interval as Graphite's plaintext, under the names that statsd's Graphite backend gives. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eventserver.handlers._statsd_figures import Interval, Key
from eventserver.handlers._statsd_timers import timer_figures

#: Longer names, tags included, are refused: file systems and Graphite's databases have such limits, too.
LONGEST = 1024

#: Up to here doubles have all whole numbers.
_WHOLE = 2.0**53
_SPACES = re.compile(r"\s+")
#: What statsd takes out of names.
_UNWANTED = re.compile(r"[^a-zA-Z_\-0-9.=]")


class Path(NamedTuple):
    """A series: its name, and its tags as they stand behind a path (`";env=prod"`, or empty)."""

    name: str
    tags: str


def path_of(name: str, tags: Mapping[str, Any]) -> Path | None:
    """The series of a name with tags, cleaned as statsd does it; None where nothing is left, or it is too long.

    A name may have tags inside, as Graphite writes them (`name;tag=value`). Tags are sorted, so that their order makes
    no other series. One without a value has the value `true`, since Graphite has no empty ones; a key with several
    values has them with `_` between.
    """
    base, *inside = name.split(";", LONGEST)
    size = len(name)
    found: dict[str, str] = {}
    for text in inside:
        key, _, value = text.partition("=")
        found[_tag(key)] = _tag(value)
    for key, several in tags.items():
        value = "_".join(map(str, several)) if isinstance(several, list) else str(several)
        size += len(str(key)) + len(value) + 2
        if size > LONGEST:
            return None
        found[_tag(str(key))] = _tag(value)
    found.pop("", None)
    cleaned = _clean(base)
    if not cleaned or size > LONGEST:
        return None
    return Path(cleaned, "".join(f";{key}={value or 'true'}" for key, value in sorted(found.items())))


def _clean(text: str) -> str:
    return _UNWANTED.sub("", _SPACES.sub("_", text).replace("/", "-"))


def _tag(text: str) -> str:
    # These would end the tag, or its name.
    return _clean(text.replace(";", "_").replace("=", "_"))


class Names(NamedTuple):
    """The prefixes of statsd's Graphite backend. With `legacy` they are those of its `legacyNamespace`."""

    legacy: bool
    prefix: str
    counters: str
    timers: str
    gauges: str
    sets: str
    suffix: str

    def namespace(self, part: str) -> str:
        """What comes before the name of a series, with the dot behind it."""
        if self.legacy:
            return "stats." if part == self.counters else f"stats.{part}."
        return "".join(f"{each}." for each in (self.prefix, part) if each)


LEGACY = Names(True, "stats", "", "timers", "gauges", "sets", "")


def lines(
    interval: Interval, names: Names, *, seconds: float, time: int, percentiles: Sequence[float]
) -> Iterator[str]:
    """The lines of one flush, without LF: rates are for `seconds`, `time` is in seconds since 1970."""
    for path, value, second in _figures(interval, names, seconds, percentiles):
        if math.isfinite(value):
            yield f"{path} {number(value)} {time if second is None else second}"


def _figures(
    interval: Interval, names: Names, seconds: float, percentiles: Sequence[float]
) -> Iterator[tuple[str, float, int | None]]:
    suffix = f".{names.suffix}" if names.suffix else ""
    counters: dict[Key, float] = dict(interval.counters)
    counters[Path("statsd.metrics_received", "")] = interval.received
    counters[Path("statsd.bad_lines_seen", "")] = interval.ignored
    prefix = names.namespace(names.counters)
    counts, rate, count = ("stats_counts.", "", "") if names.legacy else (prefix, ".rate", ".count")
    for (name, tags), value in counters.items():
        yield f"{prefix}{name}{rate}{suffix}{tags}", value / seconds, None
        yield f"{counts}{name}{count}{suffix}{tags}", value, None
    prefix = names.namespace(names.timers)
    for (name, tags), timer in interval.timers.items():
        for figure, value in timer_figures(timer.values, timer.count, seconds, percentiles).items():
            yield f"{prefix}{name}.{figure}{suffix}{tags}", value, None
    prefix = names.namespace(names.gauges)
    for (name, tags), value in interval.gauges.items():
        yield f"{prefix}{name}{suffix}{tags}", value, None
    for (kind, (name, tags), second), value in interval.timed.items():
        where = f"{prefix}{name}" if kind == "gauge" else f"{counts}{name}{count}"
        yield f"{where}{suffix}{tags}", value, second
    prefix = names.namespace(names.sets)
    for (name, tags), size in interval.sets.items():
        yield f"{prefix}{name}.count{suffix}{tags}", size, None
    series = len(counters) + len(interval.timers) + len(interval.gauges) + len(interval.sets)
    yield f"{'' if names.legacy else names.namespace('')}statsd.numStats{suffix}", series, None


def number(value: float) -> str:
    """A finite number as Graphite reads it; whole ones without a point."""
    return str(int(value)) if value == int(value) and abs(value) < _WHOLE else repr(float(value))
