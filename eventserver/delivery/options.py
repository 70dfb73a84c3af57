"""What one handler's loop needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from eventserver import options
from eventserver.options import Doc, Duration, Size


class RetryOptions(options.Options, frozen=True, kw_only=True):
    """How often and when a failed event is tried again."""

    max_attempts: Annotated[int, Doc("Calls with one event before it becomes a dead letter.", 8, ge=1)] = 8
    initial_interval: Annotated[Duration, Doc("The wait after the first failure; doubled each time.", "1 s")] = (
        Duration(1)
    )
    max_interval: Annotated[Duration, Doc("The longest wait.", "5 min")] = Duration(300)
    max_parked: Annotated[
        int, Doc("Events that may wait apart at once; beyond that the handler waits in place.", 1000, ge=1)
    ] = 1000

    def problems(self) -> Iterable[tuple[str, str]]:
        """The first wait must not be longer than the longest."""
        if self.initial_interval > self.max_interval:
            yield "initial_interval", f"{self.initial_interval} is longer than max_interval, {self.max_interval}"


class DeliveryOptions(options.Options, frozen=True, kw_only=True):
    """What one handler's loop needs to know."""

    max_events: int = 1000
    max_bytes: Size = Size(1 << 20)
    max_lag: Size = Size(32 << 20)
    when_full: Literal["block", "drop_oldest"] = "block"
    timeout: Duration = Duration(30)
    concurrency: int = 1
    ordered: bool = False
    required_for_ack: bool = True
    retry: RetryOptions = RetryOptions()
