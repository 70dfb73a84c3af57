"""Where values of MessagePack end, without making them: a scan that goes on when more bytes have come.

The format is that of the MessagePack specification (github.com/msgpack/msgpack, spec.md). Nothing here recurses, and
no memory is taken for what a header announces: nesting and lengths cost a peer nothing but the bytes that it sends.
"""

from __future__ import annotations

from itertools import repeat
from operator import length_hint

#: By the first byte of a value: its length if that says it all (of a container: of its header), else 0.
_STEP = [0] * 256
#: By the first byte: how many values are awaited more after it; -1 for one without others inside.
_MORE = [-1] * 256
#: By the first byte of all others: how many bytes its length takes, how many stand between that and the content, and
#: how many values each unit of the length is (0 for bytes).
_SIZED: dict[int, tuple[int, int, int]] = {
    # bin, ext with its type, str, array, map
    **{0xC4 + n: (1 << n, 0, 0) for n in range(3)},
    **{0xC7 + n: (1 << n, 1, 0) for n in range(3)},
    **{0xD9 + n: (1 << n, 0, 0) for n in range(3)},
    **{0xDC + n: (2 << n, 0, 1) for n in range(2)},
    **{0xDE + n: (2 << n, 0, 2) for n in range(2)},
}


def _fill() -> None:
    for byte in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        _STEP[byte] = 1
    for number in range(16):
        _STEP[0x80 + number] = _STEP[0x90 + number] = 1
        _MORE[0x80 + number], _MORE[0x90 + number] = 2 * number - 1, number - 1
    for number in range(32):
        _STEP[0xA0 + number] = 1 + number
    for byte, length in zip(range(0xCA, 0xD4), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9), strict=True):
        _STEP[byte] = length
    for number in range(5):
        _STEP[0xD4 + number] = 2 + (1 << number)


_fill()


class Malformed(ValueError):
    """The byte 0xc1, which no value begins with."""


class Scan:
    """Looks for the end of one value. `position` is how far it got, which may be beyond the bytes there are.

    `begin` starts with another value. `pending` is how many values are still awaited, those inside others included.
    `room` is how many values are looked at before it gives up, of all that it begins with together; None for all.
    """

    __slots__ = ("pending", "position", "room")

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.begin(0)

    def begin(self, position: int) -> None:
        """Look for the end of the value at that position."""
        self.position = position
        self.pending = 1

    def run(self, data: bytes | bytearray) -> bool:
        """Go on in `data`; whether the value ends in it, at `position`. Raises `Malformed`, with `position` there."""
        position, pending, end = self.position, self.pending, len(data)
        steps, more = _STEP, _MORE
        looks = repeat(None) if self.room is None else repeat(None, self.room)
        for _ in looks:
            if not pending or position >= end:
                break
            byte = data[position]
            step = steps[byte]
            if step:
                position += step
                pending += more[byte]
                continue
            sized = _SIZED.get(byte)
            if sized is None:
                self.position, self.pending = position, pending
                raise Malformed("0xc1 is no value")
            width, between, units = sized
            content = position + 1 + width
            if content > end:
                break
            length = int.from_bytes(data[position + 1 : content], "big")
            if units:
                position = content
                pending += units * length - 1
            else:
                position = content + between + length
                pending -= 1
        self.position, self.pending = position, pending
        if self.room is not None:
            self.room = length_hint(looks)
        return not pending and position <= end


def count_of(data: bytes, position: int = 0) -> tuple[int, int]:
    """How many elements the array has whose header is at that position, and where they begin; (-1, 0) for no array."""
    byte = data[position] if position < len(data) else 0
    if 0x90 <= byte <= 0x9F:
        return byte & 0x0F, position + 1
    if byte in (0xDC, 0xDD):
        start = position + (3 if byte == 0xDC else 5)
        if start <= len(data):
            return int.from_bytes(data[position + 1 : start], "big"), start
    return -1, 0


def is_container(value: bytes) -> bool:
    """Whether the value is an array or a map."""
    return count_of(value)[0] >= 0 or map_count(value) >= 0


def map_count(value: bytes) -> int:
    """How many pairs the map has whose header the value begins with; -1 for no map."""
    byte = value[0] if value else 0
    if 0x80 <= byte <= 0x8F:
        return byte & 0x0F
    width = {0xDE: 2, 0xDF: 4}.get(byte, 0)
    return int.from_bytes(value[1 : 1 + width], "big") if width else -1


def content_of(value: bytes) -> bytes | None:
    """The bytes of a whole value that is a str or a bin; None for any other."""
    byte = value[0] if value else 0
    if 0xA0 <= byte <= 0xBF:
        return value[1:]
    if byte in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
        return value[1 + _SIZED[byte][0] :]
    return None


def split(data: bytes, most: int, scan: Scan | None = None) -> list[bytes] | None:
    """The values that follow each other; None if there are more than `most`, or if `scan` has no room for all of them.

    What is left where a value is cut off or malformed is the last one, so that nothing is lost.
    """
    values: list[bytes] = []
    scan, start = scan or Scan(), 0
    while start < len(data):
        if len(values) == most:
            return None
        scan.begin(start)
        try:
            end = scan.position if scan.run(data) else len(data)
        except Malformed:
            end = len(data)
        if scan.room == 0:
            return None
        values.append(data[start:end])
        start = end
    return values
