"""Threads for calls that block: real ones, and what becomes of them."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning

from eventserver.errors import PartialFailure, TemporaryFailure
from eventserver.event import Event
from eventserver.handlers._threads import OneThread, from_thread
from eventserver.handlers.python import PythonHandler
from tests.handlers.fakes import HandMoved, Log, make_context, make_events, until
from tests.realprograms import DEADLINE

NUMBERS = itertools.count()


@pytest.fixture
def thread() -> Iterator[OneThread]:
    from twisted.internet import reactor

    thread = OneThread(dataclasses.replace(make_context(reactor, Log()), name=f"number {next(NUMBERS)}"))
    yield thread
    thread.stop()


def threads_of(thread: OneThread) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == f"handler {thread._context.name}"]


@pytest_twisted.ensureDeferred
async def test_one_thread_makes_one_call_after_another(thread: OneThread) -> None:
    """It is started by the first call, and ends when the handler stops."""
    assert not threads_of(thread)
    assert len({await thread.run(threading.get_ident) for _ in range(5)}) == 1
    [worker] = threads_of(thread)
    assert worker.daemon
    thread.stop()
    await until(lambda: not worker.is_alive())


@pytest_twisted.ensureDeferred
async def test_lanes_have_threads_of_their_own(thread: OneThread) -> None:
    both = threading.Barrier(2, timeout=DEADLINE)
    first, second = thread.run(both.wait), thread.run(both.wait)
    assert sorted([await first, await second]) == [0, 1]
    await thread.run(int)
    assert len(threads_of(thread)) == 2


@pytest_twisted.ensureDeferred
async def test_what_would_end_a_program_is_an_error_and_the_thread_goes_on(thread: OneThread) -> None:
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        await thread.run(sys.exit, 3)
    assert await thread.run(int) == 0
    assert len(threads_of(thread)) == 1


@pytest_twisted.ensureDeferred
async def test_an_idle_thread_keeps_nothing_alive(thread: OneThread) -> None:
    class Pile:
        pass

    pile = Pile()
    gone = weakref.ref(pile)
    await thread.run(lambda pile: None, pile)
    del pile
    await until(lambda: gc.collect() is not None and gone() is None)


@pytest_twisted.ensureDeferred
async def test_no_thread_to_be_had_is_a_temporary_failure(thread: OneThread, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(TemporaryFailure, match="no thread can be started"):
            thread.run(int)
    assert await thread.run(int) == 0


def test_a_thread_that_ends_after_the_reactor_is_left_in_peace() -> None:
    """Whatever the reactor makes of being called by then."""

    class Over:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def callFromThread(self, function: Callable[..., object]) -> None:
            raise self.error

    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError) as closed:
        loop.call_soon_threadsafe(print)
    for error in (closed.value, ReactorNotRunning()):
        from_thread(Over(error), print)


@pytest_twisted.ensureDeferred
async def test_a_hanging_event_is_given_up_and_its_thread_goes_no_further() -> None:
    from twisted.internet import reactor

    seen: list[str] = []
    let_go = threading.Event()

    def handler(event: Event) -> None:
        seen.append(event.message)
        if event.message == "m1":
            let_go.wait(DEADLINE)

    timed = HandMoved(reactor)
    made = PythonHandler(
        PythonHandler.Options(call="tests:handler", thread=True), make_context(timed, Log(), timeout=10.0), handler
    )
    deferred = made.handle(make_events(3))
    assert deferred is not None
    await until(lambda: seen == ["m0", "m1"])
    timed.advance(10)
    with pytest.raises(PartialFailure) as caught:
        await deferred
    assert [type(error).__name__ for error in caught.value.errors.values()] == ["HandlerTimeout", "NotAttempted"]
    assert made.busy
    with pytest.raises(TemporaryFailure):
        made.handle(make_events(1))
    let_go.set()
    await until(lambda: not made.busy)
    assert seen == ["m0", "m1"]
    made.stop()


HANGING = """
import sys, time
if sys.argv[1] == "asyncio":
    from twisted.internet import asyncioreactor
    asyncioreactor.install()
from twisted.internet import reactor
from eventserver.handlers.python import PythonHandler
from tests.handlers.fakes import make_context, make_events

def hang(event):
    reactor.callFromThread(stop)
    time.sleep(600)

def stop():
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    handler.stop()
    reactor.stop()

handler = PythonHandler(PythonHandler.Options(call="m:f", thread=True), make_context(reactor), hang)
reactor.callWhenRunning(lambda: globals().update(waiting=handler.handle(make_events(1))))
reactor.run()
print("ended")
"""


@pytest.mark.parametrize("reactor", ["asyncio", "default"])
def test_a_call_that_hangs_does_not_keep_the_program_alive(reactor: str) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING, reactor], capture_output=True, timeout=DEADLINE, check=True)
    assert ended.stdout == b"ended\n"
    assert ended.stderr == b""


@pytest_twisted.ensureDeferred
async def test_calls_in_turn_wait_for_each_other(thread: OneThread) -> None:
    """Also behind one that was given up: they are refused."""
    let_go = threading.Event()
    hanging: Deferred[Any] = thread.run_in_turn(let_go.wait, DEADLINE)
    waiting = thread.run_in_turn(int)
    assert not thread.idle
    hanging.cancel()
    with pytest.raises(CancelledError):
        await hanging
    with pytest.raises(TemporaryFailure):
        await waiting
    let_go.set()
    await until(lambda: thread.idle)
    assert await thread.run_in_turn(int) == 0
