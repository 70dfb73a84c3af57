"""The lines of statsd and DogStatsD that carry metrics: `name:value|type`, and what may come behind the type.

Sources: statsd's `docs/metric_types.md` and its server (several values after one name); Datadog's datagram format,
protocols 1.0 to 1.6 (packed values, container ids, time stamps, external data, cardinality).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from eventserver.decoders._memo import Memo

#: What begins a line that is no metric.
EVENT = b"_e{"
SERVICE_CHECK = b"_sc|"

#: What stands behind the first `|`, and the metric type that it means.
TYPES = {
    b"c": "counter",
    b"g": "gauge",
    b"ms": "timer",
    b"h": "histogram",
    b"d": "distribution",
    b"s": "set",
}

_NUMBER = re.compile(rb"[0-9]+|[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,3})?|[0-9]+\.")
#: Python reads no integer of more digits than some thousands, and JSON readers want doubles anyway.
_LONGEST_INTEGER = 15
_LONGEST_NUMBER = 64
_SIGNS = (b"+", b"-")
#: What may end a line besides its LF; it is taken off before a tail is read again.
_ENDS = (b"\r", b"\0")
#: What an event takes besides its texts, roughly: so many short values are bounded, too.
_EVENT = 128
#: As far as Python's dates reach.
_LAST_SECOND = 253402300799

Tags = dict[str, str | list[str]]
Number = int | float


class Tail(NamedTuple):
    """What is behind the value: the fields that it gives, and the time of the metric if it names one.

    `plain`: the value in front of it is one number without a sign, or more than that has to be looked at.
    """

    fields: dict[str, Any]
    time: dt.datetime | None
    plain: bool


class Metric(NamedTuple):
    """One value: the line that it would have alone, the fields of its event, and its time if it has one."""

    line: bytes
    fields: dict[str, Any]
    time: dt.datetime | None


def read_number(text: bytes) -> Number | None:
    """A decimal number without a sign; None for anything else, infinity and NaN among it."""
    text = text.strip(b" ")
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    if text.isdigit() and len(text) <= _LONGEST_INTEGER:
        return int(text)
    number = float(text)
    return number if number < float("inf") else None


def read_name(name: bytes) -> str | None:
    """A metric's name; None for one that is empty, or begins as an event or a service check does."""
    if not name.strip() or name.startswith((EVENT, SERVICE_CHECK)):
        return None
    return _text(name)


def read_tags(text: bytes) -> Tags:
    """Tags as `key:value` with commas between: a key that is repeated has a list; a tag without a value has `""`."""
    tags: Tags = {}
    for tag in text.decode("utf-8", "replace").split(","):
        key, _, value = tag.partition(":")
        if not tag:
            continue
        before = tags.get(key)
        if before is None:
            tags[key] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            tags[key] = [before, value]
    return tags


def read_second(text: bytes) -> dt.datetime | None:
    """Seconds since 1970, as a time; None for what is no such number."""
    if not text.isdigit() or len(text) > len(str(_LAST_SECOND)) or int(text) > _LAST_SECOND:
        return None
    return dt.datetime.fromtimestamp(int(text), dt.UTC)


def add_common(part: bytes, fields: dict[str, Any]) -> None:
    """Add what metrics, events and service checks have in common; a part that nobody knows is passed over."""
    if part[:1] == b"#":
        if tags := read_tags(part[1:]):
            fields["tags"] = tags
    elif part[:2] == b"c:":
        fields["container_id"] = _text(part[2:])
    elif part[:2] == b"e:":
        fields["external_data"] = _text(part[2:])
    elif part[:5] == b"card:":
        fields["cardinality"] = _text(part[5:])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def read_tail(tail: bytes) -> Tail | None:
    """What follows the first `|`; None if it begins with no known type, or a part of it is wrong."""
    kind, *parts = tail.split(b"|")
    metric_type = TYPES.get(kind.strip(b" "))
    if metric_type is None or tail.endswith(_ENDS):
        return None
    fields: dict[str, Any] = {"metric_type": metric_type}
    time = None
    for part in parts:
        if part[:1] == b"@":
            rate = read_number(part[1:])
            if not rate:
                return None
            fields["sample_rate"] = rate
        elif part[:1] == b"T":
            time = read_second(part[1:])
            if time is None:
                return None
            fields["timestamp"] = int(part[1:])
        else:
            add_common(part, fields)
    return Tail(fields, time, plain=time is None and metric_type != "set")


class Lines:
    """Reads lines that are not the usual case, and has the memory of those that are.

    `names`, `numbers` and `tails` are looked up in the decoder's loop; `read` takes whatever these cannot do.
    `max_unpacked` bounds, in bytes, what the values of one line would take with the line's name and tags for each, and
    `_EVENT` bytes more. With `signed_changes` a gauge with a sign is a change.
    """

    def __init__(self, max_unpacked: int, signed_changes: bool = True) -> None:
        self.names: Memo[str] = Memo(read_name)
        self.numbers: Memo[Number] = Memo(read_number, longest=_LONGEST_NUMBER)
        self.tails: Memo[Tail] = Memo(read_tail, longest=1024)
        self._max_unpacked = max_unpacked
        self._signed_changes = signed_changes

    def read(self, line: bytes) -> Iterator[Metric | str]:
        """The metrics of a line, one for each value; a text says what is wrong with one.

        Several values come packed (`n:1:2:3|c`, protocol 1.1), or each with a type of its own (`n:1|c:2|ms`, statsd).
        """
        name, colon, rest = line.partition(b":")
        text = self.names[name]
        if not colon or text is None:
            yield "no name and value: name:value|type is needed"
            return
        room = max(self._max_unpacked, len(line) + _EVENT)
        for section in sections(rest):
            values, bar, tail = section.partition(b"|")
            found = self.tails[tail]
            if found is None:
                yield why_not(tail) if bar else "no type: name:value|type is needed"
                continue
            metric_type = found.fields["metric_type"]
            for value in [values] if metric_type == "set" else values.split(b":"):
                room -= len(name) + len(value) + len(tail) + _EVENT
                if room < 0:
                    yield "more values than `max_unpacked` has room for"
                    return
                yield self._metric(text, b"%b:%b|%b" % (name, value, tail), value, found)

    def _metric(self, name: str, line: bytes, value: bytes, tail: Tail) -> Metric | str:
        metric_type = tail.fields["metric_type"]
        if metric_type == "set":
            return Metric(line, {"name": name, "value": _text(value), **tail.fields}, tail.time)
        stripped = value.strip(b" ")
        sign = stripped[:1]
        number = self.numbers[stripped[1:] if sign in _SIGNS else stripped]
        if number is None:
            return "the value is not a number"
        fields = {"name": name, "value": -number if sign == b"-" else number, **tail.fields}
        if sign in _SIGNS and metric_type == "gauge" and self._signed_changes:
            fields["delta"] = True
        return Metric(line, fields, tail.time)


def sections(rest: bytes) -> Iterator[bytes]:
    """What follows the name, cut where statsd's server begins another value: behind a type, or behind a rate.

    A colon behind the tags, or in a part such as `c:ID`, begins nothing.
    """
    head, hash_, tags = rest.partition(b"|#")
    # The tags at the end of a line are those of all its values.
    shared = hash_ + tags.partition(b"|")[0]
    parts: list[bytes] = []
    for part in head.split(b"|"):
        # The first part is the values, the second the type; a rate may follow.
        first, colon, value = part.partition(b":") if parts else (part, b"", b"")
        if colon and (len(parts) == 1 or first[:1] == b"@"):
            yield b"|".join([*parts, first]) + shared
            parts = [value]
        else:
            parts.append(part)
    yield b"|".join(parts) + hash_ + tags


def why_not(tail: bytes) -> str:
    """What is wrong with a tail that cannot be read, for people."""
    kind, *parts = tail.split(b"|")
    if kind.strip(b" ") not in TYPES:
        return "unknown type: one of c, g, ms, h, d, s is needed"
    if any(part[:1] == b"@" and not read_number(part[1:]) for part in parts):
        return "the sample rate is not a number above 0"
    return "the time stamp is not a number of seconds"
