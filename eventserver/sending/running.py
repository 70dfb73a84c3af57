"""One run, from the first connection to the last acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList

from eventserver.sending.load import Load
from eventserver.sending.sources import Lines, Source

#: The shortest sleep between two looks at what is due.
_TICK = 0.001
#: Seconds between looks whether anything still moves.
_LOOK = 0.25


class Link(Protocol):
    """A connection, or a socket."""

    @property
    def idle(self) -> bool:
        """Whether everything that it took is settled."""

    def start(self) -> None:
        """Connect."""

    def pump(self) -> None:
        """Send what may be sent now."""

    def finish(self) -> Deferred[None]:
        """Say goodbye; fires when it is gone."""

    def stop(self) -> None:
        """End at once."""


class Run:
    """Sends what a load has over some links, until all is settled, or nothing moves for `patience` seconds.

    `duration`: seconds after which the source is to end.
    """

    def __init__(self, load: Load, reactor: Any, *, patience: float, duration: float | None = None) -> None:
        self.load = load
        #: Why the run could not go on, for people; empty if it could.
        self.failure = ""
        #: Whether it ended before all was settled.
        self.gave_up = False
        #: Whether somebody asked for the end.
        self.interrupted = False
        self._reactor = reactor
        self._patience = patience
        self._duration = duration
        self._links: Sequence[Link] = ()
        self._done: Deferred[None] = Deferred()
        self._pumping = self._once_more = self._ending = False
        self._first = 0
        self._timers: dict[str, Any] = {}

    @property
    def source(self) -> Source:
        """Where the events come from."""
        return self.load.source

    def start(self, links: Sequence[Link]) -> Deferred[None]:
        """Begin; fires when all is over."""
        self._links = links
        self.load.statistics.started = now = self._reactor.seconds()
        self.load.pace.rest(now, 0)
        if self._duration is not None:
            self._later("duration", self._duration, self.end_source)
        self._later("look", _LOOK, self._look)
        self._guarded(self._start_all)
        self.pump()
        return self._done

    def pump(self) -> None:
        """Have the links send what they can, each in its turn the first; and see whether all is done."""
        if self._pumping or self._ending:
            self._once_more = True
            return
        self._pumping = True
        self._guarded(self._pump_all)
        self._pumping = False
        if self._ending:
            return
        self.load.rested()
        if self.source.done():
            if all(link.idle for link in self._links):
                self._finish()
        elif self.load.pace.rate is not None and (wait := self.load.next()) > -_TICK:
            self._later("tick", max(wait, _TICK), self.pump)

    def _guarded(self, call: Callable[[], None]) -> None:
        """Nothing should raise there. If it does, no caller knows what to do, and the run would wait for ever."""
        try:
            call()
        except Exception as error:
            self.fatal(f"cannot go on: {type(error).__name__}: {error}")

    def _start_all(self) -> None:
        for link in self._links:
            if self._ending:
                return
            link.start()

    def _pump_all(self) -> None:
        """Have each link send what it can, again and again while one of them finds that there is room again."""
        self._once_more = True
        while self._once_more and not self._ending:
            self._once_more = False
            links = self._links
            self._first = (self._first + 1) % (len(links) or 1)
            for link in (*links[self._first :], *links[: self._first]):
                if self._ending:
                    return
                link.pump()
            if isinstance(self.source, Lines):
                self.source.ask()

    def end_source(self) -> None:
        """Take nothing more; what was taken is still sent."""
        self.source.stop()
        self.pump()

    def interrupt(self) -> None:
        """As somebody asked for it: the first time nothing more is taken, the second time all is over."""
        if self.interrupted:
            self._give_up("")
            return
        self.interrupted = True
        self.end_source()

    def fatal(self, problem: str) -> None:
        """Nothing can be sent, now or later."""
        self.failure = self.failure or problem
        self._give_up("")

    def _look(self) -> None:
        """Whether anything moves."""
        self._later("look", _LOOK, self._look)
        load, now = self.load, self._reactor.seconds()
        due = self.source.waiting() and load.pace.allowed(now, load.statistics.taken) > 0
        if not due and all(link.idle for link in self._links):
            # There is nothing to wait for; from now on there may be.
            load.alive()
        if now - load.progress > self._patience:
            what = "acknowledged" if self.load.statistics.acknowledges else "taken"
            self.gave_up = True
            self._give_up(f"nothing was {what} for {self._patience:g} s")

    def _give_up(self, problem: str) -> None:
        if self._ending and not self._links:
            return
        self._ending = True
        if problem:
            self.load.statistics.trouble(problem)
        # What was to be sent and never will be is lost, too.
        self.load.statistics.taken += self.source.rest()
        self.source.stop()
        links, self._links = self._links, ()
        for link in links:
            link.stop()
        self._over(None)

    def _finish(self) -> None:
        self._ending = True
        # What comes after this is politeness, and no part of the work.
        self.load.statistics.ended = self._reactor.seconds()
        DeferredList([link.finish() for link in self._links]).addCallback(self._over)

    def _over(self, _: object) -> None:
        statistics = self.load.statistics
        if statistics.ended is None:
            statistics.ended = self._reactor.seconds()
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        if not self._done.called:
            self._done.callback(None)

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """One timer of each name."""
        timer = self._timers.get(name)
        if timer is not None and timer.active():
            return
        self._timers[name] = self._reactor.callLater(seconds, call)
