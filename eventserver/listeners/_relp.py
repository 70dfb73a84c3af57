"""RELP, the server's side of one session, without I/O: bytes in, messages and replies out.

A frame is `TXNR SP COMMAND SP DATALEN [SP DATA] LF` (librelp, doc/relp.md). The client numbers its commands from 1 on,
and each gets one reply, in the same order; number 0 is a hint, which gets none.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

#: The largest TXNR; the next one is 1.
LAST_TXNR = 999_999_999
#: The most DATA that is read of a command other than `syslog`: offers are a few short lines.
MAX_CONTROL = 4096
#: Said at the end of a session: the client opens another, and sends what has not been answered.
SERVERCLOSE = b"0 serverclose 0\n"
#: The newest version of the protocol that is spoken here.
VERSION = 1

_NUMBER = rb"(0|[1-9][0-9]{0,8})"
_HEADER = re.compile(_NUMBER + rb" ([A-Za-z]{1,32}) " + _NUMBER + rb"([ \n])")
#: What may be the beginning of a header, once it is known to be no whole one.
_BEGINNING = re.compile(rb"(?:%b(?: (?:[A-Za-z]{1,32}(?: %b?)?)?)?)?" % (_NUMBER, _NUMBER))
_LF = 0x0A


class Messages(NamedTuple):
    """`syslog` commands that follow each other: the TXNR of the first, and the data of each.

    `truncated` are the indexes of those that were over the limit; `size` is what all took on the wire.
    """

    first: int
    frames: list[bytes]
    truncated: list[int]
    size: int


class Reply(NamedTuple):
    """What a command is answered with, once everything before it has been; with `last` the session ends there."""

    data: bytes
    last: bool = False


Step: TypeAlias = Messages | Reply


class Session:
    """What one connection says, as commands. No method raises, whatever the bytes.

    Data of `syslog` over `max_frame` is cut, and skipped without being held: a client that was refused it would send it
    again for ever, or forget it. Over `max_data` the session is broken, as by anything else that is not RELP: then
    `fault` is a word for a counter's label, and nothing that follows is looked at. Where a frame begins is never looked
    for.
    """

    __slots__ = ("_body", "_command", "_count", "_expected", "_header", "_max_data", "_max_frame", "_missing", "_skip",
                 "_software", "_txnr", "closed", "fault", "opened")  # fmt: skip

    def __init__(self, max_frame: int, max_data: int, software: str) -> None:
        self.opened = False
        self.closed = False
        self.fault: str | None = None
        self._max_frame = max_frame
        self._max_data = max_data
        self._software = software
        self._expected = 1
        self._header = b""  # an unfinished header, at most 53 bytes
        self._command = b""  # the command whose header is read, while its data is awaited; else empty
        self._txnr = self._count = 0  # its number, and its announced length
        self._body = bytearray()
        self._missing = self._skip = 0  # bytes of its data that are still to be kept, and then to be skipped

    @property
    def partial(self) -> bool:
        """True from the first byte of a header to the LF of the frame."""
        return bool(self._command or self._header)

    def feed(self, data: bytes) -> list[Step]:
        """What `data` completes, up to a fault."""
        steps: list[Step] = []
        if self.fault or self.closed:
            return steps
        position = 0
        if self._command:
            position = self._continue(data, 0, steps)
        elif self._header:
            data, self._header = self._header + data, b""
        while position < len(data) and not (self.fault or self.closed):
            position = self._syslog(data, position, steps)
            if position < len(data):
                position = self._next(data, position, steps)
        return steps

    # Frames

    def _syslog(self, data: bytes, position: int, steps: list[Step]) -> int:
        """Take the whole `syslog` frames that follow each other; returns where something else begins."""
        if not self.opened:
            return position
        match, limit, size, expected = _HEADER.match, self._max_frame, len(data), self._expected
        frames: list[bytes] = []
        begin = position
        while (found := match(data, position)) is not None:
            txnr, command, length, gap = found.groups()
            if command != b"syslog" or gap != b" " or int(txnr) != expected:
                break
            count, start = int(length), found.end()
            stop = start + count
            if count > limit or not count or stop >= size or data[stop] != _LF:
                break
            frames.append(data[start:stop])
            position = stop + 1
            expected = expected + 1 if expected < LAST_TXNR else 1
        if frames:
            steps.append(Messages(self._expected, frames, [], position - begin))
            self._expected = expected
        return position

    def _next(self, data: bytes, position: int, steps: list[Step]) -> int:
        """Take one frame, or the beginning of one; returns where the next begins."""
        found = _HEADER.match(data, position)
        if found is None:
            if _BEGINNING.fullmatch(data, position) is None:
                return self._fail("bad_header", data)
            self._header = data[position:]
            return len(data)
        txnr, command, length, gap = found.groups()
        self._txnr, self._command, self._count = int(txnr), command, int(length)
        if (reason := self._refusal()) is not None:
            return self._fail(reason, data)
        if gap == b"\n" and self._count:
            return self._fail("bad_header", data)
        self._missing = min(self._count, self._max_frame) if command == b"syslog" else self._count
        self._skip = self._count - self._missing
        # Without data the LF may follow at once; it is looked at as the end of every frame is.
        return self._continue(data, found.end() - (gap == b"\n"), steps)

    def _refusal(self) -> str | None:
        """What is wrong with the header that was just read."""
        command = self._command
        if self._count > (self._max_data if command == b"syslog" else MAX_CONTROL):
            return "too_long"
        if not self._txnr:
            return None
        if self._txnr != self._expected:
            return "bad_txnr"
        if not self.opened and command not in (b"open", b"close"):
            return "not_open"
        self._expected = self._expected + 1 if self._expected < LAST_TXNR else 1
        return None

    def _continue(self, data: bytes, position: int, steps: list[Step]) -> int:
        """Move the frame in progress on by what lies behind `position`; returns where the next begins."""
        if self._missing:
            part = data[position : position + self._missing]
            self._body += part
            self._missing -= len(part)
            position += len(part)
        step = min(self._skip, len(data) - position)
        self._skip -= step
        position += step
        if position == len(data):
            return position
        if data[position] != _LF:
            return self._fail("bad_trailer", data)
        command, body = self._command, bytes(self._body)
        self._command = b""
        self._body.clear()
        self._do(command, body, steps)
        return position + 1

    def _fail(self, reason: str, data: bytes) -> int:
        self.fault = reason
        self._command = self._header = b""
        self._body.clear()
        return len(data)

    # Commands

    def _do(self, command: bytes, data: bytes, steps: list[Step]) -> None:
        txnr = self._txnr
        if not txnr:
            # A hint. There is none that a server has to follow.
            return
        if command == b"syslog":
            truncated = [0] if self._count > self._max_frame else []
            steps.append(Messages(txnr, [data], truncated, self._count))
        elif command == b"open":
            steps.append(self._open(txnr, data))
        elif command == b"close":
            self.closed = True
            steps.append(Reply(reply(txnr, b"200 OK") + SERVERCLOSE, last=True))
        else:
            steps.append(Reply(reply(txnr, b"500 unknown command")))

    def _open(self, txnr: int, data: bytes) -> Reply:
        if self.opened:
            return Reply(reply(txnr, b"500 the session is open already"))
        offers = _offers(data)
        version = offers.get(b"relp_version", b"")
        if not version.isdigit() or len(version) > 9:
            return Reply(reply(txnr, b"500 the offer relp_version is missing, or is no number"))
        if b"syslog" not in offers.get(b"commands", b"").split(b","):
            return Reply(reply(txnr, b"500 the offer commands=syslog is missing"))
        self.opened = True
        ours = f"relp_version={min(int(version), VERSION)}\nrelp_software={self._software}\ncommands=syslog"
        return Reply(reply(txnr, b"200 OK\n" + ours.encode()))


def _offers(data: bytes) -> dict[bytes, bytes]:
    """The offers of an `open`: one a line, `name=value[,value...]`."""
    pairs = (line.partition(b"=") for line in data.split(b"\n"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def reply(txnr: int, data: bytes) -> bytes:
    """The reply to one command."""
    return b"%d rsp %d %b\n" % (txnr, len(data), data)


def acknowledge(first: int, count: int) -> bytes:
    """The replies that tell the client that `count` messages, from that TXNR on, are taken."""
    if first + count - 1 <= LAST_TXNR:
        numbers = range(first, first + count)
        return b"".join([b"%d rsp 6 200 OK\n" % number for number in numbers])
    before = LAST_TXNR - first + 1
    return acknowledge(first, before) + acknowledge(1, count - before)
