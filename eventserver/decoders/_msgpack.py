"""One value of MessagePack as what JSON can carry, with a verdict for each odd thing.

Decoders have compiled code read what is usual, without any of these; this is for the rest.

| what a value is | what it becomes |
|---|---|
| str that is not UTF-8 | text with U+FFFD |
| bin | text; where it is not UTF-8, text with U+FFFD, or base64 |
| an integer of 2^63 or more | text of its digits |
| a timestamp (ext -1), an EventTime (ext 0 of 8 bytes) | RFC 3339 text |
| another ext | `{"ext": type, "data": base64}` |
| a key that is no str | text: of its JSON for a number, true, false or nil; no map or array can be one |
| a key twice in one map | the last one wins |
| NaN and infinity | null |
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import struct
import sys
from types import GenericAlias
from typing import Annotated, Any, Literal

import msgspec

Binary = Literal["text", "base64"]

_MOST = 2**63 - 1
_SIMPLE = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_STRS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FINITE = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_pair = struct.Struct(">II").unpack


class Unreadable(ValueError):
    """Not one whole value, or beyond a limit; the sentence says what is wrong."""


def event_time(data: bytes | memoryview) -> dt.datetime:
    """The time of an EventTime (Forward Protocol Specification v1): seconds and nanoseconds, 32 bits each."""
    seconds, nanoseconds = _pair(data)
    return _EPOCH + dt.timedelta(seconds=seconds, microseconds=nanoseconds // 1000)


def usual_map(depth: int) -> Any:
    """The type of maps that need no verdict, nested up to `depth`: texts as keys, and no value from the table above."""
    number: Any = Annotated[int, msgspec.Meta(ge=-_MOST - 1, le=_MOST)] | _FINITE
    child: Any = str | number | bool | None
    plain = child
    for _ in range(depth - 1):
        child = plain | GenericAlias(list, child) | GenericAlias(dict, (str, child))
    return GenericAlias(dict, (str, child))


def count_keys(value: object) -> int:
    """The keys of a value, nested ones counted; it must not be nested deeply."""
    if type(value) is dict:
        return len(value) + sum(map(count_keys, value.values()))
    return sum(map(count_keys, value)) if type(value) is list else 0


class Reader:
    """Reads values out of one frame. `damaged` says afterwards whether bytes were lost to U+FFFD."""

    def __init__(self, data: bytes, max_depth: int, max_keys: int, binary: Binary) -> None:
        self.damaged = False
        self._data = data
        self._position = 0
        self._max_depth = max_depth
        self._keys_left = max_keys
        self._max_keys = max_keys
        self._binary = binary

    def whole(self) -> Any:
        """The one value that the frame is. Raises `Unreadable`."""
        value = self.value(0)
        if self._position != len(self._data):
            raise Unreadable("bytes behind the MessagePack value")
        return value

    def value(self, depth: int) -> Any:
        """The next value. Raises `Unreadable`."""
        first = self._bytes(1)[0]
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first < 0x90:
            return self._map(first & 0x0F, depth)
        if first < 0xA0:
            return self._array(first & 0x0F, depth)
        if first < 0xC0:
            return self._text(first & 0x1F)
        return self._long(first, depth)

    def _long(self, first: int, depth: int) -> Any:
        if first in _SIMPLE:
            return _SIMPLE[first]
        if first in _NUMBERS:
            return self._number(_NUMBERS[first])
        if first in _STRS:
            return self._text(self._length(_STRS[first]))
        if first in _BINS:
            return self._bin(self._length(_BINS[first]))
        if first in _MAPS:
            return self._map(self._length(_MAPS[first]), depth)
        if first in _ARRAYS:
            return self._array(self._length(_ARRAYS[first]), depth)
        if first in _EXTS:
            return self._ext(self._length(_EXTS[first]))
        if 0xD4 <= first <= 0xD8:
            return self._ext(1 << (first - 0xD4))
        raise Unreadable("0xc1 is no MessagePack value")

    def _bytes(self, count: int) -> bytes:
        start = self._position
        self._position = end = start + count
        if end > len(self._data):
            raise Unreadable("the MessagePack value is cut off")
        return self._data[start:end]

    def _length(self, width: int) -> int:
        return int.from_bytes(self._bytes(width), "big")

    def _number(self, form: str) -> Any:
        value = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return str(value) if value > _MOST else value

    def _text(self, count: int) -> str:
        data = self._bytes(count)
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.damaged = True
            return data.decode(errors="replace")

    def _bin(self, count: int) -> str:
        if self._binary == "text":
            return self._text(count)
        data = self._bytes(count)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return base64.b64encode(data).decode()

    def _ext(self, count: int) -> Any:
        kind = self._bytes(1)[0]
        data = self._bytes(count)
        if kind == 0 and count == 8:
            return _stamp(event_time(data))
        if kind == 0xFF:
            try:
                return _stamp(msgspec.msgpack.decode(_ext_header(count) + data, type=dt.datetime))
            except ValueError:
                pass
        return {"ext": kind - 256 if kind > 127 else kind, "data": base64.b64encode(data).decode()}

    def _array(self, count: int, depth: int) -> list[Any]:
        depth = self._deeper(depth)
        return [self.value(depth) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        depth = self._deeper(depth)
        self._keys_left -= count
        if self._keys_left < 0:
            raise Unreadable(f"MessagePack with more than {self._max_keys} keys")
        return {self._key(depth): self.value(depth) for _ in range(count)}

    def _deeper(self, depth: int) -> int:
        if depth == self._max_depth:
            raise Unreadable(f"MessagePack nested deeper than {self._max_depth}")
        return depth + 1

    def _key(self, depth: int) -> str:
        key = self.value(depth)
        if isinstance(key, str):
            return key
        if isinstance(key, (dict, list)):
            raise Unreadable("a key that is no text and no number")
        return msgspec.json.encode(key).decode()


def _ext_header(count: int) -> bytes:
    return b"\xc7" + bytes([count & 0xFF]) + b"\xff"


def _stamp(time: dt.datetime) -> str:
    """RFC 3339, as JSON gets it."""
    return str(msgspec.to_builtins(time))
