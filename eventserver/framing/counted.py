"""Framing by length: octet counting (RFC 6587), a 32 bit length, and netstrings.

A wrong header leaves no way to find the next frame: it is a fatal fault, and looking for one inside the content would
let a sender smuggle frames in.
"""

from __future__ import annotations

import re
import struct
from io import SEEK_CUR, BytesIO
from typing import Annotated, Literal

from zope.interface import implementer

from eventserver.framing._base import FramerOptions
from eventserver.framing._body import CountedFramer
from eventserver.interfaces import IFramer
from eventserver.options import Doc

#: What some senders put between counted frames, and what means nothing there.
STRAY = re.compile(rb"[\n\0 ]*")

_OCTET_DIGITS = 7
#: As the reference implementation, which reads the length with `%9lu`.
_NETSTRING_DIGITS = 9
_COMMA = 0x2C
_ZERO = 0x30

#: The first four bytes of octet counted frames, and the bytes that follow those: three digits and SP, and two digits,
#: SP and the "<" of a priority.
_THREE_DIGITS = {b"%d " % count: count for count in range(100, 1000)}
_TWO_DIGITS = {b"%d <" % count: count - 1 for count in range(10, 100)}
#: The largest count of these.
LARGEST_USUAL = 999
_STRAYS = b"\n\0 "


def cut_usual(data: bytes, position: int, frames: list[bytes], *, priority: bool = False) -> int:
    """Cut the octet counted frames that follow each other from `position` on while their headers are usual ones.

    Returns where something else begins, or a frame that is not whole; with `priority`, also one that does not begin
    with "<". A stray between two is skipped. It costs a third of what it takes to look at every header.
    """
    reader = BytesIO(data)
    reader.seek(position)
    read, append, known = reader.read, frames.append, _THREE_DIGITS.get
    rest, count = b"", 0
    while header := read(4):
        if found := known(header):
            rest, count = read(found), found
            if priority and rest[:1] != b"<":
                return reader.tell() - len(rest) - 4
            append(rest)
        elif found := _TWO_DIGITS.get(header):
            rest, count = read(found), found
            append(b"<" + rest)
        elif header[0] in _STRAYS and header[1:2].isdigit():
            reader.seek(1 - len(header), SEEK_CUR)
        else:
            break
    if len(rest) < count:
        frames.pop()
        return len(data) - len(rest) - 4
    return reader.tell() - len(header)


@implementer(IFramer)
class OctetFramer(CountedFramer):
    """Octet counting: `MSG-LEN SP MSG` (RFC 6587, section 3.4.1; RFC 5425, section 4.3).

    MSG-LEN has 1 to 7 digits and does not begin with a zero, so there are no empty frames. LF, NUL and SP between
    frames are skipped. Any other byte is a fatal fault, `bad_count`.
    """

    __slots__ = ()

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "octet"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)

    def wrap(self, payload: bytes) -> bytes:
        """The payload with its length before it; nothing for an empty one, which the format cannot express."""
        return super().wrap(payload) if payload else b""

    def _header_of(self, count: int) -> bytes:
        return b"%d " % count

    def _scan(self, data: bytes, position: int, frames: list[bytes]) -> None:
        end, limit, find, append = len(data), self._limit, data.find, frames.append
        while position < end:
            space = find(b" ", position, position + _OCTET_DIGITS + 1)
            digits = data[position:space] if space > 0 else b""
            if not digits.isdigit() or digits[0] == _ZERO:
                position = self._no_header(data, position)
                continue
            count, start = int(digits), space + 1
            stop = start + count
            if stop <= end and count <= limit:
                append(data[start:stop])
                position = stop
                if 10 <= count <= LARGEST_USUAL <= limit:
                    position = cut_usual(data, stop, frames)
            else:
                position = self._start(count, data, start, frames)

    def _no_header(self, data: bytes, position: int) -> int:
        """There is no whole header at `position`: strays, the beginning of a header, or nonsense."""
        stray = STRAY.match(data, position)
        if stray is not None and stray.end() > position:
            return stray.end()
        digits = data[position : position + _OCTET_DIGITS + 1]
        if len(digits) > _OCTET_DIGITS or not digits.isdigit() or digits[0] == _ZERO:
            return self._fail("bad_count", data)
        self._header = digits
        return len(data)


@implementer(IFramer)
class LengthFramer(CountedFramer):
    """A length of four bytes, unsigned, then as many bytes. Empty frames are frames."""

    __slots__ = ("_length",)

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "length"`."""

        byte_order: Annotated[Literal["big", "little"], Doc("Which byte of the length comes first.", "little")] = "big"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._length = struct.Struct(">I" if options.byte_order == "big" else "<I")

    def _header_of(self, count: int) -> bytes:
        return self._length.pack(count)

    def _scan(self, data: bytes, position: int, frames: list[bytes]) -> None:
        end, limit, read, append = len(data), self._limit, self._length.unpack_from, frames.append
        while position + 4 <= end:
            count: int = read(data, position)[0]
            start = position + 4
            stop = start + count
            if stop <= end and count <= limit:
                append(data[start:stop])
                position = stop
            else:
                position = self._start(count, data, start, frames)
        if position < end:
            self._header = data[position:]


@implementer(IFramer)
class NetstringFramer(CountedFramer):
    """Netstrings: `LEN:DATA,` (https://cr.yp.to/proto/netstrings.txt). Empty frames are frames.

    LEN has 1 to 9 digits and begins with a zero only if it is `0`; anything else is a fatal fault, `bad_count`. So is
    a missing comma, `bad_terminator`: the frame before it is not returned, unless its head was already.
    """

    terminator = b","

    __slots__ = ()

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The options of `framing = "netstring"`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)

    def _header_of(self, count: int) -> bytes:
        return b"%d:" % count

    def _scan(self, data: bytes, position: int, frames: list[bytes]) -> None:
        end, limit, find, append = len(data), self._limit, data.find, frames.append
        while position < end:
            colon = find(b":", position, position + _NETSTRING_DIGITS + 1)
            digits = data[position : colon if colon >= 0 else position + _NETSTRING_DIGITS + 1]
            if not digits.isdigit() or (digits[0] == _ZERO and len(digits) > 1) or len(digits) > _NETSTRING_DIGITS:
                self._fail("bad_count", data)
                return
            if colon < 0:
                self._header = digits
                return
            count, start = int(digits), colon + 1
            stop = start + count
            if stop < end and count <= limit and data[stop] == _COMMA:
                append(data[start:stop])
                position = stop + 1
            else:
                position = self._start(count, data, start, frames)
