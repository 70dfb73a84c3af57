"""statsd and DogStatsD: metrics, and DogStatsD's events and service checks; one a line, several lines a frame.

A metric is one event for each value. Its `message` is the line, as it is with this value alone; its fields:

| field | what |
|---|---|
| `name` | as it was sent |
| `metric_type` | `counter`, `gauge`, `timer`, `histogram`, `distribution` or `set` |
| `value` | a number; of a set, text |
| `delta` | true for a gauge with a sign: the value is a change, unless `signed_gauges = "value"` |
| `sample_rate` | only where it was sent |
| `tags` | `{key: value}`; `""` for a tag without a value, a list for a key that is repeated |
| `timestamp` | seconds since 1970, where sent: also the event's `time` |
| `container_id`, `external_data`, `cardinality` | as they were sent |

An event of DogStatsD is of type `statsd_event`: `message` is its text, and it has `title`, `alert_type`, `hostname`,
`aggregation_key`, `priority`, `source_type`. A service check is of type `statsd_service_check`: `name`, `status` (`ok`,
`warning`, `critical`, `unknown`), `status_code`, `hostname`. Both have `severity` and `severity_code`, and `tags`.

A line that cannot be read, or one with a value that cannot, gives an `undecodable` event; its raw bytes are the line.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._statsd_events import read_event, read_service_check
from eventserver.decoders._statsd_lines import EVENT, SERVICE_CHECK, Lines
from eventserver.decoders._texts import BOM
from eventserver.event import Batch, Event, with_raw
from eventserver.interfaces import IDecoder
from eventserver.options import Doc, Size

#: What is dropped from the ends of a line.
_ENDS = b"\r\0"


class StatsdOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `statsd`."""

    max_unpacked: Annotated[
        Size,
        Doc(
            "What the values of one line may take, each with the line's name and tags, and 128 bytes more; values"
            " beyond that are undecodable.",
            "1 MiB",
        ),
    ] = Size(1 << 20)
    signed_gauges: Annotated[
        Literal["change", "value"],
        Doc(
            'What a gauge with a sign says: "change", as for statsd; or "value", as for Datadog, whose clients send '
            "values below 0 so.",
            "value",
        ),
    ] = "change"


class _Item(NamedTuple):
    """An event in the making: what a line, or one of its values, gives."""

    type: str
    message: str
    fields: dict[str, Any]
    time: dt.datetime | None


@implementer(IDecoder)
class StatsdDecoder:
    """Any number of events a frame. The module's documentation says what they are."""

    Options = StatsdOptions

    def __init__(self, options: StatsdOptions | None = None) -> None:
        options = options or StatsdOptions()
        self._type = options.event_type or "statsd"
        self._lines = Lines(options.max_unpacked, options.signed_gauges == "change")

    def decode(self, batch: Batch) -> list[Event]:
        """The events of all lines. Never raises."""
        names, numbers, tails = self._lines.names, self._lines.numbers, self._lines.tails
        batch_id, received, listener, kind = batch.id, batch.received, batch.listener, self._type
        events: list[Event] = []
        add = events.append
        for frame, suffix, peer, context in zip(
            batch.frames, suffixes(batch), peers(batch), contexts(batch), strict=False
        ):
            event_id, first = batch_id + suffix, len(events)
            lines = frame.split(b"\n") if b"\n" in frame else [frame]
            cut = lines[-1] if context is not batch.context and "truncated" in context else None
            for line in lines:
                if not line:
                    continue
                name, _, rest = line.partition(b":")
                value, _, tail = rest.partition(b"|")
                end, number, text = tails[tail], numbers[value], names[name]
                # The usual line: one number, and nothing that depends on it.
                known = line is not cut and number is not None and text is not None
                if known and end is not None and end.plain and line.isascii():
                    fields = {"name": text, "value": number, **end.fields}
                    ready = event_id if len(events) == first else f"{event_id}.{len(events) - first}"
                    add(Event(ready, received, received, listener, peer, kind, line.decode(), fields, context))
                    continue
                for item in self._items(line) if line is not cut else _cut_off(line):
                    ready = event_id if len(events) == first else f"{event_id}.{len(events) - first}"
                    time = item.time or received
                    event = Event(ready, time, received, listener, peer, item.type, item.message, item.fields, context)
                    add(with_raw(event, line) if item.type == "undecodable" or not _is_utf_8(line) else event)
        return events

    def _items(self, line: bytes) -> Iterator[_Item]:
        """What one line gives, whatever it holds; nothing for an empty one."""
        line = line.removeprefix(BOM).strip(_ENDS)
        if not line:
            return
        if line.startswith(EVENT):
            found, suffix = read_event(line), "_event"
        elif line.startswith(SERVICE_CHECK):
            found, suffix = read_service_check(line), "_service_check"
        else:
            yield from self._metrics(line)
            return
        if isinstance(found, str):
            yield _Item("undecodable", _text(line), {"error": found}, None)
        else:
            yield _Item(self._type + suffix, found.message, found.fields, found.time)

    def _metrics(self, line: bytes) -> Iterator[_Item]:
        """One event for each value, and one for all that is wrong with the line: its raw bytes are the whole line."""
        whole = None
        for metric in self._lines.read(line):
            if not isinstance(metric, str):
                yield _Item(self._type, _text(metric.line), metric.fields, metric.time)
            elif whole is None:
                whole = _text(line)
                yield _Item("undecodable", whole, {"error": metric}, None)


def _cut_off(line: bytes) -> Iterator[_Item]:
    """The last line of a frame that was cut: what it had may be a wrong value, or the wrong tags."""
    if line:
        yield _Item("undecodable", _text(line), {"error": "the line was cut off"}, None)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
