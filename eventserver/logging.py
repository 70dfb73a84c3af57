"""Our own log on standard error: one line an event, with control characters escaped.

`2026-11-22T10:00:00Z info  listener.lines: listening on tcp:127.0.0.1:5140`
"""

from __future__ import annotations

import datetime as dt
import re
import sys
import traceback
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

#: What would move the cursor, colour the terminal or begin another line: C0, DEL, C1, and the line separators.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LEVELS = {"debug": "debug", "info": "info ", "warn": "warn ", "error": "error", "critical": "fatal"}


@implementer(ILogObserver)
class LineObserver:
    """Writes each log event as one line to a text stream, at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        """Write the event. A stream that is gone loses the line, not the server."""
        try:
            self._out.write(format_line(event) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            pass


def format_line(event: LogEvent) -> str:
    """The event as one line: time (UTC), level, where it comes from, what happened; a failure with its traceback."""
    time = dt.datetime.fromtimestamp(event.get("log_time", 0.0), dt.UTC)
    level = event.get("log_level")
    word = _LEVELS.get(getattr(level, "name", "info"), "info ")
    text = formatEvent(event)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        text = f"{text}: {_describe(failure)}" if text else _describe(failure)
    return escape(f"{time:%Y-%m-%dT%H:%M:%SZ} {word} {_origin(event)}: {text}")


def _origin(event: LogEvent) -> str:
    namespace = event.get("log_namespace") or "-"
    if namespace == "log_legacy":
        namespace = event.get("log_system") or "-"
    return "twisted" if namespace.startswith("twisted.") else str(namespace)


def escape(text: str) -> str:
    r"""The text on one line: control characters as `\n`, `\t`, `\x1b`."""
    return _CONTROL.sub(lambda match: _ESCAPES.get(match[0]) or _escaped(match[0]), text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _describe(failure: Failure) -> str:
    """The exception, and in brackets the calls that led to it, the innermost last."""
    name = failure.type.__name__ if failure.type is not None else "failure"
    message = failure.getErrorMessage()
    text = f"{name}: {message}" if message else name
    frames = traceback.extract_tb(failure.getTracebackObject())
    calls = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{text} [{calls}]" if calls else text


def stderr_observer() -> ILogObserver:
    """The observer that `twistd` is given: lines on standard error, from level info on.

    It keeps the true standard error: twistd turns `print` into log events (level info), whose lines go there too and
    never to standard output, which belongs to the console handler.
    """
    return filtered(LineObserver(sys.__stderr__ or sys.stderr))


def filtered(observer: ILogObserver) -> ILogObserver:
    """The observer without what is below level info, and without Twisted's own words about ports."""
    level: ILogFilterPredicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
    return FilteringLogObserver(observer, [level, _without_ports])


@implementer(ILogFilterPredicate)
class _WithoutPorts:
    """Listeners say where they listen, by name; Twisted says it once more for each port, by factory."""

    _WORDS = re.compile(r".* starting on .*|\(.*Port .* Closed\)")

    def __call__(self, event: LogEvent) -> Any:
        if event.get("log_namespace") != "log_legacy":
            return PredicateResult.maybe
        noise = not event.get("isError") and self._WORDS.fullmatch(formatEvent(event)) is not None
        return PredicateResult.no if noise else PredicateResult.maybe


_without_ports: ILogFilterPredicate = _WithoutPorts()
