"""The settings of a Lumberjack listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from eventserver.listeners._acking_options import AckingOptions
from eventserver.listeners._lumberjack_frames import Limits
from eventserver.options import Doc, Duration, Size


class LumberjackOptions(AckingOptions, frozen=True, kw_only=True):
    """The settings of a Lumberjack listener."""

    max_frame: Annotated[
        Size,
        Doc(
            "The largest event that is kept whole. Of a larger one the head is kept, marked `truncated`, and it is "
            "acknowledged: its sender would send it again for ever.",
            "64 KiB",
            ge=1,
        ),
    ] = Size(64 << 10)
    max_data: Annotated[
        Size,
        Doc(
            "The largest event that is read at all (what is over `max_frame` is skipped and not held); a larger one "
            "cuts the connection.",
            "16 MiB",
            ge=1,
        ),
    ] = Size(16 << 20)
    max_window: Annotated[
        int,
        Doc(
            "The most events that a client may announce as one window; more cut the connection. Beats send 2048 unless "
            "`bulk_max_size` says otherwise.",
            65536,
            ge=1,
        ),
    ] = 65536
    max_pairs: Annotated[int, Doc("The most fields of an event of version 1; more cut the connection.", 1000, ge=1)] = (
        1000
    )
    max_inflated: Annotated[
        Size,
        Doc(
            "What one compressed frame may unpack to; more cuts the connection. It is unpacked as it comes, and never "
            "held as a whole.",
            "64 MiB",
            ge=1,
        ),
    ] = Size(64 << 20)
    max_ratio: Annotated[
        float,
        Doc(
            "How many times its size a compressed frame may unpack to, once that is more than 64 KiB; more cuts the "
            "connection.",
            200.0,
            ge=1,
        ),
    ] = 200.0
    progress_interval: Annotated[
        Duration,
        Doc(
            "How often a client of version 2 that has to wait for its acknowledgement is told to go on waiting; 0 is "
            "never. Beats give up after 30 s in which they hear nothing.",
            "5 s",
        ),
    ] = Duration(5)

    def problems(self) -> Iterable[tuple[str, str]]:
        """Those of every stream listener, and limits that contradict each other."""
        yield from super().problems()
        if self.max_data < self.max_frame:
            yield "max_data", f"is less than `max_frame`, {self.max_frame}"

    def limits(self) -> Limits:
        """What a session has to know of them."""
        return Limits(
            int(self.max_frame),
            int(self.max_data),
            self.max_window,
            self.max_pairs,
            int(self.max_inflated),
            self.max_ratio,
        )
