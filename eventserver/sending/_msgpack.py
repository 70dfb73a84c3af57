"""Where one MessagePack value ends: what a stream of them needs before it can be read (github.com/msgpack/msgpack)."""

from __future__ import annotations

from eventserver.sending.parcels import BadAnswer

#: What an answer may be at most, and how deep.
MAX_VALUE = 64 << 10
_DEPTH = 8
#: By the first byte, for types of a fixed size: the bytes that follow it.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
          0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip
#: By the first byte, for types behind a length: its bytes, and those that follow besides.
_COUNTED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
            0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}  # fmt: skip
#: By the first byte, for arrays and maps: the bytes of their count, and values for each.
_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def end_of(data: bytes, start: int) -> int:
    """Where the value that begins at `start` ends; -1 if it is not whole. Raises `BadAnswer` for what is none."""
    end = _end(data, start, 0)
    if end < 0 and len(data) - start > MAX_VALUE:
        raise BadAnswer("an answer that is too long")
    return end


def _end(data: bytes, at: int, depth: int) -> int:
    if depth > _DEPTH:
        raise BadAnswer("an answer that is nested too deeply")
    if at >= len(data):
        return -1
    first, at = data[at], at + 1
    if first < 0x80 or first >= 0xE0:
        return at
    if first < 0xA0:
        return _values(data, at, (first & 15) * (2 if first < 0x90 else 1), depth)
    if first < 0xC0:
        return _inside(data, at + (first & 31))
    if first in _FIXED:
        return _inside(data, at + _FIXED[first])
    if first in _COUNTED:
        size, more = _COUNTED[first]
        count = int.from_bytes(data[at : at + size], "big")
        return _inside(data, at + size + more + count) if at + size <= len(data) else -1
    if first not in _NESTED:
        raise BadAnswer("this is no MessagePack")
    size, each = _NESTED[first]
    if at + size > len(data):
        return -1
    return _values(data, at + size, int.from_bytes(data[at : at + size], "big") * each, depth)


def _inside(data: bytes, end: int) -> int:
    return end if end <= len(data) else -1


def _values(data: bytes, at: int, count: int, depth: int) -> int:
    if count > MAX_VALUE:
        raise BadAnswer("an answer that is too long")
    for _ in range(count):
        at = _end(data, at, depth + 1)
        if at < 0:
            return -1
    return at
