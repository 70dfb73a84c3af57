"""The asyncio reactor on a uvloop event loop: `twistd --reactor=uvloop`."""

from __future__ import annotations

from eventserver import asyncio_reactor


def install() -> None:
    """Make it the reactor of this process. Raises `ImportError` without the package uvloop."""
    import uvloop

    asyncio_reactor.install(uvloop.new_event_loop())
