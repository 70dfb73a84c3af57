"""How a handler's loop waits for what others give it, and how it comes to its end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from eventserver.delivery.failing import OVERDUE
from eventserver.delivery.recovering import Recovering
from eventserver.interfaces import IHandler
from eventserver.thinned_log import ThinnedLog

#: Seconds after which what could not be read from the journal is read again.
READ_AGAIN = 1.0
DEAD_LETTERS_FULL = "there is no room for its dead letters"


class Ending(Recovering):
    """The part of a handler's loop that is stopped, and that waits for the journal.

    Without a journal on disk a stopping server *drains* it: all that is in memory is delivered. With one it is enough
    to *finish*: the call that runs comes to its end, and a later process goes on from there.
    """

    handler: IHandler
    _thinned: ThinnedLog
    _reactor: Any
    _started: bool
    _calling: bool
    _drained: Deferred[None] | None = None
    _finished: Deferred[None] | None = None
    _finishing = False
    _parking_timer: Any = None
    _reading_timer: Any = None
    _unreadable: str | None = None

    @abstractmethod
    def wake(self) -> None:
        """There may be something to do."""

    @abstractmethod
    def _waited(self) -> None:
        """The wait for what waits in place is over."""

    @property
    def unwell(self) -> str | None:
        """Why the handler cannot go on; None while it can."""
        if self._failures.unwell is None:
            if self._failures.full:
                return DEAD_LETTERS_FULL
            if self._counters.overdue or getattr(self.handler, "busy", False):
                return OVERDUE
        # What cannot be read matters to nobody once there is nothing to be read.
        return self._failures.unwell or (self._unreadable if self._reader.lag_bytes() else None)

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to do now; events may be parked for later."""
        return self._pile is None and not self._calling and not self.lag_frames() and self._parking.due() is None

    def drain(self, again: bool = False) -> Deferred[None]:
        """Fires when nothing is left to do. Parked events get one more attempt now, unless they had it (`again`)."""
        if not again:
            self._parking.hurry()
            self._set_parking_timer()
        drained: Deferred[None] = Deferred()
        self._drained = drained
        # There may be no later: what waits in place is tried now.
        self._try_now()
        self.wake()
        self._check_over()
        return drained

    def finish(self) -> Deferred[None]:
        """Call the handler with nothing new; fires when no call runs any more. The rest is for a later process."""
        self._finishing = True
        finished = self._finished = Deferred()
        self._check_over()
        return finished

    def _check_over(self) -> None:
        if self._drained is not None and self.quiet:
            drained, self._drained = self._drained, None
            drained.callback(None)
        if self._finished is not None and not self._calling:
            finished, self._finished = self._finished, None
            finished.callback(None)

    def _set_parking_timer(self) -> None:
        delay = self._parking.next_due()
        if self._parking_timer is not None and self._parking_timer.active():
            self._parking_timer.cancel()
        self._parking_timer = None
        if delay is not None and self._started and self._failures.unwell is None:
            self._parking_timer = self._reactor.callLater(delay, self.wake)

    def _try_now(self) -> None:
        if self._timer is not None and self._failures.waiting:
            self._timer.cancel()
            self._waited()

    def hurry(self) -> None:
        """Somebody says that the destination is mended: what waits for it, or is parked, is tried now.

        Waits do not begin anew: after a failure the next one is as long as it would have been.
        """
        if not self._started or self._finishing or self._drained is not None:
            return
        self._parking.hurry()
        self._set_parking_timer()
        self._try_now()
        self.wake()

    def room_for_dead(self) -> None:
        """Dead letters have been dropped, or are tried again: what waited for room is tried now."""
        if not self._failures.full or not self._started:
            return
        self._failures.room_for_dead()
        self._set_parking_timer()
        self._try_now()
        self.wake()

    def _not_read(self, failure: Failure) -> None:
        """What comes next could not be fetched: it is not forgotten, but fetched again."""
        self._stall(f"the journal cannot be read: {failure.getErrorMessage()}")

    def _not_made(self, failure: Failure) -> None:
        """What comes next could not be made ready for the handler: the cursor stays, and it is tried again."""
        where = failure.getBriefTraceback()
        self._thinned.error("unmade", "handler {name}: its events cannot be made: {where}", name=self.name, where=where)
        self._stall(f"its events cannot be made: {failure.getErrorMessage()}")

    def _stall(self, why: str) -> None:
        self._unreadable = why
        self._thinned.error("unread", "handler {name}: {why}", name=self.name, why=why)
        if self._started and self._reading_timer is None:
            self._reading_timer = self._reactor.callLater(READ_AGAIN, self._read_again)

    def _read_again(self) -> None:
        self._reading_timer = None
        self.wake()

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._parking_timer, self._reading_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._parking_timer = self._reading_timer = None
