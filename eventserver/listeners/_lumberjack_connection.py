"""The protocol of one Lumberjack connection: windows to batches, and what becomes of those to acknowledgements."""

from __future__ import annotations

from typing import Any

from eventserver.listeners._acking_connection import AckingConnection, Owed
from eventserver.listeners._lumberjack import KEEPALIVE, Received, Session
from eventserver.listeners._lumberjack_frames import Limits
from eventserver.listeners._lumberjack_options import LumberjackOptions
from eventserver.listeners._peer_connection import Hub

#: The most events of a batch: compressed well, very many can come in one read. Beats send 2048 at a time.
BATCH_FRAMES = 2048


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
            if not self._owed:
                self._told = now
            if received.frames:
                self._take_all(received, now)
            else:
                self._say(Owed(now, len(received.acks)), received.acks)
        if session.fault is not None:
            self._ingest.reject(session.fault)
            self.abort(session.fault)
        self._read_or_not()

    def _take_all(self, received: Received, now: float) -> None:
        """Put what one read brought, in batches of a size that handlers take in their stride."""
        frames, truncated, acks = received
        most = min(BATCH_FRAMES, self._options.max_unacknowledged)
        for start in range(0, len(frames), most):
            part = frames[start : start + most]
            cut = [index - start for index in truncated if 0 <= index - start < most] if truncated else ()
            last = start + most >= len(frames)
            self._take(part, cut, Owed(now, sum(map(len, part)), acks if last else b"", len(part)))

    def _reply_to(self, owed: Owed) -> bytes:
        acks: bytes = owed.what
        if acks:
            self._told = self._seconds()
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
