"""Messages of the Forward protocol as JSON: fluentd takes them besides MessagePack, and its library for PHP sends them.

`["tag", 1770000000, {"log": "hello"}]`: an array where a message of MessagePack is expected; `[` begins none of those.
"""

from __future__ import annotations

import re

import msgspec

#: The first byte of a message in JSON.
BEGINNING = 0x5B
#: What may stand between two.
SPACE = b" \t\r\n"

_OUTSIDE = re.compile(rb'[\[\]{}"]')
_INSIDE = re.compile(rb'["\\]')
_OPENING = b"[{"

_decode = msgspec.json.Decoder(list).decode
_encode = msgspec.msgpack.Encoder().encode


class JsonScan:
    """Looks for the end of one array, as `Scan` does for values of MessagePack. `pending` is how deep it is inside."""

    __slots__ = ("_text", "pending", "position")

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, position: int) -> None:
        """Look for the end of the array at that position."""
        self.position = position
        self.pending = 0
        self._text = False

    def run(self, data: bytes | bytearray) -> bool:
        """Go on in `data`; whether the array ends in it, at `position`."""
        end = len(data)
        while self.position < end:
            found = (_INSIDE if self._text else _OUTSIDE).search(data, self.position)
            if found is None:
                self.position = end
                return False
            character = found[0]
            self.position = found.end()
            if self._text:
                if character == b"\\":
                    self.position += 1  # what it escapes, which may come later
                else:
                    self._text = False
            elif character == b'"':
                self._text = True
            else:
                self.pending += 1 if character in _OPENING else -1
                if self.pending <= 0:
                    return True
        return False


def as_msgpack(text: bytes) -> bytes | None:
    """The array as MessagePack; None if it is none, or has what MessagePack has not."""
    try:
        return _encode(_decode(text))
    except (ValueError, RecursionError, OverflowError):
        return None


def acknowledge_as_json(chunk: bytes) -> bytes:
    """The answer to a message in JSON whose option `chunk` was that value."""
    return msgspec.json.encode({"ack": msgspec.msgpack.decode(chunk)})
