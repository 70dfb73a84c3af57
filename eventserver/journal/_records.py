"""What the records of `meta.db` mean, apart from failed events and keys."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from eventserver.durable import DecoderSettings
from eventserver.journal._index import Chunk
from eventserver.journal._meta import Changes, Records
from eventserver.journal._segment import Segment

CURSOR, SEGMENT, DECODER, INFO = "cursor", "segment", "decoder", "info"

T = TypeVar("T")


class CursorRecord(msgspec.Struct, array_like=True):
    """A cursor on disk. `seen` is when a handler last had it, in seconds since 1970; `expired`: it holds nothing.

    `left` is when a server first ran without a handler for it; 0 while there is one.
    """

    position: int
    seen: float
    expired: bool = False
    left: float = 0.0


class SegmentRecord(msgspec.Struct, array_like=True):
    """A sealed segment, and what is in its chunks, so that nobody needs to open it to know."""

    segment: Segment
    chunks: list[Chunk]


def encode(value: Any) -> bytes:
    """A record's bytes."""
    return msgspec.msgpack.encode(value)


def decode_all(records: Records, kind: str, wanted: type[T]) -> dict[str, T]:
    """The records of one kind, by key; those that cannot be read are left out."""
    decoder = msgspec.msgpack.Decoder(wanted)
    found: dict[str, T] = {}
    for (of, key), data in records.items():
        if of == kind:
            try:
                found[key] = decoder.decode(data)
            except (msgspec.MsgspecError, ValueError):
                continue
    return found


def number(records: Records, name: str) -> int:
    """A number among the infos; 0 if it is not there."""
    try:
        return int(records.get((INFO, name), b"0"))
    except ValueError:
        return 0


def decoder_changes(old: list[DecoderSettings], new: list[DecoderSettings]) -> Changes:
    """What makes of the decoders' settings on disk those that are wanted."""
    changes: Changes = {(DECODER, _name(one)): None for one in old}
    return changes | {(DECODER, _name(one)): encode(one) for one in new}


def _name(one: DecoderSettings) -> str:
    return f"{one.listener}\0{one.decoder}"
