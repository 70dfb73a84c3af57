r"""InfluxDB's line protocol: `weather,place=roof temperature=21.5,rain=false 1767323045000000000`.

One event for each line: a frame may have several, as datagrams do; `.1`, `.2` follow the id then.

| What a line has | Becomes |
|---|---|
| the measurement | `fields["measurement"]`, and the message |
| tags | `fields["tags"]`, texts by name; left out where there are none |
| fields | `fields["values"]`: numbers, texts, true and false by name |
| a time stamp, in `precision` | the time |
| `12i`, `12u` beyond -2^63 to 2^63-1 | a text of its digits, as the decoder `json` has it |
| a key twice | the last one wins |
| an empty line, or one that begins with `#` | no event |
| what is behind `max_lines` lines of a frame | undecodable, in one piece |
| anything else, and more than `max_keys` tags and fields together | undecodable; other lines of the frame are read |

In names and tags `\,`, `\=` and `\ ` are what they stand for, in texts `\"` and `\\`; other backslashes are themselves.
A text may hold line ends, where the framing lets them through.

Source: InfluxDB v2 documentation, "Line protocol".
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import UNSET
from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, contexts, peers, suffixes
from eventserver.decoders._json_values import LEAST, MOST
from eventserver.decoders._texts import BOM, Texts
from eventserver.event import Batch, Event, undecodable, with_raw
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: A backslash and what follows; a text in quotes. Every repeat ends at a letter that it cannot match.
_ESC = r"\\(?:[^\n]|(?=\n|\Z))"
_QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*)"'
_QUOTED_TEXT = _QUOTED.replace("(", "(?:", 1)
#: Measurement and tags; fields; the time stamp.
_LINE = re.compile(
    rf"([^\\ \n]*+(?:{_ESC}[^\\ \n]*+)*) ++"
    rf'([^"\\ \n\r\0]*+(?:(?:{_ESC}|{_QUOTED_TEXT})[^"\\ \n\r\0]*+)*)'
    r"(?: ++(-?[0-9]{1,19}))?[ \r\0]*+(?:\n|\Z)",
    re.DOTALL,
)  # fmt: skip
_FIELD = re.compile(
    rf'([^\\,=]*+(?:{_ESC}[^\\,=]*+)*)=(?:{_QUOTED}|([^,"]++))(?:,(?!\Z)|\Z)|([^,]++|,)', re.DOTALL
)  # fmt: skip
_TAG = re.compile(rf"([^\\,=]*+(?:{_ESC}[^\\,=]*+)*)=([^\\,=]*+(?:{_ESC}[^\\,=]*+)*)", re.DOTALL)
_PART = re.compile(rf"(?:[^\\,]|{_ESC})+", re.DOTALL)
_ESCAPE = re.compile(r"\\([,= ])")
_TEXT_ESCAPE = re.compile(r'\\(["\\])')
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True)
_BOOLEANS |= dict.fromkeys(("f", "F", "false", "False", "FALSE"), False)

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Microseconds of one unit, and units of one microsecond.
_PRECISIONS = {"ns": (1, 1000), "us": (1, 1), "ms": (1000, 1), "s": (1_000_000, 1)}
#: The most heads that are remembered, and the longest, in characters.
_REMEMBERED, _LONGEST = 4096, 256


class InfluxOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `influx`."""

    precision: Annotated[Literal["ns", "us", "ms", "s"], Doc("The unit of time stamps.", "s")] = "ns"
    max_keys: Annotated[int, Doc("How many tags and fields a line may have together.", 1000, ge=1)] = 1000
    max_lines: Annotated[
        int, Doc("How many lines a frame may have; the rest of it is one undecodable event.", 5000, ge=1)
    ] = 5000


@implementer(IDecoder)
class InfluxDecoder:
    """One event for each line."""

    Options = InfluxOptions

    def __init__(self, options: InfluxOptions | None = None) -> None:
        options = options or InfluxOptions()
        self._type = options.event_type or "influx"
        self._texts = Texts(skip_bom=True)
        self._scale, self._divisor = _PRECISIONS[options.precision]
        self._max_keys = options.max_keys
        self._max_lines = options.max_lines
        self._known_head = lru_cache(_REMEMBERED)(_read_head)

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        texts, damaged = self._texts.read(batch)
        received, listener, kind = batch.received, batch.listener, self._type
        events: list[Event] = []
        add = events.append
        for index, (text, suffix, peer, context) in enumerate(
            zip(texts, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            first = batch.id + suffix
            whole = not damaged or index not in damaged
            most = self._max_lines
            lines = _lines(text, most) if whole else _damaged_lines(batch.frames[index], most)
            for number, (line, found) in enumerate(lines):
                event_id = f"{first}.{number}" if number else first
                try:
                    if number == most:
                        raise ValueError(f"more than {most} lines")
                    if found is None:
                        raise ValueError("no line of the line protocol: `measurement,tag=value field=value time`")
                    message, time, fields = self._read(found, received)
                except ValueError as error:
                    add(_broken(batch, index, line, str(error)).replace(id=event_id))
                    continue
                event = Event(event_id, time, received, listener, peer, kind, message, fields, context)
                add(event if isinstance(line, str) else with_raw(event, line))
        return events

    def _read(self, line: re.Match[str], received: dt.datetime) -> tuple[str, dt.datetime, dict[str, Any]]:
        """Measurement, time and fields of a line. Raises `ValueError`."""
        head, values, stamp = line.groups()
        measurement, tags = self._known_head(head) if len(head) <= _LONGEST else _read_head(head)
        fields: dict[str, Any] = {"measurement": measurement}
        if tags:
            fields["tags"] = tags
        fields["values"] = found = _read_values(values)
        if len(tags) + len(found) > self._max_keys:
            raise ValueError(f"more than {self._max_keys} tags and fields")
        return measurement, received if stamp is None else self._time(int(stamp)), fields

    def _time(self, stamp: int) -> dt.datetime:
        try:
            return _EPOCH + dt.timedelta(microseconds=stamp * self._scale // self._divisor)
        except OverflowError:
            raise ValueError("the time is out of range") from None


def _lines(text: str, most: int) -> Iterator[tuple[str, re.Match[str] | None]]:
    """The lines with something in them, comments left out: as they are, and what was found in them.

    Behind `most` of them, all the rest is one.
    """
    position = 0
    while position < len(text):
        letter = text[position]
        if letter in " \t\r\n\0":
            position += 1
            continue
        found = _LINE.match(text, position) if letter != "#" else None
        end = found.end() if found is not None else (text.find("\n", position) + 1 or len(text))
        if letter != "#":
            if not most:
                yield text[position:], None
                return
            most -= 1
            yield text[position:end], found
        position = end


def _damaged_lines(frame: bytes, most: int) -> Iterator[tuple[str | bytes, re.Match[str] | None]]:
    """As `_lines`, where a frame is not UTF-8: the lines concerned are bytes, and read with U+FFFD."""
    for line, found in _lines(frame.removeprefix(BOM).decode(errors="surrogateescape"), most):
        data = line.encode(errors="surrogateescape")
        text = data.decode(errors="replace")
        yield (line, found) if text == line else (data, _LINE.fullmatch(text))


def _broken(batch: Batch, index: int, line: str | bytes, reason: str) -> Event:
    """The event `undecodable` for one line of a frame, with the bytes of that line only."""
    data = (line.encode() if isinstance(line, str) else line).rstrip(b"\r\n\0")
    event = undecodable(batch, index, reason)
    if len(data) == len(batch.frames[index]):
        return event
    return with_raw(event.replace(message=data.decode(errors="replace"), raw=UNSET, raw_base64=UNSET), data)


def _read_head(head: str) -> tuple[str, dict[str, str]]:
    """Measurement and tags. Raises `ValueError`."""
    measurement, *parts = head.split(",") if "\\" not in head else _PART.findall(head)
    if not measurement or head[0] == ",":
        raise ValueError("there is no measurement")
    tags = {}
    for part in parts:
        tag = _TAG.fullmatch(part)
        if tag is None or not (tag[1] and tag[2]):
            raise ValueError(f"a tag that cannot be read: {part[:80]!r}")
        tags[_name(tag[1])] = _name(tag[2])
    return _name(measurement), tags


def _name(text: str) -> str:
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def _read_values(text: str) -> dict[str, Any]:
    """The fields of a line. Raises `ValueError`."""
    found: dict[str, Any] = {}
    for key, quoted, plain, wrong in _FIELD.findall(text):
        if wrong or not key:
            raise ValueError("a field that cannot be read")
        found[_name(key)] = _read_value(plain) if plain else _TEXT_ESCAPE.sub(r"\1", quoted)
    return found


def _read_value(text: str) -> float | int | bool | str:
    """A value without quotes. Raises `ValueError`."""
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    number, unit = text[:-1], text[-1]
    digits = number[1:] if unit == "i" and number[:1] == "-" else number
    if unit in "iu" and digits.isascii() and digits.isdigit():
        whole = int(number) if len(digits) < 21 else None
        if whole is None or not (LEAST <= whole <= MOST or (unit == "u" and whole < 2**64)):
            raise ValueError("a whole number of more than 64 bits")
        return whole if whole <= MOST else number
    if _FLOAT.fullmatch(text) is None:
        raise ValueError(f"a value that cannot be read: {text[:80]!r}")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number that is too large")
    return value
