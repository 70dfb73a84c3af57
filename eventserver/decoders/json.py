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

import re
from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._timestamps import read_value
from eventserver.event import Batch, Event, undecodable
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

_LEAST, _MOST = -(2**63), 2**63 - 1
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_DIGITS_AS_0 = bytes(48 if 48 <= byte < 58 else byte for byte in range(256))
#: All but the opening brackets and LF: what is left of a frame without these shows how deep it can be nested.
_NOT_OUTLINE = bytes(set(range(256)) - set(b"{[\n"))
#: The least bytes that a key takes in a frame: `"":1,`.
_BYTES_PER_KEY = 5
_BOM = b"\xef\xbb\xbf"


class JsonOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `json`."""

    message_key: Annotated[str, Doc("The key that holds the message; empty: none does.", "msg")] = "message"
    time_key: Annotated[str, Doc("The key that holds the time; empty: none does.", "@timestamp")] = "time"
    type_key: Annotated[str, Doc("The key that holds the event's type; empty: none does.", "event")] = "type"
    max_depth: Annotated[int, Doc("How deep objects and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder)
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
        self._decoder = msgspec.json.Decoder()

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        values = self._whole(batch.frames)
        if values is None:
            return self._one_by_one(batch)
        batch_id = batch.id
        return [
            self._event(batch_id + suffix, value, batch, peer, context)
            for value, suffix, peer, context in zip(
                values, suffixes(len(values)), peers(batch), contexts(batch), strict=False
            )
        ]

    def _whole(self, frames: list[bytes]) -> list[dict[str, Any]] | None:
        """One object for each frame, decoded in one call; None if a frame needs a look of its own."""
        if not frames:
            return []
        block = b"\n".join(frames)
        outlines = block.translate(None, _NOT_OUTLINE).split(b"\n")
        # One line a frame, each from "{" to "}". A value that ends in another frame than it began in would need a
        # comma, a colon or a bracket at the joint: so no frame can get into another's event.
        if len(outlines) != len(frames) or block.count(b"}\n{") != len(frames) - 1 or block[:1] + block[-1:] != b"{}":
            return None
        options = self._options
        # No frame nests deeper than it has opening brackets.
        if max(map(len, outlines)) > options.max_depth:
            return None
        if max(map(len, frames)) > options.max_keys * _BYTES_PER_KEY or _may_have_long_number(block):
            return None
        try:
            values: list[dict[str, Any]] = self._decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return None
        return values if len(values) == len(frames) else None

    def _one_by_one(self, batch: Batch) -> list[Event]:
        events: list[Event] = []
        for index, (frame, suffix, peer, context) in enumerate(
            zip(batch.frames, suffixes(len(batch.frames)), peers(batch), contexts(batch), strict=False)
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
        text = frame.strip(b" \t\r\n\0").removeprefix(_BOM)
        if not text:
            return []
        value = self._decoder.decode(text)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in values):
            raise ValueError("JSON, but neither an object nor an array of objects")
        options = self._options
        brackets = text.count(b"{") + text.count(b"[")
        many_keys = len(text) > options.max_keys * _BYTES_PER_KEY
        if brackets > options.max_depth or many_keys or _LONG_NUMBER.search(text):
            for one in values:
                _inspect(one, 1 if value is one else 2, options)
        return values

    def _event(self, event_id: str, value: dict[Any, Any], batch: Batch, peer: str, context: dict[str, Any]) -> Event:
        """The event that an object becomes; the object itself, less what is taken out, is its `fields`."""
        received = time = batch.received
        message = value.get(self._message_key)
        if type(message) is str:
            del value[self._message_key]
        else:
            message = "" if message is None else msgspec.json.encode(message).decode()
        stamp = value.get(self._time_key)
        if stamp is not None and (found := read_value(stamp)) is not None:
            time = found
            del value[self._time_key]
        kind = value.get(self._type_key)
        if kind and type(kind) is str:
            del value[self._type_key]
        else:
            kind = self._type
        return Event(event_id, time, received, batch.listener, peer, kind, message, value, context)


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
            elif type(child) is int and not _LEAST <= child <= _MOST:
                node[key] = str(child)
