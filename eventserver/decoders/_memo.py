"""A bounded memory for what repeats in a stream: headers, structured data, time stamps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")


class Memo(dict[bytes, V | None]):
    """`memo[text]` is `read(text)`, remembered; a hit costs what a dictionary's does.

    It holds at most twice `entries` texts of at most `longest` bytes each, whatever peers send. They are of two
    generations: when the younger is full it becomes the older one, and what is asked for again becomes young again. So
    what comes often stays, however much comes only once. `read` must not raise; None, for what it cannot read, is not
    remembered. What it returns is shared by all who ask.
    """

    def __init__(self, read: Callable[[bytes], V | None], entries: int = 4096, longest: int = 256) -> None:
        super().__init__()
        self._read = read
        self._entries = entries
        self._longest = longest
        self._older: dict[bytes, V | None] = {}
        #: How many texts were read, those that were forgotten again included.
        self.reads = 0

    def __missing__(self, text: bytes) -> V | None:
        value = self._older.get(text)
        if value is None:
            self.reads += 1
            value = self._read(text)
            if value is None or len(text) > self._longest:
                return value
        if len(self) >= self._entries:
            self._older = dict(self)
            self.clear()
        self[text] = value
        return value

    @property
    def held(self) -> int:
        """How many texts it holds; one that is of both generations counts twice."""
        return len(self) + len(self._older)

    def forget(self) -> None:
        """Forget everything."""
        self.clear()
        self._older = {}
