"""Whatever comes when: the calls of a handler and of its replay never overlap, and all of both is handed over."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from eventserver.replaying import ReplayError
from eventserver.replaying.gate import Gate
from tests.replaying.history import Keeper, World

STEPS = st.lists(
    st.one_of(
        # A batch for each letter, which is its sender: what comes in one pile goes in several lanes.
        st.tuples(st.just("put"), st.sampled_from(["a", "ab", "abc", "abacc"])),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.06, 0.3])),
        st.tuples(st.just("replay"), st.sampled_from([0.0, 5.0, 50.0])),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.just(0)),
    ),
    min_size=12,
    max_size=60,
)


class Slow(Keeper):
    """Each call waits until the test ends it, well or not; a `stubborn` one does so even where it is cancelled."""

    def __init__(self, stubborn: bool = False) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.running: list[tuple[list[Any], Deferred[None], Deferred[None]]] = []
        """Events, what the call returned, and what that waits for where it is cancelled."""
        self.got: list[tuple[str, str]] = []
        self.overlaps = 0
        """Calls of the one while a call of the other ran."""

    def handle(self, pile: list[Any]) -> Any:
        self._forget_cancelled()
        marks = {event.context.get("replay", "") for event in pile}
        marks |= {event.context.get("replay", "") for events, _, _ in self.running for event in events}
        # Counted and not raised: a call that raises is tried again, and nobody would see it.
        self.overlaps += len({bool(mark) for mark in marks}) > 1
        waits: Deferred[None] = Deferred()
        late: Deferred[None] = Deferred()

        def cancelled(failure: Failure) -> Any:
            return late if self.stubborn and failure.check(CancelledError) else failure

        self.running.append((pile, waits, late))
        return waits.addErrback(cancelled)

    def _forget_cancelled(self) -> None:
        self.running = [one for one in self.running if self.stubborn or not one[1].called]

    def end(self, number: int, error: Exception | None = None) -> None:
        """One of the calls that run comes to its end."""
        self._forget_cancelled()
        if not self.running:
            return
        pile, waits, late = self.running.pop(number % len(self.running))
        ending = late if waits.called else waits
        if error is not None:
            ending.errback(error)
            return
        self.got += [(event.message, event.context.get("replay", "")) for event in pile]
        ending.callback(None)


@settings(max_examples=70, deadline=None)
@given(steps=STEPS, concurrency=st.sampled_from([1, 3]), size=st.sampled_from([1, 2, 100]), stubborn=st.booleans())
def test_no_two_calls_overlap_and_nothing_is_left_out(
    steps: list[tuple[str, Any]], concurrency: int, size: int, stubborn: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        handler = Slow(stubborn)
        live = world.add(handler, concurrency=concurrency, max_events=size, timeout=0)
        put = 0
        wanted: dict[str, int] = {}
        cancelled = set()
        for step, value in steps:
            if step == "put":
                for peer in value:
                    world.put(str(put), peer=peer)
                    put += 1
            elif step == "end":
                handler.end(value)
            elif step == "fail":
                handler.end(value, ConnectionError("gone"))
            elif step == "wait":
                world.clock.advance(value)
            elif step == "replay":
                try:
                    record = world.begin(rate=value or None)
                except ReplayError:
                    continue
                wanted[record.id] = record.end
            else:
                for record in world.replays.all():
                    if record.state == "running":
                        world.replays.cancel(record.id)
                        cancelled.add(record.id)
        for _ in range(400 + 60 * put):
            handler.end(0)
            world.clock.advance(0.3)
        everything = [str(n) for n in range(put)]
        assert [message for message, mark in handler.got if not mark] == sorted(everything, key=int) or concurrency > 1
        assert sorted(message for message, mark in handler.got if not mark) == sorted(everything)
        for id, end in wanted.items():
            again = [message for message, mark in handler.got if mark == id]
            if id not in cancelled:
                assert sorted(again) == sorted(everything[:end])
                assert world.replays.get(id).state == "done"
        assert not handler.overlaps
        assert live.counters.balanced()
        assert not live.counters.failures["error"]
        assert live.counters.delivered == put
        assert world.clock.getDelayedCalls() == []


def test_it_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the gate's conditions two calls would be under way at once."""
    monkeypatch.setattr(Gate, "_may_go", lambda self, now: not self._held)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        handler = Slow()
        live = world.add(handler, max_events=1)
        world.put("a")
        handler.end(0)
        world.put("b")
        world.begin(to=1)
        assert live.counters.failures["error"] == 0
        assert handler.overlaps == 1
