"""The python handler: what a function is called with, what its results and exceptions mean, and what it costs."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater

from eventserver.errors import NotAttempted, PartialFailure, PermanentFailure, TemporaryFailure
from eventserver.event import Event
from eventserver.handlers._calling import is_async, takes_pile
from eventserver.handlers.python import PythonHandler
from eventserver.loading import load_object
from tests.handlers.fakes import FakeReactor, Log, Replies, make_context, make_event, make_events

if TYPE_CHECKING:
    from somewhere import OnlyForTypeCheckers

Make = Callable[..., PythonHandler]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a started handler of a function, which is put into a module of its own."""
    module = types.ModuleType("the_users_module")
    sys.modules[module.__name__] = module

    def make(function: Any, reactor: Any = None, log: Log | None = None, **changes: Any) -> PythonHandler:
        module.function = function  # type: ignore[attr-defined]
        contextual = {key: changes.pop(key) for key in ("replies", "reply") if key in changes}
        options = PythonHandler.Options(call="the_users_module:function", **changes)
        handler = PythonHandler(options, make_context(reactor, log, **contextual))
        handler.start()
        return handler

    yield make
    del sys.modules[module.__name__]


def result_of(deferred: Deferred[Any] | None) -> Any:
    """What a Deferred that has fired holds; a failure is taken out of it and returned."""
    assert deferred is not None
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "still waiting"
    return getattr(results[0], "value", results[0])


class TestCalling:
    """How the function is found, and what it wants."""

    def test_functions_are_found_in_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "found_here_only.py").write_text("class A:\n    @staticmethod\n    def f(event): return 'found'\n")
        assert load_object("found_here_only:A.f")(None) == "found"
        assert str(tmp_path) not in sys.path

    @pytest.mark.parametrize(
        ("reference", "sentence"),
        [
            ("json", "names no function"),
            ("json:", "names no function"),
            ("json.:loads", "names no function"),
            ("no_such_module:f", "no module is called"),
            ("json:no_such_function", "has no `no_such_function`"),
            ("json:__name__", "cannot be called"),
        ],
    )
    def test_a_wrong_reference_is_told_in_a_sentence(self, reference: str, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            load_object(reference)

    def test_a_module_that_fails_to_import_is_told_with_the_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "broken_module.py").write_text("1 / 0\n")
        with pytest.raises(ValueError, match="ZeroDivisionError: division by zero"):
            load_object("broken_module:f")

    def test_annotations_decide_about_the_pile(self) -> None:
        def one(event): ...  # type: ignore[no-untyped-def]
        def also_one(event: Event) -> None: ...
        def pile(events: list[Event]) -> None: ...
        def sequence(events: Sequence[Event]) -> None: ...
        def text(events: list[Event], flag: bool = False) -> None: ...
        def unknown(events: list[OnlyForTypeCheckers]) -> None: ...
        def unknown_one(event: OnlyForTypeCheckers) -> None: ...

        assert [takes_pile(f) for f in (one, also_one, unknown_one, print)] == [False] * 4
        assert [takes_pile(f) for f in (pile, sequence, text, unknown, functools.partial(pile))] == [True] * 5

    def test_objects_that_can_be_called_count_too(self) -> None:
        class Handler:
            async def __call__(self, events: list[Event]) -> None: ...

        assert takes_pile(Handler())
        assert is_async(Handler())
        assert not is_async(print)

    def test_a_function_without_a_parameter_is_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="must take one argument"):
            make(lambda: None)

    def test_an_async_function_in_a_thread_is_refused(self, make: Make) -> None:
        async def handler(event: Event) -> None: ...

        with pytest.raises(ValueError, match="thread = true"):
            make(handler, thread=True)

    def test_asyncio_is_missed_at_start(self, make: Make) -> None:
        with pytest.raises(ValueError, match="needs the asyncio reactor"):
            make(print, asyncio=True)

    def test_only_async_functions_of_one_event_have_lanes(self, make: Make) -> None:
        async def one(event: Event) -> None: ...
        async def pile(events: list[Event]) -> None: ...

        assert [make(f).concurrency for f in (one, pile, print)] == [64, 1, 1]


class TestOneByOne:
    """A plain function for one event."""

    def test_it_is_called_in_order_and_without_a_deferred(self, make: Make) -> None:
        seen: list[Event] = []
        events = make_events(5)
        assert make(seen.append).handle(events) is None
        assert seen == events

    def test_an_events_failure_is_its_own(self, make: Make) -> None:
        """The others are done, and the failure is named with its exception."""
        seen: list[str] = []

        def handler(event: Event) -> None:
            if event.message in ("m1", "m3"):
                raise KeyError(event.message)
            seen.append(event.message)

        with pytest.raises(PartialFailure) as caught:
            make(handler).handle(make_events(5))
        assert seen == ["m0", "m2", "m4"]
        assert {name: str(error) for name, error in caught.value.errors.items()} == {
            "01BATCH-1": "'m1'",
            "01BATCH-3": "'m3'",
        }

    @pytest.mark.parametrize("error", [TemporaryFailure("down", 7.0), ConnectionRefusedError("down"), ConnectionLost()])
    def test_an_unwell_destination_stops_the_walk(self, make: Make, error: Exception) -> None:
        """The event and all after it wait; those before are done; an earlier failure is still named."""
        seen: list[str] = []

        def handler(event: Event) -> None:
            seen.append(event.message)
            if event.message == "m1":
                raise PermanentFailure("never")
            if event.message == "m2":
                raise error

        with pytest.raises(PartialFailure) as caught:
            make(handler).handle(make_events(5))
        assert seen == ["m0", "m1", "m2"]
        kinds = {name: type(error) for name, error in caught.value.errors.items()}
        assert kinds == {
            "01BATCH-1": PermanentFailure,
            "01BATCH-2": TemporaryFailure,
            "01BATCH-3": TemporaryFailure,
            "01BATCH-4": TemporaryFailure,
        }
        expected = 7.0 if isinstance(error, TemporaryFailure) else None
        assert caught.value.errors["01BATCH-4"].retry_after == expected  # type: ignore[attr-defined]

    def test_an_unwell_destination_at_the_first_event_is_raised_as_it_is(self, make: Make) -> None:
        def handler(event: Event) -> None:
            raise ConnectionResetError("gone")

        with pytest.raises(ConnectionResetError):
            make(handler).handle(make_events(3))

    def test_a_function_may_begin_to_wait_in_the_middle(self, make: Make) -> None:
        """From the first Deferred on the rest of the pile waits for it."""
        waiting: Deferred[str] = Deferred()
        seen: list[str] = []
        replies = Replies()

        def handler(event: Event) -> Any:
            seen.append(event.message)
            if event.message == "m0":
                raise ValueError("m0 is bad")
            return {"m2": waiting, "m3": succeed("three")}.get(event.message, event.message)

        deferred = make(handler, replies=True, reply=replies).handle(make_events(5))
        assert seen == ["m0", "m1", "m2"]
        waiting.callback("two")
        error = result_of(deferred)
        assert isinstance(error, PartialFailure)
        assert list(error.errors) == ["01BATCH-0"]
        assert replies == [("m1", b"m1"), ("m2", b"two"), ("m3", b"three"), ("m4", b"m4")]

    def test_a_failed_deferred_is_the_events_failure(self, make: Make) -> None:
        seen: list[str] = []

        def handler(event: Event) -> Any:
            seen.append(event.message)
            return fail(ValueError("no")) if event.message == "m1" else None

        error = result_of(make(handler).handle(make_events(3)))
        assert isinstance(error, PartialFailure)
        assert list(error.errors) == ["01BATCH-1"]
        assert seen == ["m0", "m1", "m2"]


class TestReplies:
    """What goes back to the sender."""

    def test_texts_bytes_and_dicts_are_sent_in_order(self, make: Make) -> None:
        answers = iter(["text é", b"bytes", {"a": [1]}, None, bytearray(b"array")])
        replies = Replies()
        make(lambda event: next(answers), replies=True, reply=replies).handle(make_events(5))
        assert replies == [("m0", "text é".encode()), ("m1", b"bytes"), ("m2", b'{"a":[1]}'), ("m4", b"array")]

    @pytest.mark.parametrize("answer", [1, True, ["a"], "\ud800", {"a": object()}])
    def test_what_cannot_be_sent_is_a_dead_letter_at_once(self, make: Make, answer: object) -> None:
        """To try again would do the work of the function twice."""
        handler = make(lambda event: answer, replies=True, reply=Replies())
        with pytest.raises(PartialFailure) as caught:
            handler.handle([make_event()])
        assert isinstance(caught.value.errors["01BATCH-0"], PermanentFailure)

    def test_without_replies_results_are_ignored_and_that_is_told_once(self, make: Make) -> None:
        log, replies = Log(), Replies()
        handler = make(lambda event: 42, log=log, reply=replies)
        handler.handle(make_events(3))
        handler.handle(make_events(3))
        assert replies == []
        assert len(log.lines) == 1
        assert "goes nowhere" in log.lines[0]

    def test_failed_events_are_answered_with_on_error_reply(self, make: Make) -> None:
        def handler(event: Event) -> str:
            if event.message == "m1":
                raise ValueError
            if event.message == "m3":
                raise TemporaryFailure
            return "ok"

        replies = Replies()
        with pytest.raises(PartialFailure):
            make(handler, replies=True, reply=replies, on_error_reply="ERROR").handle(make_events(4))
        assert replies == [("m0", b"ok"), ("m1", b"ERROR"), ("m2", b"ok")]


class TestPile:
    """A function that takes the pile."""

    def test_it_gets_a_list_of_its_own_and_answers_with_a_list(self, make: Make) -> None:
        def handler(events: list[Event]) -> list[object]:
            answers = ["one", None, {"three": 3}][: len(events)]
            events.clear()
            return answers

        replies = Replies()
        pile = make_events(3)
        assert make(handler, replies=True, reply=replies).handle(pile) is None
        assert replies == [("m0", b"one"), ("m2", b'{"three":3}')]
        assert len(pile) == 3

    @pytest.mark.parametrize("answer", [["one"], "abc", 3])
    def test_a_list_of_another_length_is_an_error(self, make: Make, answer: Any) -> None:
        def handler(events: list[Event]) -> Any:
            return answer

        with pytest.raises(PermanentFailure, match="a list of 3 replies"):
            make(handler, replies=True, reply=Replies()).handle(make_events(3))

    def test_its_exception_is_the_piles(self, make: Make) -> None:
        """Delivery looks for the culprit by calling event by event; only then the sender gets an answer."""

        def handler(events: list[Event]) -> None:
            raise ValueError

        replies = Replies()
        handler_ = make(handler, replies=True, reply=replies, on_error_reply="ERROR")
        with pytest.raises(ValueError):  # noqa: PT011 - it is the very exception
            handler_.handle(make_events(2))
        assert replies == []
        with pytest.raises(ValueError):  # noqa: PT011 - as above
            handler_.handle(make_events(1))
        assert replies == [("m0", b"ERROR")]

    def test_named_failures_are_answered(self, make: Make) -> None:
        async def handler(events: list[Event]) -> None:
            raise PartialFailure({events[0].id: ValueError(), events[1].id: TemporaryFailure()})

        replies = Replies()
        error = result_of(make(handler, replies=True, reply=replies, on_error_reply="ERROR").handle(make_events(3)))
        assert isinstance(error, PartialFailure)
        assert replies == [("m0", b"ERROR")]


class TestThread:
    """`thread = true`: one hop for a pile."""

    def test_a_pile_is_one_hop(self, make: Make) -> None:
        reactor, replies = FakeReactor(), Replies()
        handler = make(lambda event: event.message, reactor, thread=True, replies=True, reply=replies)
        assert result_of(handler.handle(make_events(4))) is None
        assert reactor.hops == 1
        assert replies == [(f"m{n}", f"m{n}".encode()) for n in range(4)]

    def test_failures_are_those_of_the_events(self, make: Make) -> None:
        def handler(event: Event) -> Any:
            if event.message == "m0":
                raise ValueError
            if event.message == "m1":
                return 42
            if event.message == "m2":
                return succeed(None)
            raise ConnectionResetError

        replies = Replies()
        error = result_of(
            make(handler, thread=True, replies=True, reply=replies, on_error_reply="no").handle(make_events(5))
        )
        assert isinstance(error, PartialFailure)
        assert {name: type(e) for name, e in error.errors.items()} == {
            "01BATCH-0": ValueError,
            "01BATCH-1": PermanentFailure,
            "01BATCH-2": TypeError,
            "01BATCH-3": TemporaryFailure,
            "01BATCH-4": TemporaryFailure,
        }
        assert replies == [("m0", b"no"), ("m1", b"no"), ("m2", b"no")]

    def test_a_call_that_is_given_up_keeps_the_handler_busy(self, make: Make) -> None:
        """The thread cannot be stopped; it ends after the event it is at, and says nothing any more."""
        reactor, replies, log = FakeReactor(hold=True), Replies(), Log()
        handler = make(lambda event: event.message, reactor, log, thread=True, replies=True, reply=replies)
        deferred = handler.handle(make_events(3))
        assert deferred is not None
        deferred.cancel()
        assert isinstance(result_of(deferred), CancelledError)
        assert handler.busy
        with pytest.raises(TemporaryFailure):
            handler.handle(make_events(1))
        reactor.run_thread()
        assert not handler.busy
        assert replies == []
        assert len(log.lines) == 2

    def test_a_pile_function_runs_in_the_thread(self, make: Make) -> None:
        def handler(events: list[Event]) -> list[str]:
            return [event.message for event in events]

        reactor, replies = FakeReactor(), Replies()
        assert (
            result_of(make(handler, reactor, thread=True, replies=True, reply=replies).handle(make_events(2))) is None
        )
        assert replies == [("m0", b"m0"), ("m1", b"m1")]
        assert reactor.hops == 1

    @pytest_twisted.ensureDeferred
    async def test_with_the_real_reactor_it_is_another_thread(self, make: Make) -> None:
        from twisted.internet import reactor

        threads: set[int] = set()
        replies = Replies()

        def handler(event: Event) -> str:
            threads.add(threading.get_ident())
            return event.message

        deferred = make(handler, reactor, thread=True, replies=True, reply=replies).handle(make_events(3))
        assert deferred is not None
        await deferred
        assert threads
        assert threading.get_ident() not in threads
        assert replies == [("m0", b"m0"), ("m1", b"m1"), ("m2", b"m2")]


class TestAsync:
    """`async def`, on a reactor without asyncio."""

    def test_deferreds_are_awaited_one_after_another(self, make: Make) -> None:
        waiting: list[Deferred[str]] = [Deferred(), Deferred()]
        replies = Replies()

        async def handler(event: Event) -> str:
            return await waiting[int(event.message[1:])]

        deferred = make(handler, replies=True, reply=replies).handle(make_events(2))
        waiting[1].callback("one")
        assert replies == []
        waiting[0].callback("zero")
        assert result_of(deferred) is None
        assert replies == [("m0", b"zero"), ("m1", b"one")]

    def test_failures_are_those_of_the_events(self, make: Make) -> None:
        async def handler(event: Event) -> None:
            if event.message == "m1":
                raise ValueError
            if event.message == "m3":
                raise ConnectionResetError
            await succeed(None)

        error = result_of(make(handler).handle(make_events(5)))
        assert isinstance(error, PartialFailure)
        assert {name: type(e) for name, e in error.errors.items()} == {
            "01BATCH-1": ValueError,
            "01BATCH-3": TemporaryFailure,
            "01BATCH-4": TemporaryFailure,
        }

    def test_cancelling_reaches_the_coroutine_and_ends_the_walk(self, make: Make) -> None:
        seen: list[str] = []

        async def handler(event: Event) -> None:
            seen.append(event.message)
            await Deferred()

        deferred = make(handler).handle(make_events(3))
        assert deferred is not None
        deferred.cancel()
        assert isinstance(result_of(deferred), CancelledError)
        assert seen == ["m0"]

    def test_a_cancelled_event_that_was_alone_is_answered(self, make: Make) -> None:
        async def handler(event: Event) -> None:
            await Deferred()

        replies = Replies()
        deferred = make(handler, replies=True, reply=replies, on_error_reply="late").handle(make_events(1))
        assert deferred is not None
        deferred.cancel()
        assert isinstance(result_of(deferred), CancelledError)
        assert replies == [("m0", b"late")]


class TestAsyncio:
    """`async def` on the asyncio reactor: one Task a pile."""

    @pytest_twisted.ensureDeferred
    async def test_one_task_walks_the_pile(self, make: Make, asyncio_reactor: Any) -> None:
        """However many events, and whether they wait or not."""
        tasks: set[int] = set()
        made: list[object] = []
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        async def handler(event: Event) -> None:
            tasks.add(id(asyncio.current_task()))
            if event.message == "m50":
                await asyncio.sleep(0)
            if event.message == "m51":
                await deferLater(asyncio_reactor, 0)

        loop.set_task_factory(factory)
        try:
            deferred = make(handler, asyncio_reactor).handle(make_events(100))
            assert deferred is not None
            await deferred
        finally:
            loop.set_task_factory(None)
        assert len(made) == 1
        assert len(tasks) == 1

    @pytest_twisted.ensureDeferred
    async def test_timeouts_and_groups_work_in_each_event(self, make: Make, asyncio_reactor: Any) -> None:
        replies = Replies()

        async def part(text: str) -> str:
            await asyncio.sleep(0)
            return text

        async def handler(event: Event) -> str:
            try:
                async with asyncio.timeout(0.001):
                    await Deferred()
            except TimeoutError:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part(event.message)), group.create_task(part("late"))]
                return " ".join([task.result() for task in tasks])
            return "not late"

        deferred = make(handler, asyncio_reactor, replies=True, reply=replies, asyncio=True).handle(make_events(2))
        assert deferred is not None
        await deferred
        assert replies == [("m0", b"m0 late"), ("m1", b"m1 late")]

    @pytest_twisted.ensureDeferred
    async def test_cancelling_ends_the_walk_and_something_cancelled_does_not(
        self, make: Make, asyncio_reactor: Any
    ) -> None:
        """A future that somebody else cancelled is the event's failure; a cancelled call is the end."""
        seen: list[str] = []

        async def handler(event: Event) -> None:
            seen.append(event.message)
            if event.message == "m0":
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            await asyncio.sleep(60)

        deferred = make(handler, asyncio_reactor).handle(make_events(3))
        assert deferred is not None
        await deferLater(asyncio_reactor, 0.001)
        assert seen == ["m0", "m1"]
        deferred.cancel()
        with pytest.raises(PartialFailure) as caught:
            await deferred
        assert [type(error) for error in caught.value.errors.values()] == [RuntimeError, TemporaryFailure, NotAttempted]
        assert seen == ["m0", "m1"]
