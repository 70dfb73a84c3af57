"""One message of the Forward protocol to its entries, whatever its mode. Pure: bytes in, frames out, or a refusal.

The modes (Forward Protocol Specification v1, "Message Modes"), told apart by the second element:

| mode | message |
|---|---|
| Message | `[tag, time, record, option?]` |
| Forward | `[tag, [[time, record], ...], option?]` |
| PackedForward | `[tag, entries one after another as bin or str, option?]` |
| CompressedPackedForward | the same with `compressed` among the options: `gzip` or `zstd` |

A frame is one entry, its bytes as they came: `[time, record]`, or `[[time, metadata], record]` as Fluent Bit sends
them. What is inside an entry is a decoder's business, and not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from eventserver.decompression import BadCompression, Decompressor, TooLarge
from eventserver.framing._msgpack import Scan, content_of, count_of, split

#: The most bytes of a tag, and of the map of options.
MAX_TAG, MAX_OPTION = 1024, 4096
#: A message becomes batches of about so many bytes: each is decoded and written in one go.
BATCH_BYTES = 1 << 20
_ENTRY = b"\x92"
#: First bytes of arrays, of str and bin, and of maps.
_ARRAYS = frozenset([*range(0x90, 0xA0), 0xDC, 0xDD])
_BLOBS = frozenset([*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB])
_NIL = b"\xc0"
#: The least bytes of an entry: `[0, {}]`.
_LEAST_ENTRY = 3

_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
_options = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_number = msgspec.msgpack.Decoder(int)


class Limits(NamedTuple):
    """`message`: bytes of a message; `unpacked`: of its entries; `frame`: of an entry; `entries`: their number.

    `values`: how many values, those inside others included, are looked at one by one to find where entries end.
    """

    message: int
    unpacked: int
    ratio: float
    frame: int
    entries: int
    values: int = 2_000_000


class Message(NamedTuple):
    """Entries that came together. `chunk` is the id to acknowledge, as it came, or None.

    `truncated` are the indexes of the frames that were over the limit; their heads are kept. `json` is how it came, and
    how it is to be acknowledged.
    """

    tag: str
    frames: list[bytes]
    truncated: list[int]
    chunk: bytes | None
    json: bool = False

    def key(self, sender: str) -> str:
        """What the message is recognised by when its sender sends it again: its id, and what it carries.

        The sender (its address) and the content too, since an id that is used twice must not make another message
        vanish: there are senders that number their chunks 0, 1, 2.
        """
        digest = hashlib.blake2b(digest_size=16)
        for part in (sender.encode(), self.tag.encode(), self.chunk or b"", *self.frames):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.hexdigest()


class Refused(ValueError):
    """No message, or one beyond a limit: a word for a counter's label."""


def read_message(data: bytes, limits: Limits) -> Message:
    """The entries of one whole message. Raises `Refused`."""
    count, start = count_of(data)
    if not 2 <= count <= 4:
        raise Refused("bad_message")
    scan = Scan(limits.values)
    parts = _values(data, count, start, scan)
    tag = content_of(parts[0])
    if tag is None or len(tag) > MAX_TAG:
        raise Refused("bad_message")
    second = parts[1][0]
    if second in _ARRAYS:
        option, frames = _option(parts[2:]), _elements(parts[1], limits, scan)
    elif second in _BLOBS:
        option = _option(parts[2:])
        frames = _packed(content_of(parts[1]) or b"", option, limits, scan)
    elif count == 2:
        raise Refused("bad_message")
    else:
        option, frames = _option(parts[3:]), [_ENTRY + parts[1] + parts[2]]
    chunk = option.get("chunk")
    truncated = _cut(frames, limits.frame)
    return Message(tag.decode(errors="replace"), frames, truncated, None if chunk is None else bytes(chunk))


def _option(parts: list[bytes]) -> dict[str, msgspec.Raw]:
    if not parts or parts == [_NIL]:
        return {}
    if len(parts) > 1 or len(parts[0]) > MAX_OPTION:
        raise Refused("bad_message")
    try:
        return _options.decode(parts[0])
    except (ValueError, RecursionError):
        raise Refused("bad_message") from None


def _elements(data: bytes, limits: Limits, scan: Scan) -> list[bytes]:
    """The entries of an array. Their number is looked at first: each of them takes memory, however small it is."""
    count, start = count_of(data)
    if count > limits.entries:
        raise Refused("too_many")
    return _values(data, count, start, scan)


def _values(data: bytes, count: int, start: int, scan: Scan) -> list[bytes]:
    """The elements of a whole array."""
    try:
        return [bytes(value) for value in _raws.decode(data)]
    except (ValueError, RecursionError):
        # Nested deeper than compiled code goes.
        values = split(data[start:], count, scan)
    if values is None:
        raise Refused("too_complex")
    return values


def _packed(blob: bytes, option: dict[str, msgspec.Raw], limits: Limits, scan: Scan) -> list[bytes]:
    """The entries that stand one after another in a bin or str."""
    compressed = content_of(bytes(option.get("compressed", b""))) or b"text"
    if compressed != b"text":
        blob = _unpack(blob, compressed.decode(errors="replace"), limits)
    frames = _as_announced(blob, option.get("size"), limits)
    if frames is None:
        frames = split(blob, limits.entries, scan)
    if frames is None:
        raise Refused("too_complex" if scan.room == 0 else "too_many")
    return frames


def _as_announced(blob: bytes, size: msgspec.Raw | None, limits: Limits) -> list[bytes] | None:
    """The entries, if there are as many as `size` says: compiled code cuts them then, many times as fast."""
    try:
        count = 0 if size is None else _number.decode(size)
        if not 0 < count <= min(limits.entries, len(blob) // _LEAST_ENTRY):
            return None
        return [bytes(entry) for entry in _raws.decode(b"\xdd%b%b" % (count.to_bytes(4, "big"), blob))]
    except (ValueError, RecursionError):
        return None


def _unpack(blob: bytes, encoding: str, limits: Limits) -> bytes:
    if encoding not in ("gzip", "zstd"):
        raise Refused("unsupported")
    try:
        # Each member has an entry at least.
        unpacker = Decompressor(encoding, limits.unpacked, limits.ratio, max_members=limits.entries)
        unpacked = unpacker.feed(blob)
        unpacker.finish()
    except LookupError:
        raise Refused("unsupported") from None
    except BadCompression:
        raise Refused("bad_compression") from None
    except TooLarge:
        raise Refused("oversize") from None
    return unpacked


def _cut(frames: list[bytes], limit: int) -> list[int]:
    """Cut what is too long; returns its indexes."""
    if not frames or max(map(len, frames)) <= limit:
        return []
    truncated = [index for index, frame in enumerate(frames) if len(frame) > limit]
    for index in truncated:
        frames[index] = frames[index][:limit]
    return truncated


def joined(messages: list[Message]) -> list[Message]:
    """Messages that ask for no ack, those of a tag made one."""
    if len(messages) < 2:
        return messages
    by_tag: dict[str, Message] = {}
    for message in messages:
        whole = by_tag.setdefault(message.tag, Message(message.tag, [], [], None))
        first = len(whole.frames)
        whole.truncated.extend([first + index for index in message.truncated])
        whole.frames.extend(message.frames)
    return list(by_tag.values())


def parts(message: Message) -> Iterator[tuple[list[bytes], list[int]]]:
    """The frames of a message, about `BATCH_BYTES` at a time, and the indexes of those among them that were cut."""
    frames = message.frames
    if sum(map(len, frames)) <= BATCH_BYTES:
        if frames:
            yield frames, message.truncated
        return
    start = size = 0
    for index, frame in enumerate(frames):
        size += len(frame)
        if size >= BATCH_BYTES or index == len(frames) - 1:
            end = index + 1
            yield frames[start:end], [number - start for number in message.truncated if start <= number < end]
            start, size = end, 0
