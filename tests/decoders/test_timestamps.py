"""Times in bulk are the times that they are one by one."""

from __future__ import annotations

import datetime as dt

from hypothesis import example, given
from hypothesis import strategies as st

from eventserver.decoders._timestamps import UTC, read_texts, read_value

_usual = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(dt.datetime.isoformat)
_ends = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+0000", "+01:00", "-23:59", "", " Z", ".Z", ",5Z"])
_near = st.tuples(
    st.from_regex(
        r"[0-9]{4}-[0-1][0-9]-[0-3][0-9][Tt _][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{0,9})?", fullmatch=True
    ),
    _ends,
).map("".join)
_texts = st.one_of(st.tuples(_usual, _ends).map("".join), _near, st.text(max_size=30))


@given(texts=st.lists(_texts, min_size=1, max_size=3))
@example(texts=["2026-11-22T10:00:00.123456789Z"])
@example(texts=["2026-11-22T10:00:00.1234567Z"])
@example(texts=["2026-11-22T10:00:00.999999Z", "2026-11-22 10:00:00z"])
@example(texts=["2026-11-22T10:00:00.12345678+00:00"])
def test_texts_in_bulk_are_what_each_is_by_itself(texts: list[str]) -> None:
    """Or it says that it cannot tell."""
    times = read_texts(texts)
    assert times is None or times == [read_value(text) for text in texts]
    assert times is None or {time.tzinfo for time in times} == {UTC}


def test_the_usual_texts_are_read_in_bulk() -> None:
    for text in ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456Z", "2026-11-22 10:00:00.5Z"):
        assert read_texts([text, text]) == [read_value(text)] * 2


def test_what_is_no_text_is_not_read() -> None:
    assert read_texts(["2026-11-22T10:00:00Z", None]) is None  # type: ignore[list-item]  # as JSON may have it
    assert read_texts([1700000000, 1.5]) is None  # type: ignore[list-item]  # as above
