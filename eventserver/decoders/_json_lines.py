"""JSON lines put together from the bytes of the frames, without an `Event` for each: what decoders share for that.

The lines are byte for byte what the encoder `json` writes for the events of the batch (see `IJsonLines`): one object
with the keys `id`, `time`, `received`, `listener`, `peer`, `type`, `message`, `fields`, and `context` if it is not
empty, whose texts msgspec has escaped.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from io import BytesIO

import msgspec

from eventserver.blocks import ended
from eventserver.event import Batch

#: A value that is the same in every line, or one a line.
Column = bytes | Sequence[bytes]

#: What stands between the texts while they are escaped in one go: the one ASCII control character that JSON leaves as
#: it is, and that hardly any text has.
_BETWEEN = b"\x7f"

to_json = msgspec.json.Encoder().encode

_numbers: list[bytes] = []


def numbers(batch: Batch) -> list[bytes]:
    """The number of each frame in its batch, as digits."""
    end = batch.offset + len(batch.frames)
    if len(_numbers) < end:
        _numbers.extend([b"%d" % number for number in range(len(_numbers), end)])
    return _numbers[batch.offset : end]


def escaped(texts: Sequence[bytes]) -> Sequence[bytes] | None:
    """The texts, of UTF-8, as they stand inside the quotes of JSON; None where that has to be found out one by one.

    One call of the codec and one of the encoder for all of them; texts that need no escapes are given back.
    """
    block = _BETWEEN.join(texts)
    written = _escaped(block)
    if written is None or len(written) == len(block):
        return None if written is None else texts
    found = written.split(_BETWEEN)
    return found if len(found) == len(texts) else None


def escaped_with(texts: Sequence[bytes], end: bytes) -> list[bytes] | None:
    """As `escaped`, but behind each text stands `end`, whose one LF is its last byte."""
    written = _escaped(ended(texts, _BETWEEN))
    if written is None:
        return None
    found = BytesIO(written.replace(_BETWEEN, end)).readlines()
    return found if len(found) == len(texts) else None


def _escaped(block: bytes) -> bytes | None:
    """A text, of UTF-8, as it stands inside the quotes of JSON."""
    try:
        return to_json(block.decode())[1:-1]
    except UnicodeDecodeError:
        return None


def same_for_all(batch: Batch, kind: str) -> tuple[bytes, Column, bytes]:
    """The parts of a line that come from the batch: between number and time, between time and message, at the end.

    They are `","time":`, `,"received":...,"listener":"...","peer":"...","type":"...","message":"` and
    `,"context":{...}}` with LF; the middle one is a column where the frames have several peers. Raises `ValueError` or
    `TypeError` for a context that JSON cannot hold.
    """
    received = b',"received":' + to_json(batch.received)
    end = b',"context":%b}\n' % to_json(batch.context) if batch.context else b"}\n"
    peers, listener = batch.peers, batch.listener
    if len(peers) == 1:
        return b'","time":', received + source_of(listener, peers[0], kind) + b'"', end
    sources = {peer: received + source_of(listener, peer, kind) + b'"' for peer in set(peers)}
    return b'","time":', [sources[peer] for peer in peers], end


@functools.lru_cache(1024)
def source_of(listener: str, peer: str, kind: str) -> bytes:
    """What comes between the times and the message's value: most often the same as in the batch before."""
    return b',"listener":%b,"peer":%b,"type":%b,"message":' % (to_json(listener), to_json(peer), to_json(kind))


def weave(count: int, *columns: Column) -> bytes:
    """All the columns of `count` lines, line after line."""
    if count == 1:
        return b"".join([column if type(column) is bytes else column[0] for column in columns])  # type: ignore[misc]
    width = len(columns)
    parts = [column if isinstance(column, bytes) else b"" for column in columns] * count
    for index, column in enumerate(columns):
        if not isinstance(column, bytes):
            parts[index::width] = column
    return b"".join(parts)
