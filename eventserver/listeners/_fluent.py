"""The Forward protocol, the server's side of one connection, without I/O: bytes in, messages and replies out.

A connection is a stream of MessagePack values: messages (see `_fluent_messages`), and nil as a heartbeat, which needs
no answer. A message may be JSON as well (see `_fluent_json`). Where a shared key is set, a handshake comes first (see
`_fluent_handshake`).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from eventserver.framing._msgpack import Malformed, Scan, count_of, is_container
from eventserver.listeners._fluent_handshake import MAX_PING, Handshake
from eventserver.listeners._fluent_json import BEGINNING, SPACE, JsonScan, acknowledge_as_json, as_msgpack
from eventserver.listeners._fluent_messages import Limits, Message, Refused, read_message

_HEARTBEAT = 0xC0
_ACK = b"\x81\xa3ack"


class Reply(NamedTuple):
    """Bytes for the client; with `last` the connection ends there."""

    data: bytes
    last: bool = False


Step: TypeAlias = Message | Reply


class Session:
    """What one connection says. No method raises, whatever the bytes.

    After bytes that are no message, or one beyond a limit, `fault` is a word for a counter's label, and nothing that
    follows is looked at: where the next message would begin is not known.
    """

    __slots__ = ("_buffer", "_handshake", "_json", "_limits", "_msgpack", "_scan", "fault")

    def __init__(self, limits: Limits, handshake: Handshake | None = None) -> None:
        self._limits = limits
        self._handshake = handshake
        self._msgpack, self._json = Scan(), JsonScan()
        self._scan: Scan | JsonScan = self._msgpack  # the one for the value in progress
        self._buffer = bytearray()  # a message that has not come whole; the scan goes on in it
        self.fault: str | None = None

    @property
    def partial(self) -> bool:
        """True in the middle of a message."""
        return bool(self._buffer)

    @property
    def buffered(self) -> int:
        """Bytes that are held of a message that has not come whole."""
        return len(self._buffer)

    @property
    def authorized(self) -> bool:
        """Whether messages are taken: there is no handshake, or it is done."""
        return self._handshake is None or self._handshake.done

    @property
    def user(self) -> str:
        """Whom the client has shown to be; empty if it had to show nothing."""
        return "" if self._handshake is None else self._handshake.user

    def greeting(self) -> bytes:
        """What the server says first; empty if it waits for the client."""
        return b"" if self._handshake is None else self._handshake.hello()

    def feed(self, data: bytes) -> list[Step]:
        """What `data` completes, up to a fault."""
        steps: list[Step] = []
        if self.fault is not None:
            return steps
        position = 0
        if self._buffer:
            self._buffer += data
            if not self._complete(self._buffer, 0):
                return steps
            data = bytes(self._buffer)
            self._buffer = bytearray()
            position = self._take(data, 0, steps)
        while position < len(data) and self.fault is None:
            first = data[position]
            # Heartbeats are the cheapest to send, so they are to be the cheapest to read.
            if (first == _HEARTBEAT and self.authorized) or (first in SPACE and self._scan is self._json):
                position += 1
                continue
            self._scan = self._json if first == BEGINNING else self._msgpack
            self._scan.begin(position)
            if not self._complete(data, position):
                if self.fault is None:
                    self._keep(data, position)
                break
            position = self._take(data, position, steps)
        return steps

    def drop(self) -> None:
        """Forget what is held, and look at nothing more."""
        self._buffer = bytearray()
        self.fault = self.fault or "dropped"

    def _complete(self, data: bytes | bytearray, start: int) -> bool:
        """Whether the value that is scanned ends in `data`. Sets `fault` for one that is none, or too long."""
        scan = self._scan
        try:
            complete = scan.run(data)
        except Malformed:
            self._fail("bad_message")
            return False
        # As objects JSON takes many times its size, so it is limited as one entry is.
        most = self._limits.frame if scan is self._json else self._limits.message
        most = most if self.authorized else MAX_PING
        # Every value that is awaited takes a byte at least.
        if scan.position - start + scan.pending > most:
            self._fail("too_long" if self.authorized else "not_authorized")
            return False
        return complete

    def _keep(self, data: bytes, position: int) -> None:
        self._buffer = bytearray(data[position:])
        self._scan.position -= position

    def _take(self, data: bytes, start: int, steps: list[Step]) -> int:
        """Read the value that has been scanned; returns where the next one begins."""
        end = self._scan.position
        value = data[start:end]
        if not self.authorized:
            self._shake(value, steps)
        else:
            try:
                steps.append(self._message(value))
            except Refused as refused:
                self._fail(str(refused))
        return end

    def _message(self, value: bytes) -> Message:
        if self._scan is self._msgpack:
            return read_message(value, self._limits)
        packed = as_msgpack(value)
        message = None if packed is None else read_message(packed, self._limits)
        # It is made JSON again for the ack, when nobody may fail any more: so nothing has to be inside of it.
        if message is None or (message.chunk is not None and is_container(message.chunk)):
            raise Refused("bad_message")
        return message._replace(json=True)

    def _shake(self, value: bytes, steps: list[Step]) -> None:
        handshake = self._handshake
        assert handshake is not None
        answer = handshake.answer(value) if count_of(value)[0] == 6 else b""
        if not handshake.done:
            self._fail(handshake.refusal or "not_authorized")
        if answer:
            steps.append(Reply(answer, last=not handshake.done))

    def _fail(self, reason: str) -> None:
        self.fault = reason
        self._buffer = bytearray()


def acknowledge(chunk: bytes, *, json: bool = False) -> bytes:
    """The answer to a message whose option `chunk` was that value: `{"ack": chunk}`, as JSON if the message was."""
    return acknowledge_as_json(chunk) if json else _ACK + chunk
