"""eventserver: a network event server. Lines and datagrams in, events to your Python handlers.

What programs need is importable from here: `EventServer` to embed a server, `Event` and the exceptions for handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventserver.errors import (
    EventServerError,
    PartialFailure,
    PermanentFailure,
    SettingsError,
    TemporaryFailure,
)
from eventserver.event import Batch, Event

if TYPE_CHECKING:
    from eventserver.service import EventServer

__all__ = [
    "Batch",
    "Event",
    "EventServer",
    "EventServerError",
    "PartialFailure",
    "PermanentFailure",
    "SettingsError",
    "TemporaryFailure",
]


def __getattr__(name: str) -> Any:
    # The service pulls in Twisted's networking; a handler module that only wants `Event` should not pay for it.
    if name == "EventServer":
        from eventserver.service import EventServer

        return EventServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
