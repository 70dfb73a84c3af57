"""The intake against a model, with a journal in memory or on disk: whatever comes when, each promise is kept or broken.

Handlers here are cursors that a step moves; a listener repeats what was refused, and does more where it is told.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from eventserver.errors import Expired, Stopped
from eventserver.intake import Intake
from eventserver.journal.memory import MemoryJournal
from tests.journal.world import World as Disk
from tests.journal.world import quick_folder

#: By name: `when_full`, `max_lag`, `required_for_ack`.
HANDLERS: dict[str, tuple[Any, int, bool]] = {
    "block": ("block", 1 << 20, True),
    "short": ("block", 4000, True),
    "lossy": ("drop_oldest", 1 << 20, True),
    "short-lossy": ("drop_oldest", 3000, True),
    "aside": ("block", 1 << 20, False),
}
NAMES = st.sampled_from(sorted(HANDLERS))
LEVELS = st.sampled_from([None, None, "durable", ["block"], ["lossy"], ["lossy", "short-lossy"], ["aside"], []])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3), st.sampled_from([0, 300, 300, 1500]), LEVELS),
        st.tuples(st.just("put"), st.integers(1, 3), st.sampled_from([300, 700, 1500]), LEVELS),
        st.tuples(st.just("move"), NAMES, st.sampled_from([0.1, 0.5, 1.0])),
        st.tuples(st.just("move all"), st.sampled_from([0.5, 1.0])),
        st.tuples(st.just("ask"), st.floats(0, 1), LEVELS),
        st.tuples(st.just("expire"), NAMES),
        st.tuples(st.just("come or go"), NAMES),
        st.tuples(st.just("disk"), st.booleans()),
    ),
    min_size=20,
    max_size=60,
)


class Handler:
    """A cursor, as the intake sees it."""

    def __init__(self, name: str, story: Story) -> None:
        self.name = name
        self.when_full, self.max_lag, self.required_for_ack = HANDLERS[name]
        self.gone: set[int] = set()
        """Positions that it will never get to."""
        self._reader = story.journal.reader(name)
        self._story = story

    @property
    def position(self) -> int:
        return int(self._reader.position)

    def lag_bytes(self) -> int:
        return int(self._reader.lag_bytes())

    def expire_oldest(self) -> None:
        before = self.position
        end = self._reader.expire_oldest()
        self.gone.update(range(before + 1, end + 1))
        self._story.intake.expired(self.name, before, end)
        self._story.intake.moved()

    def move(self, part: float) -> None:
        journal = self._story.journal
        missing = journal.committed - self.position
        journal.commit_cursor(self.name, self.position + max(1, int(part * missing)) if missing else self.position)
        self._story.intake.moved()


class Watch:
    """What somebody waits for: a position on disk, or past some handlers."""

    def __init__(self, story: Story, position: int, handlers: list[Handler] | None) -> None:
        self.position = position
        self.handlers = handlers
        self.then: Callable[[], None] = lambda: None
        self._story = story

    def kept(self) -> bool:
        """Whether the promise is met now."""
        here = [one for one in self.handlers or () if self._story.handlers.get(one.name) is one]
        if not here:
            return bool(self._story.journal.committed >= self.position)
        return all(one.position >= self.position and self.position not in one.gone for one in here)

    def broken(self) -> bool:
        """Whether it will never be met."""
        return any(self.position in one.gone for one in self.handlers or ())

    def done(self, failure: Failure | None) -> None:
        story = self._story
        story.watches.remove(self)
        if failure is None:
            assert self.kept(), f"{self.position} is told too early"
            same = [one.position for one in story.watches if one.handlers == self.handlers]
            assert min(same, default=self.position) >= self.position, "not in their order"
        else:
            assert failure.check(Expired, Stopped)
            assert story.intake.stopped if failure.check(Stopped) else self.broken()
        self.then()


class Story:
    """One listener, and the handlers that come and go."""

    paused = False

    def __init__(self, journal: Any, disk: Disk | None, eager: bool) -> None:
        self.journal, self.disk, self.eager = journal, disk, eager
        self.intake = Intake(journal)
        self.intake.add_listener(self)  # type: ignore[arg-type]  # what the intake calls is there
        self.handlers: dict[str, Handler] = {}
        self.watches: list[Watch] = []
        self.held: list[tuple[Any, Any]] = []
        self.number = self.taken = self.extra = 0

    # What the intake tells the listener

    def pause(self) -> None:
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        assert self.paused
        assert self.journal.size <= 0.6 * self.journal.max_bytes
        assert not self.late()
        self.paused = False
        while self.held and not self.paused:
            batch, level = self.held.pop(0)
            if not self.take(batch, level):
                self.held.insert(0, (batch, level))
                break

    def late(self) -> list[str]:
        """The handlers that a listener has to wait for."""
        blocking = [handler for handler in self.handlers.values() if handler.when_full == "block"]
        return [handler.name for handler in blocking if handler.lag_bytes() > 0.75 * handler.max_lag]

    # Steps

    def do(self, step: str, *values: Any) -> None:
        if step == "put":
            self.put(*values)
        elif step == "ask":
            part, level = values
            self.watch(int(part * self.journal.head), level)
        elif step == "come or go":
            self.come_or_go(*values)
        elif step == "disk":
            self.let_disk(*values)
        else:
            name = "" if step == "move all" else values[0]
            for handler in [one for one in self.handlers.values() if not name or one.name == name]:
                if step == "expire":
                    handler.expire_oldest()
                else:
                    handler.move(values[-1])

    def put(self, count: int, size: int, level: Any) -> None:
        self.number += 1
        batch = self.batches.batch(*[b"x" * size] * count)
        if self.held or self.paused or not self.take(batch, level):
            self.held.append((batch, level))

    @property
    def batches(self) -> Disk:
        return self.disk or Disk(Path())

    def take(self, batch: Any, level: Any) -> bool:
        before = self.journal.head
        position = self.intake.put(batch)
        if position is None:
            assert self.paused, "refused, and nobody says when to try again"
            return False
        # What `put` causes may put too.
        assert before + len(batch.frames) <= position <= self.journal.head
        self.taken += len(batch.frames)
        self.watch(position, level, more=self.eager)
        return True

    def watch(self, position: int, level: Any, more: bool = False) -> None:
        if level == "durable" and self.disk is None:
            level = None
        handlers: list[Handler] | None = None
        if level != "durable":
            names = [n for n in self.handlers if HANDLERS[n][2]] if level is None else level
            handlers = [self.handlers[name] for name in sorted(names) if name in self.handlers]
        watch = Watch(self, position, handlers)
        if more:
            watch.then = self.more
        self.watches.append(watch)
        given = level if isinstance(level, list) else None
        self.intake.watch("durable" if level == "durable" else "delivered", position, watch.done, given)

    def more(self) -> None:
        """Who is told sends the next."""
        self.extra += 1
        if self.extra < 20 and not self.held and not self.paused and not self.intake.stopped:
            batch = self.batches.batch(b"more" * 100)
            if not self.take(batch, None):
                self.held.append((batch, None))

    def come_or_go(self, name: str) -> None:
        if name not in self.handlers:
            self.handlers[name] = Handler(name, self)
            self.intake.add_consumer(self.handlers[name])
        else:
            del self.handlers[name]
            self.journal.drop_reader(name)
            self.intake.remove_consumer(name)

    def let_disk(self, held: bool) -> None:
        if self.disk is not None:
            writer = self.disk.executors["journal-writer"]
            writer.held = held
            if not held:
                writer.run()
            self.pass_time()

    def pass_time(self) -> None:
        if self.disk is not None:
            self.disk.clock.advance(0.006)

    # What holds after each step

    def check(self) -> None:
        assert self.journal.head == self.taken
        # On disk bytes are counted by rows of several batches, of which a part may have been passed.
        assert self.journal.size <= self.journal.max_bytes + (3000 if self.disk is not None else 0)
        assert self.paused == self.intake.paused
        for handler in self.handlers.values():
            assert handler.when_full == "block" or handler.lag_bytes() <= handler.max_lag
        for watch in self.watches:
            assert not watch.broken(), f"{watch.position} is never reached, and nobody says so"
            assert not watch.kept(), f"{watch.position} is reached, and nobody says so"
        if self.paused and not self.held:
            assert self.journal.size > 0.6 * self.journal.max_bytes or self.late(), "paused for nothing"
        assert self.paused or not self.held, "nobody is waited for, and something is held"

    def end(self) -> None:
        """Everything is handled: nobody is kept waiting, and no promise is left."""
        self.let_disk(held=False)
        for _ in range(300):
            self.pass_time()
            self.do("move all", 1.0)
            if not self.held and not self.watches:
                break
        self.check()
        assert not self.held
        assert self.watches == []
        self.let_disk(held=True)
        self.put(2, 10, None)
        self.put(1, 10, "durable")
        self.intake.stop()
        assert self.watches == []
        assert self.intake.put(self.batches.batch(b"late")) is None
        assert self.intake.refusal == "stopped"


def tell(steps: list[tuple[Any, ...]], on_disk: bool, eager: bool, names: str) -> None:
    disk = Disk(quick_folder(), max_bytes=10_000, window=3000, segment_bytes=5000, ballast=0) if on_disk else None
    journal: Any = MemoryJournal(10_000) if disk is None else disk.open()
    story = Story(journal, disk, eager)
    for name in names.split():
        story.come_or_go(name)
    for step in steps:
        story.do(*step)
        story.pass_time()
        story.check()
    story.end()
    if disk is not None:
        disk.executors["journal-writer"].held = False
        disk.executors["journal-writer"].run()
        journal.close()
        shutil.rmtree(disk.folder)


@settings(max_examples=80, deadline=None)
@given(
    steps=STEPS,
    on_disk=st.booleans(),
    eager=st.booleans(),
    names=st.sampled_from(["block", "lossy", "block lossy", "lossy short-lossy", "aside short-lossy", "short lossy"]),
)
def test_every_promise_is_kept_or_broken_in_time(
    steps: list[tuple[Any, ...]], on_disk: bool, eager: bool, names: str
) -> None:
    tell(steps, on_disk, eager, names)
