"""Datagrams into frames: what one wake-up brought becomes one batch. Knows no socket."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from itertools import repeat
from typing import Any

from zope.interface import implementer

from eventserver.interfaces import IReplyWriter, ListenerContext
from eventserver.listeners._datagram_options import DatagramOptions
from eventserver.listeners._gelf import gelf_of, portions
from eventserver.listeners._ingest import TRUNCATED, Ingest
from eventserver.thinned_log import ThinnedLog

Sender = Any
"""Whatever a socket names a sender with; it can be a key of a dict."""

_ENDS = b"\r\n\0"


class Datagrams:
    """The frames of one socket. `text` gives the peer's text for a sender, `send` answers one."""

    def __init__(
        self,
        options: DatagramOptions,
        context: ListenerContext,
        ingest: Ingest,
        log: ThinnedLog,
        text: Callable[[Sender], str],
        send: Callable[[bytes, Sender], None],
    ) -> None:
        self._limit: int = options.max_frame
        self._largest = max(self._limit, options.max_message)
        self._keep = options.oversize == "truncate"
        self._context = context
        self._counters = context.counters
        self._new_framer = context.new_datagram_framer
        self._ingest = ingest
        self._log = log
        self._text = text
        self._replies = ReplyPeers(context, send, options.max_reply_peers) if context.replies else None
        self._gelf = gelf_of(options, context.decoder, ingest.reject, text, lines=self._new_framer is not None)

    def take(
        self,
        datas: list[bytes],
        senders: list[Sender],
        cut: Collection[int] = (),
        context: dict[str, Any] | None = None,
    ) -> None:
        """Put the datagrams as one batch; `cut` are the indices of those that came without their end.

        `context` is that of the batch, where it is not the listener's.
        What the intake refuses is rejected, for its reason: the kernel would drop it else, and nobody could count it.
        """
        self._counters.bytes += sum(map(len, datas))
        gelf = self._gelf
        if gelf is None or gelf.are_plain(datas):
            self._put(datas, senders, cut, context, self._limit)
            return
        datas, senders, cut = gelf.take(datas, senders, cut, self._context.reactor.seconds())
        for start, end in portions(datas):
            still_cut = [index - start for index in cut if start <= index < end]
            self._put(datas[start:end], senders[start:end], still_cut, context, self._largest)

    def sweep(self, now: float) -> None:
        """Called about once a second; `now` in seconds of the reactor's clock."""
        if self._gelf is not None:
            self._gelf.expire(now)

    def _put(
        self,
        datas: list[bytes],
        senders: list[Sender],
        cut: Collection[int],
        context: dict[str, Any] | None,
        limit: int,
    ) -> None:
        """As `take`, of datagrams, or what was put together of them; `limit` is that of a frame."""
        marks: dict[int, tuple[str, ...]] = {}
        if self._new_framer is not None:
            frames, senders, marks = self._split(datas, senders, cut)
        else:
            frames = list(map(bytes.rstrip, datas, repeat(_ENDS)))
            if cut or not all(frames) or max(map(len, frames)) > limit:
                frames, senders, marks = self._sift(frames, senders, cut, limit)
        if not frames:
            return
        peers, connection = self._name(senders)
        known = self._context.batch_context if context is None else context
        batch = self._ingest.batch(frames, peers, known, connection, marks)
        if self._ingest.put(batch) is None:
            self._ingest.reject(self._context.intake.refusal, len(frames))

    def close(self) -> None:
        """Nothing more comes, and nobody can be answered any more."""
        if self._gelf is not None:
            self._gelf.finish()
        if self._replies is not None:
            self._replies.clear()

    def _name(self, senders: Sequence[Sender]) -> tuple[Sequence[str], int | list[int]]:
        """Peers and connections of the frames: one each where all are the same."""
        different = set(senders)
        if len(different) == 1:
            sender = senders[0]
            return (self._text(sender),), self._replies.number(sender) if self._replies else 0
        texts = {sender: self._text(sender) for sender in different}
        numbers = [self._replies.number(sender) for sender in senders] if self._replies else 0
        return [texts[sender] for sender in senders], numbers

    def _sift(
        self, datas: list[bytes], senders: list[Sender], cut: Collection[int], limit: int
    ) -> tuple[list[bytes], list[Sender], dict[int, tuple[str, ...]]]:
        """The slow way: drop what is empty, cut (or drop) what is too long."""
        frames: list[bytes] = []
        kept: list[Sender] = []
        marks: dict[int, tuple[str, ...]] = {}
        for index, data in enumerate(datas):
            oversize = len(data) > limit or index in cut
            if not data:
                self._ingest.reject("empty")
            elif oversize and not self._keep:
                self._ingest.reject("oversize")
            else:
                if oversize:
                    marks[len(frames)] = TRUNCATED
                frames.append(data[:limit])
                kept.append(senders[index])
        return frames, kept, marks

    def _split(
        self, datas: list[bytes], senders: list[Sender], cut: Collection[int]
    ) -> tuple[list[bytes], list[Sender], dict[int, tuple[str, ...]]]:
        """A framer of its own cuts the inside of each datagram; a fault in one concerns no other."""
        assert self._new_framer is not None
        frames: list[bytes] = []
        kept: list[Sender] = []
        marks: dict[int, tuple[str, ...]] = {}
        for index, data in enumerate(datas):
            framer = self._new_framer()
            before = len(frames)
            frames += framer.feed(data)
            found, _fatal = self._ingest.sort(framer.faults, before)
            marks |= found
            middle = len(frames)
            frames += framer.finish()
            found, _fatal = self._ingest.sort(framer.faults, middle)
            marks |= found
            if index in cut and len(frames) > before:
                marks[len(frames) - 1] = TRUNCATED
            kept += [senders[index]] * (len(frames) - before)
        return frames, kept, marks


@implementer(IReplyWriter)
class _ReplyPeer:
    """One sender of datagrams, as replies see it."""

    __slots__ = ("_send", "_sender", "counters")

    def __init__(self, context: ListenerContext, send: Callable[[bytes, Sender], None], sender: Sender) -> None:
        self.counters = context.counters
        self._send = send
        self._sender = sender

    def reply(self, payload: bytes) -> None:
        """Send one datagram back, without framing."""
        self._send(payload, self._sender)


class ReplyPeers:
    """The senders that can be answered: the latest `limit` of them, so that forged addresses cost no memory."""

    def __init__(self, context: ListenerContext, send: Callable[[bytes, Sender], None], limit: int) -> None:
        self._context = context
        self._send = send
        self._limit = limit
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()

    def number(self, sender: Sender) -> int:
        """The number of the connection that a sender stands for."""
        number = self._numbers.get(sender)
        if number is None:
            connections = self._context.connections
            self._numbers[sender] = number = connections.add(_ReplyPeer(self._context, self._send, sender))
            if len(self._numbers) > self._limit:
                connections.remove(self._numbers.popitem(last=False)[1])
        else:
            self._numbers.move_to_end(sender)
        return number

    def clear(self) -> None:
        """Forget all of them."""
        while self._numbers:
            self._context.connections.remove(self._numbers.popitem()[1])
