"""Whatever comes when: the calls of a handler and of its replay never overlap, and all of both is handed over."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from eventserver.replaying import ReplayError
from eventserver.replaying.gate import Gate
from tests.replaying.history import Keeper, World

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.06, 0.3])),
        st.tuples(st.just("replay"), st.sampled_from([0.0, 5.0, 50.0])),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.just(0)),
    ),
    min_size=12,
    max_size=40,
)


class Slow(Keeper):
    """Each call waits until the test ends it, well or not."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[tuple[list[Any], Deferred[None]]] = []
        self.got: list[tuple[str, str]] = []

    def handle(self, pile: list[Any]) -> Any:
        self._forget_cancelled()
        marks = {event.context.get("replay", "") for event in pile}
        marks |= {event.context.get("replay", "") for events, _ in self.running for event in events}
        assert len({bool(mark) for mark in marks}) == 1, "a live call and one of a replay at once"
        waits: Deferred[None] = Deferred()
        self.running.append((pile, waits))
        return waits

    def _forget_cancelled(self) -> None:
        self.running = [(pile, waits) for pile, waits in self.running if not waits.called]

    def end(self, number: int, error: Exception | None = None) -> None:
        """One of the calls that run comes to its end."""
        self._forget_cancelled()
        if not self.running:
            return
        pile, waits = self.running.pop(number % len(self.running))
        if error is not None:
            waits.errback(error)
            return
        self.got += [(event.message, event.context.get("replay", "")) for event in pile]
        waits.callback(None)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, concurrency=st.sampled_from([1, 3]), size=st.sampled_from([1, 2, 100]))
def test_no_two_calls_overlap_and_nothing_is_left_out(
    steps: list[tuple[str, Any]], concurrency: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        handler = Slow()
        live = world.add(handler, concurrency=concurrency, max_events=size, timeout=0)
        put = 0
        wanted: dict[str, int] = {}
        cancelled = set()
        for step, value in steps:
            if step == "put":
                world.put(*(str(put + n) for n in range(value)))
                put += value
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
        assert [running.delivery.counters.failures["error"] for running in world.replays._running.values()] == [1]
        assert live.counters.failures["error"] == 0
