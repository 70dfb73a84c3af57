"""Values of any kind as values that JSON can hold: for the rare event that an encoder refuses."""

from __future__ import annotations

import datetime as dt
from typing import Any

from msgspec import UNSET, Struct

from eventserver._escaping import escape_text
from eventserver.event import Event

#: Tables and lists nested deeper than this, and more values than this in one event, are cut.
MAX_DEPTH = 32
MAX_VALUES = 10_000
#: The longest text that stands for an object, in characters.
MAX_TEXT = 1000


def plain_event(event: Event) -> dict[str, Any]:
    """The JSON form of an event as a table, with what JSON cannot hold as text. Never raises."""
    left = [MAX_VALUES]
    table = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is not UNSET and not (name == "context" and isinstance(value, dict) and not value):
            table[name] = _plain(value, MAX_DEPTH, left)
    return table


def dictionary_of(value: Struct) -> dict[str, Any]:
    """The entries that an object of msgspec's is encoded with."""
    names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
    entries = {key: getattr(value, name) for name, key in names}
    return {key: entry for key, entry in entries.items() if entry is not UNSET}


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if isinstance(value, str):
        # Lone surrogates cannot be encoded: they, and then all that is unsafe in this text, are shown as escapes.
        return str(value) if _encodable(value) else escape_text(value)
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 64 else as_text(value)
    if isinstance(value, (bytes, dt.datetime)):
        return value
    if isinstance(value, Struct):
        # Fields that were made for an encoder, see `ISelecting`.
        value = dictionary_of(value)
    if isinstance(value, dict) and depth > 0 and left[0] > 0:
        items = list(value.items())[: max(0, left[0])]
        return {_key(key): _plain(entry, depth - 1, left) for key, entry in items}
    if isinstance(value, (list, tuple, set, frozenset)) and depth > 0 and left[0] > 0:
        return [_plain(entry, depth - 1, left) for entry in list(value)[: max(0, left[0])]]
    return as_text(value)


def _key(key: Any) -> str:
    text = key if isinstance(key, str) else as_text(key)
    return str(text) if _encodable(text) else escape_text(text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: object) -> str:
    """Some object as a short text for people. Never raises."""
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return f"({type(value).__name__})"
    try:
        text = hex(value) if isinstance(value, int) and value.bit_length() > 64 else str(value)
    except Exception:
        return f"({type(value).__name__})"
    return escape_text(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}...")
