"""The exceptions that people meet: in handlers, in settings, in embedding programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet import error


class EventServerError(Exception):
    """The base of every exception that eventserver raises on purpose."""


class TemporaryFailure(EventServerError):
    """The destination is unwell: try the same pile again later, without limit, and dead-letter nothing.

    `retry_after` is the number of seconds until the next attempt, where the destination named it.
    """

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotAttempted(TemporaryFailure):
    """The event was not tried, because the call ended before its turn came: nothing is wrong with anything.

    For handlers that go through a pile event by event, inside a `PartialFailure`: the event is tried next.
    """


class PermanentFailure(EventServerError):
    """What the handler was given can never succeed: it becomes a dead letter now, without another attempt."""


class PartialFailure(EventServerError):
    """Some events of a pile failed; the others are done.

    `errors` names them: event id to the exception. An event whose error is a `TemporaryFailure` waits in place,
    one with a `PermanentFailure` is a dead letter now, any other is retried apart from the rest.
    """

    def __init__(self, errors: Mapping[str, BaseException]) -> None:
        super().__init__(f"{len(errors)} events failed: " + "; ".join(map(safe_text, list(errors.values())[:3])))
        self.errors = dict(errors)


class HandlerTimeout(EventServerError):
    """A handler's call took longer than its `timeout`."""


class Expired(EventServerError):
    """A handler's cursor was moved past the frames by `when_full = "drop_oldest"`: they were not delivered."""


class Stopped(EventServerError):
    """The server stopped before the promise could be kept."""


class SubscriptionClosed(EventServerError):
    """The subscription was closed, or its server stopped."""


class SettingsError(EventServerError):
    """The settings are wrong; `problems` has every error that was found, one sentence each, with file and key."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class ExpressionError(EventServerError):
    """An expression of `match`, `drop` or `set` is not one of the language; the message says where and why."""


class ComponentError(EventServerError, ValueError):
    """A component, or a function that the settings name, cannot be had; the message says which one and why."""


def safe_text(error: BaseException) -> str:
    """An exception in words, `Type: text`; `Type` alone if it says nothing, or fails to. Never raises."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        # Somebody's `__str__` is wrong; that must not hide what it was to tell of.
        return kind
    return f"{kind}: {text}" if text else kind


#: What stands in a traceback between delivery and the code of a handler.
_BETWEEN = {"eventserver", "twisted", "asyncio", "concurrent", "threading"}


def safe_text_and_place(error: BaseException) -> str:
    """`safe_text`, and where the code of a handler stood that is not ours: `Type: text (handlers.py, line 12)`."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0] not in _BETWEEN:
            return f"{safe_text(error)} ({Path(code.co_filename).name}, line {step.tb_lineno})"
        step = step.tb_next
    return safe_text(error)


#: Failures of the destination, whoever raises them, and not of an event: what failed is tried again without limit.
CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    TemporaryFailure,
    ConnectionError,
    error.ConnectError,
    error.ConnectionClosed,
    error.ConnectingCancelledError,
    error.DNSLookupError,
)
