"""GELF over datagrams: when its chunks and compression are looked for, and with which limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from eventserver.framing.gelf_chunks import ChunkLimits
from eventserver.framing.gelf_datagrams import GelfDatagrams, GelfLimits
from eventserver.listeners._datagram_options import LARGEST, DatagramOptions

#: The decoders with which `chunks = "auto"` is `"gelf"`.
_DECODERS = ("gelf", "auto")
#: Bytes of messages in one batch, soft by one: what one wake-up brought may be a hundred times as much, unpacked.
_PORTION = 1 << 20


def gelf_of(
    options: DatagramOptions,
    decoder: str,
    reject: Callable[[str], None],
    text: Callable[[Any], str],
    *,
    lines: bool = False,
) -> GelfDatagrams | None:
    """What makes messages of the datagrams of one socket; None where they are taken as they are.

    `reject` counts, `text` gives the peer's text for a sender; `lines` says that messages are cut into frames later.
    """
    if options.chunks == "off" or (options.chunks == "auto" and decoder not in _DECODERS):
        return None
    chunks = ChunkLimits(
        timeout=float(options.chunk_timeout),
        messages=options.max_chunked,
        per_source=options.max_chunked_per_peer,
        bytes=int(options.max_chunked_bytes),
        message=int(options.max_message),
    )
    # What is cut into lines has a limit for these.
    plain = LARGEST if lines else int(options.max_frame)
    limits = GelfLimits(chunks, options.max_ratio, int(options.max_unpacked), plain)
    return GelfDatagrams(limits, reject, lambda sender: source_of(text(sender)))


def source_of(peer: str) -> Hashable:
    """What counts as one source of chunks: an IPv4 address, the /64 of an IPv6 one, a process on a unix socket."""
    if peer.startswith("unix:"):
        return peer
    if not peer.startswith("["):
        return peer.rpartition(":")[0]
    try:
        return int(ipaddress.IPv6Address(peer[1:].partition("]")[0].partition("%")[0])) >> 64
    except ValueError:
        return peer


def portions(messages: list[bytes]) -> Iterator[tuple[int, int]]:
    """Where to cut messages into batches: pairs of first and end."""
    start = size = 0
    for index, message in enumerate(messages):
        size += len(message)
        if size >= _PORTION:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(messages):
        yield start, len(messages)
