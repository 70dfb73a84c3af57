"""Functions for one event: order, time limits for each event, cancelling, and exceptions that are not ordinary."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater

from eventserver.errors import PartialFailure, safe_text
from eventserver.event import Event
from eventserver.handlers.python import PythonHandler
from tests.handlers.fakes import FakeReactor, HandMoved, Log, Replies, make_context, make_events, until

Kinds = dict[str, str]


def make(function: Callable[[Any], Any], reactor: Any = None, **changes: Any) -> PythonHandler:
    """A handler of the function; `thread` and `on_error_reply` are options, the rest is context."""
    own = {key: changes.pop(key) for key in ("thread", "on_error_reply") if key in changes}
    options = PythonHandler.Options(call="tests:function", **own)
    return PythonHandler(options, make_context(reactor, changes.pop("log", None), **changes), function)


def results_of(deferred: Deferred[Any] | None) -> list[Any]:
    """What comes of a Deferred, failures as exceptions; filled when it fires."""
    assert deferred is not None
    results: list[Any] = []
    deferred.addBoth(lambda result: results.append(getattr(result, "value", result)))
    return results


def kinds(error: BaseException) -> Kinds:
    """The number of each failed event, and the type of its error."""
    assert isinstance(error, PartialFailure), error
    return {name.removeprefix("01BATCH-"): type(one).__name__ for name, one in error.errors.items()}


class Failing:
    """Fails with some events; `seen` are those that it was called with."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.seen: list[str] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event.message)
        if event.message in self.errors:
            raise self.errors[event.message]

    async def wait(self, event: Event) -> None:
        await succeed(None)
        self(event)


async def outcome(handler: PythonHandler, count: int) -> Kinds:
    """What went wrong with the events of a pile; empty if nothing."""
    try:
        deferred = handler.handle(make_events(count))
        if deferred is not None:
            await deferred
    except PartialFailure as error:
        return kinds(error)
    return {}


STYLES = ["plain", "async", "thread"]


def styled(style: str, failing: Failing, reactor: Any, **changes: Any) -> PythonHandler:
    function = failing.wait if style == "async" else failing
    return make(function, reactor, thread=style == "thread", **changes)


class TestOrder:
    """With `ordered`, nothing overtakes an event that failed."""

    @pytest.mark.parametrize("style", STYLES)
    @pytest_twisted.ensureDeferred
    async def test_the_walk_ends_at_the_first_failure(self, style: str) -> None:
        from twisted.internet import reactor

        failing = Failing(m1=ValueError(), m3=ValueError())
        handler = styled(style, failing, reactor, ordered=True)
        assert await outcome(handler, 5) == {
            "1": "ValueError",
            "2": "NotAttempted",
            "3": "NotAttempted",
            "4": "NotAttempted",
        }
        assert failing.seen == ["m0", "m1"]
        assert await outcome(handler, 1) == {}
        handler.stop()

    @pytest.mark.parametrize("style", STYLES)
    @pytest_twisted.ensureDeferred
    async def test_without_it_the_others_go_on(self, style: str) -> None:
        from twisted.internet import reactor

        failing = Failing(m1=ValueError(), m3=ValueError())
        handler = styled(style, failing, reactor)
        assert await outcome(handler, 5) == {"1": "ValueError", "3": "ValueError"}
        handler.stop()

    def test_the_last_event_has_nothing_behind_it(self) -> None:
        with pytest.raises(PartialFailure) as caught:
            make(Failing(m1=ValueError()), ordered=True).handle(make_events(2))
        assert kinds(caught.value) == {"1": "ValueError"}


class TestExtraordinary:
    """What ends programs and Tasks elsewhere is an event's failure here."""

    @pytest.mark.parametrize("style", STYLES)
    @pytest_twisted.ensureDeferred
    async def test_they_are_failures_of_their_events(self, style: str) -> None:
        from twisted.internet import reactor

        handler = styled(style, Failing(m0=SystemExit(3), m2=asyncio.CancelledError()), reactor)
        assert await outcome(handler, 4) == {"0": "RuntimeError", "2": "RuntimeError"}
        handler.stop()

    def test_the_text_says_what_it_was(self) -> None:
        with pytest.raises(PartialFailure, match="RuntimeError: SystemExit: no more"):
            make(lambda event: sys.exit("no more")).handle(make_events(1))

    def test_a_user_who_presses_ctrl_c_is_heard(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            make(Failing(m0=KeyboardInterrupt())).handle(make_events(2))

    def test_a_function_that_takes_the_pile_may_not_end_the_program_either(self) -> None:
        def all_of_it(events: list[Event]) -> None:
            sys.exit(1)

        async def waiting(events: list[Event]) -> None:
            await succeed(None)
            sys.exit(1)

        with pytest.raises(RuntimeError, match="SystemExit: 1"):
            make(all_of_it).handle(make_events(2))
        assert isinstance(results_of(make(waiting).handle(make_events(2)))[0], RuntimeError)

    def test_an_exception_that_cannot_be_printed_is_still_told(self) -> None:
        class Mute(ConnectionError):
            def __str__(self) -> str:
                raise AttributeError("missing")

        with pytest.raises(PartialFailure, match="2 events failed: TemporaryFailure: Mute") as caught:
            make(Failing(m1=Mute())).handle(make_events(3))
        assert kinds(caught.value) == {"1": "TemporaryFailure", "2": "TemporaryFailure"}


class TestTimeLimit:
    """`timeout` is for each event of a function that takes one, on a reactor without asyncio."""

    def setup_method(self) -> None:
        self.reactor, self.log = FakeReactor(), Log()
        self.seen: list[str] = []
        self.waiting: dict[str, Deferred[Any]] = {}

    def make(self, **changes: Any) -> PythonHandler:
        return make(self.wait, self.reactor, **{"timeout": 10.0, "log": self.log} | changes)

    async def wait(self, event: Event) -> Any:
        self.seen.append(event.message)
        self.waiting[event.message] = Deferred()
        return await self.waiting[event.message]

    def wait_plainly(self, event: Event) -> Deferred[Any]:
        self.seen.append(event.message)
        return self.waiting.setdefault(event.message, Deferred())

    def test_delivery_need_not_time_these_calls(self) -> None:
        def pile(events: list[Event]) -> None: ...

        assert make(print).times_itself
        assert make(print, thread=True).times_itself
        assert self.make().times_itself
        assert not make(pile).times_itself

    @pytest.mark.parametrize("plain", [False, True])
    def test_slow_events_may_take_longer_together(self, plain: bool) -> None:
        handler = make(self.wait_plainly, self.reactor, timeout=10.0) if plain else self.make()
        done = results_of(handler.handle(make_events(5)))
        for number in range(5):
            self.reactor.advance(9)
            self.waiting[f"m{number}"].callback(None)
        assert done == [None]
        assert not self.reactor.getDelayedCalls()

    @pytest.mark.parametrize("plain", [False, True])
    def test_an_event_that_takes_too_long_fails_alone(self, plain: bool) -> None:
        handler = make(self.wait_plainly, self.reactor, timeout=10.0) if plain else self.make()
        done = results_of(handler.handle(make_events(3)))
        self.reactor.advance(9)
        self.waiting["m0"].callback(None)
        self.reactor.advance(9.5)
        assert self.seen == ["m0", "m1"]
        self.reactor.advance(0.5)
        assert self.seen == ["m0", "m1", "m2"]
        self.waiting["m2"].callback(None)
        assert kinds(done[0]) == {"1": "HandlerTimeout"}
        assert str(done[0].errors["01BATCH-1"]) == "the call took longer than 10 s"
        assert not self.reactor.getDelayedCalls()

    def test_each_of_many_events_can_be_late(self) -> None:
        replies = Replies()
        handler = self.make(replies=True, reply=replies, on_error_reply="late")
        done = results_of(handler.handle(make_events(3)))
        for _ in range(3):
            self.reactor.advance(10)
        assert kinds(done[0]) == dict.fromkeys("012", "HandlerTimeout")
        assert replies == [(f"m{number}", b"late") for number in range(3)]
        assert not self.reactor.getDelayedCalls()

    def test_with_order_the_walk_ends_there(self) -> None:
        done = results_of(self.make(ordered=True).handle(make_events(3)))
        self.reactor.advance(10)
        assert kinds(done[0]) == {"0": "HandlerTimeout", "1": "NotAttempted", "2": "NotAttempted"}
        assert self.seen == ["m0"]

    def test_without_a_limit_there_is_none(self) -> None:
        done = results_of(self.make(timeout=0.0).handle(make_events(1)))
        assert not self.reactor.getDelayedCalls()
        self.waiting["m0"].callback(None)
        assert done == [None]

    def test_events_that_do_not_wait_set_no_timer(self) -> None:
        calls: list[object] = []
        self.reactor.callLater = lambda *args: calls.append(args)  # type: ignore[method-assign]

        async def at_once(event: Event) -> None:
            await succeed(None)

        assert results_of(make(at_once, self.reactor, timeout=10.0).handle(make_events(3))) == [None]
        assert make(lambda event: None, self.reactor, timeout=10.0).handle(make_events(3)) is None
        assert calls == []

    def test_a_destination_that_kept_the_event_waiting_is_what_is_unwell(self) -> None:
        """As with whole calls: a handler that knows better than the clock says so."""

        async def translating(event: Event) -> None:
            try:
                await self.wait(event)
            except CancelledError:
                raise ConnectionResetError("took too long") from None

        done = results_of(make(translating, self.reactor, timeout=10.0).handle(make_events(3)))
        self.waiting["m0"].callback(None)
        self.reactor.advance(10)
        assert kinds(done[0]) == {"1": "TemporaryFailure", "2": "TemporaryFailure"}

    def test_a_coroutine_that_swallows_it_is_waited_for_and_told_once(self) -> None:
        async def stubborn(event: Event) -> None:
            while True:
                try:
                    return await self.wait(event)
                except CancelledError:
                    continue

        handler = make(stubborn, self.reactor, timeout=10.0, log=self.log)
        counters = handler._context.counters
        done = results_of(handler.handle(make_events(2)))
        self.reactor.advance(10)
        assert self.log.lines == []
        assert counters.overdue == 0
        for _ in range(5):
            self.reactor.advance(10)
        assert counters.overdue == 1
        assert self.seen == ["m0", "m0"]
        self.waiting["m0"].cancel()
        for _ in range(5):
            self.reactor.advance(10)
        assert self.seen == ["m0", "m0", "m0"]
        assert counters.overdue == 1
        assert len(self.log.lines) == 1
        assert "does not end although it was cancelled" in self.log.lines[0]
        self.waiting["m0"].callback(None)
        assert self.seen == ["m0", "m0", "m0", "m1"]
        assert counters.overdue == 0
        self.reactor.advance(5)
        self.waiting["m1"].callback(None)
        # What was done in the end does not have to be done again.
        assert done == [None]
        assert not self.reactor.getDelayedCalls()

    def test_a_cancelled_call_names_what_was_not_done(self) -> None:
        sending = self.make().handle(make_events(4))
        done = results_of(sending)
        self.waiting["m0"].callback(None)
        assert sending is not None
        sending.cancel()
        assert kinds(done[0]) == {"1": "TemporaryFailure", "2": "NotAttempted", "3": "NotAttempted"}
        assert self.seen == ["m0", "m1"]
        assert not self.reactor.getDelayedCalls()

    def test_a_call_that_has_done_nothing_is_cancelled_as_a_whole(self) -> None:
        sending = self.make().handle(make_events(4))
        done = results_of(sending)
        assert sending is not None
        sending.cancel()
        assert isinstance(done[0], CancelledError)
        assert not self.reactor.getDelayedCalls()

    def test_a_handler_that_was_stopped_begins_nothing_more(self) -> None:
        """Even if the event that was cancelled is done instead of failing."""

        async def stubborn(event: Event) -> None:
            try:
                await self.wait(event)
            except CancelledError:
                return

        handler = make(stubborn, self.reactor)
        sending = handler.handle(make_events(3))
        done = results_of(sending)
        handler.stop()
        assert sending is not None
        sending.cancel()
        assert self.seen == ["m0"]
        assert kinds(done[0]) == {"1": "NotAttempted", "2": "NotAttempted"}


class TestTimeLimitOfRealReactors:
    """The same in Tasks, and with Twisted's own coroutines, whichever reactor runs the tests."""

    @pytest_twisted.ensureDeferred
    async def test_an_event_that_takes_too_long_fails_alone(self) -> None:
        from twisted.internet import reactor

        begun: list[str] = []
        cleaned: list[str] = []

        async def handler(event: Event) -> None:
            begun.append(event.message)
            try:
                await (Deferred() if event.message in ("m1", "m3") else deferLater(reactor, 0))  # type: ignore[arg-type]
            finally:
                await deferLater(reactor, 0)  # type: ignore[arg-type]
                cleaned.append(event.message)

        timed = HandMoved(reactor)
        done = results_of(make(handler, timed, timeout=10.0).handle(make_events(5)))
        for message in ("m1", "m3"):
            await until(lambda message=message: begun[-1:] == [message])
            timed.advance(10)
        await until(lambda: done)
        assert kinds(done[0]) == {"1": "HandlerTimeout", "3": "HandlerTimeout"}
        assert cleaned == ["m0", "m1", "m2", "m3", "m4"]

    @pytest_twisted.ensureDeferred
    async def test_a_cancelled_call_names_what_was_not_done(self) -> None:
        from twisted.internet import reactor

        begun: list[str] = []

        async def handler(event: Event) -> None:
            begun.append(event.message)
            await (deferLater(reactor, 0) if event.message == "m0" else Deferred())  # type: ignore[arg-type]

        sending = make(handler, reactor, timeout=300.0).handle(make_events(3))
        assert sending is not None
        await until(lambda: begun[-1:] == ["m1"])
        sending.cancel()
        with pytest.raises(PartialFailure) as caught:
            await sending
        assert kinds(caught.value) == {"1": "TemporaryFailure", "2": "NotAttempted"}

    @pytest_twisted.ensureDeferred
    async def test_limits_inside_the_function_work_too(self, asyncio_reactor: Any) -> None:
        """What cancels the event leaves no trace in the Task that the others run in."""
        cancelling: list[int] = []

        async def handler(event: Event) -> None:
            task = asyncio.current_task()
            assert task is not None
            cancelling.append(task.cancelling())
            try:
                async with asyncio.timeout(0.001 if event.message == "m0" else 60), asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0 if event.message == "m2" else 60))
            except TimeoutError:
                assert event.message == "m0"

        timed = HandMoved(asyncio_reactor)
        done = results_of(make(handler, timed, timeout=10.0).handle(make_events(3)))
        await until(lambda: len(cancelling) == 2)
        timed.advance(10)
        await until(lambda: done)
        assert kinds(done[0]) == {"1": "HandlerTimeout"}
        assert cancelling == [0, 0, 0]

    @pytest_twisted.ensureDeferred
    async def test_a_call_that_is_cancelled_while_an_event_swallows_it_ends(self, asyncio_reactor: Any) -> None:
        seen: list[str] = []

        async def stubborn(event: Event) -> None:
            seen.append(event.message)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)

        sending = make(stubborn, asyncio_reactor).handle(make_events(3))
        assert sending is not None
        await until(lambda: seen)
        sending.cancel()
        with pytest.raises(PartialFailure) as caught:
            await sending
        assert kinds(caught.value) == {"1": "NotAttempted", "2": "NotAttempted"}
        assert seen == ["m0"]


class TestTimeLimitInThreads:
    """A thread cannot be stopped: the walk is given up, and goes no further."""

    def setup_method(self) -> None:
        self.reactor, self.log, self.replies = FakeReactor(hold=True), Log(), Replies()
        self.seen: list[str] = []
        self.during: Callable[[str], object] = lambda message: None

    def make(self, **changes: Any) -> PythonHandler:
        context = {"timeout": 10.0, "log": self.log, "replies": True, "reply": self.replies} | changes
        return make(self.work, self.reactor, thread=True, on_error_reply="late", **context)

    def work(self, event: Event) -> str:
        """Each event takes 6 s; what the test wants happens meanwhile, in the reactor's thread."""
        self.seen.append(event.message)
        self.reactor.advance(6)
        self.during(event.message)
        return event.message

    def hang(self, message: str) -> None:
        if message == "m1":
            self.reactor.advance(6)

    def test_the_event_fails_and_the_rest_is_not_attempted(self) -> None:
        self.during = self.hang
        done = results_of(self.make().handle(make_events(4)))
        self.reactor.run_thread()
        assert self.seen == ["m0", "m1"]
        assert kinds(done[0]) == {"1": "HandlerTimeout", "2": "NotAttempted", "3": "NotAttempted"}
        assert self.replies == [("m0", b"m0"), ("m1", b"late")]
        assert len([line for line in self.log.lines if "takes too long" in line]) == 1
        assert not self.reactor.getDelayedCalls()

    def test_the_handler_is_busy_until_the_thread_returns(self) -> None:
        handler, busy = self.make(), []

        def during(message: str) -> None:
            self.hang(message)
            busy.append(handler.busy)

        self.during = during
        results_of(handler.handle(make_events(3)))
        self.reactor.run_thread()
        assert busy == [False, True]
        assert not handler.busy

    def test_slow_events_may_take_longer_together(self) -> None:
        done = results_of(self.make().handle(make_events(4)))
        self.reactor.run_thread()
        assert done == [None]
        assert not self.reactor.getDelayedCalls()

    def test_a_cancelled_call_names_what_was_not_done(self) -> None:
        sending = self.make(timeout=0.0).handle(make_events(4))
        assert sending is not None
        done = results_of(sending)
        self.during = lambda message: sending.cancel() if message == "m2" else None
        self.reactor.run_thread()
        assert kinds(done[0]) == {"2": "TemporaryFailure", "3": "NotAttempted"}
        assert self.seen == ["m0", "m1", "m2"]
        assert self.replies == [("m0", b"m0"), ("m1", b"m1")]


def test_an_exception_has_a_text_whatever_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

        __repr__ = __str__

    texts = [safe_text(error) for error in (ValueError("no"), ValueError(), Mute(), KeyError("a"))]
    assert texts == ["ValueError: no", "ValueError", "Mute", "KeyError: 'a'"]
    assert "Mute" in str(PartialFailure({"id": Mute()}))
