"""The protocol of one Lumberjack connection: windows to batches, and what becomes of those to acknowledgements."""

from __future__ import annotations

from typing import Any

from eventserver.listeners._acking_connection import AckingConnection, Owed
from eventserver.listeners._lumberjack import KEEPALIVE, Session
from eventserver.listeners._lumberjack_frames import Limits
from eventserver.listeners._lumberjack_options import LumberjackOptions
from eventserver.listeners._peer_connection import Hub


class LumberjackConnection(AckingConnection):
    """One client of a Lumberjack listener. `Owed.what` is what the client is told, ready-made."""

    def __init__(self, hub: Hub, address: Any, options: LumberjackOptions, limits: Limits, *, tls: bool) -> None:
        super().__init__(hub, address, options, tls=tls)
        self._progress_interval = options.progress_interval
        self._session = Session(limits)
        self._told = 0.0

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        now = self._begin(data)
        session = self._session
        received = session.feed(data)
        self._note_partial(session.partial, received is not None, now)
        if received is not None:
            frames, truncated, acks = received
            if not self._owed:
                self._told = now
            if frames:
                size = sum(map(len, frames))
                self._take(frames, truncated, Owed(now, size, acks, len(frames)))
            else:
                self._say(Owed(now, len(acks)), acks)
        if session.fault is not None:
            self._ingest.reject(session.fault)
            self.abort(session.fault)
        self._read_or_not()

    def _reply_to(self, owed: Owed) -> bytes:
        self._told = self._seconds()
        acks: bytes = owed.what
        return acks

    def _incomplete(self) -> bool:
        return self._session.partial

    def _still_waiting(self, now: float) -> None:
        interval = self._progress_interval
        session = self._session
        if not interval or now - self._told < interval or self._leaving_since is not None:
            return
        if session.keeps_alive if self._owed else session.waiting:
            self._told = now
            if self._replies is not None:
                self._replies.write(KEEPALIVE)
