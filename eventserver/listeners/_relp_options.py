"""The settings of a RELP listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from eventserver.listeners._acking_options import AckingOptions
from eventserver.options import Doc, Duration, Size


class RelpOptions(AckingOptions, frozen=True, kw_only=True):
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

    def problems(self) -> Iterable[tuple[str, str]]:
        """Those of every stream listener, and limits that contradict each other."""
        yield from super().problems()
        if self.max_data < self.max_frame:
            yield "max_data", f"is less than `max_frame`, {self.max_frame}"
