"""The figures of statsd as a page in Prometheus' exposition format. Pure.

Prometheus counts from the start and makes rates itself: counters, and the counts and sums of timers, only grow here.
Gauges, sets and the quantiles of timers are those of the last interval that is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventserver.handlers._statsd_figures import Interval, Key, Timer
from eventserver.handlers._statsd_timers import label, timer_figures

#: Longer names, tags included, are refused.
LONGEST = 1024
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_UNWANTED = re.compile(r"[^a-zA-Z0-9_]")
#: Label names that mean something in the format.
_RESERVED = ("quantile", "le")


def series_of(name: str, tags: Mapping[str, Any]) -> Key | None:
    """The series of a name with tags, as names of Prometheus: what these do not allow becomes `_`. None if too long."""
    labels: dict[str, str] = {}
    size = len(name)
    for key, value in tags.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        size += len(str(key)) + len(text)
        if size > LONGEST:
            return None
        # An empty label is none, and a tag without a value says something.
        labels[_label(str(key))] = text or "true"
    cleaned = _name(name)
    return (cleaned, tuple(sorted(labels.items()))) if size <= LONGEST and cleaned.strip("_") else None


def _name(text: str) -> str:
    cleaned = _UNWANTED.sub("_", text)
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned


def _label(text: str) -> str:
    cleaned = _name(text).lstrip("_") or "tag"
    return f"tag_{cleaned}" if cleaned in _RESERVED or cleaned[0].isdigit() else cleaned


class _Summary(NamedTuple):
    """A timer: what it was since the start, and its last quantiles."""

    number: float
    total: float
    quantiles: dict[str, float]


class Figures(NamedTuple):
    """An interval, with the summaries of its timers."""

    interval: Interval
    summaries: dict[Key, _Summary]


class Totals(Collector):
    """What the page shows: updated with each interval. `percentiles` from 0 to 100 become quantiles."""

    def __init__(self, percentiles: Sequence[float]) -> None:
        self._percentiles = [(each, label(each)) for each in percentiles if each > 0]
        self._counters: dict[Key, float] = {}
        self._timers: dict[Key, _Summary] = {}
        self._gauges: dict[Key, float] = {}
        self._sets: dict[Key, int] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    @property
    def size(self) -> int:
        """Series on the page."""
        return len(self._counters) + len(self._timers) + len(self._gauges) + len(self._sets)

    def figures_of(self, interval: Interval) -> Figures:
        """What is to be shown of an interval. May be called in a thread, as `page` may be."""
        return Figures(interval, {key: self._summary(timer) for key, timer in interval.timers.items()})

    def update(self, figures: Figures) -> None:
        """Add what an interval brought; series that it does not have any more are gone."""
        interval, counted, timed = figures.interval, self._counters, self._timers
        # New objects each time: a thread may be making a page of the old ones.
        self._counters = {key: counted.get(key, 0.0) + value for key, value in interval.counters.items()}
        self._timers = {
            key: _Summary(before.number + now.number, before.total + now.total, now.quantiles)
            for key, now in figures.summaries.items()
            for before in (timed.get(key, _NOTHING),)
        }
        self._gauges = interval.gauges
        self._sets = interval.sets

    def page(self) -> bytes:
        """The page as it is now."""
        return generate_latest(self._registry)

    def _summary(self, timer: Timer) -> _Summary:
        # Without a unit of ours: statsd's timers are milliseconds by convention, histograms whatever they are.
        figures = timer_figures(timer.values, timer.count, 1.0, [each for each, _ in self._percentiles])
        quantiles = {
            f"{percentile / 100:.12g}": figures[f"upper_{name}"]
            for percentile, name in self._percentiles
            if f"upper_{name}" in figures
        }
        return _Summary(figures["count"], figures.get("mean", 0.0) * figures["count"], quantiles)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would otherwise collect at once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families; two of one name and different types would be a page that nobody can read."""
        taken: set[str] = set()
        yield from _families("counter", self._counters, taken)
        yield from _families("summary", self._timers, taken)
        yield from _families("gauge", self._gauges, taken)
        yield from _families("gauge", self._sets, taken, "set")


_NOTHING = _Summary(0.0, 0.0, {})

#: What a family's samples are called behind its name.
_SUFFIXES = {"counter": ("_total",), "summary": ("", "_count", "_sum"), "gauge": ("",)}


def _families(type_: str, series: Mapping[Key, Any], taken: set[str], word: str = "") -> Iterator[Metric]:
    families: dict[str, dict[Any, Any]] = {}
    for (name, labels), value in series.items():
        rows = families.setdefault(name.removesuffix("_total") if type_ == "counter" else name, {})
        # A counter `x` and another that is called `x_total` are one here.
        rows[labels] = value + rows[labels] if labels in rows else value
    for wanted, rows in families.items():
        name = wanted
        while not taken.isdisjoint(f"{name}{suffix}" for suffix in _SUFFIXES[type_]):
            name += f"_{word or type_}"
        taken.update(f"{name}{suffix}" for suffix in _SUFFIXES[type_])
        family = Metric(name, f"statsd {word or type_}", type_)
        for labels, value in rows.items():
            _add_samples(family, dict(labels), value)
        yield family


def _add_samples(family: Metric, labels: dict[str, str], value: Any) -> None:
    if not isinstance(value, _Summary):
        family.add_sample(f"{family.name}_total" if family.type == "counter" else family.name, labels, value)
        return
    for quantile, boundary in value.quantiles.items():
        family.add_sample(family.name, {**labels, "quantile": quantile}, boundary)
    family.add_sample(f"{family.name}_count", labels, value.number)
    family.add_sample(f"{family.name}_sum", labels, value.total)
