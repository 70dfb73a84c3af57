"""RFC 3164 in bulk: lines of the usual form, of which most parts have been seen before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import repeat
from operator import not_
from typing import Any, Generic

from eventserver.decoders._memo import Memo
from eventserver.decoders._syslog_columns import Columns, D, H, Makes, Row, T, put, rows_of
from eventserver.decoders._syslog_grammar import read_line
from eventserver.decoders._timestamps import ISO_STAMP, YearRule, read_stamp, read_stamps

#: Where Cisco's mnemonic may stand behind a tag: it is no part of the message then.
_MNEMONIC_STARTS = (b"%", b":")


class Rfc3164Lines(Generic[T, H, D]):
    """Reads lines that have a front, with priority, time stamp and tag, and a message behind a colon and a space."""

    def __init__(self, rule: YearRule, makes: Makes[T, H, D]) -> None:
        self._rule = rule
        self._makes = makes
        self._fronts = Memo(self._front)
        self._times = Memo(self._time)
        self._heads = Memo(self._head)

    def begin(self, day: dt.date) -> None:
        """Times without a year depend on the day they are read on, so they are remembered for that day only."""
        self._rule.begin(day)
        self._times.forget()
        self._fronts.forget()

    def in_bulk(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """The columns of some lines, and the rows of those that take the full grammar: their parts mean nothing."""
        stamp = lines[0].partition(b" ")[0].partition(b">")[2]
        if b"." not in stamp or not ISO_STAMP.fullmatch(stamp):
            return self._by_fronts(lines)
        columns, others = self._by_stamps(lines)
        for row in sorted(others):
            found = self.one(lines[row])
            if found is not None:
                others.discard(row)
                put(columns, row, found)
        return columns, others

    def one(self, line: bytes) -> Row[T, H, D] | None:
        """The parts of one line; None if it takes the full grammar."""
        front, colon, message = line.partition(b": ")
        if not colon or message[:1] in _MNEMONIC_STARTS or (known := self._fronts[front]) is None:
            return None
        return *known, self._makes.nil, message

    def _by_fronts(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """Lines whose fronts come several times: their time stamps have no fractions of a second."""
        fronts, colons, messages = map(list, zip(*[line.partition(b": ") for line in lines], strict=True))
        found: list[Any] = list(map(self._fronts.__getitem__, fronts))
        mnemonics = list(map(bytes.startswith, messages, repeat(_MNEMONIC_STARTS)))
        others: set[int] = set()
        if not (all(found) and all(colons)) or any(mnemonics):
            others.update(unknown := rows_of(map(not_, found)), rows_of(map(not_, colons)), rows_of(mnemonics))
            for row in unknown:
                found[row] = (None, None)
        times, heads = map(list, zip(*found, strict=True))
        return (times, heads, [self._makes.nil] * len(lines), messages), others

    def _by_stamps(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """Lines with ISO 8601 and fractions of a second."""
        fronts, colons, messages = map(list, zip(*[line.partition(b": ") for line in lines], strict=True))
        starts, _, names = zip(*[front.partition(b" ") for front in fronts], strict=True)
        priorities, _, stamps = zip(*[start.partition(b">") for start in starts], strict=True)
        heads: list[Any] = list(map(self._heads.__getitem__, map(b">".join, zip(priorities, names, strict=True))))
        times: list[Any] = read_stamps(stamps, strict=True)
        mnemonics = list(map(bytes.startswith, messages, repeat(_MNEMONIC_STARTS)))
        others: set[int] = set()
        if not (all(heads) and all(times) and all(colons)) or any(mnemonics):
            others.update(*[rows_of(map(not_, column)) for column in (heads, times, colons)], rows_of(mnemonics))
            times = [time or dt.datetime.min for time in times]
        return (self._makes.times(times), heads, [self._makes.nil] * len(lines), messages), others

    def _front(self, front: bytes) -> tuple[T, H] | None:
        """The time and the fields of `<PRI>Nov 22 10:00:00 host tag`, or without host; None for anything else."""
        behind = front.find(b">", 2, 5) + 1
        if not behind:
            return None
        if front[behind + 15 : behind + 16] == b" ":
            time = self._times[front[behind : behind + 15]]
            names = front[behind + 16 :]
        else:
            stamp, _, names = front[behind:].partition(b" ")
            time = read_stamp(stamp) if ISO_STAMP.fullmatch(stamp) else None
        if time is None or (head := self._heads[front[:behind] + names]) is None:
            return None
        return self._makes.time(time), head

    def _time(self, stamp: bytes) -> dt.datetime | None:
        """The time of `Nov 22 10:00:00`; None if it is none."""
        parsed = read_line(f"<13>{stamp.decode(errors='replace')} host tag: x", self._rule)
        return parsed.time if parsed.error is None and parsed.fields.get("hostname") == "host" else None

    def _head(self, text: bytes) -> H | None:
        """The fields of `<PRI>host tag` or `<PRI>tag`; None where the full grammar, which is asked, reads other things.

        It must have found a tag, so that it looks no further, and taken no word for a part of the time stamp.
        """
        priority, _, names = text.decode().partition(">")
        if not priority.startswith("<") or names.count(" ") > 1:
            return None
        parsed = read_line(f"{priority}>Nov 22 10:00:00 {names}: x", self._rule)
        fields = parsed.fields
        if parsed.error is not None or parsed.message != "x" or not fields.keys() & {"app_name", "msgid"}:
            return None
        hostname, space, _ = names.partition(" ")
        return None if space and fields.get("hostname", "-") != hostname else self._makes.head(fields)
