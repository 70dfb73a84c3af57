"""A plain function as a decoder: `decoder = "module:function"` in the settings."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable
from typing import Any

import msgspec
from zope.interface import implementer

from eventserver.decoders._common import contexts, peers, suffixes
from eventserver.decoders._timestamps import read_value
from eventserver.event import Batch, Event, undecodable
from eventserver.interfaces import IDecoder

#: What a function may return for one frame.
Result = dict[str, Any] | list[dict[str, Any]] | None


@implementer(IDecoder)
class FunctionDecoder:
    """Calls `function(frame)` for each frame; what it returns are the frame's events.

    - A `dict` is one event, a list of them several, None or an empty list none.
    - Of its keys `message` is the message (a text), `time` the time (a datetime, RFC 3339 text, or a number since
      1970), `type` the type (a text; by default `name`), `fields` a dict of fields; any other key is a field too, and
      wins over the same one in `fields`. A missing `time`, or None, is `received`.
    - An exception, and a result that is none of the above or that JSON cannot carry, makes the whole frame
      `undecodable`, with the reason `"ValueError: what it said"`.
    """

    def __init__(self, function: Callable[[bytes], Result], name: str) -> None:
        """Raises `TypeError` for an `async def` function: decoding waits for nothing."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"the decoder {name} is `async def`; a decoder is a plain `def`")
        self._function = function
        self._name = name
        self._encoder = msgspec.json.Encoder()

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        events: list[Event] = []
        for index, (frame, suffix, peer, context) in enumerate(
            zip(batch.frames, suffixes(batch), peers(batch), contexts(batch), strict=False)
        ):
            try:
                found = [self._read(result, batch.received) for result in self._results(frame)]
                made = [
                    Event(f"{batch.id}{suffix}.{n}" if n else batch.id + suffix, time, batch.received, batch.listener,
                          peer, kind, message, fields, context)
                    for n, (time, kind, message, fields) in enumerate(found)
                ]  # fmt: skip
                # What cannot be written as JSON must be found out here, where its reason can be told.
                self._encoder.encode(made)
            except Exception as error:
                events.append(undecodable(batch, index, f"{type(error).__name__}: {_text(error)}"))
            else:
                events += made
        return events

    def _results(self, frame: bytes) -> list[Any]:
        """What the function returns, as a list. Raises what the function raises, and `TypeError`."""
        result = self._function(frame)
        if result is None:
            return []
        if isinstance(result, dict):
            return [result]
        if isinstance(result, list):
            return result
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that it was never awaited
        raise TypeError(f"the decoder returned {type(result).__name__}, not a dict, a list of them or None")

    def _read(self, result: Any, received: dt.datetime) -> tuple[dt.datetime, str, str, dict[str, Any]]:
        """Time, type, message and fields of one result. Raises `TypeError` or `ValueError`."""
        if not isinstance(result, dict):
            raise TypeError(f"the decoder returned a list with {type(result).__name__} in it, not a dict")
        rest = dict(result)
        message = _checked(rest.pop("message", None), str, "message") or ""
        kind = _checked(rest.pop("type", None), str, "type") or self._name
        fields = _checked(rest.pop("fields", None), dict, "fields") or {}
        time = rest.pop("time", None)
        read = received if time is None else read_value(time)
        if read is None:
            raise ValueError(f"time {str(time)[:60]!r} cannot be read")
        fields = {**fields, **rest}
        if not all(isinstance(key, str) for key in fields):
            raise TypeError("a field's name is not a text")
        return read, kind, message, fields


def _checked(value: Any, kind: type, key: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _text(error: Exception) -> str:
    """What an exception says, as text that JSON can carry; its `__str__` may be anybody's."""
    try:
        return str(error).encode("utf-8", "replace").decode()[:1000]
    except Exception:
        return "?"
