"""RELP, the client's side of one session, without I/O.

A frame is `TXNR SP COMMAND SP DATALEN [SP DATA] LF`; commands are numbered from 1 on, and answered in order
(librelp, doc/relp.md).
"""

from __future__ import annotations

import re

from eventserver.sending.parcels import BadAnswer, Heard, NoAdmission, Parcel

LAST_TXNR = 999_999_999
#: The most data of an answer that is read.
MAX_ANSWER = 4096
_HEADER = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
#: What may become one. Who waits for more than that waits in vain: other protocols speak, and then wait, too.
_BEGINNING = re.compile(rb"[0-9]{1,9}(?: (?:[A-Za-z]{1,32}(?: [0-9]{0,9})?)?)?")


class Relp:
    """One session, from `open` to `close`, with at most `window` messages unanswered."""

    acknowledges = True

    def __init__(self, window: int, software: str) -> None:
        self.ready = False
        self.over = False
        self.max_parcels = window
        self.max_payloads = window
        self._software = software
        self._next = 1  # the number of the next command
        self._expected = 1  # the number of the next answer
        self._closing = 0  # the number of `close`
        self._rest = b""

    def begin(self) -> bytes:
        """`open`, with what is offered."""
        offers = f"relp_version=0\nrelp_software={self._software}\ncommands=syslog".encode()
        return self._command(b"open", offers)

    def send(self, parcel: Parcel) -> bytes:
        """A `syslog` command for each payload."""
        return b"".join([self._command(b"syslog", payload) for payload in parcel.payloads[parcel.settled :]])

    def lost(self) -> list[Heard]:
        """Nothing more."""
        return []

    def end(self) -> bytes:
        """`close`; the server answers it, and says that it will close, too."""
        self._closing = self._next
        return self._command(b"close", b"")

    def receive(self, data: bytes) -> list[Heard]:
        """Answers, in the order of the commands."""
        data, position = self._rest + data, 0
        heard: list[Heard] = []
        acknowledged = 0
        while found := _HEADER.match(data, position):
            length = int(found[3])
            if length > MAX_ANSWER:
                raise BadAnswer(f"an answer of {length} bytes")
            start = found.end() - (found[4] == b"\n")
            stop = start + length
            if len(data) <= stop:
                break
            if data[stop : stop + 1] != b"\n":
                raise BadAnswer("an answer without a line feed at its end")
            position = stop + 1
            taken = self._answered(int(found[1]), found[2], data[start:stop])
            if taken:
                acknowledged += 1
            elif taken is False:
                heard += [Heard(acknowledged), Heard(refused=1, reason=data[start:stop].decode(errors="replace"))]
                acknowledged = 0
        self._rest = data[position:]
        if not found and self._rest and not _BEGINNING.fullmatch(self._rest):
            raise BadAnswer("this is no RELP")
        return [*heard, Heard(acknowledged)] if acknowledged else heard

    def _answered(self, number: int, command: bytes, data: bytes) -> bool | None:
        """Whether a message was taken; None for an answer to anything else."""
        if command == b"serverclose" and number == 0:
            self.ready, self.over = False, True
            return None
        if command != b"rsp" or number != self._expected:
            raise BadAnswer(f"{number} {command.decode()} where {self._expected} rsp was due")
        self._expected = self._expected + 1 if self._expected < LAST_TXNR else 1
        good = data[:3] == b"200"
        if number == self._closing:
            return None
        if not (self.ready or self.over) and number == 1:
            if not good:
                raise NoAdmission(f"the server does not open a session: {data.decode(errors='replace')}")
            self.ready = True
            return None
        return good

    def _command(self, name: bytes, data: bytes) -> bytes:
        number = self._next
        self._next = number + 1 if number < LAST_TXNR else 1
        return b"%d %b %d %b\n" % (number, name, len(data), data) if data else b"%d %b 0\n" % (number, name)
