"""How a server comes to its end without losing what it has: drained from memory, or left safe in a journal on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from eventserver.building import Parts
from eventserver.delivery import Delivery
from eventserver.errors import safe_text

_log = Logger(namespace="eventserver")

#: Seconds between looks at whether everything is committed.
_LOOK = 0.02
#: Seconds that a journal has to write its last words.
_FAREWELL_TO_JOURNAL = 10.0


async def drain(deliveries: Sequence[Delivery], timeout: float, reactor: Any) -> None:
    """Until every handler has nothing left to do, all at the same time, or `timeout` seconds are over."""
    deadline = reactor.seconds() + timeout
    again = False
    while not (again and all(delivery.quiet for delivery in deliveries)):
        left = deadline - reactor.seconds()
        if again and left <= 0:
            break
        drained = DeferredList([delivery.drain(again) for delivery in deliveries], consumeErrors=True)
        drained.addTimeout(max(left, 0.001), reactor)
        # At the deadline every wait is cancelled, and the list of them fires all the same.
        await drained
        # One handler's progress may have made room for what a listener held, which all get.
        again = True
    for delivery in deliveries:
        if delivery.lost():
            _log.error(
                "handler {name} did not get {lost} frames and events within {timeout:g} s: they are lost",
                name=delivery.name,
                lost=delivery.lost(),
                timeout=timeout,
            )


async def finish(parts: Parts, deliveries: Sequence[Delivery], timeout: float, reactor: Any) -> None:
    """Until what listeners have read is committed, and no handler is being called, or `timeout` seconds are over.

    The listeners must read no more. What handlers have not had is theirs when the server runs again.
    """
    journal, deadline = parts.journal, reactor.seconds() + timeout
    finished = DeferredList([delivery.finish() for delivery in deliveries], consumeErrors=True)
    finished.addTimeout(max(timeout, 0.001), reactor)
    parts.intake.take_the_last()
    # While the journal is unwell, listeners may still hold something.
    while parts.intake.paused or journal.committed < journal.head:
        if reactor.seconds() >= deadline:
            _log.error(
                "the journal did not take what was read within {timeout:g} s ({why}): {frames} frames of it, and what"
                " listeners still hold, are lost",
                timeout=timeout,
                why=journal.unwell or "it is slow",
                frames=journal.head - journal.committed,
            )
            break
        await deferLater(reactor, _LOOK)
    await finished
    for delivery in deliveries:
        if delivery.calling:
            _log.warn(
                "handler {name} is still being called after {timeout:g} s: it gets those events again later",
                name=delivery.name,
                timeout=timeout,
            )
        elif waiting := delivery.lost():
            _log.info(
                "handler {name} goes on with {waiting} frames and events when the server runs again",
                name=delivery.name,
                waiting=waiting,
            )


async def close(journal: Any, reactor: Any) -> None:
    """Have a journal on disk write its last words and let go of its folder."""
    closed = journal.close()
    closed.addTimeout(_FAREWELL_TO_JOURNAL, reactor)
    try:
        await closed
    except Exception as error:
        _log.error("the journal could not be closed well: {why}", why=safe_text(error))
