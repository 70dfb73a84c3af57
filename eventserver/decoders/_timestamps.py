"""Times as decoders find them, as aware UTC datetimes. No clock: what is missing comes from `Batch.received`."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

import msgspec

UTC = dt.UTC

#: How far ahead of `received` a time without a year may lie; beyond that it is taken for last year's.
DAYS_AHEAD = 7

#: A time stamp with seconds and an offset.
ISO_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
#: What a time stamp has at certain places, and its least length: Python reads other forms as well.
_SIGNS, _SIGNS_OF_A_TIME, _SHORTEST = slice(4, 11, 3), b"--T", len("2026-11-22T10:00")
_LONGEST_UTC = len("2026-11-22T10:00:00.123456Z")

_ZONE = attrgetter("tzinfo")
_decode_times = msgspec.json.Decoder(list[dt.datetime]).decode
_encode = msgspec.json.Encoder().encode

_DAY = dt.timedelta(days=1)
#: Above these a number is milliseconds, microseconds, nanoseconds: as seconds, they are the years 5138 and later.
_SCALES = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


def zone_problem(name: str) -> str | None:
    """What is wrong with the name of a time zone; None if it can be used."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return f'{name!r} is not a time zone of this machine; write one such as "UTC" or "Europe/Paris"'
    return None


def zone_of(name: str) -> dt.tzinfo:
    """The time zone of that name. Raises as `zoneinfo.ZoneInfo` does."""
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def to_utc(time: dt.datetime, zone: dt.tzinfo = UTC) -> dt.datetime:
    """The time in UTC; one without an offset is taken as of `zone`. Raises `ValueError` beyond the years 1 to 9999."""
    try:
        return (time if time.tzinfo is not None else time.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None


def read_iso(text: str, zone: dt.tzinfo = UTC) -> dt.datetime:
    """An RFC 3339 time (date, time, offset) as UTC; without an offset, as of `zone`. Raises `ValueError`.

    Fractions beyond microseconds are cut; a leap second (`:60`) is taken as the second before it.
    """
    if len(text) < 16 or text[10] not in "Tt ":
        raise ValueError(f"{text[:40]!r} is not a date and time")
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        if text[17:19] == "60":
            text = text[:17] + "59" + text[19:]
        time = dt.datetime.fromisoformat(text.upper())
    return time if time.tzinfo is UTC else to_utc(time, zone)


def read_stamps(stamps: Sequence[bytes], *, strict: bool = False) -> list[dt.datetime] | list[dt.datetime | None]:
    """The time of each stamp, as `read_stamp` gives it; with `strict`, None for what is no `ISO_STAMP`."""
    text = b'["' + b'","'.join(stamps) + b'"]'
    try:
        times = _decode_times(text)
        if len(times) == len(stamps):
            all_utc = text.count(b'Z"') == len(times)
            # msgspec reads what RFC 3339 allows, and rounds beyond six digits; usual are stamps that it writes so, too.
            if _encode(times) == text or (all_utc and not strict and max(map(len, stamps)) <= _LONGEST_UTC):
                return times if all_utc else [in_utc(time) for time in times]
    except ValueError:
        pass
    return [read_stamp(stamp) if not strict or ISO_STAMP.fullmatch(stamp) else None for stamp in stamps]


def read_texts(texts: Sequence[str]) -> list[dt.datetime] | None:
    """The time of each text, as `read_value` gives it; None if one is no text, or that has to be found out one by one.

    With an offset of none and up to six digits of a second, msgspec reads exactly what `read_iso` reads.
    """
    try:
        times = msgspec.convert(texts, list[dt.datetime])
    except ValueError:
        return None
    return times if max(map(len, texts)) <= _LONGEST_UTC and set(map(_ZONE, times)) == {UTC} else None


def read_stamp(stamp: bytes) -> dt.datetime | None:
    """A time stamp `YYYY-MM-DDT...` with an offset, in UTC; None if it is none, or one that `read_iso` has to read."""
    if len(stamp) < _SHORTEST or stamp[_SIGNS] != _SIGNS_OF_A_TIME:
        return None
    try:
        return in_utc(dt.datetime.fromisoformat(stamp.decode()))
    except ValueError:
        return None


def in_utc(time: dt.datetime) -> dt.datetime:
    """The time in UTC. Raises `ValueError` for one without an offset."""
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise ValueError("a time without an offset")
    return to_utc(time)


def read_value(value: object) -> dt.datetime | None:
    """A time as JSON or a function gives it, as UTC; None if it cannot be read.

    Text is RFC 3339, taken as UTC where it has no offset. A number counts from 1970: seconds, or by its size milli-,
    micro- or nanoseconds. A datetime without an offset is taken as UTC.
    """
    try:
        if isinstance(value, str):
            return read_iso(value)
        if isinstance(value, dt.datetime):
            return to_utc(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return dt.datetime.fromtimestamp(_seconds(value), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _seconds(value: float) -> float:
    for least, scale in _SCALES:
        if abs(value) >= least:
            return value / scale
    return value


class YearRule:
    """Gives the times of RFC 3164 their year and their zone.

    With `auto` it is the latest year that puts the time not more than `DAYS_AHEAD` days behind the day of `received`
    (UTC): December read in January is last year's, and a clock somewhat ahead is believed.
    """

    def __init__(self, year: int | Literal["auto"], zone: dt.tzinfo) -> None:
        self.zone = zone
        self._fixed = None if year == "auto" else year
        self._latest = dt.datetime.max.replace(tzinfo=UTC)

    def begin(self, day: dt.date) -> None:
        """The day that the times are read on, which settles their year."""
        try:
            self._latest = dt.datetime(day.year, day.month, day.day, tzinfo=UTC) + (DAYS_AHEAD + 1) * _DAY
        except OverflowError:
            self._latest = dt.datetime.max.replace(tzinfo=UTC)

    def time(
        self,
        month: int,
        day: int,
        hms: str,
        microsecond: int = 0,
        year: int | None = None,
        zone: dt.tzinfo | None = None,
    ) -> dt.datetime:
        """The time in UTC; `hms` is `"HH:MM:SS"`. Raises `ValueError` where there is no such time."""
        hour, minute, second = map(int, hms.split(":"))
        parts = (hour, minute, min(second, 59) if second == 60 else second, microsecond)
        zone = zone or self.zone
        year = year or self._fixed
        if year is not None:
            return to_utc(dt.datetime(year, month, day, *parts, tzinfo=zone))
        # Eight years back there has always been a 29 February.
        for candidate in range(min(self._latest.year, dt.MAXYEAR), max(self._latest.year - 9, dt.MINYEAR), -1):
            try:
                time = to_utc(dt.datetime(candidate, month, day, *parts, tzinfo=zone))
            except ValueError:
                continue
            if time < self._latest:
                return time
        raise ValueError("there is no such time")
