"""The way back: from an event that was handled to the connection that its frame came on."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from eventserver.counters import ListenerCounters
from eventserver.interfaces import Entry, IConnections, IReplyWriter


class _Peer:
    """A connection that can be answered, and how far it has been."""

    __slots__ = ("answered", "writer")

    def __init__(self, writer: IReplyWriter) -> None:
        self.writer = writer
        self.answered = (0, -1)


@implementer(IConnections)
class Connections:
    """All connections that can be answered. Replies keep the order of frames: none goes out after a later one's.

    `counters` are those of the listeners, by name: `replies["sent" | "gone" | "repeated"]`. What came before position
    `since` was received by another process: its numbers of connections mean nothing here.
    """

    def __init__(self, counters: Mapping[str, ListenerCounters], since: int = 0) -> None:
        self._counters = counters
        self._since = since
        self._peers: dict[int, _Peer] = {}
        self._last = 0

    def add(self, writer: IReplyWriter) -> int:
        self._last += 1
        self._peers[self._last] = _Peer(writer)
        return self._last

    def remove(self, connection: int) -> None:
        self._peers.pop(connection, None)

    def reply(self, entry: Entry, event_id: str, payload: bytes) -> None:
        """Answer the sender of an event of `entry`; an empty payload only marks the event as answered.

        Frames that came on no connection, as datagrams do, have no answer. A connection that is gone is counted, and
        so is an event that was answered before, or after which a later one was.
        """
        frame, _, further = event_id.rpartition("-")[2].partition(".")
        connection = entry.batch.connection_of(int(frame))
        if not connection:
            return
        if entry.batch.listener not in self._counters:
            # Its listener is not in the settings any more.
            return
        counters = self._counters[entry.batch.listener].replies
        peer = self._peers.get(connection) if entry.end > self._since else None
        place = (entry.first + int(frame) + 1, int(further or 0))
        if peer is None:
            counters["gone"] += bool(payload)
        elif place <= peer.answered:
            counters["repeated"] += 1
        else:
            peer.answered = place
            if payload:
                counters["sent"] += 1
                peer.writer.reply(payload)
