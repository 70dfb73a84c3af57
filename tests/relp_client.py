"""A RELP client without I/O, for tests: messages in, bytes out; bytes in, answers out.

It does what librelp does: numbers from 1 on for each session, a window of unanswered messages, and after a broken
session a new one in which all that has no answer is sent again, in order, under new numbers.

    client = RelpClient()
    client.send(b"one", b"two")
    transport.write(client.open())          # and after each `receive`: transport.write(client.take())
    client.receive(data)                    # client.acknowledged is now what the server has promised to keep
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

OFFERS = b"relp_version=0\nrelp_software=tests,1,none\ncommands=syslog"
_HEADER = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_LAST_TXNR = 999_999_999


def frame(txnr: int, command: str, data: bytes = b"") -> bytes:
    """One frame: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`."""
    return b"%d %b %d%b\n" % (txnr, command.encode(), len(data), b" " + data if data else b"")


def syslog(first: int, *messages: bytes) -> bytes:
    """`syslog` commands with the numbers from `first` on."""
    return b"".join(frame(first + index, "syslog", message) for index, message in enumerate(messages))


def cut(data: bytes) -> tuple[list[tuple[int, str, bytes]], bytes]:
    """The whole frames of a stream, as number, command and data, and what is left. Raises `ValueError` for no RELP."""
    frames = []
    position = 0
    while found := _HEADER.match(data, position):
        start = found.end() - (found[4] == b"\n")
        end = start + int(found[3])
        if len(data) <= end:
            break
        if data[end : end + 1] != b"\n":
            raise ValueError(f"no LF behind {data[position : end + 1]!r}")
        frames.append((int(found[1]), found[2].decode(), data[start:end]))
        position = end + 1
    rest = data[position:]
    if len(rest) > 53 and not found:
        raise ValueError(f"no frame: {rest[:60]!r}")
    return frames, rest


class RelpClient:
    """One client, through any number of sessions. Only one session at a time; `open` begins the next.

    `acknowledged` are the messages that were answered 200, in the order of the answers; `refused` those with another
    code; `waiting` those that were not sent in this session yet, `unanswered` those that were. `resent` counts messages
    that were sent more than once.
    """

    def __init__(self, window: int = 128, offers: bytes = OFFERS) -> None:
        self.window = window
        self.offers = offers
        self.waiting: deque[bytes] = deque()
        self.unanswered: deque[tuple[int, bytes]] = deque()
        self.acknowledged: list[bytes] = []
        self.refused: list[tuple[bytes, bytes]] = []
        self.resent = 0
        self.sessions = 0
        self.opened = False
        self.closing = False
        self.closed = False
        """The server has said `serverclose`, or answered `close`: nothing more can be sent in this session."""
        self.server_offers = b""
        self._txnr = 1
        self._rest = b""

    def send(self, *messages: bytes) -> None:
        """Have messages sent, when `take` is asked for them."""
        self.waiting.extend(messages)

    def open(self) -> bytes:
        """The beginning of a session. What the last one left unanswered is sent again in this one."""
        self.resent += len(self.unanswered)
        self.waiting.extendleft(message for _, message in reversed(self.unanswered))
        self.unanswered.clear()
        self.sessions += 1
        self.opened = self.closing = self.closed = False
        self._rest = b""
        self._txnr = 1
        return frame(self._number(), "open", self.offers)

    def take(self) -> bytes:
        """What can be sent now: messages that wait, as far as the window lets them."""
        if not self.opened or self.closing or self.closed:
            return b""
        parts = []
        while self.waiting and len(self.unanswered) < self.window:
            message, number = self.waiting.popleft(), self._number()
            self.unanswered.append((number, message))
            parts.append(frame(number, "syslog", message))
        return b"".join(parts)

    def close(self) -> bytes:
        """The end of the session; what is unanswered is still answered."""
        self.closing = True
        self._close_number = self._number()
        return frame(self._close_number, "close")

    def receive(self, data: bytes) -> Sequence[bytes]:
        """Take what the server said; returns the messages that it acknowledged with it.

        Raises `ValueError` if the server breaks the protocol: an answer out of order, or to nothing.
        """
        frames, self._rest = cut(self._rest + data)
        before = len(self.acknowledged)
        for number, command, content in frames:
            if (number, command) == (0, "serverclose"):
                self.closed = True
            elif command != "rsp" or not number:
                raise ValueError(f"the server sent {number} {command}")
            elif not self.opened:
                self._answered_open(number, content)
            elif self.closing and number == self._close_number:
                self.closed = True
            else:
                self._answered(number, content)
        return self.acknowledged[before:]

    def _answered_open(self, number: int, content: bytes) -> None:
        if number != 1 or not content.startswith(b"200 "):
            raise ValueError(f"the server answered `open` with {number} {content!r}")
        self.opened = True
        self.server_offers = content.partition(b"\n")[2]

    def _answered(self, number: int, content: bytes) -> None:
        expected, message = self.unanswered.popleft() if self.unanswered else (None, b"")
        if number != expected:
            raise ValueError(f"the server answered {number}, and {expected} is due")
        if content.startswith(b"200"):
            self.acknowledged.append(message)
        else:
            self.refused.append((message, content))

    def _number(self) -> int:
        number = self._txnr
        self._txnr = number + 1 if number < _LAST_TXNR else 1
        return number
