"""Between one handler and the two loops that call it: its own, and that of a replay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from eventserver.delivery.failing import count_of

#: Seconds after which a replay's pile gets its turn between two live ones, however busy the handler is.
PATIENCE = 0.1
#: Seconds between looks at whether a replay's pile may go.
INTERVAL = 0.05


class Gate:
    """Never lets a live call and a replay's call of one handler overlap, and lets the live ones go first.

    A pile of the replay goes when the handler has nothing live to do (`idle`), or has kept the pile waiting for
    `PATIENCE`: so a replay comes on beside steady traffic, and costs that little. While the destination is unwell
    (`unwell`) only the live loop tries it. `rate` bounds the events that the replay hands over a second; None does not.

    `live` and `replay` are the turns (`Turns`) of the two loops. `called` is True if a call is under way already.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        idle: Callable[[], bool],
        unwell: Callable[[], bool],
        calling: Callable[[], bool],
        rate: float | None = None,
    ) -> None:
        self.live = _Live(self)
        self.replay = _Replay(self)
        self._reactor = reactor
        self._idle = idle
        self._unwell = unwell
        # A call that began before there was a gate: nobody will say here that it is over.
        self._calling = calling
        self._earlier = calling()
        self._rate = rate
        self._free_at = reactor.seconds()
        self._live_now = self._replaying = 0
        self._live_waiting: deque[Callable[[], None]] = deque()
        self._replay_waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._since = 0.0
        self._timer: Any = None
        self._held = False
        self._closed: Callable[[], None] | None = None

    @property
    def replaying(self) -> bool:
        """Whether a call of the replay is under way."""
        return self._replaying > 0

    def hold(self) -> None:
        """Let nothing more of the replay go."""
        self._held = True

    def close(self, done: Callable[[], None]) -> None:
        """There is no replay any more: what waits of it is forgotten. `done()` is called once no call of it runs."""
        self._held = True
        self._closed = done
        self._replay_waiting.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._replaying:
            self._let_live_go()

    def take_live(self, go: Callable[[], None]) -> bool:
        """The live loop wants to call."""
        self._earlier = False
        if self._replaying:
            self._live_waiting.append(go)
            return False
        self._live_now += 1
        return True

    def live_over(self, waited: bool) -> None:
        """A call of the live loop is over. After one that returned at once, the timer says when to look."""
        self._live_now -= 1
        if waited:
            self._look()

    def take_replay(self, count: int, go: Callable[[], None]) -> bool:
        """The replay wants to call with so many events."""
        now = self._reactor.seconds()
        if not self._replay_waiting:
            self._since = now
            if self._may_go(now):
                self._goes(count, now)
                return True
        self._replay_waiting.append((count, go))
        self._set_timer()
        return False

    def replay_over(self, waited: bool) -> None:
        """A call of the replay is over."""
        self._replaying -= 1
        if not self._replaying:
            self._let_live_go()

    def _let_live_go(self) -> None:
        if self._closed is not None:
            self._closed()
        while self._live_waiting and not self._replaying:
            self._live_now += 1
            self._live_waiting.popleft()()

    def _may_go(self, now: float) -> bool:
        if self._held or self._live_now or self._live_waiting or now < self._free_at or self._unwell():
            return False
        self._earlier = self._earlier and self._calling()
        if self._earlier:
            return False
        return bool(self._replaying) or now - self._since >= PATIENCE or self._idle()

    def _goes(self, count: int, now: float) -> None:
        self._replaying += 1
        if self._rate:
            self._free_at = max(now, self._free_at) + count / self._rate

    def _look(self) -> None:
        now = self._reactor.seconds()
        while self._replay_waiting and self._may_go(now):
            count, go = self._replay_waiting.popleft()
            self._goes(count, now)
            self._since = now
            go()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._replay_waiting and not self._held and (self._timer is None or not self._timer.active()):
            wait = max(0.0, self._free_at - self._reactor.seconds())
            self._timer = self._reactor.callLater(max(wait, 0.001) if wait else INTERVAL, self._look)


class _Live:
    """The turns of the live loop."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def take(self, items: list[Any], go: Callable[[], None]) -> bool:
        return self._gate.take_live(go)

    def over(self, waited: bool) -> None:
        self._gate.live_over(waited)


class _Replay:
    """The turns of the replay's loop."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def take(self, items: list[Any], go: Callable[[], None]) -> bool:
        return self._gate.take_replay(count_of(items), go)

    def over(self, waited: bool) -> None:
        self._gate.replay_over(waited)
