"""One connection of a run, made again where it breaks: what was not settled is sent again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from eventserver.handlers._peer_connection import PeerProtocol
from eventserver.sending.connections import Connection, ConnectionFactory, reason_of
from eventserver.sending.load import Load
from eventserver.sending.parcels import BadAnswer, Heard, NoAdmission, Parcel, Session

#: Seconds between attempts to connect: the first, then twice as much each time, up to the longest.
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
#: Seconds that a server has to close its side at the end.
CLOSING = 5.0

#: Connections that may end without any answer, before it is plain that there will be none.
_MUTE = 3

_NOT_CLOSED = f"the server did not close its side within {CLOSING:g} s: whether it has read all is not known"
_CUT = "the connection ended early: what the server had not read of it is lost"


class Owner(Protocol):
    """Who has a link."""

    def pump(self) -> None:
        """There is room again."""

    def fatal(self, problem: str) -> None:
        """Nothing can be sent, now or later."""


class StreamLink:
    """Keeps one connection filled with parcels, as its session lets it."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        secure: bool,
        session: Callable[[], Session],
        load: Load,
        owner: Owner,
        reactor: Any,
        connect_timeout: float,
    ) -> None:
        self._endpoint = endpoint
        self._secure = secure
        self._make_session = session
        self._load = load
        self._owner = owner
        self._reactor = reactor
        self._connect_timeout = connect_timeout
        self._connection: Connection | None = None
        self._session = session()
        self._attempt: Deferred[Any] | None = None
        self._timer: Any = None
        self._in_flight: deque[Parcel] = deque()
        self._again: deque[Parcel] = deque()
        self._failures = 0
        self._ever = False  # whether there was a connection
        self._useful = False  # whether the server has ever said something that makes sense
        self._finished: Deferred[None] | None = None
        self._stopped = False
        self._waited = False  # whether the server did not close its side in time

    @property
    def idle(self) -> bool:
        """Whether everything that it took is settled."""
        return not (self._in_flight or self._again)

    def start(self) -> None:
        """Connect, unless somebody's `pump` has had it done."""
        if self._connection is None and self._attempt is None and self._timer is None:
            self._connect()

    def pump(self) -> None:
        """Send what may be sent now."""
        if self._connection is None:
            nothing = self.idle and self._load.source.done()
            if self._attempt is None and self._timer is None and not (self._stopped or nothing):
                self._connect()
            return
        session, in_flight = self._session, self._in_flight
        while session.ready and not session.over and self._timer is None and len(in_flight) < session.max_parcels:
            room = session.max_payloads - sum(parcel.left for parcel in in_flight)
            parcel = self._next(room)
            if parcel is None:
                return
            self._send(self._connection, parcel)

    def _next(self, room: int) -> Parcel | None:
        if not self._again:
            return self._load.take(room) if room > 0 else None
        return self._again.popleft() if self._again[0].left <= room else None

    def _send(self, connection: Connection, parcel: Parcel) -> None:
        try:
            data = self._session.send(parcel)
        except ValueError as error:
            self._cannot_carry(parcel, str(error))
            return
        self._in_flight.append(parcel)
        self._load.statistics.bytes += len(data)
        if self._session.acknowledges:
            self._load.out(parcel)
            connection.transport.write(data)
        else:
            connection.send(data).addCallbacks(self._gone, lambda _: None, callbackArgs=(parcel,))

    def _cannot_carry(self, parcel: Parcel, reason: str) -> None:
        """Find the culprit."""
        if parcel.left == 1:
            self._load.refused(parcel, 1, reason)
            return
        due, step = parcel.due, parcel.step
        ones = enumerate(parcel.payloads[parcel.settled :])
        singles = [Parcel(f"{parcel.key}.{at}", [payload], due + at * step) for at, payload in ones]
        self._again.extendleft(reversed(singles))

    def _gone(self, _: None, parcel: Parcel) -> None:
        """The system has all of the parcel."""
        self._load.gone(parcel, parcel.left)
        self._failures = 0
        self._in_flight.remove(parcel)
        self._owner.pump()

    # What the server says

    def _hear(self, connection: Connection, data: bytes) -> None:
        try:
            heard = self._session.receive(data)
            self._take(heard, connection)
        except BadAnswer as error:
            connection.abort()
            self._bad_answer(str(error))
            return
        except NoAdmission as error:
            connection.abort()
            self._owner.fatal(str(error))
            return
        self._useful = True
        # A greeting, or that the same is to be sent again, moves nothing: that can go on for ever.
        if any(one.wait is None and not one.reply for one in heard):
            self._load.alive()
        if self._session.over:
            connection.close()
        self._owner.pump()

    def _take(self, heard: Iterable[Heard], connection: Connection | None) -> None:
        for one in heard:
            self._settle(one.acknowledged, self._load.acknowledged)
            self._settle(one.refused, partial(self._load.refused, reason=one.reason))
            if one.reply and connection is not None:
                connection.transport.write(one.reply)
            if one.wait is not None:
                self._load.statistics.trouble(f"the server asked for time: {one.reason}")
                self._unsettled()
                self._later(one.wait)

    def _settle(self, count: int, settle: Callable[[Parcel, int], None]) -> None:
        """The oldest `count` payloads on their way."""
        while count:
            if not self._in_flight:
                raise BadAnswer("more was acknowledged than was sent")
            parcel = self._in_flight[0]
            part = min(count, parcel.left)
            settle(parcel, part)
            count -= part
            if not parcel.left:
                self._in_flight.popleft()
            self._failures = 0

    def _bad_answer(self, problem: str) -> None:
        problem = f"the server does not speak this protocol: {problem}"
        if self._useful:
            self._load.statistics.trouble(problem)
        else:
            self._owner.fatal(problem)

    def _unsettled(self) -> None:
        """What is on its way is to be sent again, before anything else."""
        self._again.extendleft(reversed(self._in_flight))
        self._in_flight.clear()

    # Connecting, and losing

    def _connect(self) -> None:
        self._timer = None
        self._session = self._make_session()
        factory = ConnectionFactory(lambda: Connection(self._secure, self._lost, self._hear))
        attempt: Deferred[Any] = self._endpoint.connect(factory)
        self._attempt = attempt
        attempt.addCallback(lambda connection: connection.ready)
        attempt.addTimeout(self._connect_timeout, self._reactor)
        attempt.addCallbacks(self._made, self._not_made)

    def _made(self, connection: Connection) -> None:
        self._attempt = None
        if self._stopped:
            connection.abort()
            return
        self._connection = connection
        self._ever = True
        self._load.statistics.connections += 1
        if first := self._session.begin():
            connection.transport.write(first)
        if self._finished is not None:
            self.finish()
        self._owner.pump()

    def _not_made(self, failure: Failure) -> None:
        self._attempt = None
        if self._stopped:
            return
        late = failure.check(TimeoutError)
        problem = f"cannot connect: {f'no connection in {self._connect_timeout:g} s' if late else reason_of(failure)}"
        if not self._ever:
            self._owner.fatal(problem)
            return
        self._load.statistics.trouble(problem)
        self._retry()

    def _lost(self, connection: PeerProtocol) -> None:
        if connection is not self._connection or not isinstance(connection, Connection):
            return
        self._connection = None
        try:
            self._take(self._session.lost(), None)
        except BadAnswer as error:
            self._load.statistics.trouble(str(error))
        except NoAdmission as error:
            self._owner.fatal(str(error))
        session = self._session
        if not self._stopped:
            self._explain(session, connection)
        self._unsettled()
        if self._finished is not None:
            self._end()
        elif not self._stopped:
            self._retry(at_once=session.over)
            self._owner.pump()

    def _explain(self, session: Session, connection: Connection) -> None:
        """A connection has ended: what that means, if nobody here asked for it."""
        statistics = self._load.statistics
        if not session.acknowledges:
            if self._waited:
                statistics.trouble(_NOT_CLOSED)
            elif self._finished is None or not connection.ended.check(ConnectionDone):
                statistics.cut += 1
                statistics.trouble(_CUT)
            else:
                self._load.read()
        elif not self._useful and self._failures >= _MUTE:
            self._owner.fatal("the server closes connections without an answer: does it speak this protocol?")
        elif self._in_flight:
            why = "" if connection.ended.check(ConnectionDone) else f": {reason_of(connection.ended)}"
            statistics.trouble(f"the connection broke, and what was not acknowledged was sent again{why}")

    def _retry(self, at_once: bool = False) -> None:
        """Connect again, now or after a while: whoever gets nowhere waits longer each time."""
        if self._timer is not None or (self.idle and self._load.source.done()):
            return
        self._failures += 1
        delay = 0.0 if at_once else min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures - 1, 10))
        self._later(delay)

    def _later(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._owner.pump()

    # The end

    def finish(self) -> Deferred[None]:
        """Say goodbye; fires when the connection is gone."""
        if self._finished is None:
            self._finished = Deferred()
        finished, connection = self._finished, self._connection
        if connection is None:
            if self._attempt is None:
                self._end()
            return finished
        last = self._session.end()
        if last:
            connection.transport.write(last)
        elif not self._session.acknowledges and not self._secure:
            # A server that reads to the end closes after that: then nothing was lost on the way.
            connection.transport.loseWriteConnection()
        else:
            connection.close()
        self._cancel_timer()
        self._timer = self._reactor.callLater(CLOSING, self._cut)
        return finished

    def _cut(self) -> None:
        self._timer = None
        if self._connection is not None:
            if self._session.acknowledges:
                self._connection.abort()
            else:
                self._waited = True
                self._connection.let_go()

    def stop(self) -> None:
        """End at once."""
        self._stopped = True
        self._cancel_timer()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.abort()

    def _end(self) -> None:
        self._cancel_timer()
        if self._finished is not None and not self._finished.called:
            self._finished.callback(None)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
