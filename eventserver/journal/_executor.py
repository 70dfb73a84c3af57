"""Where the journal's work on the disk runs: in a thread of its own, or, in tests, when they say so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from twisted.python.failure import Failure

Job = Callable[[], Any]
Done = Callable[[Any], None]


class Executor(Protocol):
    """Runs jobs one after the other, in the order in which they are given."""

    def submit(self, job: Job, done: Done) -> None:
        """Run `job()`, and then call `done` in the reactor's thread with its result, or a `Failure`."""

    def call(self, job: Job) -> Any:
        """Run `job()` behind those that wait, and wait for what it returns or raises. It is for what people ask for."""

    def stop(self) -> None:
        """Take no more jobs; let go of the thread once those that are given are done."""


class ThreadExecutor:
    """One thread, started with the first job. `reactor` has `callFromThread`."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, job: Job, done: Done) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put((job, done))

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, done = work
            self._reactor.callFromThread(done, outcome_of(job))

    def call(self, job: Job) -> Any:
        if self._thread is None:
            return job()
        outcomes: SimpleQueue[Any] = SimpleQueue()
        self._jobs.put((lambda: outcomes.put(outcome_of(job)), lambda outcome: None))
        return _given(outcomes.get())

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None


class InlineExecutor:
    """Runs each job where it is given: tests need no threads, and nothing happens behind their back.

    With `held = True` jobs wait until `run` is called.
    """

    def __init__(self, held: bool = False) -> None:
        self.held = held
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._running = False

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))
        if not self.held:
            self.run()

    def run(self, most: int | None = None) -> None:
        """Run what waits, at most so many jobs."""
        if self._running:
            return
        self._running = True
        try:
            while self._jobs and most != 0:
                job, done = self._jobs.popleft()
                done(outcome_of(job))
                most = None if most is None else most - 1
        finally:
            self._running = False

    def call(self, job: Job) -> Any:
        return job()

    def stop(self) -> None:
        self.run()


def _given(outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        outcome.raiseException()
    return outcome


def outcome_of(job: Job) -> Any:
    """What a job returns, or the `Failure` of what it raises."""
    try:
        return job()
    except Exception:
        return Failure()
