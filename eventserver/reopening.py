"""What SIGHUP makes a running server do.

Log rotation may have moved files away, certificates may be renewed, and somebody may have mended a destination.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from eventserver.building import Parts
from eventserver.interfaces import IReopen

_log = Logger(namespace="eventserver")


def reopen(parts: Parts) -> None:
    """Have listeners and handlers open their files again, and handlers try what waits. Never raises."""
    for listener in parts.listeners:
        _reopen(listener, f"listener {listener.name}")
    for delivery in list(parts.deliveries.values()):
        _reopen(delivery.handler, f"handler {delivery.name}")
        # Not before: its own files may be what it waits for.
        delivery.hurry()
    if parts.replays is not None:
        parts.replays.hurry()


def _reopen(part: Any, name: str) -> None:
    if not IReopen.providedBy(part):
        return
    try:
        IReopen(part).reopen()
    except ValueError as error:
        _log.error("{name} goes on with what it had: {why}", name=name, why=str(error))
    except Exception:
        # One that cannot keeps nobody else waiting.
        _log.failure("{name} could not open its files again", name=name)
