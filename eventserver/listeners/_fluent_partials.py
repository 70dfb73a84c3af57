"""Lines that Docker's log driver has cut into parts, put together again. Sans-I/O.

Docker cuts lines at 16 KiB; each part is an entry of its own, whose record says `partial_message` ("true"),
`partial_id`, `partial_ordinal` (from "1") and `partial_last`. The text is in `log`. Parts are put together as bytes,
since a cut may go through a character.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from eventserver.framing._msgpack import content_of, map_count
from eventserver.listeners._fluent_messages import Message

_MARK = b"partial_id"
_TEXT = "log"
_NIL = b"\xc0"
#: Of how many fields a part is taken to pieces, and how many fields of the parts of one message; each part counts for
#: some besides. Docker's have about ten, and 16 KiB of text.
_MOST_FIELDS, _MOST_IN_ALL, _FOR_A_PART = 1000, 250_000, 50
_KEYS = ("partial_message", "partial_id", "partial_ordinal", "partial_last")

_entry = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw])
_record = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.msgpack.Encoder().encode


class _Line:
    """One line in progress: the time and the record of its first part, and the text so far."""

    def __init__(self, time: bytes, record: dict[str, bytes], since: float) -> None:
        self.time = time
        self.record = record
        self.since = since
        self.text = bytearray()
        self.parts = 0
        self.cut = False
        self.size = len(time) + sum(len(name) + len(value) for name, value in record.items() if name != _TEXT)

    def frame(self) -> bytes:
        """The entry for the whole line."""
        size = len(self.text)
        self.record[_TEXT] = b"\xdb" + size.to_bytes(4, "big") + self.text
        pairs = [_encode(key) + value for key, value in self.record.items()]
        return b"\x92%b\xde%b%b" % (self.time, len(pairs).to_bytes(2, "big"), b"".join(pairs))


class Partials:
    """The lines in progress of one connection. All methods return messages that ask for no ack.

    A line is given up, and what came of it is a frame among the `truncated`, when it is older than `timeout` seconds,
    when it is the oldest of more than `most` lines, or when `room(size)` says that these bytes are too many. Of a line
    over `max_frame` bytes the head is kept.
    """

    def __init__(self, most: int, timeout: float, max_frame: int) -> None:
        self._most = most
        self._timeout = timeout
        self._max_frame = max_frame
        self._lines: OrderedDict[tuple[str, bytes], _Line] = OrderedDict()
        self._fields = 0  # that may still be looked at in this message
        self.size = 0

    def take(self, message: Message, now: float, room: Callable[[int], bool]) -> list[Message]:
        """The message, with each line in the place of its last part, behind what was given up for it.

        Where a message has more parts than can be looked at in one go, the others stay as they are.
        """
        self._fields = _MOST_IN_ALL
        if not any(_MARK in frame for frame in message.frames):
            return [message]
        messages: list[Message] = []
        whole = Message(message.tag, [], [], None)
        truncated = set(message.truncated)
        for index, frame in enumerate(message.frames):
            if index in truncated:
                whole.truncated.append(len(whole.frames))
                whole.frames.append(frame)
            elif _MARK not in frame or not self._part(frame, now, whole):
                whole.frames.append(frame)
            while self._lines and (len(self._lines) > self._most or not room(self.size)):
                messages.append(self._give_up())
        return [*messages, whole] if whole.frames else messages

    def expire(self, now: float) -> list[Message]:
        """The lines that are waited for no longer."""
        messages: list[Message] = []
        while self._lines and now - next(iter(self._lines.values())).since >= self._timeout:
            messages.append(self._give_up())
        return messages

    def finish(self) -> list[Message]:
        """All lines, as far as they came."""
        return [self._give_up() for _ in range(len(self._lines))]

    def _part(self, frame: bytes, now: float, whole: Message) -> bool:
        """Take a part, and with the last one the line; False if the entry is none."""
        if self._fields < 0:
            return False
        try:
            time, packed = _entry.decode(frame)
            count = map_count(bytes(memoryview(packed)[:5]))
            self._fields -= _FOR_A_PART + count
            if not 0 < count <= _MOST_FIELDS or self._fields < 0:
                return False
            record = _record.decode(packed)
        except (ValueError, RecursionError):
            return False
        about = {key: content_of(bytes(record.pop(key, _NIL))) for key in _KEYS}
        text = content_of(bytes(record.get(_TEXT, _NIL)))
        if not about["partial_id"] or text is None:
            return False
        key = whole.tag, about["partial_id"]
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(bytes(time), {name: bytes(raw) for name, raw in record.items()}, now)
            self.size += line.size
        line.parts += 1
        self._add(line, text)
        if about["partial_last"] == b"true":
            # In order, as the connection keeps it: the last part's ordinal is the number of the parts.
            line.cut = line.cut or about["partial_ordinal"] not in (None, b"%d" % line.parts)
            self._end(key, line, whole)
        return True

    def _add(self, line: _Line, text: bytes) -> None:
        room = self._max_frame - line.size
        if len(text) > room:
            text = text[: max(room, 0)]
            line.cut = True
        line.text += text
        line.size += len(text)
        self.size += len(text)

    def _give_up(self) -> Message:
        key, line = next(iter(self._lines.items()))
        line.cut = True
        message = Message(key[0], [], [], None)
        self._end(key, line, message)
        return message

    def _end(self, key: tuple[str, bytes], line: _Line, whole: Message) -> None:
        del self._lines[key]
        self.size -= line.size
        if line.cut:
            whole.truncated.append(len(whole.frames))
        whole.frames.append(line.frame())
