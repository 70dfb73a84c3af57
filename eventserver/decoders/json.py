"""JSON: one object a frame, or an array of them.

One verdict for each odd thing (RFC 8259 leaves them to the implementation):

| what the frame has | verdict |
|---|---|
| an object | one event |
| an array of objects | one event each, with the ids `...`, `....1`, `....2`; an empty array gives none |
| only white space or NUL | no event |
| a text, number, true, false or null; an array with one of these or an array in it | undecodable |
| nesting deeper than `max_depth` (an object or array within another is one deeper; the outermost is 1) | undecodable |
| more than `max_keys` keys in one event, those of nested objects counted | undecodable |
| `NaN`, `Infinity`, a number beyond a double such as `1e999` | undecodable |
| an integer outside -2^63 to 2^63-1 | kept as a text of its digits |
| an integer of more than 4300 digits | undecodable |
| a key twice in one object | the last one wins |
| a lone surrogate (`"\\ud800"`) | undecodable: no JSON encoder could write it again |
| bytes that are not UTF-8, control characters in a text, a comma too much, text behind the value | undecodable |
| a byte order mark before, white space, CR, LF or NUL around the value | skipped |

Of an event's object three keys are taken out, where they hold what they should; all else is `fields`:

- `message_key`: a text becomes `message`. Another value stays in `fields`, and `message` is its JSON text
  (empty for null).
- `time_key`: RFC 3339 text (as UTC without an offset), or a number since 1970 in seconds or, by its size, milli-,
  micro- or nanoseconds. What cannot be read stays in `fields`, and `time` is `received`.
- `type_key`: a text that is not empty becomes `type`. Another value stays in `fields`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from eventserver.blocks import Lines, ended
from eventserver.decoders._common import DecoderOptions, contexts, events_of, peers, suffixes
from eventserver.decoders._json_shapes import DEPTH, Shapes
from eventserver.decoders._json_values import LEAST, MOST, peeking_decoder, usual_decoder, value_type
from eventserver.decoders._timestamps import UTC, read_texts, read_value, to_utc
from eventserver.event import Batch, Event, undecodable
from eventserver.interfaces import IDecoder, IMatch, ISelecting
from eventserver.options import Doc

_DIGITS_AS_0 = bytes(48 if 48 <= byte < 58 else byte for byte in range(256))
#: The least bytes that a key takes in a frame: `"":1,`.
_BYTES_PER_KEY = 5
_BOM = b"\xef\xbb\xbf"

#: How deep the objects that are decoded fastest are nested, at most: the decoder's size doubles with each level.
_USUAL_DEPTH = 8
#: The least frames of a batch that are decoded with one call: the preparations cost about as much as a frame.
_FEW = 6
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_FIRST, _LAST = itemgetter(0), itemgetter(-1)
_GET: Any = dict.get
_POP: Any = dict.pop
_BRACE, _END_BRACE = {ord("{")}, {ord("}")}
#: What `read_value` wants between date and time, and how long that is at least.
_ZONE = attrgetter("tzinfo")
_SEPARATOR, _SEPARATORS, _SHORTEST_STAMP = itemgetter(10), set("Tt "), 16


class JsonOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `json`."""

    message_key: Annotated[str, Doc("The key that holds the message; empty: none does.", "msg")] = "message"
    time_key: Annotated[str, Doc("The key that holds the time; empty: none does.", "@timestamp")] = "time"
    type_key: Annotated[str, Doc("The key that holds the event's type; empty: none does.", "event")] = "type"
    max_depth: Annotated[int, Doc("How deep objects and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder, ISelecting)
class JsonDecoder:
    """One event for each object; the module's documentation has a verdict for everything else."""

    Options = JsonOptions

    def __init__(self, options: JsonOptions | None = None) -> None:
        options = options or JsonOptions()
        self._options = options
        self._type = options.event_type or "json"
        # Without a key's name, None: no object has that key.
        self._message_key: str | None = options.message_key or None
        self._time_key: str | None = options.time_key or None
        self._type_key: str | None = options.type_key or None
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
        # What an event may have otherwise than the object: a match that looks at these takes events.
        self._taken = {options.message_key, options.time_key, options.type_key, "error"}
        self._depth = min(options.max_depth, _USUAL_DEPTH)
        self._usual = usual_decoder(self._depth)
        self._shapes = Shapes(value_type(1), value_type(min(self._depth, DEPTH)))

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        values = self._whole(batch.frames) if len(batch.frames) >= _FEW else None
        if values is None:
            return self._one_by_one(batch)
        messages, times, kinds = self._messages(values), self._times(values, batch.received), self._kinds(values)
        return events_of(
            batch, suffixes(batch), times, kinds, messages, values, peers=peers(batch), contexts=contexts(batch)
        )

    def select(
        self, batch: Batch, match: IMatch, plain: Mapping[str, Any] = _NOTHING, to_encode: bool = False
    ) -> list[Event] | None:
        """The events for which `match` is true; see `ISelecting`. Of the others no more is read than that takes."""
        names, frames = match.fields, batch.frames
        if not names or len(frames) < _FEW or not names.isdisjoint(self._taken) or not _all_in_braces(frames):
            return None
        block = ended(frames)
        events = self._select_alike(batch, block, match, names, plain, to_encode)
        if events is not None:
            return events
        try:
            rows = peeking_decoder(names, self._depth).decode_lines(block)
        except (ValueError, RecursionError):
            return None
        # As in `_whole`: so many values are one a frame.
        indexes = match.rows(rows) if len(rows) == len(frames) else None
        if not indexes:
            return None if indexes is None else []
        values = self._whole([frames[index] for index in indexes])
        if values is None:
            return None
        messages, times, kinds = self._messages(values), self._times(values, batch.received), self._kinds(values)
        for value in values if plain else ():
            value.update(plain)
        return _some_events(batch, indexes, times, kinds, messages, values)

    def _select_alike(
        self,
        batch: Batch,
        block: bytes,
        match: IMatch,
        names: Iterable[str],
        plain: Mapping[str, Any],
        to_encode: bool,
    ) -> list[Event] | None:
        """As `select`, if all objects have the same keys, and what is to be taken out of them can be."""
        shape = self._shapes.of_line(batch.frames[0])
        if shape is None:
            return None
        if not shape.has_at_most(self._options.max_keys, plain) and self._any_with_many_keys(batch.frames):
            return None
        taken = self._message_key, self._time_key, self._type_key
        maker = shape.maker(taken, plain, to_encode)
        rows = shape.rows(block, maker)
        columns = None if rows is None or len(rows) != len(batch.frames) else shape.columns(rows, names)
        indexes = None if columns is None else match.columns(columns)
        if rows is None or not indexes:
            return None if indexes is None else []
        kept = _those(rows, indexes)
        # The others are gone before more is made.
        del rows
        messages, found, kinds = [shape.column(kept, key) for key in taken]
        times = None if found is None else _read_times(found)
        if (found is not None and times is None) or not (
            _all_texts(messages) and _all_texts(kinds) and all(kinds or ())
        ):
            return None
        return _some_events(
            batch,
            indexes,
            repeat(batch.received) if times is None else times,
            repeat(self._type) if kinds is None else kinds,
            repeat("") if messages is None else messages,
            maker.fields(kept),
        )

    def _whole(self, frames: Sequence[bytes]) -> list[dict[str, Any]] | None:
        """One object for each frame, decoded in one call; None if a frame needs a look of its own."""
        options = self._options
        try:
            if not _all_in_braces(frames):
                return None
            if self._any_with_many_keys(frames):
                return None
            block = ended(frames)
            try:
                values = self._usual.decode_lines(block)
            except msgspec.ValidationError:
                # Nested deeper than that, perhaps.
                if max(map(_brackets, frames)) > options.max_depth or _may_have_long_number(block):
                    return None
                values = self._decoder.decode_lines(block)
        except ValueError:
            return None
        # Every frame goes from "{" to "}". A value that ends in another frame than it began in would need a comma, a
        # colon or a bracket at the joint, so each frame has one value at least: and none has the event of another.
        return values if len(values) == len(frames) else None

    def _messages(self, values: list[dict[str, Any]]) -> list[str]:
        """`_message` of each object."""
        found: list[Any] = list(map(_GET, values, repeat(self._message_key), repeat("")))
        if set(map(type, found)) != {str}:
            return list(map(self._message, values))
        _remove(self._message_key, values)
        return found

    def _times(self, values: list[dict[str, Any]], received: dt.datetime) -> list[dt.datetime]:
        """`_time` of each object."""
        found: list[Any] = list(map(_GET, values, repeat(self._time_key), repeat(received)))
        kinds = set(map(type, found))
        if kinds == {dt.datetime}:
            return found
        times = _read_times(found) if kinds == {str} else None
        if times is None:
            return [self._time(value, received) for value in values]
        _remove(self._time_key, values)
        return times

    def _kinds(self, values: list[dict[str, Any]]) -> Iterable[str]:
        """`_kind` of each object; endless where it is the same for all."""
        found: list[Any] = list(map(_GET, values, repeat(self._type_key)))
        if found.count(None) == len(found):
            return repeat(self._type)
        return list(map(self._kind, values))

    def _one_by_one(self, batch: Batch) -> list[Event]:
        events: list[Event] = []
        for index, (frame, suffix, peer, context) in enumerate(
            zip(batch.frames, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            try:
                values = self._values(frame)
            except RecursionError:
                events.append(undecodable(batch, index, f"JSON nested deeper than {self._options.max_depth}"))
            except ValueError as error:
                events.append(undecodable(batch, index, str(error)))
            else:
                first = batch.id + suffix
                for n, value in enumerate(values):
                    events.append(self._event(f"{first}.{n}" if n else first, value, batch, peer, context))
        return events

    def _values(self, frame: bytes) -> list[dict[str, Any]]:
        """The objects of a frame, within the limits. Raises `ValueError` with the reason, or `RecursionError`."""
        if not self._may_have_many_keys(frame):
            try:
                return [self._usual.decode(frame)]
            except ValueError:
                pass
        text = frame.strip(b" \t\r\n\0").removeprefix(_BOM)
        if not text:
            return []
        value = self._decoder.decode(text)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in values):
            raise ValueError("JSON, but neither an object nor an array of objects")
        options = self._options
        if _brackets(text) > options.max_depth or self._may_have_many_keys(text) or _may_have_long_number(text):
            for one in values:
                _inspect(one, 1 if value is one else 2, options)
        return values

    def _may_have_many_keys(self, text: bytes) -> bool:
        """False if the text cannot have more than `max_keys` keys."""
        most = self._options.max_keys
        return len(text) > most * _BYTES_PER_KEY and text.count(b":") > most

    def _any_with_many_keys(self, frames: Sequence[bytes]) -> bool:
        """False if no frame can have more than `max_keys` keys."""
        least = self._options.max_keys * _BYTES_PER_KEY
        if isinstance(frames, Lines) and frames.all_below(least):
            return False
        return max(map(len, frames)) > least and any(map(self._may_have_many_keys, frames))

    def _event(self, event_id: str, value: dict[Any, Any], batch: Batch, peer: str, context: dict[str, Any]) -> Event:
        """The event that an object becomes; the object itself, less what is taken out, is its `fields`."""
        message, time, kind = self._message(value), self._time(value, batch.received), self._kind(value)
        return Event(event_id, time, batch.received, batch.listener, peer, kind, message, value, context)

    def _message(self, value: dict[Any, Any]) -> str:
        """The message of an object, which is taken out of it if it is a text."""
        message = value.get(self._message_key)
        if type(message) is str:
            del value[self._message_key]
            return message
        return "" if message is None else msgspec.json.encode(message).decode()

    def _time(self, value: dict[Any, Any], received: dt.datetime) -> dt.datetime:
        """The time of an object, which is taken out of it if it can be read."""
        found = value.get(self._time_key)
        time = None if found is None else read_value(found)
        if time is None:
            return received
        del value[self._time_key]
        return time

    def _kind(self, value: dict[Any, Any]) -> str:
        """The type of an object's event, which is taken out of it if it is a text."""
        kind = value.get(self._type_key)
        if kind and type(kind) is str:
            del value[self._type_key]
            return kind
        return self._type


def _some_events(batch: Batch, indexes: list[int], *columns: Iterable[Any]) -> list[Event]:
    """The events of some of the frames. The columns are their times, types, messages and fields."""
    ends = suffixes(batch)
    return events_of(
        batch,
        _those(ends, indexes),
        *columns,
        peers=[batch.peers[index] for index in indexes] if len(batch.peers) > 1 else peers(batch),
        contexts=[batch.context_of(index) for index in indexes] if batch.marks else contexts(batch),
    )


def _those(values: Sequence[Any], indexes: list[int]) -> Sequence[Any]:
    """The values at these indexes, one at least."""
    return itemgetter(*indexes)(values) if len(indexes) > 1 else [values[indexes[0]]]


def _all_texts(values: list[Any] | None) -> bool:
    return values is None or set(map(type, values)) == {str}


def _read_times(found: list[Any]) -> list[dt.datetime] | None:
    """The times that texts write, as `read_value` reads them; None if that has to be found out one by one."""
    times = read_texts(found)
    if times is not None:
        return times
    if (
        not _all_texts(found)
        or min(map(len, found)) < _SHORTEST_STAMP
        or not set(map(_SEPARATOR, found)) <= _SEPARATORS
    ):
        return None
    try:
        times = list(map(dt.datetime.fromisoformat, found))
    except ValueError:
        return None
    return times if set(map(_ZONE, times)) == {UTC} else list(map(to_utc, times))


def _remove(key: str | None, values: list[dict[str, Any]]) -> None:
    """Take a key out of each object that has it."""
    list(map(_POP, values, repeat(key), repeat(None)))


def _all_in_braces(frames: Sequence[bytes]) -> bool:
    """Whether every frame goes from "{" to "}"; there is at least one."""
    if isinstance(frames, Lines):
        block, more = frames.block, len(frames) - 1
        if block[:1] + block[-2:] != b"{}\n":
            return False
        # Most begin as the first does, and CPython counts five bytes faster than three (and than more).
        return block.count(b"}\n" + block[:3]) == more or block.count(b"}\n{") == more
    try:
        return set(map(_FIRST, frames)) == _BRACE and set(map(_LAST, frames)) == _END_BRACE
    except IndexError:
        return False


def _brackets(text: bytes) -> int:
    """No text nests deeper than it has opening brackets."""
    return text.count(b"{") + text.count(b"[")


def _may_have_long_number(block: bytes) -> bool:
    """False if there is no run of 19 digits, which is what an integer from 2^63 takes.

    Every second byte is enough to look at: it holds nine digits of such a run, and not of a time stamp or of an epoch
    in microseconds. A regular expression takes twenty times as long.
    """
    return b"000000000" in block[::2].translate(_DIGITS_AS_0)


def _inspect(value: dict[str, Any], depth: int, options: JsonOptions) -> None:
    """Checks an object against the limits, and makes texts of its huge integers. Raises `ValueError`."""
    keys = 0
    pending: list[tuple[Any, int]] = [(value, depth)]
    while pending:
        node, depth = pending.pop()
        if depth > options.max_depth:
            raise ValueError(f"JSON nested deeper than {options.max_depth}")
        keys += len(node) if isinstance(node, dict) else 0
        if keys > options.max_keys:
            raise ValueError(f"JSON with more than {options.max_keys} keys")
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(child, (dict, list)):
                pending.append((child, depth + 1))
            elif type(child) is int and not LEAST <= child <= MOST:
                node[key] = str(child)
