"""The settings of an HTTP listener."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from eventserver.listeners._stream_options import StreamOptions
from eventserver.options import Doc, Duration, Secret, Size

#: The fewest bytes of a token; as hexadecimal digits, of which `openssl rand -hex 16` prints 32, it has 128 bits.
MIN_TOKEN = 16


class HttpOptions(StreamOptions, frozen=True, kw_only=True):
    """The settings of an HTTP listener. Every limit is one for a peer that is not to be trusted."""

    paths: Annotated[
        tuple[str, ...],
        Doc("The paths that are taken, without query; any other is answered 404. Empty: every path.", ["/events"]),
    ] = ()
    token: Annotated[
        Secret | None,
        Doc(
            "What senders have to name as `Authorization: Bearer TOKEN`, in at least 16 characters; as they come out "
            "of `openssl rand -hex 16`.",
            "file:/etc/eventserver/token",
        ),
    ] = None
    max_frame: Annotated[
        Size, Doc("The largest event that is taken; a request with a larger one is answered 413.", "1 MiB", ge=1)
    ] = Size(1 << 20)
    max_frames: Annotated[
        int, Doc("Events in one request; a request with more of them is answered 413.", 10000, ge=1)
    ] = 100_000
    max_body: Annotated[
        Size,
        Doc(
            "The largest body of a request, as it comes and as it is unpacked; then it is answered 413.", "8 MiB", ge=1
        ),
    ] = Size(8 << 20)
    max_bodies: Annotated[
        Size,
        Doc(
            "Bytes of bodies that are being received, of all peers together; what goes beyond is answered 429.",
            "64 MiB",
            ge=1,
        ),
    ] = Size(64 << 20)
    max_ratio: Annotated[
        int,
        Doc("How many times its size a compressed body may have unpacked, once that is more than 64 KiB.", 200, ge=2),
    ] = 200
    max_headers: Annotated[int, Doc("Headers of a request; one with more is answered 431.", 100, ge=1, le=500)] = 100
    max_header_bytes: Annotated[
        Size, Doc("Bytes of the request line and the headers together.", "16 KiB", ge=256, le=64 << 10)
    ] = Size(16 << 10)
    header_timeout: Annotated[
        Duration,
        Doc(
            "How long a request may take from its first byte to the end of its headers, also after connecting.",
            "10 s",
            ge=1,
        ),
    ] = Duration(10)
    frame_timeout: Annotated[
        Duration,
        Doc("How long a request's body may take, from the end of the headers to its last byte; 0 is for ever.", "60 s"),
    ] = Duration(60)
    min_rate: Annotated[
        Size, Doc("Bytes that a body must bring each second, on the average after ten of them; 0 is none.", "1 KiB")
    ] = Size(1 << 10)
    idle_timeout: Annotated[Duration, Doc("Close a connection so long after its last request; 0 is never.", "75 s")] = (
        Duration(75)
    )
    max_unread_replies: Annotated[
        Size, Doc("Bytes of a handler's replies that one response may carry; further ones are left out.", "256 KiB")
    ] = Size(256 << 10)
    busy_timeout: Annotated[
        Duration,
        Doc(
            "How long senders are kept waiting while there is no room for events, before requests are answered 503.",
            "5 s",
        ),
    ] = Duration(5)
    retry_after: Annotated[
        Duration, Doc("When a sender that was answered 429 or 503 is asked to come again.", "5 s", ge=1)
    ] = Duration(5)
    repeat_window: Annotated[
        Duration,
        Doc(
            "Without a journal on disk: how long keys are remembered by which what a sender repeats is recognised.",
            "1 h",
        ),
    ] = Duration(3600)
    max_repeat_keys: Annotated[
        int, Doc("Without a journal on disk: how many of these keys are remembered.", 100_000, ge=1)
    ] = 100_000

    def problems(self) -> Iterable[tuple[str, str]]:
        """Endpoints that cannot be meant, paths that no request can have, and a token that can be guessed or sent by
        nobody."""
        yield from super().problems()
        for path in self.paths:
            if not re.fullmatch(r"/[!-~]*", path) or "?" in path:
                yield "paths", f'{path!r} is no path; write one as requests have it, such as "/events"'
        if self.token is not None and len(self.token.encode()) < MIN_TOKEN:
            yield "token", f"is too short: at least {MIN_TOKEN} characters, such as `openssl rand -hex 16` prints"
        if self.token is not None and re.search(r"[^!-~]", self.token):
            yield "token", "has characters that a header cannot carry: use printable ASCII without spaces"
        if self.max_body > self.max_bodies:
            yield "max_bodies", f"is smaller than max_body ({self.max_body}): such a body could never be received"
