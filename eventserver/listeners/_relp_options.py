"""The settings of a RELP listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from eventserver.listeners._stream_options import StreamOptions
from eventserver.options import Doc, Duration, Size


class RelpOptions(StreamOptions, frozen=True, kw_only=True):
    """The settings of a RELP listener."""

    max_frame: Annotated[
        Size,
        Doc(
            "The largest message that is kept whole. Of a larger one the head is kept, marked `truncated`, and it is "
            "acknowledged: its sender would send it again for ever.",
            "64 KiB",
            ge=1,
        ),
    ] = Size(64 << 10)
    max_data: Annotated[
        Size,
        Doc(
            "The largest message that is read at all (what is over `max_frame` is skipped and not held); a larger one "
            "cuts the connection.",
            "16 MiB",
            le=999_999_999,
        ),
    ] = Size(16 << 20)
    max_unacknowledged: Annotated[
        int,
        Doc(
            "Messages of one connection that may wait for their acknowledgement; then it is not read until some have.",
            10000,
            ge=1,
        ),
    ] = 10000
    max_unacknowledged_bytes: Annotated[
        Size, Doc("As `max_unacknowledged`, in bytes; one read of 64 KiB can come on top.", "4 MiB", ge=1)
    ] = Size(4 << 20)
    open_timeout: Annotated[
        Duration, Doc("How long a peer may take to open its session, once it is connected.", "30 s", ge=1)
    ] = Duration(30)
    idle_timeout: Annotated[
        Duration,
        Doc(
            "Close a session in which nothing came for so long; 0 is never. Nothing is lost, but rsyslog then waits "
            "for its `action.resumeInterval` before it sends the next message.",
            "1 h",
        ),
    ] = Duration(0)
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

    def problems(self) -> Iterable[tuple[str, str]]:
        """Those of every stream listener, and limits that contradict each other."""
        yield from super().problems()
        if self.max_data < self.max_frame:
            yield "max_data", f"is less than `max_frame`, {self.max_frame}"
