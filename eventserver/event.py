"""The data that travels: batches of frames on the way in, events on the way to handlers.

This module is the bottom of the house: it imports nothing of ours but `blocks`, and knows no decoder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from eventserver.blocks import Lines

#: The version of the JSON form of `Event`; raised when a key changes its meaning.
EVENT_SCHEMA_VERSION = 1

#: One value for the whole batch (a sequence of length one), or one value a frame.
PerFrame: TypeAlias = Sequence[str]


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one read brought: the unit that is framed, journaled and decoded in one go.

    Plain data; the journal stores it as it is. It holds no events: delivery decodes it.

    - `id`: a ULID (26 characters of Crockford's base 32), opaque. Order is the journal's position, never the id.
    - `listener`, `decoder`: names; `decoder` as it was chosen at ingest.
    - `received`: aware UTC time of the read; the only clock that a decoder sees.
    - `peers`: one for all frames, or one a frame: `"192.0.2.7:51123"`, `"[2001:db8::7]:51123"`,
      `"unix:pid=1,uid=0"`.
    - `frames`: the bytes of each frame, without the framing: a list, or `Lines` that are cut when they are looked at.
    - `marks`: by index of the frame, words about it, such as `("truncated",)`.
    - `context`: what the protocol knows besides (labels, TLS subject, ...), the same for all frames.
    - `connection`: where a reply goes, one for all frames or one a frame; unique in the process, void after
      a restart; 0 is none.
    - `offset`: the number of its first frame, where this is a part of a larger batch; the journal's batches have 0.
      Ids count from it.
    """

    id: str
    listener: str
    decoder: str
    received: dt.datetime
    peers: PerFrame
    frames: Sequence[bytes]
    marks: dict[int, tuple[str, ...]] = {}
    context: dict[str, Any] = {}
    connection: int | list[int] = 0
    offset: int = 0

    def id_of(self, frame: int) -> str:
        """The id of the (first) event of the frame at index `frame` of `frames`."""
        return f"{self.id}-{self.offset + frame}"

    def peer_of(self, frame: int) -> str:
        """The peer that sent frame number `frame`."""
        return self.peers[frame] if len(self.peers) > 1 else self.peers[0]

    def connection_of(self, frame: int) -> int:
        """The connection that frame number `frame` came on; 0 if there is none."""
        connection = self.connection
        return connection if isinstance(connection, int) else connection[frame]

    def context_of(self, frame: int) -> dict[str, Any]:
        """The context of one frame: the batch's, and each mark of the frame as a key with the value true."""
        marks = self.marks.get(frame)
        return {**self.context, **dict.fromkeys(marks, True)} if marks else self.context

    def part(self, start: int, end: int) -> Batch:
        """The frames from index `start` up to `end`, as a batch of the same id."""
        return msgspec.structs.replace(
            self,
            frames=self.frames[start:end],
            peers=self.peers[start:end] if len(self.peers) > 1 else self.peers,
            marks={frame - start: marks for frame, marks in self.marks.items() if start <= frame < end},
            connection=self.connection if isinstance(self.connection, int) else self.connection[start:end],
            offset=self.offset + start,
        )


def size_of(batch: Batch) -> int:
    """The bytes of memory that a batch is counted with: its frames, and what Python needs to hold each.

    An estimate: CPython needs 33 bytes and a pointer for each frame, and a few hundred for the batch.
    """
    frames = batch.frames
    if len(frames) == 1:
        return len(frames[0]) + 441
    size = frames.size if isinstance(frames, Lines) else sum(map(len, frames))
    return size + 41 * len(frames) + 400


def _no_fields() -> dict[str, Any]:
    # Not `dict` itself: msgspec's omit_defaults would then leave an empty `fields` out of the JSON form,
    # and `fields` is always present.
    return {}


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that happened, as handlers get it. Read-only: all handlers share it.

    The JSON form is one object with the keys in this order; `context` only where it is not empty, `raw` or
    `raw_base64` only where set.

    - `id`: `<batch>-<frame>`, and `<batch>-<frame>.<n>` for the n-th further event of one frame. The same on
      redelivery and replay, so it serves as an idempotency key.
    - `time`: when it happened, as the decoder read it, else `received`. Aware, UTC; RFC 3339 with `Z` in JSON.
    - `received`: when the server read it. Aware, UTC.
    - `listener`: the name of the listener. `peer`: who sent it, see `Batch.peers`.
    - `type`: what kind of thing it is; by default the decoder's name, `"undecodable"` if nothing could be read.
    - `message`: the text for people. `fields`: what else the decoder found, by the format's standard names.
    - `context`: what the protocol knew besides (see `Batch.context`) and the marks of the frame.
    - `raw`: the frame as text, or `raw_base64`: its bytes, where they are not UTF-8 (base64 in JSON). Both are
      `UNSET` unless decoding failed or a handler of the listener has `raw = true`.
    """

    id: str
    time: dt.datetime
    received: dt.datetime
    listener: str
    peer: str
    type: str
    message: str = msgspec.field(default_factory=lambda: "")
    fields: dict[str, Any] = msgspec.field(default_factory=_no_fields)
    context: dict[str, Any] = msgspec.field(default_factory=dict)
    raw: str | UnsetType = UNSET
    raw_base64: bytes | UnsetType = UNSET

    def replace(self, **changes: Any) -> Event:
        """A new event with some attributes changed; the fields that are not named are shared with this one."""
        return msgspec.structs.replace(self, **changes)

    @property
    def raw_bytes(self) -> bytes | None:
        """The frame's bytes, whichever of `raw` and `raw_base64` holds them; None if neither does."""
        if isinstance(self.raw, str):
            return self.raw.encode()
        return self.raw_base64 if isinstance(self.raw_base64, bytes) else None


def frame_index(event_id: str) -> int:
    """The number of the frame in its batch that an event came from, read from the event's id."""
    return int(event_id.rpartition("-")[2].partition(".")[0])


def batch_id(event_id: str) -> str:
    """The id of the batch that an event came from, read from the event's id."""
    return event_id.rpartition("-")[0]


def with_raw(event: Event, frame: bytes) -> Event:
    """The event with the bytes of its frame: as text in `raw` where they are UTF-8, else in `raw_base64`."""
    try:
        return event.replace(raw=frame.decode())
    except UnicodeDecodeError:
        return event.replace(raw_base64=frame)


def undecodable(batch: Batch, frame: int, reason: str) -> Event:
    """The event for a frame that no decoder could read: type `undecodable`, the reason, and the raw bytes.

    The message is the frame as text, with U+FFFD where it is not UTF-8; `fields` is `{"error": reason}`.
    """
    data = batch.frames[frame]
    event = Event(
        batch.id_of(frame),
        batch.received,
        batch.received,
        batch.listener,
        batch.peer_of(frame),
        "undecodable",
        data.decode(errors="replace"),
        {"error": reason},
        batch.context_of(frame),
    )
    return with_raw(event, data)
