"""Lumberjack, versions 1 and 2: the server's side of one connection, without I/O.

A client announces a window of so many data frames, sends them, numbered, often all in one compressed frame, and waits
for the number of the last to be acknowledged. A lower number is progress. Clients differ in where they count from:
Beats begin each window with 1, others go on counting; so what is acknowledged is always a number that they sent.
"""

from __future__ import annotations

from typing import NamedTuple

from eventserver.decompression import BadCompression, Decompressor, TooLarge
from eventserver.listeners._lumberjack_frames import Level, Limits, Window, ack

#: Said to a client of version 2 that waits, so that it goes on waiting.
KEEPALIVE = ack(b"2", 0)


class Received(NamedTuple):
    """What one read brought: payloads, the indexes of those that were cut, and what is said once all are safe.

    `acks` is empty where a later one says it.
    """

    frames: list[bytes]
    truncated: list[int]
    acks: bytes


class Session:
    """What one connection says. No method raises, whatever the bytes.

    A payload over `max_frame` is cut, and skipped without being held: a client that was refused it would send it again
    for ever. What is compressed is unpacked as it comes, a step at a time, and never held packed. Over any other limit
    the session is broken, as by anything else that is not Lumberjack: then `fault` is a word for a counter's label,
    and nothing that follows is looked at.

    Progress is only told to clients of version 2: of version 1 there are some (logstash-forwarder) that take any
    acknowledgement for that of the whole window.
    """

    __slots__ = ("_inflater", "_inner", "_limits", "_outer", "_window")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window = Window()
        self._outer = Level(self._window, limits, self._inflate)
        self._inner: Level | None = None
        self._inflater: Decompressor | None = None

    @property
    def fault(self) -> str | None:
        """What broke the session, if something has."""
        return self._window.fault

    @property
    def partial(self) -> bool:
        """True in the middle of a frame."""
        return self._outer.partial

    @property
    def waiting(self) -> bool:
        """True if the client has opened a window that is not complete, and would be told that it has to wait."""
        return self._window.left > 0 and self.keeps_alive

    @property
    def keeps_alive(self) -> bool:
        """Whether the client knows what `KEEPALIVE` means."""
        return self._window.version == b"2"

    def feed(self, data: bytes) -> Received | None:
        """What `data` completes, up to a fault; None if that is nothing."""
        window = self._window
        if window.fault is not None:
            return None
        window.grant(len(data))
        self._outer.feed(data)
        frames, truncated, acks = window.frames, window.truncated, window.acks
        if not (frames or acks):
            return None
        window.frames, window.truncated, window.acks = [], [], []
        if frames and window.left and window.last and window.version == b"2":
            acks.append(ack(b"2", window.last))
        return Received(frames, truncated, b"".join(acks))

    def _inflate(self, piece: bytes | None) -> None:
        """Unpack a piece of a compressed frame, and cut what is inside; with None that was all of it."""
        limits, window = self._limits, self._window
        if self._inner is None or self._inflater is None:
            self._inner = Level(window, limits)
            self._inflater = Decompressor("deflate", limits.max_inflated, limits.max_ratio)
        try:
            if piece is not None:
                self._inner.feed(self._inflater.feed(piece))
                return
            self._inflater.finish()
        except TooLarge as error:
            window.fail("bad_ratio" if error.ratio else "inflated_size")
        except BadCompression:
            window.fail("bad_compression")
        if self._inner.partial:
            window.fail("incomplete_inside")
        self._inner = self._inflater = None
