"""The PROXY protocol before datagrams: each one begins with a header of version 2, which is taken off here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec

from eventserver.interfaces import ListenerContext
from eventserver.listeners._datagrams import Sender
from eventserver.listeners._ingest import Ingest
from eventserver.listeners._proxy import proxy_context
from eventserver.listeners._proxy_header import Broken, read_v2
from eventserver.listeners._proxy_options import ProxyOptions, Trust
from eventserver.thinned_log import ThinnedLog

#: Headers that are remembered: a flow repeats its header in every datagram.
_REMEMBERED = 1024
_HEAD = 16


class ProxiedSender(NamedTuple):
    """Who sent a datagram: the socket that it came from, which gets the reply, and the text of the real peer."""

    proxy: Sender
    text: str


class Group(NamedTuple):
    """Datagrams without their headers, for one batch: what `Datagrams.take` takes."""

    datas: list[bytes]
    senders: list[Sender]
    cut: list[int]
    context: dict[str, Any]


class _Known(NamedTuple):
    """A header that was read: the peer (None is the proxy itself), and what stands in the batches' context.

    `key` is the same for contexts that are.
    """

    peer: str | None
    key: bytes
    context: dict[str, Any]


class ProxyHeaders:
    """Takes the headers off the datagrams of one socket; those of strangers, and those without, are rejected.

    `text` gives the peer's text for a sender of the socket, `send` answers one.
    """

    def __init__(
        self,
        settings: ProxyOptions,
        context: ListenerContext,
        ingest: Ingest,
        log: ThinnedLog,
        text: Callable[[Sender], str],
        send: Callable[[bytes, Sender], None],
    ) -> None:
        self._limit = int(settings.max_header)
        self._trust = Trust(settings)
        self._counters = context.counters
        self._batch_context = context.batch_context
        self._ingest = ingest
        self._log = log
        self._text = text
        self._send = send
        self._known: dict[tuple[str | None, bytes], _Known | Broken] = {}

    def text(self, sender: ProxiedSender) -> str:
        """The text of the real peer."""
        return sender.text

    def send(self, payload: bytes, sender: ProxiedSender) -> None:
        """Answer through the proxy, which knows where the datagram came from."""
        self._send(payload, sender.proxy)

    def strip(self, datas: list[bytes], senders: list[Sender], cut: Collection[int] = ()) -> list[Group]:
        """The datagrams without headers, in order, divided by what their headers say besides the peer."""
        groups: dict[bytes, Group] = {}
        for index, data in enumerate(datas):
            sender = senders[index]
            host = sender[0] if isinstance(sender[0], str) else None
            if not self._trust.of(host):
                self._reject("untrusted_proxy", data, f"{self._text(sender)} is not among `proxy_protocol.trusted`")
                continue
            size = _HEAD + int.from_bytes(data[14:16], "big")
            known = self._read(host, data[:size])
            if isinstance(known, Broken):
                self._reject("proxy_header", data, f"{self._text(sender)}: {known.why}")
                continue
            group = groups.get(known.key)
            if group is None:
                groups[known.key] = group = Group([], [], [], known.context)
            if index in cut:
                group.cut.append(len(group.datas))
            group.datas.append(data[size:])
            group.senders.append(ProxiedSender(sender, self._text(sender) if known.peer is None else known.peer))
            self._counters.bytes += size
        return list(groups.values())

    def _read(self, host: str | None, head: bytes) -> _Known | Broken:
        known = self._known.get((host, head))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._look(host, head)
            # What is broken may be anything, of any length.
            if isinstance(known, _Known):
                self._known[host, head] = known
        return known

    def _look(self, host: str | None, head: bytes) -> _Known | Broken:
        header = read_v2(head, self._limit)
        if header is None:
            return Broken("the datagram ends within its header")
        if isinstance(header, Broken):
            return header
        if header.source is None and not header.details:
            return _Known(None, b"", self._batch_context)
        context = proxy_context(host, header)
        peer = None if header.source is None else str(header.source)
        return _Known(peer, msgspec.json.encode(context), {**self._batch_context, "proxy": context})

    def _reject(self, reason: str, data: bytes, why: str) -> None:
        self._counters.bytes += len(data)
        self._ingest.reject(reason)
        self._log.warn(reason, "rejected a datagram: {why}", why=why)
