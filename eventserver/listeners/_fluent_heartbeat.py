"""Heartbeats over UDP: what old senders of the Forward protocol ask before they send over TCP.

Forward Protocol Specification v1, "Heartbeat Message": a datagram of one byte, 0x00, is answered with the same. Since
answers are as long as questions, nobody can be flooded by way of this with more than the forger sends.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol

from eventserver.listeners._ingest import Ingest

_HEARTBEAT = b"\0"


class Heartbeats(DatagramProtocol):
    """Answers heartbeats; whatever else comes is counted as rejected, since events come over TCP only."""

    noisy = False

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """One datagram; a longer one arrives cut, which is as wrong."""
        if datagram == _HEARTBEAT and self.transport is not None:
            self.transport.write(_HEARTBEAT, addr)
        else:
            self._ingest.reject("no_heartbeat")
