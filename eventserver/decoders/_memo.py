"""A bounded memory for what repeats in a stream: headers, structured data, time stamps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")


class Memo(dict[str, V]):
    """`memo[text]` is `read(text)`, remembered; a hit costs what a dictionary's does.

    It holds at most `entries` texts of at most `longest` characters each, whatever peers send: a longer text is read
    anew each time, and a full memory starts afresh. `read` must not raise; it says None for what it cannot read, and
    what it returns is shared by all who ask.
    """

    def __init__(self, read: Callable[[str], V], entries: int = 4096, longest: int = 256) -> None:
        super().__init__()
        self._read = read
        self._entries = entries
        self._longest = longest

    def __missing__(self, text: str) -> V:
        value = self._read(text)
        if len(text) <= self._longest:
            if len(self) >= self._entries:
                self.clear()
            self[text] = value
        return value
