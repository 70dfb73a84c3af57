"""Syslog lines read column by column: all times, all heads, all messages of a batch.

Almost every line of a stream has the usual form of RFC 5424 or of RFC 3164, and most of it has been seen before. So the
lines of a batch are cut with one comprehension a part, and what repeats is looked up as bytes: a header, structured
data, the front of an RFC 3164 line up to its message. A line of another form is read by itself, in the end with the
full grammar, and its parts are put into the same columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from itertools import chain
from operator import itemgetter, not_
from typing import Any, Generic, cast

from eventserver.decoders._rfc3164_lines import Rfc3164Lines
from eventserver.decoders._rfc5424_lines import Rfc5424Lines, is_rfc5424
from eventserver.decoders._syslog_columns import Columns, D, H, Makes, T, put, rows_of
from eventserver.decoders._syslog_grammar import read_line
from eventserver.decoders._timestamps import YearRule

#: Fewer lines than these are read one by one, which costs less.
_FEW = 5
#: If more than this part of the lines is of the other format, they are sorted before they are read.
_MIXED = 0.2


class SyslogReader(Generic[T, H, D]):
    """Takes lines apart, which are UTF-8 without LF, CR and NUL at their ends."""

    def __init__(self, rule: YearRule, makes: Makes[T, H, D]) -> None:
        self._rule = rule
        self._makes = makes
        self._day: dt.date | None = None
        self._rfc5424 = Rfc5424Lines(makes)
        self._rfc3164 = Rfc3164Lines(rule, makes)
        self._mixed = False  # the lines of the latest batch were of both

    def read(self, lines: Sequence[bytes], received: dt.datetime) -> tuple[Columns[T, H, D], list[int]]:
        """The columns of at least one line, and the rows of those in which something was wrong."""
        if received.date() != self._day:
            self._day = received.date()
            self._rfc3164.begin(self._day)
        if len(lines) < _FEW:
            columns, others = self._one_by_one(lines)
        elif self._mixed:
            columns, others = self._sorted(lines)
        else:
            columns, others = self._as_the_first(lines)
        broken: list[int] = []
        for row in others:
            time, message, fields, error = read_line(lines[row].decode(), self._rule)
            if error is not None:
                fields["error"] = error
                broken.append(row)
            makes = self._makes
            put(columns, row, (makes.time(time or received), makes.head(fields), makes.nil, message.encode()))
        return columns, broken

    def _form(self, new: bool) -> Rfc5424Lines[T, H, D] | Rfc3164Lines[T, H, D]:
        return self._rfc5424 if new else self._rfc3164

    def _one_by_one(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], Collection[int]]:
        """The columns of a few lines, and the rows of those that take the full grammar; so do the others here."""
        blank: list[Any] = [None] * len(lines)
        columns: Columns[T, H, D] = blank, blank.copy(), blank.copy(), blank.copy()
        return columns, self._retry(lines, columns, range(len(lines)))

    def _retry(self, lines: Sequence[bytes], columns: Columns[T, H, D], rows: Collection[int]) -> list[int]:
        """Put the parts of single lines into their rows. Returns the rows of those that take the full grammar."""
        others = []
        for row in rows:
            line = lines[row]
            found = self._form(is_rfc5424(line)).one(line)
            if found is None:
                others.append(row)
            else:
                put(columns, row, found)
        return others

    def _as_the_first(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], Collection[int]]:
        """Lines that are probably all of the format that the first is of."""
        new = is_rfc5424(lines[0])
        columns, others = self._form(new).in_bulk(lines)
        if not others:
            return columns, others
        foreign = [row for row in others if is_rfc5424(lines[row]) != new]
        self._mixed = len(foreign) > _MIXED * len(lines)
        return columns, [*others.difference(foreign), *self._retry(lines, columns, foreign)]

    def _sorted(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], Collection[int]]:
        """Lines of both formats."""
        kinds = list(map(is_rfc5424, lines))
        groups = rows_of(kinds), rows_of(map(not_, kinds))
        if not all(groups):
            self._mixed = False
            return self._as_the_first(lines)
        columns: tuple[list[Any], list[Any], list[Any], list[Any]] = [], [], [], []
        others: list[int] = []
        for new, rows in zip((True, False), groups, strict=True):
            found, odd = self._form(new).in_bulk([lines[row] for row in rows])
            others += [rows[index] for index in odd]
            for column, parts in zip(columns, cast("tuple[list[Any], ...]", found), strict=True):
                column += parts
        # Back into the order of the lines.
        places = [0] * len(lines)
        for place, row in enumerate(chain(*groups)):
            places[row] = place
        for column in columns:
            column[:] = itemgetter(*places)(column)
        return columns, others
