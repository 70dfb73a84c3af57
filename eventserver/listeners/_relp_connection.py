"""The protocol of one RELP connection: commands to batches, and what becomes of those to replies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventserver.listeners._acking_connection import AckingConnection, Owed
from eventserver.listeners._peer_connection import Hub
from eventserver.listeners._relp import SERVERCLOSE, Messages, Reply, Session, Step, acknowledge
from eventserver.listeners._relp_options import RelpOptions


class RelpConnection(AckingConnection):
    """One client of a RELP listener. `Owed.what` is the TXNR of the first message."""

    farewell = SERVERCLOSE

    def __init__(self, hub: Hub, address: Any, options: RelpOptions, software: str, *, tls: bool) -> None:
        super().__init__(hub, address, options, tls=tls)
        self._open_timeout = options.open_timeout
        self._session = Session(int(options.max_frame), int(options.max_data), software)

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        now = self._begin(data)
        session = self._session
        steps = session.feed(data)
        self._note_partial(session.partial, bool(steps), now)
        for step in steps if len(steps) < 2 else _joined(steps):
            if isinstance(step, Reply):
                owed = Owed(now, len(step.data))
                owed.last = step.last
                self._say(owed, step.data)
            else:
                self._take(step.frames, step.truncated, Owed(now, step.size, step.first, len(step.frames)))
        if session.fault is not None:
            self._ingest.reject(session.fault)
            self.abort(session.fault)
        self._read_or_not()

    def _reply_to(self, owed: Owed) -> bytes:
        return acknowledge(owed.what, owed.frames)

    def _incomplete(self) -> bool:
        return self._session.partial

    def _too_late(self, now: float) -> bool:
        if self._session.opened:
            return False
        if now - self._opened >= self._open_timeout:
            self.abort("open_timeout")
        return True


def _joined(steps: Iterable[Step]) -> list[Step]:
    """The steps of one read, messages that follow each other made one."""
    joined: list[Step] = []
    for step in steps:
        before = joined[-1] if joined else None
        if isinstance(step, Messages) and isinstance(before, Messages):
            truncated = before.truncated + [len(before.frames) + index for index in step.truncated]
            joined[-1] = Messages(before.first, before.frames + step.frames, truncated, before.size + step.size)
        else:
            joined.append(step)
    return joined
