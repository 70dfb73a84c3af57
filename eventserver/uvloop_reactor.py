"""Twisted's asyncio reactor on a uvloop event loop: `twistd --reactor=uvloop`."""

from __future__ import annotations

from twisted.internet import asyncioreactor


def install() -> None:
    """Make it the reactor of this process. Raises `ImportError` without the package uvloop."""
    import uvloop

    asyncioreactor.install(uvloop.new_event_loop())
