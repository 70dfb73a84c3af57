"""Coroutines, futures and Deferreds as Deferreds, on the asyncio reactor and on others."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock, deferLater

from eventserver.awaiting import NeedsAsyncio, as_deferred, asyncio_loop

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def asyncio_reactor() -> Any:
    """The running reactor, where it is the asyncio reactor."""
    from twisted.internet import reactor

    if asyncio_loop(reactor) is None:
        pytest.skip("these tests are about the asyncio reactor, and another one runs")
    return reactor


def started(awaitable: object, reactor: Any) -> Deferred[Any]:
    deferred = as_deferred(awaitable, reactor)
    assert deferred is not None
    return deferred


def test_what_cannot_be_awaited_is_no_deferred() -> None:
    assert as_deferred(None) is None
    assert as_deferred("done") is None


def test_deferreds_are_passed_through() -> None:
    deferred: Deferred[None] = Deferred()
    assert as_deferred(deferred, Clock()) is deferred


def test_a_deferred_that_waits_for_another_is_not_called_yet() -> None:
    """It says that it was called; whoever sets a time limit has to know better."""
    inner: Deferred[str] = Deferred()
    deferred = started(succeed(None).addCallback(lambda _: inner), Clock())
    assert not deferred.called
    inner.callback("done")
    assert deferred.result == "done"
    inner = Deferred()
    deferred = started(succeed(None).addCallback(lambda _: inner), Clock())
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    deferred.cancel()
    assert failures[0].check(CancelledError)
    assert inner.called


@pytest_twisted.ensureDeferred
async def test_waits_are_told_with_what_is_waited_for() -> None:
    """On either kind of reactor, and only where something really has to be waited for."""
    from twisted.internet import reactor

    first, second = Deferred[None](), Deferred[None]()
    seen: list[object] = []

    async def work() -> None:
        await succeed(None)
        await first
        await second

    deferred = as_deferred(work(), reactor, seen.append)
    assert deferred is not None
    while not seen:
        await deferLater(reactor, 0)  # type: ignore[arg-type]
    assert seen == [first]
    first.callback(None)
    while len(seen) < 2:
        await deferLater(reactor, 0)  # type: ignore[arg-type]
    assert seen == [first, second]
    second.callback(None)
    await deferred


def test_a_clock_has_no_asyncio_loop() -> None:
    assert asyncio_loop(Clock()) is None


class TestOnAnotherReactor:
    """No asyncio: coroutines await Deferreds, and are told what is missing otherwise."""

    def test_a_coroutine_awaits_deferreds_and_keeps_its_context(self) -> None:
        waiting: Deferred[int] = Deferred()

        async def work() -> tuple[int, str]:
            _variable.set("mine")
            return await waiting + await succeed(1), _variable.get()

        deferred = started(work(), Clock())
        assert not deferred.called
        waiting.callback(41)
        assert deferred.result == (42, "mine")
        assert _variable.get() == "unset"

    def test_a_failed_deferred_raises_where_it_is_awaited(self) -> None:
        waiting: Deferred[int] = Deferred()

        async def work() -> str:
            try:
                await waiting
            except ValueError as error:
                return str(error)
            return "no error"

        deferred = started(work(), Clock())
        waiting.errback(ValueError("wrong"))
        assert deferred.result == "wrong"

    def test_a_coroutine_that_waits_for_nothing_is_done_at_once(self) -> None:
        async def work() -> str:
            await asyncio.sleep(0)
            return "done"

        assert started(work(), Clock()).result == "done"

    def test_cancelling_reaches_the_deferred_that_is_awaited(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def work() -> str:
            try:
                await waiting
            except CancelledError:
                return "cleaned up"
            return "not cancelled"

        deferred = started(work(), Clock())
        deferred.cancel()
        assert deferred.result == "cleaned up"

    @pytest.mark.parametrize("seconds", [1, 0.001])
    def test_an_asyncio_awaitable_is_a_clear_error(self, seconds: float) -> None:
        async def work() -> None:
            await asyncio.sleep(seconds)

        # Where a loop happens to run beside, asyncio.sleep makes a future that nobody would wake.
        deferred = started(work(), Clock())
        failures: list[Any] = []
        deferred.addErrback(failures.append)
        assert failures[0].check(NeedsAsyncio)
        assert "asyncio reactor" in str(failures[0].value)

    def test_an_awaitable_object_is_awaited(self) -> None:
        class Thing:
            def __await__(self) -> Any:
                return succeed("thing").__await__()

        assert started(Thing(), Clock()).result == "thing"


class TestOnAsyncio:
    """A coroutine is one real Task, which awaits Deferreds and futures alike."""

    @pytest_twisted.ensureDeferred
    async def test_deferreds_and_asyncio_mix_in_one_coroutine(self, asyncio_reactor: Any) -> None:
        async def work() -> list[object]:
            found: list[object] = [await deferLater(asyncio_reactor, 0, lambda: "deferred")]
            await asyncio.sleep(0)
            found.append(await asyncio.sleep(0.001, "slept"))
            found.append(await succeed("at once"))
            found.append(asyncio.current_task() is not None)
            return found

        assert await started(work(), asyncio_reactor) == ["deferred", "slept", "at once", True]

    @pytest_twisted.ensureDeferred
    async def test_asyncio_timeout_interrupts_a_deferred(self, asyncio_reactor: Any) -> None:
        """The Deferred is cancelled, and the coroutine gets asyncio's TimeoutError."""
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)

        async def work() -> str:
            try:
                async with asyncio.timeout(0.001):
                    await waiting
            except TimeoutError:
                return "in time"
            return "late"

        assert await started(work(), asyncio_reactor) == "in time"
        assert cancelled == [waiting]

    @pytest_twisted.ensureDeferred
    async def test_a_task_group_works(self, asyncio_reactor: Any) -> None:
        async def part(number: int) -> int:
            await asyncio.sleep(0)
            return number

        async def work() -> int:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part(n)) for n in range(3)]
            return sum(task.result() for task in tasks)

        assert await started(work(), asyncio_reactor) == 3

    @pytest_twisted.ensureDeferred
    async def test_failures_of_either_kind_raise_where_they_are_awaited(self, asyncio_reactor: Any) -> None:
        async def fails() -> None:
            raise KeyError("asyncio")

        async def work() -> list[str]:
            found = []
            for make in (lambda: deferLater(asyncio_reactor, 0, lambda: 1 / 0), lambda: asyncio.create_task(fails())):
                try:
                    await make()
                except Exception as error:
                    found.append(type(error).__name__)
            return found

        assert await started(work(), asyncio_reactor) == ["ZeroDivisionError", "KeyError"]

    @pytest_twisted.ensureDeferred
    async def test_the_context_is_kept_over_waits_and_stays_inside(self, asyncio_reactor: Any) -> None:
        async def work() -> str:
            _variable.set("mine")
            await deferLater(asyncio_reactor, 0)
            await asyncio.sleep(0)
            return _variable.get()

        assert await started(work(), asyncio_reactor) == "mine"
        assert _variable.get() == "unset"

    @pytest_twisted.ensureDeferred
    async def test_cancelling_ends_the_task_and_waits_for_its_end(self, asyncio_reactor: Any) -> None:
        """The Deferred fires only when the coroutine has cleaned up, with Twisted's CancelledError."""
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        story: list[str] = []

        async def work() -> None:
            try:
                await waiting
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
                story.append("cleaned up")
                raise

        deferred = started(work(), asyncio_reactor)
        await deferLater(asyncio_reactor, 0)
        deferred.cancel()
        with pytest.raises(CancelledError):
            await deferred
        assert story == ["cleaned up"]
        assert cancelled == [waiting]

    @pytest_twisted.ensureDeferred
    async def test_what_a_cancelled_deferred_fails_with_is_no_news(self, asyncio_reactor: Any) -> None:
        """Whatever its canceller makes of it: the coroutine has asyncio's own, and no failure is left lying about."""

        async def work() -> None:
            await Deferred(lambda waiting: waiting.errback(ConnectionAbortedError()))

        deferred = started(work(), asyncio_reactor)
        await deferLater(asyncio_reactor, 0)
        deferred.cancel()
        with pytest.raises(CancelledError):
            await deferred

    @pytest_twisted.ensureDeferred
    async def test_cancelling_before_the_first_step_runs_nothing(self, asyncio_reactor: Any) -> None:
        story: list[str] = []

        async def work() -> None:
            story.append("ran")

        deferred = started(work(), asyncio_reactor)
        deferred.cancel()
        with pytest.raises(CancelledError):
            await deferred
        assert story == []

    @pytest_twisted.ensureDeferred
    async def test_a_second_cancel_does_not_wait_for_a_stubborn_coroutine(self, asyncio_reactor: Any) -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.shield(asyncio.sleep(0))
            await asyncio.sleep(0)

        deferred = started(work(), asyncio_reactor)
        await deferLater(asyncio_reactor, 0)
        deferred.cancel()
        assert not deferred.called or deferred.paused
        deferred.cancel()
        with pytest.raises(CancelledError):
            await deferred
        await deferLater(asyncio_reactor, 0.01)

    @pytest_twisted.ensureDeferred
    async def test_a_future_is_awaited(self, asyncio_reactor: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        deferred = started(future, asyncio_reactor)
        future.set_result("done")
        assert await deferred == "done"
