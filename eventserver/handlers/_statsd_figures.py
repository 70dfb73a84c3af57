"""What statsd's aggregation keeps between two flushes. Sans-I/O, no clock.

As statsd has it (`docs/metric_types.md`): counters are added up, gauges keep their value, timers keep all values of an
interval, sets their different members. Histograms and distributions of DogStatsD are timers here.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from eventserver.event import Event

#: Beyond it a number is refused: sums and squares of such numbers are no figures.
_LARGEST = 1e300
#: Combinations of a name and tags whose key is remembered.
_REMEMBERED = 10_000
#: Reasons not to take an event.
NOT_A_METRIC = "not_a_metric"
BAD_METRIC = "bad_metric"
_TIMERS = ("timer", "histogram", "distribution")

#: A series: its name, and its tags in whatever form the output needs.
Key: TypeAlias = tuple[str, Hashable]
#: The series that a name with these tags belongs to; None if it cannot be one.
KeyOf = Callable[[str, Mapping[str, Any]], Key | None]
_NO_TAGS: Mapping[str, Any] = {}


class Timer:
    """The values of one timer in one interval, and the number that they stand for with their sample rates."""

    __slots__ = ("count", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self.count = 0.0


class Interval(NamedTuple):
    """What was received between two flushes, idle series included; of sets the sizes.

    `timed` are values with a time stamp, by type, key and second. `received` values were taken, `ignored` metrics not.
    """

    counters: dict[Key, float]
    gauges: dict[Key, float]
    timers: dict[Key, Timer]
    sets: dict[Key, int]
    timed: dict[tuple[str, Key, int], float]
    received: int
    ignored: int

    @property
    def size(self) -> int:
        """How much work its figures are: series and values."""
        values = sum(len(timer.values) for timer in self.timers.values())
        return len(self.counters) + len(self.gauges) + len(self.timers) + len(self.sets) + len(self.timed) + values


class Aggregation:
    """Adds up events until they are flushed.

    `ignored` counts by reason what is not taken: `not_a_metric`, `bad_metric` (one that could not be read, or with
    fields that are wrong), `bad_name` (of which `key_of` makes nothing), `negative_timer`, `too_many_names` (series),
    and `too_many_values` (of timers and sets in one interval). With `timed`, counters and gauges with a time stamp are
    kept by it. With `delete_idle` a series that got nothing in an interval is forgotten; else only where there is no
    room for another.
    """

    def __init__(
        self, key_of: KeyOf, ignored: Counter[str], *, max_names: int, max_values: int, delete_idle: bool, timed: bool
    ) -> None:
        self._key_of = key_of
        self._ignored = ignored
        self._max_names = max_names
        self._max_values = max_values
        self._delete_idle = delete_idle
        self._timed = timed
        #: The series there are, idle ones included; of gauges the value before this interval.
        self._known: dict[str, dict[Key, float]] = {kind: {} for kind in ("counter", "gauge", "timer", "set")}
        self._keys: dict[str, Key] = {}
        self._tagged: dict[tuple[str, int], tuple[Any, Key]] = {}
        self._full = False
        self._begin()

    @property
    def names(self) -> int:
        """How many series there are."""
        return sum(map(len, self._known.values()))

    def _begin(self) -> None:
        # What got something in this interval.
        self._counters: dict[Key, float] = {}
        self._gauges: dict[Key, float] = {}
        self._timers: dict[Key, Timer] = {}
        self._sets: dict[Key, set[int]] = {}
        self._at: dict[tuple[str, Key, int], float] = {}
        self._values = self._received = self._refused = 0

    def add(self, events: Iterable[Event]) -> None:
        """Take what is a metric among the events. Never raises, whatever their fields are."""
        received = refused = 0
        for event in events:
            reason = self._add(event.fields)
            if reason is None:
                received += 1
            else:
                refused += reason != NOT_A_METRIC
                self._ignored[reason] += 1
        self._received += received
        self._refused += refused

    def flush(self) -> Interval:
        """What was received since the last flush; what comes next begins anew.

        Series stay, as with statsd: counters with 0, timers and sets empty, gauges with their value.
        """
        known = self._known
        sizes = {key: len(members) for key, members in self._sets.items()}
        if self._delete_idle:
            interval = (self._counters, self._gauges, self._timers, sizes)
        else:
            interval = (
                dict.fromkeys(known["counter"], 0.0) | self._counters,
                known["gauge"] | self._gauges,
                {key: Timer() for key in known["timer"]} | self._timers,
                dict.fromkeys(known["set"], 0) | sizes,
            )
        done = Interval(*interval, self._at, self._received, self._refused)
        if self._delete_idle or self._full:
            self._known = {
                "counter": dict.fromkeys(self._counters, 0.0),
                "gauge": dict(self._gauges),
                "timer": dict.fromkeys(self._timers, 0.0),
                "set": dict.fromkeys(self._sets, 0.0),
            }
        else:
            known["gauge"] = known["gauge"] | self._gauges
        self._full = False
        self._begin()
        return done

    def _add(self, fields: Mapping[str, Any]) -> str | None:
        """Take one metric; the reason if it is not taken."""
        name, kind = fields.get("name"), fields.get("metric_type")
        value: Any = fields.get("value")
        if type(name) is not str or type(kind) is not str:
            return BAD_METRIC if kind is not None or "error" in fields else NOT_A_METRIC
        if kind == "set":
            if type(value) is not str:
                return BAD_METRIC
        elif (type(value) is not int and type(value) is not float) or not -_LARGEST < value < _LARGEST:
            return BAD_METRIC
        tags = fields.get("tags")
        key = self._keys.get(name) if not tags else self._remembered(name, tags)
        if key is None and (key := self._read_key(name, tags)) is None:
            return "bad_name"
        if kind == "set":
            return self._add_member(key, value)
        rate = fields.get("sample_rate", 1)
        if (type(rate) is not int and type(rate) is not float) or not 1 / _LARGEST < rate < _LARGEST:
            return BAD_METRIC
        if kind == "counter":
            value = value / rate
            if not -_LARGEST < value < _LARGEST:
                return BAD_METRIC  # infinite, it would stay so for ever
        if self._timed and "timestamp" in fields and kind in ("counter", "gauge"):
            return self._add_timed(kind, key, value, fields["timestamp"])
        if kind == "counter":
            return self._add_counter(key, value)
        if kind == "gauge":
            return self._add_gauge(key, value, fields.get("delta") is True)
        if kind not in _TIMERS:
            return BAD_METRIC
        return "negative_timer" if value < 0 and kind == "timer" else self._add_time(key, value, 1 / rate)

    def _add_counter(self, key: Key, value: float) -> str | None:
        before = self._counters.get(key)
        if before is None:
            if not self._room("counter", key):
                return "too_many_names"
            before = 0.0
        self._counters[key] = before + value
        return None

    def _add_gauge(self, key: Key, value: float, delta: bool) -> str | None:
        before = self._gauges.get(key)
        if before is None:
            if not self._room("gauge", key):
                return "too_many_names"
            before = self._known["gauge"][key]
        self._gauges[key] = before + value if delta else value
        return None

    def _add_time(self, key: Key, value: float, weight: float) -> str | None:
        if self._values >= self._max_values:
            return "too_many_values"
        timer = self._timers.get(key)
        if timer is None:
            if not self._room("timer", key):
                return "too_many_names"
            timer = self._timers[key] = Timer()
        timer.values.append(value)
        timer.count += weight
        self._values += 1
        return None

    def _add_member(self, key: Key, value: str) -> str | None:
        members = self._sets.get(key)
        # The hash: members may be long, and two of 64 bits are the same once in a great while.
        member = hash(value or "0")
        if members is not None and member in members:
            return None
        if self._values >= self._max_values:
            return "too_many_values"
        if members is None:
            if not self._room("set", key):
                return "too_many_names"
            members = self._sets[key] = set()
        members.add(member)
        self._values += 1
        return None

    def _add_timed(self, kind: str, key: Key, value: float, second: object) -> str | None:
        if type(second) is not int or second < 0:
            return BAD_METRIC
        before = self._at.get((kind, key, second))
        if before is None and self.names + len(self._at) >= self._max_names:
            self._full = True
            return "too_many_names"
        self._at[kind, key, second] = value if kind == "gauge" else value + (before or 0.0)
        return None

    def _room(self, kind: str, key: Key) -> bool:
        """Whether the series is known, or may become so."""
        known = self._known[kind]
        if key in known:
            return True
        if self.names + len(self._at) >= self._max_names:
            self._full = True
            return False
        known[key] = 0.0
        return True

    def _remembered(self, name: str, tags: Any) -> Key | None:
        # Decoders give the same object for the same tags; it is held here, so that nothing else gets its id.
        found = self._tagged.get((name, id(tags)))
        return None if found is None else found[1]

    def _read_key(self, name: str, tags: Any) -> Key | None:
        key = self._key_of(name, tags if isinstance(tags, Mapping) else _NO_TAGS)
        if key is not None:
            if len(self._keys) + len(self._tagged) >= _REMEMBERED:
                self._keys.clear()
                self._tagged.clear()
            if tags:
                self._tagged[name, id(tags)] = tags, key
            else:
                self._keys[name] = key
        return key
