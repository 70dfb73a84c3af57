"""What a component returned, as a Deferred: coroutines, futures and Deferreds alike.

On the asyncio reactor a coroutine runs inside a real asyncio Task, so `asyncio.timeout`, `TaskGroup` and
`current_task` work from its first step, and it may await Deferreds beside asyncio's awaitables. On any other reactor
it may await Deferreds only; an asyncio awaitable raises `NeedsAsyncio` there.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeGuard

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    import asyncio

_NEEDS_ASYNCIO = "an asyncio awaitable needs the asyncio reactor (twistd --reactor=asyncio)"


class NeedsAsyncio(RuntimeError):
    """A coroutine awaited something of asyncio's, and the reactor is another one."""

    def __init__(self) -> None:
        super().__init__(_NEEDS_ASYNCIO)


def asyncio_loop(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """The event loop that the reactor runs on; None unless it is Twisted's asyncio reactor.

    Twisted has no public name for it.
    """
    return getattr(reactor, "_asyncioEventloop", None)


def as_deferred(
    result: object, reactor: Any = None, waits: Callable[[object], None] | None = None
) -> Deferred[Any] | None:
    """The Deferred that fires when `result` is there; None if `result` is nothing that can be awaited.

    A Deferred is passed through; one that says it was called, but waits for another one, in a new Deferred: so
    `called` means that there is a result. A coroutine is started: as an asyncio Task where `reactor` is the asyncio
    reactor. To cancel the Deferred cancels the Task, and with it the Deferred or future that the coroutine awaits; the
    Deferred fires, with Twisted's `CancelledError`, when the coroutine has really ended.

    `waits`, for a coroutine, is called whenever it has to wait, with the Deferred, or what of asyncio's, it waits for.
    """
    if result is None:
        return None
    if isinstance(result, Deferred):
        return _unchained(result) if result.called and result.paused else result
    if not inspect.isawaitable(result):
        return None
    loop = asyncio_loop(reactor)
    if loop is None:
        return Deferred.fromCoroutine(_drive(_without_asyncio(_coroutine(result), waits)))
    if _is_future(result):
        return _from_future(result)
    coroutine = _coroutine(result)
    task = loop.create_task(_drive(_with_asyncio(coroutine, loop, waits)))
    # A Task that is cancelled before its first step never starts what it was made for.
    task.add_done_callback(lambda _: coroutine.close())
    return _from_future(task)


def _unchained(deferred: Deferred[Any]) -> Deferred[Any]:
    result: Deferred[Any] = Deferred(lambda _: deferred.cancel())
    deferred.chainDeferred(result)
    return result


def _coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    if inspect.iscoroutine(awaitable):
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return wait()


async def _drive(steps: Generator[Any, None, Any]) -> Any:
    return await _Steps(steps)


class _Steps:
    """A generator of what is to be waited for, as an awaitable."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[Any, None, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, None, Any]:
        return self._steps


def _is_future(awaitable: object) -> TypeGuard[asyncio.Future[Any]]:
    # What `asyncio.isfuture` looks at, without the import.
    return getattr(type(awaitable), "_asyncio_future_blocking", None) is not None


def _with_asyncio(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, waits: Callable[[object], None] | None
) -> Generator[Any, None, Any]:
    """Steps the coroutine by hand: futures go on to the Task around this, Deferreds are waited for by a future.

    What a Deferred's `__await__` is sent is ignored: it reads its own result. So to wake it is enough.
    """
    thrown: BaseException | None = None
    while True:
        try:
            waits_for = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value
        thrown = None
        if waits is not None:
            waits(waits_for)
        deferred = waits_for if isinstance(waits_for, Deferred) else None
        try:
            if deferred is None:
                yield waits_for
            else:
                yield from _fired(deferred, loop)
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            if deferred is not None:
                _give_up(deferred)
            thrown = error


def _fired(deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> Generator[Any, None, None]:
    """Waits until the Deferred has a result, and leaves the result alone."""
    future: asyncio.Future[None] = loop.create_future()

    def wake(result: object) -> object:
        if not future.done():
            future.set_result(None)
        return result

    deferred.addBoth(wake)
    yield from future.__await__()


def _give_up(deferred: Deferred[Any]) -> None:
    """Cancels a Deferred that nobody awaits any more. Its failure is no news: the coroutine gets asyncio's own.

    Whatever that failure is: HTTP clients, for one, make `ConnectionAborted` of being cancelled.
    """
    deferred.addErrback(lambda _: None)
    deferred.cancel()


def _without_asyncio(
    coroutine: Coroutine[Any, Any, Any], waits: Callable[[object], None] | None
) -> Generator[Any, Any, Any]:
    """Steps the coroutine by hand, and refuses what only an asyncio loop could wake.

    What Twisted sends and throws in when a Deferred has fired goes to the coroutine.
    """
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            waits_for = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value
        except RuntimeError as error:
            if str(error) == "no running event loop":
                raise NeedsAsyncio from error
            raise
        sent = thrown = None
        if waits_for is not None and not isinstance(waits_for, Deferred):
            thrown = NeedsAsyncio()
            continue
        if waits is not None and waits_for is not None:
            waits(waits_for)
        try:
            # None is what `asyncio.sleep(0)` yields: it waits for nothing.
            sent = None if waits_for is None else (yield waits_for)
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            thrown = error


def _from_future(future: asyncio.Future[Any]) -> Deferred[Any]:
    """A Deferred for a future or Task; asyncio's `CancelledError` becomes Twisted's.

    A Deferred that is cancelled fires at once, unless its canceller fires it. This one's does, with another Deferred
    that has the true outcome, as what was cancelled may still be cleaning up. A second cancel fires at once.
    """
    cancelled = object()
    outcome: Deferred[Any]

    def cancel(first: Deferred[Any]) -> None:
        future.cancel()
        first.callback(cancelled)

    def settled(value: Any) -> Any:
        nonlocal outcome
        if value is not cancelled:
            return value
        outcome = Deferred()
        return outcome

    def done(future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            outcome.errback(Failure(CancelledError()))
        elif (error := future.exception()) is not None:
            outcome.errback(Failure(error))
        else:
            outcome.callback(future.result())

    result: Deferred[Any] = Deferred(cancel)
    outcome = result
    result.addCallback(settled)
    future.add_done_callback(done)
    return result


def here(deferred: Deferred[Any], reactor: Any) -> Awaitable[Any]:
    """The Deferred as something that the coroutine running now can await: a Task of asyncio's, or one of Twisted's."""
    loop = asyncio_loop(reactor)
    if loop is None:
        return deferred
    import asyncio

    try:
        inside_a_task = asyncio.current_task() is not None
    except RuntimeError:
        inside_a_task = False
    return deferred.asFuture(loop) if inside_a_task else deferred
