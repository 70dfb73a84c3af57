"""RFC 5424 in bulk: lines of the usual form, of which most parts have been seen before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from operator import not_
from typing import Any, Generic

from eventserver.decoders._memo import Memo
from eventserver.decoders._rfc5424 import header_fields, whole_structured_data
from eventserver.decoders._severity import MAX_PRIORITY, priority_fields
from eventserver.decoders._syslog_columns import Columns, D, H, Makes, Row, T, put, rows_of
from eventserver.decoders._timestamps import read_stamp, read_stamps

#: The word that a line begins with that is most likely RFC 5424, and the fields that it gives.
_VERSION_1 = {b"<%d>1" % priority: priority_fields(priority) for priority in range(MAX_PRIORITY + 1)}
#: What stands for a line that is no RFC 5424, so that there are columns at all.
_FILLER = b"<13>1 1970-01-01T00:00:00Z - - - - - ".split(b" ", 6)
_BOM = "\ufeff".encode()
#: If more than this part of the heads of a batch are new, whole heads are not looked up in that many batches.
_NEW, _PAUSE = 0.25, 16


def is_rfc5424(line: bytes) -> bool:
    """Whether a line begins as RFC 5424 usually does."""
    return line.partition(b" ")[0] in _VERSION_1


class Rfc5424Lines(Generic[T, H, D]):
    """Reads lines `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID`, `-` or structured data, and the message."""

    def __init__(self, makes: Makes[T, H, D]) -> None:
        self._makes = makes
        self._heads = Memo(self._head)
        self._data = Memo(self._structured_data, entries=1024, longest=1024)
        self._whole = Memo(self._whole_head, longest=512)
        self._pause = 0

    def in_bulk(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """The columns of some lines, and the rows of those that take the full grammar: their parts mean nothing.

        Where structured data repeats, header and data can be looked up as one, which is quicker; where it does not,
        that is not tried again for a while.
        """
        if self._pause or b" [" not in lines[0]:
            self._pause = max(0, self._pause - 1)
            columns, others = self._by_parts(lines)
        else:
            reads = self._whole.reads
            columns, others = self._by_whole_heads(lines)
            if self._whole.reads - reads + len(others) > _NEW * len(lines):
                self._pause = _PAUSE
        for row in sorted(others):
            found = self.one(lines[row]) if is_rfc5424(lines[row]) else None
            if found is not None:
                others.discard(row)
                put(columns, row, found)
        return columns, others

    def one(self, line: bytes) -> Row[T, H, D] | None:
        """The parts of one line; None if it takes the full grammar. The message may be missing."""
        words = line.split(b" ", 6)
        if len(words) != 7 or (time := read_stamp(words.pop(1))) is None:
            return None
        rest = words.pop()
        text, space, message = rest.partition(b" " if rest[:1] == b"-" else b"] ")
        if not space and text != b"-":
            # "[...]" and no message. What is left has to be as above: without the last bracket.
            text = text.removesuffix(b"]") if text.endswith(b"]") else b""
        head, data = self._heads[b" ".join(words)], self._data[text]
        if head is None or data is None:
            return None
        return self._makes.time(time), head, data, message.removeprefix(_BOM)

    def _by_whole_heads(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """Lines with structured data: what lies before its end, but for the time stamp, is looked up as one."""
        fronts, spaces, messages = map(list, zip(*[line.partition(b"] ") for line in lines], strict=True))
        words = [front.split(b" ", 2) for front in fronts]
        others = rows_of(len(found) != 3 for found in words) if set(map(len, words)) != {3} else []
        for row in others:
            words[row] = _FILLER[:3]
        stamps = [found.pop(1) for found in words]
        heads: list[Any] = list(map(self._whole.__getitem__, map(b" ".join, words)))
        if not (all(heads) and all(spaces)):
            others += rows_of(map(not_, spaces))
            others += (unknown := rows_of(map(not_, heads)))
            for row in unknown:
                stamps[row] = _FILLER[1]
        times = self._times(stamps, others)
        return (times, heads, [self._makes.nil] * len(lines), _without_boms(messages)), set(others)

    def _by_parts(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """Any lines: header and structured data are looked up."""
        words = [line.split(b" ", 6) for line in lines]
        others = rows_of(len(found) != 7 for found in words) if set(map(len, words)) != {7} else []
        for row in others:
            words[row] = _FILLER.copy()
        stamps = [found.pop(1) for found in words]
        rests = [found.pop() for found in words]
        heads: list[Any] = list(map(self._heads.__getitem__, map(b" ".join, words)))
        # Lists that are kept until more are made cost a collection of garbage.
        del words
        if not all(heads):
            others += (unknown := rows_of(map(not_, heads)))
            for row in unknown:
                stamps[row], rests[row] = _FILLER[1], b"- "
        times = self._times(stamps, others)
        # The first "] " may lie inside a value: what stands before it is then no structured data.
        texts, spaces, messages = map(
            list, zip(*[rest.partition(b" " if rest[:1] == b"-" else b"] ") for rest in rests], strict=True)
        )
        data: list[Any] = list(map(self._data.__getitem__, texts))
        if not (all(data) and all(spaces)):
            others += rows_of(map(not_, data))
            others += rows_of(map(not_, spaces))
        return (times, heads, data, _without_boms(messages)), set(others)

    def _times(self, stamps: Sequence[bytes], others: list[int]) -> list[T]:
        """What is made of the times; the rows that have none are added to `others`."""
        times: list[Any] = read_stamps(stamps)
        if not all(times):
            others += (unknown := rows_of(map(not_, times)))
            for row in unknown:
                times[row] = dt.datetime.min
        return self._makes.times(times)

    def _whole_head(self, text: bytes) -> H | None:
        """The fields of a header and structured data whose last `]` was cut off; None if it is no such thing."""
        header, _, data = text.partition(b" [")
        head, made = self._heads[header], self._data[b"[" + data]
        return None if head is None or made is None else self._makes.whole(head, made)

    def _head(self, text: bytes) -> H | None:
        """The fields of `<PRI>1 HOSTNAME APP-NAME PROCID MSGID`; None if it is no such thing."""
        version, _, names = text.partition(b" ")
        if version not in _VERSION_1:
            return None
        words = names.decode().split(" ")
        if len(words) != 4 or "" in words:
            return None
        return self._makes.head(header_fields(_VERSION_1[version].copy(), *words))

    def _structured_data(self, text: bytes) -> D | None:
        """The structured data whose last `]` was cut off, or `-`; None if it is none."""
        if text == b"-":
            return self._makes.nil
        data = whole_structured_data(f"{text.decode()}]")
        return None if data is None else self._makes.data(data)


def _without_boms(messages: list[bytes]) -> list[bytes]:
    """The messages without the byte order mark that says that they are UTF-8 (section 6.4)."""
    if b"".join(messages).isascii():
        return messages
    return [message.removeprefix(_BOM) for message in messages]
