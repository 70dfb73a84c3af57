"""Lines of syslog in bulk: the usual forms are read as the full grammar reads them, and written as the encoder does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.decoders._syslog_grammar import read_line
from eventserver.decoders._syslog_json import MakesJson
from eventserver.decoders._syslog_reader import SyslogReader
from eventserver.decoders._timestamps import UTC, YearRule
from eventserver.decoders.syslog import SyslogDecoder, SyslogOptions
from eventserver.event import Batch
from eventserver.testing.decoders import RECEIVED, batch, check_json_lines

PRIORITIES = ["<13>", "<165>", "<0>", "<191>", "<192>", "<013>", "<>", "<1", ""]
STAMPS = [
    "2026-11-22T10:00:00.123456Z",
    "2026-11-22T10:00:00Z",
    "2026-11-22T10:00:00.000000Z",
    "2026-11-22T10:00:00.5Z",
    "2026-11-22T10:00:00.123456789Z",
    "2026-11-22T10:00:00.123456+01:00",
    "2026-11-22T10:00:00+00:00",
    "2026-11-22T10:00:00-03:30",
    "2026-11-22T10:00:00.123456",
    "2026-11-22t10:00:00z",
    "2026-11-22 10:00:00Z",
    "2026-11-22T10:00Z",
    "2026-11-22T10Z",
    "2026-11-22T10:00:00,5Z",
    "2026-11-22T10:00:00.1234567891Z",
    "2026-11-22T10:00:00+01:00:30",
    "20261122T100000Z",
    "2026-W47-7T10:00:00Z",
    "2026-11-31T10:00:00Z",
    "2016-12-31T23:59:60Z",
    "0001-01-01T00:00:00+01:00",
    '2026-11-22T10:00:00Z","2026-11-22T10:00:00Z',
    '"',
    "-",
    "Nov 22 10:00:00",
    "Nov  2 10:00:00",
    "Nov 2 10:00:00",
    "Nov 31 10:00:00",
    "Nov 22 10:00:00.5",
    "Nov 22 2026 10:00:00",
    "*Nov 22 10:00:00",
    "Nov 2 1:00:00 h",
    "",
]
NAMES = ["host", "-", "h\u00fc", '"', "\\", "\x7f", "\x01", "2001:db8::7", "2025", "UTC", "+0100", "CET", ""]
DATA = [
    "-",
    "- ",
    '[a b="c"]',
    '[a b="c"][d e="f" e="g"]',
    r'[a b="\"\\\]"]',
    '[a b="] c"]',
    '[a b="]"]',
    '[a b="c"]x',
    '[a b="c"] x',
    '[a b="c"',
    '[ex@32473 iut="3"',
    "[a]",
    "[]",
    '[a b="\u00fc\x7f"]',
    "-x",
    "",
]
TAGS = ["app:", "app[12]:", "app[]:", "a[1]:b:", "%ASA-6-302013:", "-:", ":", "a]:", "a:b:", "no tag:", "word", '"[1]:']
MESSAGES = ["text", "", " ", 'a "quoted" \\ text', "x: y", "%SYS-5-X: y", ": %SYS-5-X: y", "\ufeffmarked", "\u00fc"]
MESSAGES += ["\U0001f600", "a\nb", "\x7f", "\x00\x1b\t", "[1]: z", "] ", "- "]

_priorities, _stamps, _names = st.sampled_from(PRIORITIES), st.sampled_from(STAMPS), st.sampled_from(NAMES)
_data, _tags, _messages = st.sampled_from(DATA), st.sampled_from(TAGS), st.sampled_from(MESSAGES)
_lines = st.one_of(
    st.tuples(st.sampled_from(["<13>1", "<165>1"]), _stamps, _names, _names, _names, _names, _data, _messages),
    st.tuples(st.sampled_from(["<13>1", "<165>1"]), _stamps, _names, _names, _names, _names, _data),
    st.tuples(_priorities.map(lambda priority: f"{priority}1"), _stamps, _names, _names, _names, _messages),
    st.tuples(st.builds("{}{}".format, _priorities, _stamps), _names, _tags, _messages),
    st.tuples(st.builds("{}{}".format, _priorities, _stamps), _tags, _messages),
    st.tuples(_priorities, _messages),
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=30)),
).map(" ".join)

USUAL = b'<165>1 2026-11-22T10:00:00.123456Z host app 12 ID47 [ex@32473 iut="3"] text %d'
NIL = b"<165>1 2026-11-22T10:00:00.123456Z host app 12 - - text %d"
BSD = b"<34>Nov 22 10:00:00 host app[12]: text %d"
ISO = b"<86>2026-11-22T10:00:00.%06d+01:00 host app[12]: text"


class AsRead:
    """The parts of lines as they are."""

    nil = ("nil",)

    def times(self, times: list[dt.datetime]) -> list[dt.datetime]:
        return times

    def time(self, time: dt.datetime) -> dt.datetime:
        return time

    def head(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    def data(self, data: Any) -> Any:
        return data

    def whole(self, head: dict[str, Any], data: Any) -> dict[str, Any]:
        return {**head, "structured_data": data}


class Checked:
    """A reader whose results are compared with the grammar's."""

    def __init__(self) -> None:
        self.reader = SyslogReader(YearRule("auto", UTC), AsRead())
        self.rule = YearRule("auto", UTC)
        self.rule.begin(RECEIVED.date())

    def check(self, lines: list[bytes]) -> None:
        """The lines are read, and every part of every line is as the full grammar reads it."""
        (times, heads, data, messages), broken = self.reader.read(lines, RECEIVED)
        for row, line in enumerate(lines):
            time, message, fields, error = read_line(line.decode(), self.rule)
            if error is not None:
                fields["error"] = error
            found = heads[row] if data[row] == AsRead.nil else {**heads[row], "structured_data": data[row]}
            assert (times[row], list(found.items())) == (time or RECEIVED, list(fields.items())), line
            assert (times[row].tzinfo, messages[row].decode()) == (UTC, message), line
            assert (row in broken) is (error is not None), line


def odd_lines() -> Iterator[str]:
    """Lines that have one or two odd parts."""
    for stamp in STAMPS:
        yield f"<13>1 {stamp} h a p m - x"
        yield from (f"{priority}{stamp} {tag} x" for tag in TAGS for priority in PRIORITIES)
        yield from (f"{priority}{stamp} host {tag} x" for tag in TAGS for priority in PRIORITIES)
        yield f"<13>{stamp} host foo tag: x"
    for name in NAMES:
        for place in range(4):
            names = ["h", "a", "p", "m"]
            names[place] = name
            yield f"<13>1 2026-11-22T10:00:00Z {' '.join(names)} - x"
        yield from (f"<13>Nov 22 10:00:00 {name} {tag} {message}" for tag in TAGS for message in MESSAGES)
        yield from (f"<13>Nov 22 10:00:00 {name}: {message}" for message in MESSAGES)
    for data in DATA:
        yield f"<13>1 2026-11-22T10:00:00Z h a p m {data}"
        yield from (f"<13>1 2026-11-22T10:00:00Z h a p m {data} {message}" for message in MESSAGES)
        yield f"<13>1 2026-11-22T10:00:00Z h a p {data}"
        yield (USUAL % 1).decode().replace('[ex@32473 iut="3"]', data)
    for priority in PRIORITIES:
        yield f"{priority}1 2026-11-22T10:00:00Z h a p m - x"
        yield from (f"{priority}Nov 22 10:00:00 host {tag}" for tag in TAGS)
    yield from (f"<13>2026-11-22T10:00:00.5Z host app: {message}" for message in MESSAGES)
    yield from (MESSAGES)


@pytest.mark.parametrize("usual", [USUAL, NIL, BSD, ISO])
def test_an_odd_line_among_usual_ones_is_read_as_the_grammar_reads_it(usual: bytes) -> None:
    """And so are the others."""
    reader = Checked()
    company = [usual % number for number in range(5)]
    for odd in odd_lines():
        reader.check([*company, odd.rstrip("\n\r\0").encode(), *company])


@settings(max_examples=400)
@given(st.lists(_lines, min_size=1, max_size=12), st.integers(0, 3))
def test_what_is_read_in_bulk_is_what_the_grammar_reads(texts: list[str], doubled: int) -> None:
    """Whatever is read the short way is read as the full grammar reads it; also the second time, from memory."""
    lines = [text.rstrip("\n\r\0").encode() for text in texts * (doubled + 1)]
    reader = Checked()
    reader.check(lines)
    reader.check(lines)


#: Kept for all examples, so that they remember.
DECODERS = [
    SyslogDecoder(),
    SyslogDecoder(SyslogOptions(event_type='a "type"', time_zone="Europe/Paris", year=2024)),
    SyslogDecoder(SyslogOptions(encoding="latin-1")),
    SyslogDecoder(SyslogOptions(encoding="utf-16")),
    SyslogDecoder(SyslogOptions(encoding="ascii")),
]
_frames = st.one_of(
    _lines.map(str.encode),
    _lines.map(lambda line: line.encode("latin-1", "replace")),
    st.tuples(_lines.map(str.encode), st.sampled_from([b"\n", b"\r\n", b"\0", b"\xff", b"\xc3"])).map(b"".join),
    st.binary(max_size=20),
)
_context = st.sampled_from([{}, {"labels": {"site": 'h"q'}}])


@settings(max_examples=400)
@given(
    decoder=st.sampled_from(DECODERS),
    frames=st.lists(_frames, max_size=12),
    marked=st.sets(st.integers(0, 11), max_size=2),
    context=_context,
    several=st.booleans(),
    start=st.integers(0, 3),
)
def test_json_lines_are_those_of_the_events(
    decoder: Any, frames: list[bytes], marked: set[int], context: dict[str, Any], several: bool, start: int
) -> None:
    """For any frames, marks, labels, senders and parts of batches."""
    given = batch(
        *frames,
        context=context,
        marks={row: ("truncated",) for row in marked if row < len(frames)},
        peers=[f'"{row % 3}"' for row in range(len(frames))] if several and frames else ["192.0.2.7:51123"],
    )
    check_json_lines(decoder, given)
    check_json_lines(decoder, given.part(min(start, len(frames)), len(frames)))


#: What is common enough to be read in bulk.
COMMON = [
    USUAL,
    NIL,
    b"<165>1 2026-11-22T10:00:00.5+01:00 host app - - - text %d",
    BSD,
    b"<30>Nov 22 10:00:00 app[12]: text %d",
    b"<166>Nov 22 10:00:00 fw1 %%ASA-6-302013: text %d",
    ISO,
]


@pytest.mark.parametrize("usual", COMMON)
def test_one_odd_line_does_not_take_the_others_out_of_bulk(usual: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grammar is asked about that line only, and for the parts that are seen for the first time."""
    asked = []
    for module in ("_syslog_reader", "_rfc3164_lines"):
        monkeypatch.setattr(
            f"eventserver.decoders.{module}.read_line", lambda *given: asked.append(given[0]) or read_line(*given)
        )
    reader = SyslogReader(YearRule("auto", UTC), MakesJson())
    lines = [usual % number for number in range(100)]
    reader.read(lines, RECEIVED)
    asked.clear()
    reader.read([*lines, b"an odd line", *lines], RECEIVED)
    assert asked == ["an odd line"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "cp037", "shift_jis"])
def test_lines_of_another_encoding_are_read_as_that_in_bulk_too(encoding: str) -> None:
    """Though their bytes may be UTF-8 as well."""
    message = "\u00c3\u00bc" if encoding == "latin-1" else "text"
    frames = [f"<13>1 2026-11-22T10:00:00Z h a p m - {message}\n".encode(encoding)] * 10
    decoder = SyslogDecoder(SyslogOptions(encoding=encoding))
    events = decoder.decode(batch(*frames))
    assert [(event.message, event.fields["hostname"]) for event in events] == [(message, "h")] * 10
    assert check_json_lines(decoder, batch(*frames))


def test_structured_data_that_varies_is_not_looked_up_with_the_header_for_a_while() -> None:
    """It would never be found, and cost more than to look up the parts."""
    reader = Checked()
    form = reader.reader._rfc5424
    varying = [USUAL.replace(b'"3"', b'"%d"') % (number, number) for number in range(20 * 20)]
    tried = 0
    for start in range(0, len(varying), 20):
        before = form._whole.reads
        reader.check(varying[start : start + 20])
        tried += form._whole.reads > before
    assert 1 < tried < 4
    same = [USUAL % number for number in range(20)]
    for _ in range(20):
        reader.check(same)
    before = form._data.reads, form._heads.reads, form._whole.reads
    reader.check(same)
    assert (form._data.reads, form._heads.reads, form._whole.reads) == before
    assert form._pause == 0


@pytest.mark.parametrize("forms", [(USUAL, BSD), (BSD, USUAL), (BSD, NIL, b"odd %d", ISO)])
def test_a_batch_of_several_forms_is_read_as_each_line_alone(forms: tuple[bytes, ...]) -> None:
    """Also where the batch before had them, too, so that it is expected."""
    decoder = SyslogDecoder()
    frames = [form % number for number in range(20) for form in forms]
    alone = [SyslogDecoder().decode(batch(frame))[0].replace(id="") for frame in frames]
    for _ in range(3):
        events = decoder.decode(batch(*frames))
        assert [event.replace(id="") for event in events] == alone
    assert decoder._reader._mixed
    usual = [USUAL % number for number in range(20)]
    assert [event.message for event in decoder.decode(batch(*usual))] == [f"text {number}" for number in range(20)]
    assert not decoder._reader._mixed


def test_json_lines_of_the_usual_forms_are_there() -> None:
    """Not None: nobody would notice that they take four times as long."""
    for frames in ([USUAL % 1], [USUAL % number for number in range(50)], [BSD % number for number in range(50)]):
        given: Batch = batch(*frames)
        assert check_json_lines(SyslogDecoder(), given)
