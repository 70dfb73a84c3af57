"""`call = "module:function"`: your function is the handler."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from eventserver import options
from eventserver.awaiting import as_deferred, asyncio_loop
from eventserver.event import Event
from eventserver.handlers._answers import Answers
from eventserver.handlers._calling import is_async, takes_pile
from eventserver.handlers._failures import ordinary
from eventserver.handlers._thread_walk import ThreadWalk
from eventserver.handlers._threads import OneThread
from eventserver.handlers._walking import EachCaller
from eventserver.interfaces import HandlerContext, IHandler, Wants
from eventserver.loading import load_object
from eventserver.options import Doc

_ASYNC_LANES = 64


@implementer(IHandler)
class PythonHandler:
    """Calls a Python function with each event, or with the pile where its parameter is annotated `list[Event]`.

    The function may be plain, `async def` (awaiting Deferreds and, on the asyncio reactor, asyncio's awaitables), or
    return a Deferred. Without `thread` it runs in the reactor's thread and must not block. To return is to say that the
    event is done; an exception is the event's, and the next event follows, except that `TemporaryFailure` and
    connection errors keep this event and the rest of the pile for later. `timeout` is for each event, or for the pile
    where the function takes that.

    Where replies are on, `str`, `bytes` and `dict` (as JSON) go to the event's sender; None sends nothing. A function
    that takes the pile returns a list, with one of these for each event.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """Which function, and how it is called."""

        call: Annotated[
            str,
            Doc("The function, as `module:function`; also looked for in the current directory.", "my_handlers:alarm"),
        ]
        thread: Annotated[
            bool, Doc("Call the function in a thread, one pile after another, because it blocks.", True)
        ] = False
        replies: Annotated[
            bool | None,
            Doc(
                "Whether what the function returns goes to the sender. Default: yes, where this is the only python"
                " handler of a stream listener with decoder `text` or `json`.",
                True,
            ),
        ] = None
        on_error_reply: Annotated[
            str | None, Doc("What the sender gets for an event that failed; by default nothing.", "ERROR")
        ] = None
        asyncio: Annotated[
            bool, Doc("The function needs the asyncio reactor: refuse to start on another one.", True)
        ] = False

    wants: Wants = "events"
    wants_raw = False

    def __init__(self, options: Options, context: HandlerContext, function: Callable[[Any], Any] | None = None) -> None:
        """`function` is what to call, for a program that has it; else the one that `options.call` names."""
        self._function = load_object(options.call) if function is None else function
        self._call = options.call
        self._context = context
        self._answers = Answers(options.call, options.on_error_reply, context)
        self._takes_pile = takes_pile(self._function)
        self._is_async = is_async(self._function)
        self._thread = OneThread(context) if options.thread else None
        if self._is_async and options.thread:
            raise ValueError(f"`{options.call}` is async and does not block: it cannot have `thread = true`")
        self._each = EachCaller(self._function, self._answers, context)
        self.needs_asyncio = options.asyncio
        self.times_itself = not self._takes_pile
        self.concurrency = _ASYNC_LANES if self._is_async and not self._takes_pile else 1

    @property
    def busy(self) -> bool:
        """True while a thread runs whose call was given up: a second one would do the same work beside it."""
        return self._thread is not None and self._thread.busy

    def start(self) -> None:
        """Raises `ValueError` if the function needs asyncio and the reactor is another one."""
        if self.needs_asyncio and asyncio_loop(self._context.reactor) is None:
            raise ValueError(f"`{self._call}` needs the asyncio reactor (twistd --reactor=asyncio)")

    def stop(self) -> None:
        """Running calls were waited for, or cancelled; a thread that hangs is left alone."""
        self._each.stop()
        if self._thread is not None:
            self._thread.stop()

    def handle(self, pile: list[Event]) -> Deferred[Any] | None:
        """Call the function; see `IHandler.handle`."""
        if self._takes_pile:
            return self._handle_pile(pile)
        if self._thread is not None:
            return ThreadWalk(self._function, self._answers, self._context, pile).start(self._thread)
        return self._each.call_async(pile) if self._is_async else self._each.call(pile)

    def _handle_pile(self, pile: list[Event]) -> Deferred[Any] | None:
        result: Any
        try:
            # A copy: what the function does to its list is its own affair.
            if self._thread is not None:
                result = self._thread.run(self._function, list(pile))
            else:
                result = self._function(list(pile))
                if not inspect.isawaitable(result):
                    self._answers.give_all(pile, result)
                    return None
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            self._answers.apologise_all(pile, error)
            raise ordinary(error)  # noqa: B904 - the very error, or one that has it as its cause
        return as_deferred(self._wait_for_pile(pile, result), self._context.reactor)

    async def _wait_for_pile(self, pile: list[Event], result: Awaitable[Any]) -> None:
        try:
            replies = await result
            if inspect.isawaitable(replies):
                raise TypeError("a function in a thread must block, not return something to await")
            self._answers.give_all(pile, replies)
        except BaseException as error:
            self._answers.apologise_all(pile, error)
            if isinstance(error, SystemExit):
                raise ordinary(error)  # noqa: B904 - it has the error as its cause
            raise
