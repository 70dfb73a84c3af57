"""GELF, the Graylog Extended Log Format, 1.0 and 1.1: one JSON object a frame.

JSON is read as the decoder `json` reads it, with its verdicts for odd things and its limits. Of an event's object:

| key | becomes |
|---|---|
| `short_message` (or `message`, where that is missing, or else `full_message`) | the message |
| `timestamp`: seconds since 1970, with a fraction, as a number or as text; also RFC 3339 | the time |
| `host` | `fields["hostname"]` |
| `level`: 0 to 7, as a number or as text; where it is missing, `default_level` | `severity` and `severity_code` |
| `version`: `"1.0"` or `"1.1"` | nothing |
| `_name` | `fields["name"]` |
| anything else | stays in `fields` under its own name: `full_message`, `facility`, `file`, `line`, ... |

- An additional field keeps its underscore where its name without it is taken already, and `_id` does: GELF does not
  allow it, since receivers have an id of their own.
- What cannot be read (a `level` of 40, a `timestamp` that is none) stays in `fields` as it came.
- An object with no message at all is undecodable. `host` is asked for by the specification, and not missed here: the
  peer's address is known.

Chunks and compression are undone before the journal, where datagrams are taken; see `framing/gelf_datagrams.py`.
Source: the GELF specification of Graylog, "GELF Payload Specification", version 1.1 (11/2013).
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, NamedTuple

from msgspec import UNSET
from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, undecodable_element
from eventserver.decoders._severity import SEVERITIES
from eventserver.decoders._timestamps import read_value
from eventserver.decoders.json import JsonDecoder, JsonOptions
from eventserver.event import Batch, Event, frame_index
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: By level, as a number and as text: the two fields that it gives.
_LEVELS: dict[Any, tuple[str, int]] = {code: (name, code) for code, name in enumerate(SEVERITIES)}
_LEVELS |= {str(code): pair for code, pair in list(_LEVELS.items())}
_LEVEL_TYPES = (int, float, str)
#: What is left in the fields where the message is no text, or the time could not be read.
_RARE = frozenset({"short_message", "timestamp"})
_VERSIONS = ("1.1", "1.0")
#: How many plans are remembered, and for how many characters of keys at most.
_MOST_PLANS, _LONGEST = 512, 1024


class GelfOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `gelf`."""

    default_level: Annotated[
        int,
        Doc(
            "The level of messages that name none: 0 (emerg) to 7 (debug). GELF says that it is 1 (alert); "
            "-1: such an event has no severity.",
            6,
            ge=-1,
            le=7,
        ),
    ] = 1
    max_depth: Annotated[int, Doc("How deep objects and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder)
class GelfDecoder:
    """One event for each GELF message."""

    Options = GelfOptions

    def __init__(self, options: GelfOptions | None = None) -> None:
        options = options or GelfOptions()
        self._type = options.event_type or "gelf"
        self._default = _LEVELS.get(options.default_level)
        self._plans = _Plans()
        self._json = JsonDecoder(
            JsonOptions(
                message_key="short_message",
                time_key="timestamp",
                type_key="",
                event_type=self._type,
                max_depth=options.max_depth,
                max_keys=options.max_keys,
            )
        )

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        events = self._json.decode(batch)
        plans, default = self._plans, self._default
        for index, event in enumerate(events):
            if event.raw is not UNSET or event.raw_base64 is not UNSET:
                continue  # undecodable: only that sets the raw bytes
            # The JSON decoder made this dictionary just now, and nobody else has it yet.
            fields = event.fields
            plan = plans[tuple(fields)]
            if plan.rare or not event.message:
                events[index] = event = _look_again(batch, event)
                plan = plans[tuple(fields)]
            if plan.host:
                fields["hostname"] = fields.pop("host")
            if plan.version and fields["version"] in _VERSIONS:
                del fields["version"]
            pair = default
            if plan.level:
                level = fields["level"]
                pair = _LEVELS.get(level) if type(level) in _LEVEL_TYPES else None
                if pair is not None and plan.severity:
                    del fields["level"]
            if pair is not None and plan.severity:
                fields["severity"], fields["severity_code"] = pair
            for old, new in plan.renames:
                if new not in fields:
                    fields[new] = fields.pop(old)
        return events


class _Plan(NamedTuple):
    """What to do with an object, by its keys: those that get another name unless it is taken; whether it has a message
    or a time to be looked at, a host to be renamed, a version, and a level; and whether a severity may be set."""

    renames: tuple[tuple[str, str], ...]
    rare: bool
    host: bool
    version: bool
    level: bool
    severity: bool


class _Plans(dict[tuple[str, ...], _Plan]):
    """The plans for the keys that came lately: the messages of one sender mostly have the same. Bounded."""

    def __missing__(self, keys: tuple[str, ...]) -> _Plan:
        plan = _Plan(
            tuple([(key, key[1:]) for key in keys if key[:1] == "_" and key not in ("_", "_id")]),
            not _RARE.isdisjoint(keys),
            "host" in keys and "hostname" not in keys,
            "version" in keys,
            "level" in keys,
            "severity" not in keys and "severity_code" not in keys,
        )
        if sum(map(len, keys)) <= _LONGEST:
            if len(self) >= _MOST_PLANS:
                self.clear()
            self[keys] = plan
        return plan


def _look_again(batch: Batch, event: Event) -> Event:
    """An event without a usual message or time: what else there is of these, or the event `undecodable`."""
    fields = event.fields
    message, time = event.message, event.time
    if not message and fields.get("short_message") is None:
        for name in ("message", "full_message"):
            if isinstance(fields.get(name), str):
                message = fields.pop(name)
                fields.pop("short_message", None)
                break
        else:
            # An empty one was taken out by the JSON decoder: it is unusual, and no fault.
            index = frame_index(event.id) - batch.offset
            if b'"short_message"' not in batch.frames[index]:
                element = fields if time == batch.received else fields | {"timestamp": time}
                return undecodable_element(batch, event, "no GELF: `short_message` is missing", element)
    if "timestamp" in fields:
        found = _seconds(fields["timestamp"])
        if found is not None:
            del fields["timestamp"]
            time = found
    return event.replace(message=message, time=time)


def _seconds(value: object) -> dt.datetime | None:
    """A time that is written as seconds in a text."""
    try:
        return read_value(float(value)) if isinstance(value, str) else None
    except ValueError:
        return None
