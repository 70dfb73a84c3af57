"""The settings of listeners for streams whose messages are acknowledged one by one or in windows."""

from __future__ import annotations

from typing import Annotated

from eventserver.listeners._stream_options import StreamOptions
from eventserver.options import Doc, Duration, Size


class AckingOptions(StreamOptions, frozen=True, kw_only=True):
    """What such listeners have in common."""

    max_unacknowledged: Annotated[
        int,
        Doc(
            "Messages of one connection that may wait for their acknowledgement; then it is not read until some have.",
            10000,
            ge=1,
        ),
    ] = 10000
    max_unacknowledged_bytes: Annotated[
        Size, Doc("As `max_unacknowledged`, in bytes; what one read brings can come on top.", "4 MiB", ge=1)
    ] = Size(4 << 20)
    frame_timeout: Annotated[
        Duration,
        Doc(
            "How long a command may take from its first byte to its last; then the connection is cut. 0 is for ever.",
            "30 s",
        ),
    ] = Duration(30)
    close_timeout: Annotated[
        Duration,
        Doc(
            "How long a session stays open, once its client closes it or the server stops, for acknowledgements that "
            "are due and for the peer to read them.",
            "30 s",
        ),
    ] = Duration(30)
    max_unread_replies: Annotated[
        Size,
        Doc("Bytes of acknowledgements that may wait for a peer that does not read, before it is cut off.", "256 KiB"),
    ] = Size(256 << 10)
