"""One group commit as one row: batches to bytes and back, with checksums.

A row is `(first, frames, size, received, listeners, keys, head_crc, codec, crc, data)`:

- `first`: the position before its first frame; `frames`: how many it has; `size`: what its batches count for;
- `received`: the latest time of a batch, in microseconds since 1970;
- `listeners`: msgpack of a map, by listener what its batches count for;
- `keys`: msgpack of what senders may repeat, `[[scope, key, position], ...]`, or NULL;
- `head_crc`: CRC-32 of all the above; `codec`: how `data` is written; `crc`: CRC-32 of `codec` and `data`;
- `data`: the batches; codec 1 is msgpack of a list of `Batch`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from struct import pack as struct_pack
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from eventserver.blocks import Lines
from eventserver.event import Batch, size_of

#: How `data` is written today.
CODEC = 1
#: Bytes, as batches are counted, after which a new row is begun.
ROW_BYTES = 1 << 20

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

Row = tuple[int, int, int, int, bytes, bytes | None, int, int, int, bytes]
#: A key that a sender may repeat: scope, key, and the position behind its frame.
Key = tuple[str, str, int]


def _written(value: Any) -> Any:
    """What is written of a value that msgpack has no word for."""
    return value.cut(keep=False) if isinstance(value, Lines) else str(value)


_encoder = msgspec.msgpack.Encoder(enc_hook=_written)
_batches = msgspec.msgpack.Decoder(list[Batch])
_listeners = msgspec.msgpack.Decoder(dict[str, int])
_keys = msgspec.msgpack.Decoder(list[Key])


class Head(NamedTuple):
    """What a row says of itself without its data."""

    first: int
    frames: int
    size: int
    received: int
    listeners: dict[str, int]
    keys: list[Key]

    @property
    def end(self) -> int:
        """The position behind its last frame."""
        return self.first + self.frames


class Damaged(ValueError):
    """A row that is not what was written."""


def microseconds(time: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (time - EPOCH) // _MICROSECOND


def pack(first: int, group: Sequence[tuple[Batch, int]], keys: Sequence[Key]) -> list[tuple[Head, Row]]:
    """The rows for batches, each with what it counts for, that follow one another from position `first`.

    `keys` go into the last row: all are written in one transaction.
    """
    rows, start, size = [], 0, 0
    for index, (_, counted) in enumerate(group):
        size += counted
        if size >= ROW_BYTES or index == len(group) - 1:
            last = index == len(group) - 1
            head, row = _pack(first, group[start : index + 1], list(keys) if last else [])
            rows.append((head, row))
            first, start, size = head.end, index + 1, 0
    return rows


def _pack(first: int, group: Sequence[tuple[Batch, int]], keys: list[Key]) -> tuple[Head, Row]:
    listeners: dict[str, int] = {}
    frames = 0
    for batch, counted in group:
        frames += len(batch.frames)
        listeners[batch.listener] = listeners.get(batch.listener, 0) + counted
    received = microseconds(max(batch.received for batch, _ in group))
    head = Head(first, frames, sum(listeners.values()), received, listeners, keys)
    data = _encode([batch for batch, _ in group])
    names = _encoder.encode({_text(name): size for name, size in listeners.items()})
    repeated = _encoder.encode([(_text(scope), _text(key), end) for scope, key, end in keys]) if keys else None
    check = _head_crc(first, frames, head.size, received, names, repeated)
    return head, (first, frames, head.size, received, names, repeated, check, CODEC, _data_crc(CODEC, data), data)


def _encode(batches: list[Batch]) -> bytes:
    try:
        return _encoder.encode(batches)
    except (OverflowError, ValueError, TypeError, RecursionError):
        # Only what the protocol knows besides can hold what msgpack has no word for; the frames have been promised.
        return _encoder.encode([_plain(batch) for batch in batches])


def _plain(batch: Batch) -> Batch:
    """The batch as it can be written: lone surrogates as `?`, odd values as the names of their types."""
    context: dict[str, Any] = {}
    for key, value in batch.context.items():
        try:
            msgspec.msgpack.encode(value)
        except (OverflowError, ValueError, TypeError, RecursionError):
            value = type(value).__name__
        context[_text(key)] = value
    return msgspec.structs.replace(
        batch,
        id=_text(batch.id),
        listener=_text(batch.listener),
        decoder=_text(batch.decoder),
        peers=[_text(peer) for peer in batch.peers],
        context=context,
    )


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def _head_crc(first: int, frames: int, size: int, received: int, names: bytes, keys: bytes | None) -> int:
    check = crc32(names, crc32(struct_pack("<qqqq", first, frames, size, received)))
    return check if keys is None else crc32(keys, check)


def _data_crc(codec: int, data: bytes) -> int:
    return crc32(data, codec)


def read_head(row: Sequence[Any]) -> Head:
    """The first seven columns as a `Head`. Raises `Damaged`."""
    try:
        first, frames, size, received, names, keys, check = row[:7]
        if frames > 0 and _head_crc(first, frames, size, received, names, keys) == check:
            return Head(first, frames, size, received, _listeners.decode(names), _keys.decode(keys) if keys else [])
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, ArithmeticError, BufferError) as error:
        raise Damaged("a row cannot be read") from error
    except Exception as error:
        # struct.error: a number that does not fit.
        raise Damaged("a row cannot be read") from error
    raise Damaged("a row's checksum is wrong")


def read_batches(row: Sequence[Any], frames: int) -> list[Batch]:
    """The batches of a row. Raises `Damaged`."""
    codec, check, data = row[7:10]
    try:
        if _data_crc(codec, data) != check:
            raise Damaged("the checksum of a row's data is wrong")
        if codec != CODEC:
            raise Damaged(f"a row is written in codec {codec}, which this version does not know")
        batches = _batches.decode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Damaged("a row's data cannot be read") from error
    if sum(len(batch.frames) for batch in batches) != frames:
        raise Damaged("a row does not have the frames that it should")
    return batches


def counted(batch: Batch) -> int:
    """What a batch that was read again counts for."""
    return size_of(batch)
