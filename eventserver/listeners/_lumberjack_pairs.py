"""Data frames of version 1 of Lumberjack: maps of texts, each text a length and its bytes. Pure.

A map becomes the JSON object that says the same.
"""

from __future__ import annotations

import struct

import msgspec

_LENGTH = struct.Struct(">I")

_encode = msgspec.json.Encoder().encode


def whole_texts(data: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    """So many texts that follow each other, and where they end; -1 for that if not all of them have come."""
    texts: list[bytes] = []
    unpack, size = _LENGTH.unpack_from, len(data)
    for _ in range(count):
        start = position + 4
        if start > size:
            return texts, -1
        position = start + unpack(data, position)[0]
        if position > size:
            return texts, -1
        texts.append(data[start:position])
    return texts, position


def shortened(texts: list[bytes], room: int) -> tuple[list[bytes], list[int]]:
    """As much of the texts as there is room for, and the indexes of those that were cut."""
    kept: list[bytes] = []
    cut: list[int] = []
    for index, text in enumerate(texts):
        if len(text) > room:
            cut.append(index)
        kept.append(text[:room])
        room -= len(kept[-1])
    return kept, cut


def as_object(texts: list[bytes], cut: list[int]) -> bytes:
    """The JSON object of keys and values that take turns; of those that were `cut`, what is left."""
    decoded = [text.decode(errors="replace") for text in texts]
    for index in cut:
        decoded[index] = texts[index].decode(errors="ignore")
    pairs = dict(zip(decoded[::2], decoded[1::2], strict=True))
    if cut:
        pairs.pop("", None)  # what is left of keys for which there was no room
    return _encode(pairs)
