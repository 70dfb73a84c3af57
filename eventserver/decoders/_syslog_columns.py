"""Lines of syslog as columns: all times, all heads, all messages of a batch. What the two formats share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import compress, count
from typing import Any, Protocol, TypeAlias, TypeVar

from eventserver.decoders._rfc5424 import StructuredData

#: What is made of a time, of the fields but for structured data, and of structured data. None of it is false.
T = TypeVar("T")
H = TypeVar("H")
D = TypeVar("D")

#: The parts of some lines, a list each, in the order of the lines; the last are the messages. Heads and data are shared
#: between lines.
Columns: TypeAlias = tuple[list[T], list[H], list[D], list[bytes]]
#: The parts of one line.
Row: TypeAlias = tuple[T, H, D, bytes]


class Makes(Protocol[T, H, D]):
    """What is made of the parts of a line: what the columns hold, and what is remembered."""

    #: Where there is no structured data, or where it is in the head.
    nil: D

    def times(self, times: list[dt.datetime]) -> list[T]:
        """Of some times."""

    def time(self, time: dt.datetime) -> T:
        """Of one time."""

    def head(self, fields: dict[str, Any]) -> H:
        """Of the fields but for structured data, or of all of them."""

    def data(self, data: StructuredData) -> D:
        """Of structured data."""

    def whole(self, head: H, data: D) -> H:
        """The head of all the fields, structured data among them."""


def put(columns: Columns[T, H, D], row: int, parts: Row[T, H, D]) -> None:
    """Put the parts of a line into its row."""
    times, heads, data, messages = columns
    times[row], heads[row], data[row], messages[row] = parts


def rows_of(chosen: Iterable[object]) -> list[int]:
    """The numbers of the rows for which something is true."""
    return list(compress(count(), chosen))
