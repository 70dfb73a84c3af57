"""What the parts of the control API share: answers, refusals, and the reading of queries."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from eventserver.errors import EventServerError
from eventserver.options import unknown
from eventserver.replaying import ReplayError, time_of

#: The longest body of a request.
MAX_BODY = 64 << 10
#: The most things that one answer lists, and one request changes.
MAX_LISTED = 1000
DEFAULT_LISTED = 100
T = TypeVar("T")


class Reply(NamedTuple):
    """A status code, what is sent as JSON, and further headers."""

    code: int
    content: Any
    headers: Mapping[str, str] = {}


class ControlError(EventServerError):
    """A request is refused; the message says why, for people."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}


def check_keys(query: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse what is not known: a filter with a typing mistake must not mean "everything"."""
    for key in query:
        if key not in known:
            raise ControlError(400, f"`{key}`: {unknown(key, known)}")


def number_of(query: Mapping[str, str], key: str, default: int, most: int) -> int:
    """A number of a query, from 0 to `most`."""
    text = query.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19) or int(text) > most:
        raise ControlError(400, f"`{key}` is a number up to {most}, not {text!r}")
    return int(text)


def time_in(text: str, key: str) -> dt.datetime:
    """A time (RFC 3339) of a request."""
    try:
        return time_of(text, key)
    except ReplayError:
        raise ControlError(400, f"`{key}` is a time such as 2026-01-31T08:00:00Z, not {text!r}") from None


def bytes_as_json(name: str, data: bytes) -> dict[str, str]:
    """Bytes as `name`, where they are text in UTF-8, else as `name_base64`."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def decode(body: bytes, to: type[T]) -> T:
    """The body of a POST. Raises `ControlError` with what is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=to)
    except msgspec.MsgspecError as error:
        raise ControlError(400, str(error)) from None
