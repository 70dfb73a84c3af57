"""The settings of a listener for the Forward protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from eventserver.listeners._endpoints import parse_endpoint
from eventserver.listeners._stream_options import StreamOptions
from eventserver.options import Doc, Duration, Secret, Size


class FluentOptions(StreamOptions, frozen=True, kw_only=True):
    """The settings of a listener for the Forward protocol."""

    endpoints: Annotated[
        tuple[str, ...],
        Doc(
            "Where to listen: as any stream listener; `udp:` besides answers the heartbeats that old senders want.",
            ["tcp:24224"],
        ),
    ] = ()
    shared_key: Annotated[
        Secret | None,
        Doc("With it, senders have to show in a handshake that they know the same key.", "file:/etc/eventserver/key"),
    ] = None
    users: Annotated[
        dict[str, Secret],
        Doc("Passwords by user name, which senders have to know besides the shared key.", {"web": "${WEB_PASSWORD}"}),
    ] = {}  # noqa: RUF012  # msgspec copies it
    hostname: Annotated[
        str,
        Doc(
            "The name that the server shows in the handshake; a sender that has the same name refuses it.",
            "collector.example",
            min_length=1,
        ),
    ] = "eventserver"
    max_frame: Annotated[
        Size,
        Doc(
            "The largest entry that is kept whole; of a larger one the head is kept, marked `truncated`.",
            "64 KiB",
            ge=1,
        ),
    ] = Size(1 << 20)
    max_message: Annotated[
        Size,
        Doc(
            "The largest message (chunk) that is read; a larger one cuts the connection. Not less than what senders "
            "make of one, such as the `chunk_limit_size` of fluentd's buffers.",
            "16 MiB",
            ge=1024,
        ),
    ] = Size(16 << 20)
    max_unpacked: Annotated[
        Size,
        Doc("The most bytes that a compressed message may have unpacked; more cuts the connection.", "32 MiB", ge=1024),
    ] = Size(16 << 20)
    max_ratio: Annotated[
        int,
        Doc(
            "How many times its size a compressed message may have unpacked, once that is more than 64 KiB.", 200, ge=2
        ),
    ] = 200
    max_entries: Annotated[
        int, Doc("Entries of one message; a message with more cuts the connection.", 100_000, ge=1)
    ] = 100_000
    max_values: Annotated[
        int,
        Doc(
            "Values of one message (fields, and what is inside them) that are looked at one by one, where an entry is "
            "nested very deep or a packed message does not say how many entries it has; a message with more cuts the "
            "connection.",
            5_000_000,
            ge=1000,
        ),
    ] = 2_000_000
    max_buffered: Annotated[
        Size,
        Doc(
            "Bytes that are held of all connections together: messages that have not come whole, lines in parts, and "
            "what waits for room. A connection that wants more is cut.",
            "64 MiB",
            ge=1024,
        ),
    ] = Size(64 << 20)
    max_unacknowledged: Annotated[
        int,
        Doc("Messages of one connection that may wait for their ack; then it is not read until some have.", 1000, ge=1),
    ] = 1000
    merge_partials: Annotated[
        bool, Doc("Put the parts of long lines together again that Docker's log driver has cut them into.", True)
    ] = True
    partial_timeout: Annotated[
        Duration,
        Doc(
            "How long the rest of a line in parts is waited for; then what came is an event, marked `truncated`.",
            "10 s",
        ),
    ] = Duration(10)
    max_partials: Annotated[
        int, Doc("Lines in parts of one connection that are waited for; then the oldest is given up.", 100, ge=1)
    ] = 100
    repeat_window: Annotated[
        Duration,
        Doc(
            "Without a journal on disk: how long messages are remembered, to know them when a sender repeats one.",
            "1 h",
        ),
    ] = Duration(3600)
    max_repeat_keys: Annotated[
        int, Doc("Without a journal on disk: how many messages are remembered.", 100_000, ge=1)
    ] = 100_000
    frame_timeout: Annotated[
        Duration,
        Doc(
            "How long a message may take from its first byte to its last; then the connection is cut. 0 is for ever.",
            "60 s",
        ),
    ] = Duration(60)
    handshake_timeout: Annotated[
        Duration, Doc("How long a TLS handshake may take, and then the one with the shared key.", "10 s", ge=1)
    ] = Duration(10)
    idle_timeout: Annotated[
        Duration,
        Doc("Close a connection on which nothing came for so long; 0 is never.", "1 h"),
    ] = Duration(0)
    close_timeout: Annotated[
        Duration,
        Doc(
            "How long a connection stays open, once the sender has stopped sending or the server stops, for acks that "
            "are due and for the peer to read them; and, when the server stops, for events that wait for room.",
            "30 s",
        ),
    ] = Duration(30)
    max_unread_replies: Annotated[
        Size, Doc("Bytes of acks that may wait for a peer that does not read, before it is cut off.", "256 KiB")
    ] = Size(256 << 10)

    def problems(self) -> Iterable[tuple[str, str]]:
        """Those of every stream listener; users without a shared key, and limits that contradict each other."""
        for key, sentence in super().problems():
            if key not in ("endpoints", "optional_endpoints") or not sentence.endswith("use a datagram listener"):
                yield key, sentence
        for key, texts in (("endpoints", self.endpoints), ("optional_endpoints", self.optional_endpoints)):
            for text in texts:
                if _is_other_datagrams(text):
                    yield key, f"`{text}` is for datagrams; of these the protocol only has heartbeats, over `udp:`"
        if self.users and not self.shared_key:
            yield "users", "needs a `shared_key`: the handshake begins with it"
        if self.shared_key is not None and not self.shared_key:
            yield "shared_key", "is empty"
        if self.max_message < self.max_frame:
            yield "max_message", f"is less than `max_frame`, {self.max_frame}"
        if self.max_buffered < self.max_message:
            yield "max_buffered", f"is less than `max_message`, {self.max_message}: such a message could never come"


def _is_other_datagrams(text: str) -> bool:
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return False
    return endpoint.kind == "datagram" and endpoint.scheme != "udp"
