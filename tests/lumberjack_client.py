"""A Lumberjack client without I/O, for tests: events in, bytes out; acknowledgements in.

It does what the Beats do: one window at a time (or some more), numbered from 1 on; what is not acknowledged when the
connection breaks is sent again on the next one.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Mapping


def window(count: int, version: bytes = b"2") -> bytes:
    """`W`: so many data frames follow."""
    return version + b"W" + struct.pack(">I", count)


def json_frame(sequence: int, payload: bytes, version: bytes = b"2") -> bytes:
    """`J`: a data frame of version 2."""
    return version + b"J" + struct.pack(">II", sequence, len(payload)) + payload


def pairs_frame(sequence: int, pairs: Mapping[bytes, bytes]) -> bytes:
    """`D`: a data frame of version 1."""
    texts = [text for pair in pairs.items() for text in pair]
    body = b"".join(struct.pack(">I", len(text)) + text for text in texts)
    return b"1D" + struct.pack(">II", sequence, len(pairs)) + body


def compressed(data: bytes, version: bytes = b"2") -> bytes:
    """`C`: frames in a frame."""
    packed = zlib.compress(data)
    return version + b"C" + struct.pack(">I", len(packed)) + packed


def acks(data: bytes) -> list[int]:
    """The numbers that were acknowledged, of either version; 0 is "wait"."""
    assert len(data) % 6 == 0
    numbers = []
    for position in range(0, len(data), 6):
        assert data[position : position + 2] in (b"1A", b"2A")
        numbers.append(int.from_bytes(data[position + 2 : position + 6], "big"))
    return numbers


class LumberjackClient:
    """Sends each event in a window of at most `size`; `ahead` windows may wait for their acknowledgement."""

    def __init__(self, size: int = 10, *, ahead: int = 1, compress: bool = False) -> None:
        self.acknowledged: list[bytes] = []
        self.resent = 0
        self._size = size
        self._ahead = ahead
        self._compress = compress
        self._waiting: deque[bytes] = deque()
        self._windows: deque[list[bytes]] = deque()
        self._told = 0  # of the first window

    def send(self, *events: bytes) -> None:
        """Hand over events."""
        self._waiting.extend(events)

    def connect(self) -> None:
        """A new connection: what has no acknowledgement comes first."""
        left = [event for events in self._windows for event in events]
        self.resent += len(left)
        self._waiting.extendleft(reversed(left))
        self._windows.clear()
        self._told = 0

    def take(self) -> bytes:
        """The windows that may be sent now."""
        data = []
        while self._waiting and len(self._windows) < self._ahead:
            events = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            self._windows.append(events)
            frames = b"".join(json_frame(number, event) for number, event in enumerate(events, 1))
            data += [window(len(events)), compressed(frames) if self._compress else frames]
        return b"".join(data)

    def receive(self, data: bytes) -> None:
        """What the server said. Fails for what the Beats take as an error: more than was sent."""
        for number in acks(data):
            if not number:
                continue
            events = self._windows[0]
            already = self._told
            assert already < number <= already + len(events), "progress only grows, up to what was sent"
            self.acknowledged += events[: number - already]
            self._windows[0] = events[number - already :]
            self._told = number
            if not self._windows[0]:
                self._windows.popleft()
                self._told = 0
