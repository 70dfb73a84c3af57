"""Framing of GELF over TCP: messages that end with NUL, as Graylog asks for, or with LF, as some senders write them."""

from __future__ import annotations

import re

from zope.interface import implementer

from eventserver.framing._base import CRLF, Framer, FramerOptions, Line
from eventserver.framing.lines import LinesFramer, NulFramer
from eventserver.interfaces import IFramer

#: What shows how messages end: a NUL, or the end of an object and the end of a line. Neither is found inside a text of
#: JSON (RFC 8259, section 7: control characters are escaped), and LF within an object is that of indented JSON.
_END = re.compile(rb"\0|\}\r?\n")
#: Bytes before a read that may belong to such an end: "}" and CR.
_TAIL = 2


@implementer(IFramer)
class GelfFramer(Framer):
    """Cuts at NUL or at LF, whichever ends the first message of the stream; then the whole stream is cut so.

    Until that is known what comes is one frame, within `max_frame`.
    """

    __slots__ = ("_inner", "_line", "_tail")

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "gelf"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._inner: LinesFramer | NulFramer | None = None
        self._line = Line(self._limit, CRLF)
        self._tail = b""

    @property
    def partial(self) -> bool:
        """True in the middle of a message."""
        if self._inner is not None:
            return self._inner.partial
        return bool(self._line) and not self._dead

    @property
    def held(self) -> int:
        """The bytes that are carried to the next call; never more than `max_frame`."""
        return self._inner.held if self._inner is not None else len(self._line.held)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes."""
        inner = self._inner
        if inner is not None:
            frames = inner.feed(data)
            self.faults = inner.faults
            return frames
        self.faults = ()
        if self._dead:
            return []
        window = self._tail + data
        end = _END.search(window)
        if end is None:
            self._tail = window[-_TAIL:]
            return self._hold(data)
        return self._decide(data, end.group(), end.end() - len(self._tail))

    def finish(self) -> list[bytes]:
        """The message that has no end yet."""
        inner = self._inner
        if inner is not None:
            frames = inner.finish()
            self.faults = inner.faults
            return frames
        self.faults = ()
        text = self.rest()
        frames = []
        if text and not self._dead:
            self._limited([text], frames)
        return frames

    def rest(self) -> bytes:
        """The message in progress; nothing of one that is being skipped."""
        if self._inner is not None:
            return self._inner.rest()
        self._tail = b""
        return self._line.take()

    def wrap(self, payload: bytes) -> bytes:
        """The payload, ended as the peer ends its messages; with NUL where that is not known."""
        return payload + b"\0" if self._inner is None else self._inner.wrap(payload)

    def _hold(self, data: bytes) -> list[bytes]:
        """Hold on to `data`, in which no message ends."""
        frames: list[bytes] = []
        if self._line.skipping:
            return frames
        head = self._line.add(data)
        if head is not None:
            self._overflow(head, frames)
        return frames

    def _decide(self, data: bytes, ending: bytes, at: int) -> list[bytes]:
        """The ending of the first message was found: `at` is the index in `data` behind it."""
        frames: list[bytes] = []
        line, self._tail = self._line, b""
        skipping = line.skipping
        held = line.take()
        if not skipping and len(held) + at - len(ending.lstrip(b"}")) > self._limit:
            # As if the bytes had come one by one: it is too long before its ending is known.
            self._overflow((held + data[:at])[: self._limit], frames)
            skipping = True
        if self._dead:
            return frames
        kind: type[LinesFramer | NulFramer] = NulFramer if ending == b"\0" else LinesFramer
        # The type checker does not see that both take options of their own class.
        inner = self._inner = kind(kind.Options(max_frame=self._limit, oversize=self._oversize))  # type: ignore[arg-type]
        found = inner.feed(data[at:] if skipping else held + data)
        for fault in inner.faults:
            self._report(fault.reason, None if fault.frame is None else len(frames) + fault.frame, fault.fatal)
        return frames + found
