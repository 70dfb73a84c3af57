"""A listener without a network whose protocol can acknowledge: for tests of acknowledgements, and as a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver import options
from eventserver.event import Batch
from eventserver.interfaces import AckLevel, ConnectionInfo, IListener, ListenerContext
from eventserver.options import Doc
from eventserver.testing.data import PEER


@implementer(IListener)
class AckListener(Service):
    """Takes frames from a test and notes which of them were acknowledged. Type `ack`, endpoint `fake:`.

    Register it by hand: `registry.add("listeners", "ack", AckListener)`.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """Where it would listen, if it did."""

        endpoints: Annotated[list[str], Doc("Not used.", "unix:/nowhere")] = []  # noqa: RUF012  # msgspec copies it

    ack_levels: ClassVar[Sequence[AckLevel]] = ("memory", "durable", "delivered")
    framed = False

    def __init__(self, options: Options, context: ListenerContext) -> None:
        self.context = context
        self.acknowledged: list[int] = []
        """Numbers, from 0, of the calls of `receive` that were acknowledged, in that order."""
        self.refused: dict[int, str] = {}
        """Numbers of the calls that never will be, with the reason."""
        self.paused = False
        self._received = 0
        self._held: deque[tuple[int, Batch]] = deque()

    def receive(self, *frames: bytes, peer: str = PEER) -> int:
        """Take frames as one message of a peer; returns its number, from 0."""
        number, self._received = self._received, self._received + 1
        context = self.context
        context.counters.received += len(frames)
        batch = Batch(
            id=context.new_id(),
            listener=context.name,
            decoder=context.decoder,
            received=context.now(),
            peers=[peer],
            frames=list(frames),
            context=context.batch_context,
        )
        self._put(number, batch)
        return number

    def _put(self, number: int, batch: Batch) -> None:
        position = None if self._held else self.context.intake.put(batch)
        if position is None:
            self._held.append((number, batch))
            return
        self.context.counters.journaled += len(batch.frames)
        timer = self.context.reactor.callLater(self.context.ack_timeout, self._refuse, number, "ack_timeout")

        def done(failure: Failure | None) -> None:
            if number in self.refused:
                return
            if timer.active():
                timer.cancel()
            if failure is None:
                self.acknowledged.append(number)
            else:
                self._refuse(number, failure.getErrorMessage())

        self.context.intake.watch(self.context.ack, position, done)

    def _refuse(self, number: int, reason: str) -> None:
        self.refused[number] = reason

    # IListener

    def listen(self) -> Deferred[None]:
        """There is nothing to bind."""
        return succeed(None)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held, self._held = self._held, deque()
        for number, batch in held:
            self._put(number, batch)

    def give_up(self) -> None:
        held, self._held = self._held, deque()
        for number, batch in held:
            self.context.counters.rejected["stopped"] += len(batch.frames)
            self._refuse(number, "stopped")

    def connections(self) -> list[ConnectionInfo]:
        return []

    def addresses(self) -> list[str]:
        return []
