"""Syslog lines read column by column: all times, all heads, all messages of a batch.

Almost every line of a stream has the usual form of RFC 5424 or of RFC 3164, and most of it has been seen before. So the
lines of a batch are cut with one comprehension a part, and what repeats is looked up as bytes: a header, structured
data, the front of an RFC 3164 line up to its message. A line of another form is read by itself, in the end with the
full grammar, and its parts are put into the same columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress, count, repeat
from operator import itemgetter, not_
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from eventserver.decoders._memo import Memo
from eventserver.decoders._rfc5424 import StructuredData, header_fields, whole_structured_data
from eventserver.decoders._severity import MAX_PRIORITY, priority_fields
from eventserver.decoders._syslog_grammar import read_line
from eventserver.decoders._timestamps import ISO_STAMP, YearRule, read_stamp, read_stamps

#: What is made of a time, of the fields but for structured data, and of structured data. None of it is false.
T = TypeVar("T")
H = TypeVar("H")
D = TypeVar("D")
_H = TypeVar("_H", covariant=True)

#: The parts of some lines, a list each, in the order of the lines; the last are the messages. Heads and data are shared
#: between lines.
Columns: TypeAlias = tuple[list[T], list[H], list[D], list[bytes]]

#: The word that a line begins with that is most likely RFC 5424, and the fields that it gives.
_VERSION_1 = {b"<%d>1" % priority: priority_fields(priority) for priority in range(MAX_PRIORITY + 1)}
#: What stands for a line that is no RFC 5424, so that there are columns at all.
_FILLER = b"<13>1 1970-01-01T00:00:00Z - - - - - ".split(b" ", 6)
_BOM = "\ufeff".encode()
#: Where Cisco's mnemonic may stand behind a tag.
_MNEMONIC_STARTS = (b"%", b":")
#: Fewer lines than these are read one by one, which costs less.
_FEW = 5
#: From this part of the lines on it pays to sort them first.
_FEW_OF = 0.2
#: Any time of RFC 3164.
_STAMP = b"Nov 22 10:00:00"


class Makes(Protocol[T, _H, D]):
    """What is made of the parts of a line: what the columns hold, and what is remembered."""

    #: Where there is no structured data.
    nil: D

    def times(self, times: list[dt.datetime]) -> list[T]:
        """Of some times."""

    def time(self, time: dt.datetime) -> T:
        """Of one time."""

    def head(self, fields: dict[str, Any]) -> _H:
        """Of the fields but for structured data; of all of them, where a line took the full grammar."""

    def data(self, data: StructuredData) -> D:
        """Of structured data."""


class SyslogReader(Generic[T, H, D]):
    """Takes lines apart, which are UTF-8 without LF, CR and NUL at their ends."""

    def __init__(self, rule: YearRule, makes: Makes[T, H, D]) -> None:
        self._rule = rule
        self._makes = makes
        self._day: dt.date | None = None
        self._mixed = False  # the lines of the latest batch did not all have one form
        self._heads = Memo(self._head)
        self._data = Memo(self._structured_data, entries=1024, longest=1024)
        self._fronts = Memo(self._front)
        self._bsd_times = Memo(self._bsd_time)
        self._bsd_heads = Memo(self._bsd_head)

    def read(self, lines: Sequence[bytes], received: dt.datetime) -> tuple[Columns[T, H, D], list[int]]:
        """The columns of at least one line, and the rows of those in which something was wrong."""
        self._begin(received.date())
        form = None
        others: Iterable[int]
        if len(lines) < _FEW:
            blank: list[Any] = [None] * len(lines)
            columns: Columns[T, H, D] = blank, blank.copy(), blank.copy(), blank.copy()
            others = range(len(lines))
        elif self._mixed:
            columns, others = self._by_kind(lines)
        else:
            form = self._form_of(lines[0])
            columns, others = form(lines)
            foreign = [row for row in others if _is_rfc5424(lines[row]) != (form == self._rfc5424)]
            self._mixed = len(foreign) > _FEW_OF * len(lines)
        times, heads, data, messages = columns
        broken: list[int] = []
        for row in others:
            line = lines[row]
            found = None
            if _is_rfc5424(line):
                found = self._one_rfc5424(line)
            elif form != self._rfc3164:
                found = self._one_rfc3164(line)
            if found is None:
                time, message, fields, error = read_line(line.decode(), self._rule)
                if error is not None:
                    fields["error"] = error
                    broken.append(row)
                found = self._makes.time(time or received), self._makes.head(fields), self._makes.nil, message.encode()
            times[row], heads[row], data[row], messages[row] = found
        return columns, broken

    def _begin(self, day: dt.date) -> None:
        """Times without a year depend on the day they are read on, so they are remembered for that day only."""
        if day != self._day:
            self._day = day
            self._rule.begin(day)
            self._bsd_times.forget()
            self._fronts.forget()

    def _form_of(self, line: bytes) -> Callable[[Sequence[bytes]], tuple[Columns[T, H, D], set[int]]]:
        """What reads lines such as this in bulk."""
        word = line.partition(b" ")[0]
        if word in _VERSION_1:
            return self._rfc5424
        stamp = word.partition(b">")[2]
        return self._rfc3164_new if b"." in stamp and ISO_STAMP.fullmatch(stamp) else self._rfc3164

    def _by_kind(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """As the forms below, where the lines have not all the same: RFC 5424 and the rest, each in bulk."""
        kinds = list(map(_is_rfc5424, lines))
        self._mixed = len(set(kinds)) > 1
        if not self._mixed:
            return self._form_of(lines[0])(lines)
        groups = _rows(kinds), _rows(map(not_, kinds))
        columns: tuple[list[Any], list[Any], list[Any], list[Any]] = [], [], [], []
        others: set[int] = set()
        for rows in groups:
            found, odd = self._form_of(lines[rows[0]])([lines[row] for row in rows])
            others.update(rows[index] for index in odd)
            for column, parts in zip(columns, cast("tuple[list[Any], ...]", found), strict=True):
                column += parts
        # Back into the order of the lines.
        places = [0] * len(lines)
        for place, row in enumerate(chain(*groups)):
            places[row] = place
        for column in columns:
            column[:] = itemgetter(*places)(column)
        return columns, others

    def _rfc5424(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """`<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID`, `-` or structured data, and the message behind a space.

        The second value, here and below: the rows of the lines that do not have this form. Their parts mean nothing.
        """
        others: set[int] = set()
        words = [line.split(b" ", 6) for line in lines]
        if set(map(len, words)) != {7}:
            others.update(_rows(len(found) != 7 for found in words))
            for row in others:
                words[row] = _FILLER.copy()
        stamps = [found.pop(1) for found in words]
        rests = [found.pop() for found in words]
        heads: list[Any] = list(map(self._heads.__getitem__, map(b" ".join, words)))
        # Lists that are kept until more are made cost a collection of garbage.
        del words
        if not all(heads):
            others.update(unknown := _rows(map(not_, heads)))
            for row in unknown:
                stamps[row], rests[row] = _FILLER[1], b"- "
        times: list[Any] = read_stamps(stamps)
        if not all(times):
            others.update(unknown := _rows(map(not_, times)))
            for row in unknown:
                times[row] = dt.datetime.min
        # The first "] " may lie inside a value: what stands before it is then no structured data.
        texts, spaces, messages = map(
            list,
            zip(*[rest.partition(b" " if rest[:1] == b"-" else b"] ") for rest in rests], strict=True),
        )
        data: list[Any] = list(map(self._data.__getitem__, texts))
        if not (all(data) and all(spaces)):
            others.update(_rows(map(not_, data)), _rows(map(not_, spaces)))
        if not b"".join(messages).isascii():
            messages = [message.removeprefix(_BOM) for message in messages]
        return (self._makes.times(times), heads, data, messages), others

    def _rfc3164(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """A front with priority, time stamp and tag, and the message behind a colon and a space."""
        others: set[int] = set()
        fronts, colons, messages = map(list, zip(*[line.partition(b": ") for line in lines], strict=True))
        found: list[Any] = list(map(self._fronts.__getitem__, fronts))
        mnemonics = list(map(bytes.startswith, messages, repeat(_MNEMONIC_STARTS)))
        if not (all(found) and all(colons)) or any(mnemonics):
            others.update(unknown := _rows(map(not_, found)), _rows(map(not_, colons)), _rows(mnemonics))
            for row in unknown:
                found[row] = (None, None)
        times, heads = map(list, zip(*found, strict=True))
        return (times, heads, [self._makes.nil] * len(lines), messages), others

    def _rfc3164_new(self, lines: Sequence[bytes]) -> tuple[Columns[T, H, D], set[int]]:
        """As above, where the fronts are hardly ever known: the time stamps have fractions of a second."""
        fronts, colons, messages = map(list, zip(*[line.partition(b": ") for line in lines], strict=True))
        starts, _, names = zip(*[front.partition(b" ") for front in fronts], strict=True)
        priorities, _, stamps = zip(*[start.partition(b">") for start in starts], strict=True)
        heads: list[Any] = list(map(self._bsd_heads.__getitem__, map(b">".join, zip(priorities, names, strict=True))))
        times: list[Any] = read_stamps(stamps, strict=True)
        mnemonics = list(map(bytes.startswith, messages, repeat(_MNEMONIC_STARTS)))
        others: set[int] = set()
        if not (all(heads) and all(times) and all(colons)) or any(mnemonics):
            others.update(*[_rows(map(not_, column)) for column in (heads, times, colons)], _rows(mnemonics))
            times = [time or dt.datetime.min for time in times]
        return (self._makes.times(times), heads, [self._makes.nil] * len(lines), messages), others

    def _one_rfc5424(self, line: bytes) -> tuple[T, H, D, bytes] | None:
        """The parts of one line; None if it takes the full grammar. The message may be missing."""
        words = line.split(b" ", 6)
        if len(words) != 7 or (time := read_stamp(words.pop(1))) is None:
            return None
        rest = words.pop()
        text, space, message = rest.partition(b" " if rest[:1] == b"-" else b"] ")
        if not space and text != b"-":
            # "[...]" and no message. What is left has to be as above: without the last bracket.
            text = text.removesuffix(b"]") if rest[:1] == b"[" and text.endswith(b"]") else b""
        head, data = self._heads[b" ".join(words)], self._data[text]
        if head is None or data is None:
            return None
        return self._makes.time(time), head, data, message.removeprefix(_BOM)

    def _one_rfc3164(self, line: bytes) -> tuple[T, H, D, bytes] | None:
        """As above."""
        front, colon, message = line.partition(b": ")
        if not colon or message[:1] in _MNEMONIC_STARTS or (known := self._fronts[front]) is None:
            return None
        return *known, self._makes.nil, message

    def _head(self, text: bytes) -> H | None:
        """The fields of `<PRI>1 HOSTNAME APP-NAME PROCID MSGID`; None if it is no such thing."""
        version, _, names = text.partition(b" ")
        if version not in _VERSION_1:
            return None
        words = names.decode().split(" ")
        return None if "" in words else self._makes.head(header_fields(_VERSION_1[version].copy(), *words))

    def _structured_data(self, text: bytes) -> D | None:
        """The structured data whose last `]` was cut off, or `-`; None if it is none."""
        if text == b"-":
            return self._makes.nil
        data = whole_structured_data(f"{text.decode()}]")
        return None if data is None else self._makes.data(data)

    def _front(self, front: bytes) -> tuple[T, H] | None:
        """The time and the fields of `<PRI>Nov 22 10:00:00 host tag`, or without host; None for anything else."""
        behind = front.find(b">", 2, 5) + 1
        if not behind:
            return None
        if front[behind + 15 : behind + 16] == b" ":
            time = self._bsd_times[front[behind : behind + 15]]
            names = front[behind + 16 :]
        else:
            stamp, _, names = front[behind:].partition(b" ")
            time = read_stamp(stamp) if ISO_STAMP.fullmatch(stamp) else None
        if time is None or (head := self._bsd_heads[front[:behind] + names]) is None:
            return None
        return self._makes.time(time), head

    def _bsd_time(self, stamp: bytes) -> dt.datetime | None:
        """The time of `Nov 22 10:00:00`; None if it is none."""
        parsed = read_line(f"<13>{stamp.decode(errors='replace')} host tag: x", self._rule)
        return parsed.time if parsed.error is None and parsed.fields.get("hostname") == "host" else None

    def _bsd_head(self, text: bytes) -> H | None:
        """The fields of `<PRI>host tag` or `<PRI>tag`; None where the full grammar, which is asked, reads other things.

        It must have found a tag, so that it looks no further, and taken no word for a part of the time stamp: neither
        behind a time of RFC 3164, which a zone may follow, nor behind one of ISO 8601.
        """
        priority, _, names = text.decode().partition(">")
        if not priority.startswith("<") or names.count(" ") > 1:
            return None
        parsed = read_line(f"{priority}>{_STAMP.decode()} {names}: x", self._rule)
        fields = parsed.fields
        if parsed.error is not None or parsed.message != "x" or not fields.keys() & {"app_name", "msgid"}:
            return None
        again = read_line(f"{priority}>2026-11-22T10:00:00Z {names}: x", self._rule)
        if parsed.time != self._bsd_times[_STAMP] or (again.message, again.fields) != ("x", fields):
            return None
        hostname, space, _ = names.partition(" ")
        return None if space and fields.get("hostname", "-") != hostname else self._makes.head(fields)


def _is_rfc5424(line: bytes) -> bool:
    return line.partition(b" ")[0] in _VERSION_1


def _rows(chosen: Iterable[object]) -> list[int]:
    """The numbers of the rows for which something is true."""
    return list(compress(count(), chosen))
