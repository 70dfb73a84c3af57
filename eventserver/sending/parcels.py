"""What travels, and what every protocol of a stream promises to the connection that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class BadAnswer(Exception):
    """The server has said something that the protocol does not have: the connection is of no use any more."""


class NoAdmission(Exception):
    """The server does not want us (a wrong key, no certificate): trying again is of no use."""


@dataclass(slots=True, eq=False)
class Parcel:
    """Events that are sent together.

    `key` stays the same when it is sent again, for protocols in which a parcel has a name. `due` is when it was to be
    sent, in seconds of the reactor's clock, and each payload `step` seconds after the one before. `settled` counts
    those of `payloads`, from the first on, of which the sender need not think any more. `sent` says that it went out
    before.
    """

    key: str
    payloads: list[bytes]
    due: float
    settled: int = 0
    sent: bool = False
    step: float = 0.0

    @property
    def left(self) -> int:
        """How many payloads are not settled."""
        return len(self.payloads) - self.settled


class Heard(NamedTuple):
    """What the server's words amount to.

    `acknowledged` payloads are safe, the oldest first; or `refused` ones will never be taken, for `reason`. With `wait`
    nothing is to be sent for so many seconds, and then what is unsettled again. `reply` is to be written at once.
    """

    acknowledged: int = 0
    refused: int = 0
    reason: str = ""
    wait: float | None = None
    reply: bytes = b""


class Session(Protocol):
    """What one connection says; made anew for each. Sans-I/O: bytes in, bytes out.

    `acknowledges`: whether the server says what it has taken. `ready`: parcels may be sent now. `over`: no more is
    wanted on this connection. `max_parcels` and `max_payloads` may be on their way at a time.
    """

    acknowledges: bool
    ready: bool
    over: bool
    max_parcels: int
    max_payloads: int

    def begin(self) -> bytes:
        """What is said first."""

    def send(self, parcel: Parcel) -> bytes:
        """The parcel, less what is settled of it. Raises `ValueError` for one that the protocol cannot carry."""

    def receive(self, data: bytes) -> list[Heard]:
        """What the server has said, in order. Raises `BadAnswer` or `NoAdmission`."""

    def lost(self) -> list[Heard]:
        """The connection has ended, which may be what completes an answer."""

    def end(self) -> bytes:
        """What is said last; the connection is closed when the server does, or when `over` becomes true."""
